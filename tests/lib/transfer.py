# SPDX-License-Identifier: GPL-2.0-only
"""Moving known bytes between G and a backend, in threads, with the speed and the piece size that a test asks for."""

import socket
import threading
import time

from lib.case import Failure, expect
from lib.pattern import Checker, Pattern

PATTERN = Pattern()


class Job:
    """A function in a thread; result() joins it and gives back or raises what it ended with."""

    def __init__(self, function, *arguments):
        self._outcome = None
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(function, arguments), daemon=True)
        self._thread.start()

    def _run(self, function, arguments):
        try:
            self._outcome = function(*arguments)
        except BaseException as error:  # pylint: disable=broad-except
            self._error = error

    def result(self, within=300):
        self._thread.join(within)
        if self._thread.is_alive():
            raise Failure(f"expected an end within {within} s, seen none")
        if self._error:
            raise self._error
        return self._outcome


def send(send_piece, total, size=1 << 18, pause=0.0):
    """The pattern's first total bytes by pieces of size."""
    for piece in PATTERN.pieces(total, size):
        send_piece(piece)
        if pause:
            time.sleep(pause)  # the slow writer is the test
    return total


def receive(receive_piece, size=1 << 18, pause=0.0):
    """Until the end: (bytes received, offset of the first wrong byte or None)."""
    checker = Checker(PATTERN)
    while piece := receive_piece(size):
        checker.feed(piece)
        if pause:
            time.sleep(pause)
    return checker.received, checker.wrong_at


def both_ways(g, peer, to_backend, to_gateway, g_size=1 << 18, g_pause=0.0, peer_size=1 << 18, peer_pause=0.0):
    """
    Send to_backend and to_gateway bytes at the same time; each side half-closes when it has sent all. Every byte must
    arrive, in its place, and both ends must be proper. The pauses are those of the receivers.
    """
    def from_gateway():
        send(g.sendall, to_backend)
        g.shutdown(socket.SHUT_WR)

    def from_backend():
        send(peer.send, to_gateway)
        peer.close_notify()

    senders = [Job(from_gateway), Job(from_backend)]
    at_backend = Job(receive, peer.receive, peer_size, peer_pause)
    at_gateway = Job(receive, g.recv, g_size, g_pause)
    expect("bytes at the gateway, first wrong one", at_gateway.result(), (to_gateway, None))
    expect("bytes at the backend, first wrong one", at_backend.result(), (to_backend, None))
    expect("how G's direction ended at the backend", peer.ending, "close_notify")
    for sender in senders:
        sender.result()
