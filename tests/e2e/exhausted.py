#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
System calls of the datapath that fail for want of memory or descriptors, forced one by one (tests/lib/inject.c): the
connect is refused or reset and counted, what is there goes on, and the next connect is as if nothing had been.
"""

import errno
import mmap
import os
import struct
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.paths import BUILD
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

PORT = 8740
MARKER = b"postern-exhausted-marker-5d"
TRIES = 5
CALLS = ("socket", "connect", "accept", "epoll_add", "setsockopt", "raw_send", "map_update")
FAULTS = (  # call, errno, the reasons that may be counted
    ("socket", errno.EMFILE, ("no_descriptors",)),
    ("socket", errno.ENFILE, ("no_descriptors",)),
    ("socket", errno.ENOMEM, ("no_memory",)),
    ("socket", errno.ENOBUFS, ("no_memory",)),
    ("connect", errno.ENOBUFS, ("no_memory",)),
    ("connect", errno.ENOMEM, ("no_memory",)),
    ("connect", errno.EADDRNOTAVAIL, ("source_address",)),
    ("accept", errno.ENFILE, ("no_descriptors",)),
    ("accept", errno.ENOMEM, ("no_memory",)),
    ("accept", errno.ENOBUFS, ("no_memory",)),
    ("epoll_add", errno.ENOMEM, ("no_memory",)),
    ("epoll_add", errno.ENOSPC, ("no_memory",)),
    ("setsockopt", errno.ENOBUFS, ("no_memory",)),
    ("map_update", errno.ENOMEM, ("no_memory",)),
    ("map_update", errno.E2BIG, ("no_memory",)),
)


class Injected(Stage):
    def _build(self):
        path = f"/tmp/postern-inject-{os.getpid()}"
        with open(path, "wb") as file:
            file.write(bytes(8 * len(CALLS)))
        self._stack.callback(os.unlink, path)
        self.file = open(path, "r+b")
        self.faults = mmap.mmap(self.file.fileno(), 8 * len(CALLS))
        self.agent_environment = {**os.environ, "POSTERN_INJECT": path,
                                  "LD_PRELOAD": str(BUILD / "tests/lib/inject.so")}
        super()._build()
        self.service = self.publish(Service("exhausted", 74, target=PORT, hostname="echo.example"))
        self.context = server_context(self.leaf)
        self.agent.until_policy("exhausted")

    def fail(self, call, error, times):
        """The next `times` of these calls fail; 0: none any more."""
        struct.pack_into("ii", self.faults, 8 * CALLS.index(call), error, times)

    def counted(self, reason):
        return self.agent.status()["failures"][reason]


def declare(call, error, reasons):
    name = errno.errorcode[error]

    @case(f"{call} fails with {name}: refused or reset, counted as {' or '.join(reasons)}, then all is well")
    def table(stage):
        stage.agent.until_idle()  # the end of a connection makes calls, too
        with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
            first = stage.gateway.connect(stage.service.vip4, 80)
            first_peer = backend.take()
            before = stage.agent.status()["failures"]
            for _ in range(TRIES):
                stage.fail(call, error, 1)
                try:
                    g = stage.gateway.connect(stage.service.vip4, 80)
                    g.sendall(MARKER)
                    outcome = g.recv(1)
                except OSError as seen:
                    outcome = seen
                expect_that("refused or reset", isinstance(outcome, ConnectionError), outcome)
                stage.fail(call, error, 0)
            stage.exchange_word(first, first_peer, b"meanwhile")
            # G may see its reset before the agent has written it down.
            until(lambda: sum(stage.counted(reason) - before[reason] for reason in reasons) >= TRIES, 30,
                  f"{TRIES} counted as {reasons}")
            backend.drop_waiting()
            g = stage.gateway.connect(stage.service.vip4, 80)
            peer = backend.take()
            stage.exchange_word(g, peer, b"afterwards")
            for sock in (g, peer, first, first_peer):
                sock.close()
            report = wire.report()
        expect("markers on the wire", report.markers, 0)


for each in FAULTS:
    declare(*each)


@case("accept fails with ENOMEM again and again: counted, others go on; healed by itself, with a reset")
def accept_for_long(stage):
    with Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
        first = stage.gateway.connect(stage.service.vip4, 80)
        first_peer = backend.take()
        before = stage.agent.counter("no_memory")
        stage.fail("accept", errno.ENOMEM, -1)
        g = stage.gateway.connect(stage.service.vip4, 80)
        until(lambda: stage.agent.counter("no_memory") >= before + 5, 30, "accepts that failed")
        stage.exchange_word(first, first_peer, b"meanwhile")
        until(lambda: stage.agent.status()["workers"]["attempts_live"] == 0, 30, "an attempt that was given up")
        stage.fail("accept", errno.ENOMEM, 0)
        expect_error("what was in the queue", lambda: g.recv(1), ConnectionResetError)
        stage.exchange_word(first, first_peer, b"afterwards")
        backend.take().close()
        g = stage.gateway.connect(stage.service.vip4, 80)
        peer = backend.take()
        stage.exchange_word(g, peer, b"healed")
        for sock in (g, peer, first, first_peer):
            sock.close()


@case("raw sends that fail are as if the packet were lost: the next SYN completes the connect")
def raw_send(stage):
    for error in (errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM):
        with Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
            stage.fail("raw_send", error, 1)
            g = stage.gateway.connect(stage.service.vip4, 80, timeout=10)
            peer = backend.take()
            stage.exchange_word(g, peer, b"after a lost packet")
            expect("B's that were dialed", backend.accepted, 1)
            g.close()
            peer.close()


if __name__ == "__main__":
    main(Injected)
