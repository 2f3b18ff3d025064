# SPDX-License-Identifier: GPL-2.0-only
"""
A backend in the test's own hands. It accepts, does the TLS handshake in a thread for each connection, and hands the
connections to the test in the order in which they became ready: `peer = backend.take()`.
"""

import queue
import socket
import threading

from lib.case import SLOWNESS
from lib.sockets import reset
from lib.tls_peer import TlsPeer
from lib.waiting import until

CONNECTION_TIMEOUT = 120 * SLOWNESS


class Backend:
    def __init__(self, maker, address, port, context=None, script=None):
        """
        context: for TLS; without it the connections are plain sockets. script(sock): does all that is done with a
        connection, instead of handshake and queue.
        """
        self.address, self.port = address, port
        self.accepted = self._done = 0
        self.errors = []  # of handshakes and scripts
        self._context = context
        self._script = script or self._hand_over
        self._ready = queue.Queue()
        self._open = []
        self._lock = threading.Lock()
        self._listener = maker.listen(address, port)
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self, within=30 * SLOWNESS):
        """The next connection that is ready."""
        return self._ready.get(timeout=within)

    def waiting(self):
        return self._ready.qsize()

    def settled(self):
        """Nothing is on its way to take() or to `errors`."""
        with self._lock:
            return self._done == self.accepted

    def drop_waiting(self):
        """Close what is ready and was not taken. Before that, each handshake that has begun comes to its end."""
        until(self.settled, 30, "an end of every handshake")
        while self._ready.qsize():
            self.take().close()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(CONNECTION_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.accepted += 1
                self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            self._script(sock)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(error)
            sock.close()
        with self._lock:
            self._done += 1

    def _hand_over(self, sock):
        self._ready.put(TlsPeer(sock, self._context).handshake() if self._context else sock)

    def place(self, sock):
        """How many connections came before this one; its thread may run later than theirs, or earlier."""
        with self._lock:
            return self._open.index(sock)

    def forget_closed(self):
        with self._lock:
            self._open = [sock for sock in self._open if sock.fileno() >= 0]
            return len(self._open)

    def close(self):
        # close() alone does not wake the thread that waits in accept().
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._lock:
            for sock in self._open:
                sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# Scripts: what a bad backend does with a connection.

def silent(sock):
    """Accepts TCP and never says a word."""
    while sock.recv(65536):
        pass


def close_at_once(sock):
    sock.close()


def reset_at_once(sock):
    reset(sock)


def garbage(sock):
    """Not TLS: what an HTTP server would say to a ClientHello."""
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis is no TLS\n")
    sock.close()


def reset_after_hello(sock):
    sock.recv(65536)
    reset(sock)


def close_after_hello(sock):
    sock.recv(65536)
    sock.close()


def tls_or_plain(context, connections):
    """
    A script for a port that speaks both: the first byte tells. connections.put(("tls", TlsPeer) or ("plain", socket)).
    """
    def serve(sock):
        if sock.recv(1, socket.MSG_PEEK)[:1] == b"\x16":
            connections.put(("tls", TlsPeer(sock, context).handshake()))
        else:
            connections.put(("plain", sock))
    return serve
