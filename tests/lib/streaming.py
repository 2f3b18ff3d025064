# SPDX-License-Identifier: GPL-2.0-only
"""
Many transfers at once, in one thread: both ends of each connection send the pattern at their own pace and check what
arrives. For tests in which something else happens meanwhile.
"""

import selectors
import socket
import ssl
import threading
import time

from lib.case import SLOWNESS, expect
from lib.pattern import Checker, Pattern

PATTERN = Pattern()
ROUND = 0.2  # seconds
STUFFED_PIECES = 8  # a round, of 64 KB


class TlsEnd:
    """A TlsPeer that never blocks, as an end of a stream."""

    def __init__(self, peer):
        self._peer, self._rest, self._shut = peer, b"", False
        peer.sock.setblocking(False)

    def setblocking(self, blocking):
        pass

    def fileno(self):
        return self._peer.sock.fileno()

    def flush(self):
        """What the socket did not take; BlockingIOError if it takes nothing now."""
        while self._rest:
            self._rest = self._rest[self._peer.sock.send(self._rest):]
        if self._shut:
            self._shut = False
            self._peer.sock.shutdown(socket.SHUT_WR)

    def _encrypted(self, action, *arguments):
        try:
            action(*arguments)
        except ssl.SSLWantReadError:
            pass  # unwrap(): the other end's close_notify has not come yet
        self._rest += self._peer.take_outgoing()
        try:
            self.flush()
        except BlockingIOError:
            pass

    def send(self, data):
        self.flush()
        self._encrypted(self._peer.tls.write, data)
        return len(data)

    def recv(self, size):
        data = self._peer.sock.recv(size)
        plain = self._peer.decrypt(data) if data else b""
        if plain or self._peer.ending == "close_notify":
            return plain
        raise BlockingIOError if data else ConnectionAbortedError("an end without close_notify")

    def shutdown(self, _):
        self._shut = True
        self._encrypted(self._peer.tls.unwrap)

    def close(self):
        self._peer.close()


class _End:
    def __init__(self, sock, size, reads=True):
        self.sock, self.size, self.reads = sock, size, reads
        self.sent = 0
        self.checker = Checker(PATTERN)
        self.ended = False  # the other side's FIN was read
        self.error = None
        sock.setblocking(False)

    def write(self):
        try:
            for _ in range(1 if self.reads else STUFFED_PIECES):
                self.sent += self.sock.send(PATTERN.piece(self.sent, self.size))
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = self.error or error

    def flush(self):
        try:
            if isinstance(self.sock, TlsEnd):
                self.sock.flush()
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = self.error or error

    def read(self):
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            self.error, self.ended = self.error or error, True
            return
        self.checker.feed(data)
        self.ended = not data


class Streaming:
    """pairs: [(gateway's socket, backend's socket or TlsEnd)...]; size: bytes of each end in each round."""

    def __init__(self, pairs, size=4096, stuffed=()):
        """stuffed: indices of pairs of which nobody reads until finish(): everything on their way is full."""
        self._pairs = [(_End(g, 65536 if i in stuffed else size, i not in stuffed),
                        _End(b, 65536 if i in stuffed else size, i not in stuffed)) for i, (g, b) in enumerate(pairs)]
        self._ends = [end for pair in self._pairs for end in pair]
        self._selector = selectors.DefaultSelector()
        self._stop, self._sip = threading.Event(), threading.Event()
        for end in self._ends:
            if end.reads:
                self._selector.register(end.sock, selectors.EVENT_READ, end)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _read_until(self, deadline):
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data.read()
                if key.data.ended:
                    self._selector.unregister(key.data.sock)

    def _run(self):
        while not self._stop.is_set():
            for end in self._ends:
                end.write()
                if self._sip.is_set() and not end.reads:
                    end.read()
            self._sip.clear()
            self._read_until(time.monotonic() + ROUND)

    def sip(self):
        """Read a little from each stuffed end, soon."""
        self._sip.set()

    def moved(self):
        return sum(end.checker.received for end in self._ends)

    def errors(self):
        return [repr(end.error) for end in self._ends if end.error]

    def finish(self, within=60 * SLOWNESS):
        """Both ends of each end properly; what was sent has arrived, every byte of it. The bytes that moved."""
        self._stop.set()
        self._thread.join()
        for end in self._ends:
            if not end.reads:
                self._selector.register(end.sock, selectors.EVENT_READ, end)
            try:
                end.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                end.error = end.error or error
        deadline = time.monotonic() + within
        while not all(end.ended for end in self._ends) and time.monotonic() < deadline:
            for end in self._ends:
                end.flush()
            self._read_until(min(deadline, time.monotonic() + ROUND))
        expect("errors of transfers", self.errors()[:5], [])
        lost = [(index, a.sent, b.checker.received, b.checker.wrong_at, b.ended)
                for index, pair in enumerate(self._pairs) for a, b in (pair, pair[::-1])
                if (b.checker.received, b.checker.wrong_at, b.ended) != (a.sent, None, True)]
        expect("transfers with bytes lost, changed or without an end: (pair, sent, received, first wrong one, ended)",
               lost[:5], [])
        return self.moved()

    def close(self):
        """Whatever is on its way; also after finish()."""
        self._stop.set()
        self._thread.join()
        for end in self._ends:
            end.sock.close()
