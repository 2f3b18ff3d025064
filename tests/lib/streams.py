# SPDX-License-Identifier: GPL-2.0-only
"""
TCP streams from captured frames: put together by sequence number, searched for a marker, judged as TLS records or not.

A marker that is split over segments is found, one that is sent twice is counted once. What a stream never completed
(a lost segment) is searched as it is, so that nothing which was on the wire goes unsearched.
"""

import socket
import struct

FIN, SYN, RST, ACK = 1, 2, 4, 16
TLS_TYPES = range(20, 24)
TLS_MAX_RECORD = 16384 + 2048  # RFC 5246 6.2.3; TLS 1.3 allows less
PENDING_MAX = 64 << 20


class RecordJudge:
    """Is this stream nothing but TLS records? Headers are followed from the first byte on."""

    def __init__(self):
        self.valid = True
        self.records = 0
        self._header = b""
        self._left = 0

    def feed(self, data):
        position = 0
        while self.valid and position < len(data):
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                continue
            need = 5 - len(self._header)
            self._header += data[position:position + need]
            position += need
            if len(self._header) < 5:
                return
            kind, version, length = struct.unpack(">BHH", self._header)
            self.valid = kind in TLS_TYPES and version >> 8 == 3 and 0 < length <= TLS_MAX_RECORD
            self.records += 1
            self._header, self._left = b"", length


class Stream:
    """One direction of one connection."""

    def __init__(self, source, destination, markers, first, whole):
        self.source = source
        self.destination = destination
        self.whole = whole  # its SYN was seen
        self.begun_at = first
        self.bytes = 0
        self.first = b""
        self.reset = self.finished = False
        self.judge = RecordJudge()
        self._markers = markers
        self.found = [0] * len(markers)
        self._next = first
        self._tails = [b""] * len(markers)
        self._pending = {}
        self._pending_bytes = 0

    def segment(self, sequence, data):
        offset = _difference(sequence, self._next)
        if offset > 0:
            if self._pending_bytes < PENDING_MAX and len(data) > len(self._pending.get(sequence, b"")):
                self._pending_bytes += len(data) - len(self._pending.get(sequence, b""))
                self._pending[sequence] = data
            return
        if -offset >= len(data):
            return  # seen before
        self._take(data[-offset:])
        while self._pending:
            ready = [start for start in self._pending if _difference(start, self._next) <= 0]
            if not ready:
                return
            for start in ready:
                later = self._pending.pop(start)
                self._pending_bytes -= len(later)
                behind = -_difference(start, self._next)
                if behind < len(later):
                    self._take(later[behind:])

    def _take(self, data):
        self._next = (self._next + len(data)) & 0xffffffff
        self.bytes += len(data)
        if len(self.first) < 64:
            self.first = (self.first + data)[:64]
        self.judge.feed(data)
        for index, marker in enumerate(self._markers):
            text = self._tails[index] + data
            self.found[index] += text.count(marker)
            keep = len(marker) - 1
            tail = text[-keep:] if keep else b""
            at = text.rfind(marker)  # a counted marker must not be counted again with the next segment
            self._tails[index] = tail[max(0, at + len(marker) - (len(text) - len(tail))):] if at >= 0 else tail

    def report(self):
        found = list(self.found)
        # The end of a connection from before the capture (an alert, a ticket) begins with a record, or is not judged.
        tls = self.judge.valid if self.whole or self.judge.records else None
        for data in self._pending.values():
            for index, marker in enumerate(self._markers):
                found[index] += data.count(marker)
        return {
            "source": list(self.source), "destination": list(self.destination), "bytes": self.bytes,
            "markers": found, "whole": self.whole, "tls": tls,
            "records": self.judge.records, "first": self.first.hex(), "missing": len(self._pending),
            "finished": self.finished, "reset": self.reset,
        }


class Streams:
    def __init__(self, markers):
        self.markers = markers
        self.streams = []
        self.frames = 0
        self.syns = {}  # "address:port" dialed -> how often, retransmits included
        self.other_markers = 0  # in frames that are not TCP
        self._open = {}

    def frame(self, frame):
        self.frames += 1
        segment = _parse(frame)
        if segment is None:
            self.other_markers += sum(frame.count(marker) for marker in self.markers)
            return
        source, destination, sequence, flags, data = segment
        key = (source, destination)
        stream = self._open.get(key)
        if flags & SYN:
            if not flags & ACK:
                dialed = f"{destination[0]}:{destination[1]}"
                self.syns[dialed] = self.syns.get(dialed, 0) + 1
            sequence = (sequence + 1) & 0xffffffff
            if stream is None or stream.finished or stream.reset or stream.bytes or stream.begun_at != sequence:
                stream = self._start(key, sequence, True)
        elif stream is None:
            stream = self._start(key, sequence, False)
        if data:
            stream.segment(sequence, data)
        stream.finished |= bool(flags & FIN)
        stream.reset |= bool(flags & RST)

    def _start(self, key, first, whole):
        stream = self._open[key] = Stream(*key, self.markers, first, whole)
        self.streams.append(stream)
        return stream

    def report(self):
        return {"frames": self.frames, "syns": self.syns, "other_markers": self.other_markers,
                "streams": [stream.report() for stream in self.streams]}


def _difference(left, right):
    """left - right of two sequence numbers, signed."""
    return ((left - right + 0x80000000) & 0xffffffff) - 0x80000000


def _parse(frame):
    """(source, destination, sequence, flags, payload) of a TCP segment in an Ethernet frame, or None."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= 34 and frame[23] == 6:
        header = 14 + (frame[14] & 15) * 4
        total = struct.unpack_from(">H", frame, 16)[0]
        end = 14 + total if total else len(frame)
        source, destination = _ipv4(frame[26:30]), _ipv4(frame[30:34])
    elif kind == b"\x86\xdd" and len(frame) >= 54 and frame[20] == 6:
        header = 54
        total = struct.unpack_from(">H", frame, 18)[0]
        end = 54 + total if total else len(frame)
        source, destination = _ipv6(frame[22:38]), _ipv6(frame[38:54])
    else:
        return None
    if len(frame) < header + 20:
        return None
    source_port, destination_port, sequence = struct.unpack_from(">HHI", frame, header)
    payload = header + (frame[header + 12] >> 4) * 4
    return ((source, source_port), (destination, destination_port), sequence, frame[header + 13], frame[payload:end])


def _ipv4(raw):
    return "%d.%d.%d.%d" % tuple(raw)


def _ipv6(raw):
    return socket.inet_ntop(socket.AF_INET6, raw)
