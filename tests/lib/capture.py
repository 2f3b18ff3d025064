#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The wire, seen from a namespace: a child captures every frame of its eth0 (AF_PACKET), puts streams together and
searches them for markers. A capture that the kernel had to drop frames of proves nothing and is an error.
"""

import json
import os
import select
import socket
import struct
import sys

if __name__ == "__main__":
    sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.streams import Streams

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_STATISTICS = 6
SO_RCVBUFFORCE = 33
QUEUE_BYTES = 128 << 20


class CaptureLost(Exception):
    pass


class Capture:
    """`with Capture(netns, marker) as wire: ...; wire.report().markers`"""

    def __init__(self, netns, *markers):
        from lib.paths import PYTHON
        from lib.process import Process
        self._process = Process([PYTHON, __file__, *[marker.hex() for marker in markers]], netns)
        self._process.wait_for("^capturing$")

    def report(self):
        """What was on the wire up to now."""
        mark = self._process.mark()
        self._process.say("report")
        report = json.loads(self._process.wait_for("^{", since=mark, within=120))
        if report["dropped"]:
            raise CaptureLost(f"the kernel dropped {report['dropped']} of {report['frames']} frames: proves nothing")
        return Report(report)

    def close(self):
        self._process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Report:
    def __init__(self, raw):
        self.raw = raw
        self.streams = raw["streams"]

    @property
    def markers(self):
        """How often any marker was seen, in all streams of both directions."""
        return self.raw["other_markers"] + sum(sum(stream["markers"]) for stream in self.streams)

    def to_ports(self, *ports):
        """The streams of both directions of connections to these ports."""
        return [stream for stream in self.streams if stream["destination"][1] in ports or stream["source"][1] in ports]

    def towards(self, *ports):
        """The streams from the gateway to these ports."""
        return [stream for stream in self.streams if stream["destination"][1] in ports]

    @property
    def bytes(self):
        return sum(stream["bytes"] for stream in self.streams)

    def not_tls(self, *ports):
        """Streams with payload, of both directions, that are not TLS records from their first byte on."""
        chosen = self.to_ports(*ports) if ports else self.streams
        return [stream for stream in chosen if stream["bytes"] and not stream["tls"]]

    def sent_not_tls(self, *ports):
        """The same of what was sent to the backend."""
        return [stream for stream in self.towards(*ports) if stream["bytes"] and not stream["tls"]]

    def in_the_clear(self, *ports):
        """Streams of these ports, in both directions, that are not TLS throughout, or have a marker in them."""
        return [stream for stream in self.to_ports(*ports)
                if stream["bytes"] and (not stream["tls"] or sum(stream["markers"]))]

    def syns(self, address, port):
        return self.raw["syns"].get(f"{address}:{port}", 0)


def _capture(markers):
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # no protocol yet: else it sees lo, too, until bind()
    packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_BYTES)
    packets.bind(("eth0", ETH_P_ALL))
    packets.setblocking(False)
    streams = Streams(markers)
    dropped = 0
    print("capturing", flush=True)

    def drain():
        while True:
            try:
                streams.frame(packets.recv(1 << 17))
            except BlockingIOError:
                return

    while True:
        ready, _, _ = select.select([packets, sys.stdin], [], [])
        drain()
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            drain()
            dropped += struct.unpack("II", packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
            print(json.dumps({"dropped": dropped, **streams.report()}), flush=True)


if __name__ == "__main__":
    _capture([bytes.fromhex(text) for text in sys.argv[1:]])
