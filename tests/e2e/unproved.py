#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""An agent whose hooks could not be proved: it is not ready and says why, and covered destinations are refused."""

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.sockets import receive_exactly
from lib.topology import backend4
from lib.world import Service, World

PORT = 8960


class UnprovedWorld(World):
    """The proof needs a cgroup beside the agent's: here none more may be made."""

    def _build(self):
        super()._build()
        self.covered = self.publish(Service("covered", 115, target=PORT, hostname="echo.example"))
        self.plain = self.publish(Service("plain", 116, target=PORT + 1))
        existing = len([path for path in self.cgroups.root.iterdir() if path.is_dir()])
        (self.cgroups.root / "cgroup.max.descendants").write_text(str(existing))
        self.start_agent(ready=False)
        self.agent.process.wait_for("gateway's hooks are on", within=90)


@case("not ready, with the reason; covered connects are refused, uncovered ones work")
def refused(world):
    status = world.agent.status()
    expect("ready", status["ready"], False)
    expect_that("a reason that names the proof", "did not pass its proof" in status["reason"], status["reason"])
    expect("listeners", status["gateways"][0]["listeners"], [])
    with Backend(world.backend, backend4(2), PORT), Backend(world.backend, backend4(2), PORT + 1) as plain:
        for address, port in ((world.covered.vip4, 80), world.covered.endpoint4):
            expect_error(f"a connect to {address}", lambda a=address, p=port: world.gateway.connect(a, p),
                         ConnectionRefusedError)
        g = world.gateway.connect(world.plain.vip4, 80)
        g.sendall(b"plain")
        expect("what the uncovered backend got", receive_exactly(plain.take(), 5), b"plain")
        g.close()
    expect_that("refusals are counted", world.agent.counter("refused_not_ready") >= 2,
                world.agent.counter("refused_not_ready"))


main(UnprovedWorld)
