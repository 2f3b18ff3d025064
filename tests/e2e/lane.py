#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The lane: what the gateway sends goes straight into A's queue. Byte-exact whatever way the gateway writes, used only
where it may be, and bounded by its credit window, which is shown working and shown necessary.
"""

import fcntl
import os
import select
import socket
import struct
import sys
import termios

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.agent import pinned_maps
from lib.backend import Backend
from lib.bpf_map import LaneSlots
from lib.case import Skip, case, expect, expect_that, main, times
from lib.sockets import receive_exactly, reset
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.transfer import PATTERN, Job, receive
from lib.waiting import LONG, until
from lib.world import Service

PORT = 8740
SIZE = 3_000_000
IPPROTO_MPTCP = 262
STALL = 40 << 20  # more than any bounded path may take while nobody reads


class LaneStage(Stage):
    def _build(self):
        super()._build()
        self.service = self.publish(Service("lane", 150, target=PORT, hostname="echo.example"))
        self.target = self.close_at_end(Backend(self.backend, backend4(2), PORT, server_context(self.leaf)))
        self.agent.until_policy("lane")
        hooks = {row["hook"]: row for row in self.agent.status()["proof"]["hooks"]}
        if hooks["lane"]["verdict"] != "safe":
            raise Skip(f"the lane did not pass its proof here: {hooks['lane']['detail']}")
        self.slots = self.close_at_end(LaneSlots(pinned_maps(self.bpffs)["lane_slots"]))

    def pair(self, **options):
        g = self.gateway.connect(self.service.vip4, 80, timeout=60, **options)
        return g, self.target.take()

    def redirected(self):
        return self.agent.counter("lane_redirected")

    def row(self):
        """Of the only connection: connect() is over for G a moment before accept() is for the agent."""
        def rows():
            return [each for each in self.agent.connections() if each["destination"] == f"{self.service.vip4}:80"]
        found = until(rows, 10, "the connection in posternctl's list")
        expect("connections", len(found), 1)
        return found[0]

    def until_none(self):
        until(lambda: not self.agent.connections(), 10, "no connection left")


def finish(g, peer, job, size):
    g.shutdown(socket.SHUT_WR)
    expect("bytes at the backend, first wrong one", job.result(), (size, None))
    g.close()
    peer.close()


@case("streams of small and odd writes are redirected, byte-exact")
def small_writes(stage):
    for size in (1, 100, 4096, 5000, 16384):
        before = stage.redirected()
        total = min(SIZE, size * 2000)
        g, peer = stage.pair()
        job = Job(receive, peer.receive)
        for piece in PATTERN.pieces(total, size):
            g.sendall(piece)
        expect("lane in posternctl", stage.row()["lane"], True)
        finish(g, peer, job, total)
        expect_that(f"writes of {size}: some redirected", stage.redirected() > before, stage.redirected())
        stage.until_none()


@case("writes above 16 KB pass, mixed with small ones: every byte in its place")
def mixed_writes(stage):
    g, peer = stage.pair()
    job = Job(receive, peer.receive)
    sizes, offset = (100, 70_000, 1, 16_385, 4096, 16_384, 200_000, 10), 0
    while offset < SIZE:
        for size in sizes:
            g.sendall(PATTERN.piece(offset, size))
            offset += size
    finish(g, peer, job, offset)
    stage.until_none()


@case("bytes that are sent the moment connect() returns, before A is in the lane, up to 200 times")
def before_joined(stage):
    for _ in range(times(200)):
        g = stage.gateway.start_connect(stage.service.vip4, 80)
        sent = 0
        while not sent:
            try:
                sent = g.send(PATTERN.piece(0, 10))  # EAGAIN until the very moment of the release
            except (BlockingIOError, OSError) as error:
                if error.errno not in (11, 107):  # EAGAIN; ENOTCONN while in SYN_SENT
                    raise
        peer = stage.target.take()
        g.setblocking(True)
        for start in range(10, 50_010, 1000):
            g.sendall(PATTERN.piece(start, 1000))
        g.shutdown(socket.SHUT_WR)
        expect("bytes at the backend, first wrong one", receive(peer.receive), (50_010, None))
        g.close()
        peer.close()
    stage.until_none()


@case("sendfile into G, and splice into G")
def sendfile_and_splice(stage):
    path = stage.directory / "sendfile"
    path.write_bytes(PATTERN.whole(SIZE))
    for how in ("sendfile", "splice", "both with small writes between"):
        g, peer = stage.pair()
        g.setblocking(True)
        job = Job(receive, peer.receive)
        with path.open("rb") as file:
            offset, turn = 0, 0
            pipe_out, pipe_in = os.pipe()
            while offset < SIZE:
                turn += 1
                count = min(50_000, SIZE - offset)
                if how == "sendfile" or (how.startswith("both") and turn % 3 == 0):
                    offset += os.sendfile(g.fileno(), file.fileno(), offset, count)
                elif how == "splice" or turn % 3 == 1:
                    moved = os.splice(file.fileno(), pipe_in, count, offset_src=offset)
                    offset += moved
                    while moved:
                        moved -= os.splice(pipe_out, g.fileno(), moved)
                else:
                    g.sendall(PATTERN.piece(offset, min(777, count)))
                    offset += min(777, count)
            os.close(pipe_in)
            os.close(pipe_out)
        finish(g, peer, job, SIZE)
        stage.until_none()


@case("FIONREAD tells G what is there to read: nginx believes it, and would wait for ever if it said 0")
def fionread(stage):
    g, peer = stage.pair()
    g.sendall(b"now in the lane")
    peer.receive_exactly(15)
    peer.send(PATTERN.whole(10_000))
    select.select([g], [], [], 10)
    expect("first bytes", receive_exactly(g, 1000) == PATTERN.whole(1000), True)

    def waiting():
        return struct.unpack("i", fcntl.ioctl(g.fileno(), termios.FIONREAD, bytes(4)))[0]
    until(lambda: waiting() == 9000, LONG, f"FIONREAD of 9,000 bytes, not {waiting()}")
    reset(g)
    peer.close()
    stage.until_none()


@case("blocking and MPTCP gateways do not get the lane, and lose nothing")
def not_for_them(stage):
    for what, make in (("blocking", lambda: stage.pair(blocking=True)), ("MPTCP", lambda: mptcp_pair(stage))):
        g, peer = make()
        job = Job(receive, peer.receive)
        for piece in PATTERN.pieces(1_000_000, 3000):
            g.sendall(piece)
        expect(f"{what}: lane in posternctl", stage.row()["lane"], False)
        finish(g, peer, job, 1_000_000)
        stage.until_none()


def mptcp_pair(stage):
    g = stage.gateway.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    g.settimeout(60)
    g.connect((stage.service.vip4, 80))
    return g, stage.target.take()


def send_while_stalled(g, most, size=4096, before_each=lambda sent: None):
    """How much G can send while the backend reads nothing."""
    g.settimeout(2)
    sent = 0
    try:
        while sent < most:
            before_each(sent)
            sent += g.send(PATTERN.piece(sent, size))
    except TimeoutError:
        pass
    return sent


@case("a stalled backend: the credit window bounds what is under way; when it reads again all is there, in order")
def window_works(stage):
    g, peer = stage.pair()
    sent = send_while_stalled(g, STALL)
    expect_that(f"G blocked before {STALL} bytes", sent < STALL, sent)
    job = Job(receive, peer.receive)
    g.settimeout(60)
    for start in range(sent, sent + SIZE, 4000):  # and on it goes, passed and then redirected again
        g.sendall(PATTERN.piece(start, 4000))
    finish(g, peer, job, sent + SIZE)
    stage.until_none()


@case("the credit window is necessary: with its count forged a stalled backend holds nobody back")
def window_is_necessary(stage):
    used = {slot: stage.slots.read(slot)[0] for slot in stage.slots.used()}
    g, peer = stage.pair()
    early = 0

    def mine():
        return next((slot for slot in stage.slots.used() if stage.slots.read(slot)[0] != used.get(slot, 0)), None)
    while mine() is None and early < 100_000:  # the first bytes may go by TCP, until A is in the lane
        g.sendall(PATTERN.piece(early, 1000))
        peer.receive_exactly(1000)
        early += 1000
    slot = until(lambda: (mine() or 0) + 1 if mine() is not None else None, LONG, "the slot of this connection") - 1
    sent = send_while_stalled(g, STALL, before_each=lambda so_far: stage.slots.forge_empty(slot, early + so_far))
    reset(g)
    peer.close()
    stage.until_none()
    expect_that(f"all of {STALL} bytes sent into nowhere", sent >= STALL, sent)


@case("with the lane switched off nothing is redirected, and every byte arrives", limit=90)
def switched_off(stage):
    stage.agent.stop()
    stage.start_agent(lane="off")
    before = stage.redirected()
    g, peer = stage.pair()
    job = Job(receive, peer.receive)
    for piece in PATTERN.pieces(1_000_000, 4096):
        g.sendall(piece)
    expect("lane in posternctl", stage.row()["lane"], False)
    finish(g, peer, job, 1_000_000)
    expect("redirected", stage.redirected() - before, 0)


if __name__ == "__main__":
    main(LaneStage)
