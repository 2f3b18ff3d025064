#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""1,000 connections in turn, and many at once: every one right, and nothing left behind."""

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.agent import map_entries, pinned_maps
from lib.backend import Backend
from lib.case import case, expect, expect_that, main, times
from lib.sockets import finish_connect, receive_all, receive_exactly, reset
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

PORT = 8720
IN_TURN = 1000
AT_ONCE = 200
# Maps that hold something for each connection; the others belong to gateways, policy or counters.
CONNECTION_MAPS = ("lane_slot_map", "lane_gateway", "lane_agent")


class ManyStage(Stage):
    def _build(self):
        super()._build()
        self.service = self.publish(Service("many", 70, target=PORT, hostname="echo.example"))
        self.target = self.close_at_end(Backend(self.backend, backend4(2), PORT, server_context(self.leaf)))
        self.agent.until_policy("many")

    def exchange(self, index, ending="clean"):
        g = self.gateway.connect(self.service.vip4, 80)
        peer = self.target.take()
        request = b"request %d" % index
        g.sendall(request)
        expect("request", peer.receive_exactly(len(request)), request)
        peer.send(request[::-1])
        expect("answer", receive_exactly(g, len(request)), request[::-1])
        if ending == "clean":
            peer.close_notify()
            expect("the end", receive_all(g), b"")
            g.close()
            peer.receive_all()
            peer.close()
        elif ending == "gateway":
            reset(g)
            peer.close()
        else:
            reset(peer.sock)
            g.close()
        self.target.forget_closed()

    def held(self):
        return {"descriptors": self.agent.descriptors(), **entries(self)}

    def until_no_more_than(self, before):
        """Not equal: the kernel tells a worker of G's end after A was closed, so `before` may have one that was going."""
        until(lambda: all(count <= before.get(name, count) for name, count in self.held().items()), 10,
              f"descriptors and map entries as before: {before}, not {self.held()}")


def entries(stage):
    """Entries of the pinned maps that keep something for each connection."""
    found = {}
    for name, path in pinned_maps(stage.bpffs).items():
        if name in CONNECTION_MAPS:
            try:
                found[name] = map_entries(path)
            except Exception:  # pylint: disable=broad-except
                continue  # a sockhash that bpftool cannot dump
    return found


def expect_no_growth(kilobytes):
    """AddressSanitizer keeps what is freed for a while, and looks for leaks itself when the agent ends."""
    if not os.environ.get("POSTERN_SANITIZED"):
        expect_that("no more than 2 MB of memory more after 1,000 connections", kilobytes < 2048, f"{kilobytes} kB")


@case("1,000 connections in turn, of all endings: descriptors, map entries and memory are as before", limit=240)
def in_turn(stage):
    for index in range(50):  # caches, pools and arenas have their size after that
        stage.exchange(index)
    stage.agent.until_idle()
    before = stage.held()
    memory = stage.agent.resident_kilobytes()
    for index in range(IN_TURN):
        stage.exchange(index, ("clean", "clean", "gateway", "backend")[index % 4])
    stage.agent.until_idle()
    stage.until_no_more_than(before)
    expect_no_growth(stage.agent.resident_kilobytes() - memory)


@case("1,000 refused connects in turn leave nothing behind, either", limit=240)
def refused_in_turn(stage):
    refused = stage.publish(Service("nothing-there", 71, target=PORT + 1, hostname="echo.example"))
    stage.agent.until_policy("nothing-there")

    def refuse(count):
        for _ in range(count):
            try:
                stage.gateway.connect(refused.vip4, 80)
            except ConnectionRefusedError:
                continue
            expect("connect", "success", "ECONNREFUSED")
    refuse(50)
    stage.agent.until_idle()
    before = stage.held()
    memory = stage.agent.resident_kilobytes()
    refuse(1000)
    stage.until_no_more_than(before)
    expect_no_growth(stage.agent.resident_kilobytes() - memory)


@case("200 connections at once: all verified, each with its own bytes", limit=120)
def at_once(stage):
    sockets = [stage.gateway.start_connect(stage.service.vip4, 80) for _ in range(AT_ONCE)]
    for g in sockets:
        finish_connect(g, 60)
    peers = [stage.target.take(60) for _ in range(AT_ONCE)]
    # connect() is over for G a moment before accept() is for the agent.
    until(lambda: len(stage.agent.connections()) == AT_ONCE, 10, f"{AT_ONCE} connections in posternctl's list")
    for index, g in enumerate(sockets):
        g.sendall(b"%04d" % index)
    seen = sorted(peer.receive_exactly(4) for peer in peers)
    expect("bytes of each", seen, [b"%04d" % index for index in range(AT_ONCE)])
    for g in sockets:
        g.close()
    for peer in peers:
        peer.receive_all()
        peer.close()
    stage.agent.until_idle()


@case("nginx keeps connections in its pool: 500 requests (fewer in a guest) take few connections")
def pooled(stage):
    front = stage.start_gateway(stage.routes, port=8085, keepalive=50)
    before = stage.agent.status()["workers"]["connections"]
    for index in range(times(500)):
        expect(f"request {index}", stage.ask("vip4", port=8085).status, 200)
    made = stage.agent.status()["workers"]["connections"] - before
    expect_that("fewer connections than a tenth of the requests", made <= times(500) // 10, made)
    front.close()
    stage.agent.until_idle()


if __name__ == "__main__":
    main(ManyStage)
