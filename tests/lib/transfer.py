# SPDX-License-Identifier: GPL-2.0-only
"""Moving known bytes between G and a backend, in threads, with the speed and the piece size that a test asks for."""

import concurrent.futures
import socket
import threading
import time

from lib.case import Failure, expect
from lib.pattern import Checker, Pattern

PATTERN = Pattern()


class Job:
    """A function in a thread; result() joins it and gives back or raises what it ended with."""

    def __init__(self, function, *arguments):
        self._end = concurrent.futures.Future()
        threading.Thread(target=self._run, args=(function, arguments), daemon=True).start()

    def _run(self, function, arguments):
        try:
            self._end.set_result(function(*arguments))
        except BaseException as error:  # pylint: disable=broad-except
            self._end.set_exception(error)

    def result(self, within=300):
        if not concurrent.futures.wait([self._end], within).done:
            raise Failure(f"expected an end within {within} s, seen none")
        return self._end.result()

    @staticmethod
    def expect_no_error(jobs, within=300):
        """The first error of any of them, as soon as it is there: what the others wait for may never come then."""
        ends = [job._end for job in jobs]  # pylint: disable=protected-access
        done, left = concurrent.futures.wait(ends, within, concurrent.futures.FIRST_EXCEPTION)
        for end in done:
            end.result()
        if left:
            raise Failure(f"expected {len(jobs)} ends within {within} s, seen {len(done)}")


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

    at_backend = Job(receive, peer.receive, peer_size, peer_pause)
    at_gateway = Job(receive, g.recv, g_size, g_pause)
    Job.expect_no_error([Job(from_gateway), Job(from_backend), at_backend, at_gateway])
    expect("bytes at the gateway, first wrong one", at_gateway.result(), (to_gateway, None))
    expect("bytes at the backend, first wrong one", at_backend.result(), (to_backend, None))
    expect("how G's direction ended at the backend", peer.ending, "close_notify")
