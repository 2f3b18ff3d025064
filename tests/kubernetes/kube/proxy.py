# SPDX-License-Identifier: GPL-2.0-only
"""
A wire between a client and the API server that a test has in its hand: it passes, stalls, cuts or refuses, also in the
middle of an answer. It knows TCP alone; TLS goes through it unread.
"""

import select
import selectors
import socket
import threading

from lib.sockets import reset

CHUNK = 1 << 16


class Proxy:
    """
    Listens on 127.0.0.1:port, or on what `listener` is (a socket of another namespace: lib.sockets.SocketMaker), and
    connects to (host, port) from the test's own namespace.
    """

    def __init__(self, host, port, listener=None):
        self._target = (host, port)
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._stalled = False
        self._refusing = False
        self._budget = None  # bytes of answers that still pass before every connection is cut; None: all
        self._pairs = set()
        self.connections = 0  # so far
        self.answered = 0  # bytes of the server that were passed on
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    # What a test commands

    def stall(self):
        """Nothing passes in either direction, nothing ends: a cable pulled out. New connections are accepted, too."""
        with self._changed:
            self._stalled = True

    def pass_on(self):
        """As it was at first: no stall, no refusal, no cut to come."""
        with self._changed:
            self._stalled = self._refusing = False
            self._budget = None
            self._changed.notify_all()

    def refuse(self):
        """Cut what there is, and reset whoever connects."""
        with self._changed:
            self._refusing = True
        self.cut()

    def cut(self):
        """Reset every connection, on both sides; comes back when that is done."""
        with self._changed:
            self._cut()
            for pair in list(self._pairs):
                self._changed.wait_for(lambda pair=pair: pair not in self._pairs, 10)

    def _cut(self):
        for pair in self._pairs:
            pair.cut()
        self._changed.notify_all()

    def cut_after(self, size):
        """
        Cut every connection as soon as `size` more bytes of the server's answers have passed: with an answer of more
        than that, in the middle of an object.
        """
        with self._changed:
            self._budget = size

    def wait_cut(self, within=20):
        """Wait until cut_after() has done its work; what connects from then on passes."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._budget is None, within):
                raise AssertionError(f"expected the cut within {within} s, seen {self._budget} bytes still to pass")

    @property
    def open(self):
        """How many connections there are now."""
        with self._changed:
            return len(self._pairs)

    def close(self):
        """Also a second time."""
        if self._closed:
            return
        self._closed = True
        # close() alone does not wake accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.pass_on()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Threads

    def _accept(self):
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                refusing = self._refusing
                self.connections += 1
            if refusing:
                reset(client)
                continue
            try:
                server = socket.create_connection(self._target, 10)
            except OSError:
                reset(client)
                continue
            server.settimeout(None)
            pair = _Pair(client, server)
            with self._changed:
                refusing = self._refusing  # refuse() may have come meanwhile: it has not cut this one
                if not refusing:
                    self._pairs.add(pair)
            if refusing:
                pair.is_cut = True
                pair.close()
                continue
            threading.Thread(target=self._serve, args=(pair,), daemon=True).start()

    def _serve(self, pair):
        try:
            while self._turn(pair):
                pass
        except OSError:
            pass
        finally:
            with self._changed:  # at once for others: who finds it among the pairs may cut it
                pair.close()
                self._pairs.discard(pair)
                self._changed.notify_all()

    def _turn(self, pair):
        """Passes on what came; False at the end of the pair."""
        for source in pair.readable():
            with self._changed:
                self._changed.wait_for(lambda: not self._stalled or pair.is_cut)
            if pair.is_cut:
                return False
            data = source.recv(CHUNK)
            if not data:
                if not pair.half_end(source):
                    return False
            elif source is pair.client:
                pair.send(pair.server, data)
            else:
                self._answer(pair, data)
        return True

    def _answer(self, pair, data):
        with self._changed:
            over = self._budget is not None and len(data) >= self._budget
            if self._budget is not None:
                data = data[:self._budget]
                self._budget -= len(data)
            self.answered += len(data)
        try:
            pair.send(pair.client, data)
        finally:
            if over:
                with self._changed:
                    self._budget = None
                    self._cut()


class _Pair:
    """The two sockets of a connection; its thread alone uses and closes them."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.is_cut = False
        self._alarm, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for each in (client, server, self._alarm):
            self._selector.register(each, selectors.EVENT_READ)

    def cut(self):
        """For any thread."""
        self.is_cut = True
        self._wake.send(b"!")

    def readable(self):
        ready = [key.fileobj for key, _ in self._selector.select()]
        return [self.client] if self._alarm in ready else ready  # _turn() looks at is_cut before it reads

    def send(self, sock, data):
        while data:
            ready, _, _ = select.select([self._alarm], [sock], [])
            if ready:
                raise ConnectionAbortedError
            sent = sock.send(data, socket.MSG_DONTWAIT)
            data = data[sent:]

    def half_end(self, source):
        """One side has ended: the other hears so; False once both have."""
        self._selector.unregister(source)
        (self.client if source is self.server else self.server).shutdown(socket.SHUT_WR)
        return len(self._selector.get_map()) > 1

    def close(self):
        for each in (self.client, self.server):
            if self.is_cut:
                reset(each)
            else:
                each.close()
        self._selector.close()
        self._alarm.close()
        self._wake.close()
