#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Mode observe: nothing is rewritten or refused; what would be is counted for each destination."""

import os
import queue
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend, tls_or_plain
from lib.case import case, expect, expect_that, main
from lib.sockets import receive_exactly
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.world import Service, World

MARKER = b"postern-observe-marker"
PORT = 8950


class ObserveWorld(World):
    def _build(self):
        super()._build()
        self.context = server_context(self.authority.leaf("echo", "DNS:echo.example"))
        self.covered = self.publish(Service("covered", 110, target=PORT, hostname="echo.example"))
        self.start_agent(gateways=[self.gateway_flags(mode="observe")])


@case("connections to covered destinations stay plain, and are counted as would-be TLS")
def observe(world):
    before = world.agent.counter("would_tls")
    connections = queue.Queue()
    script = tls_or_plain(world.context, connections)
    with Backend(world.backend, backend4(2), PORT, script=script), world.capture(MARKER) as wire:
        for address, port in ((world.covered.vip4, 80), world.covered.endpoint4):
            g = world.gateway.connect(address, port)
            g.sendall(MARKER)
            expect(f"{address}: what the backend got", receive_exactly(take_plain(connections), len(MARKER)), MARKER)
            g.close()
        expect("markers on the wire", wire.report().markers, 2)
    expect("would_tls", world.agent.counter("would_tls") - before, 2)
    status = world.agent.status()
    expect("mode in the status", status["gateways"][0]["mode"], "observe")
    seen = {(each["destination"], each["verdict"]) for each in status["would"]}
    expect_that("both destinations in the list", {(f"{world.covered.vip4}:80", "tls"),
                (f"{backend4(2)}:{PORT}", "tls")} <= seen, seen)
    expect("nothing refused", sum(status["failures"].values()), 0)


def take_plain(connections):
    """The gateway's next connection: the agent tries what it sees beside it, in TLS, each second."""
    while True:
        kind, sock = connections.get(timeout=30)
        if kind == "plain":
            return sock


@case("a killed agent changes nothing for an observed gateway")
def killed(world):
    world.agent.kill()
    with Backend(world.backend, backend4(2), PORT) as backend:
        g = world.gateway.connect(world.covered.vip4, 80)
        g.sendall(MARKER)
        expect("what the backend got", receive_exactly(backend.take(), len(MARKER)), MARKER)


if __name__ == "__main__":
    main(ObserveWorld)
