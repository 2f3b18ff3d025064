#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""/livez and /readyz: a real connection through the hooks to the built-in TLS peer, and what is said when it fails."""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main
from lib.prometheus import free_port, get, sample
from lib.stage import Stage
from lib.waiting import LONG, until


class HealthWorld(Stage):
    def start_agent(self, gateways=None, ready=True, workers=2, **switches):
        self.port = free_port()
        return super().start_agent(gateways, ready, workers, metrics_address=f"127.0.0.1:{self.port}", **switches)

    def ready(self):
        status, _, body = get(self.port, "/readyz")
        return status, body.strip()

    def metric(self, name, **labels):
        return sample(get(self.port, "/metrics")[2], name, **labels)

    def probes(self):
        return self.metric("postern_path_probes_total")

    def scene(self):
        """The cgroup of the probe's child."""
        found = self.scenes()
        expect("scenes of the probe", len(found), 1)
        return found[0]

    def scenes(self):
        return list(Path(self.agent_cgroup).parent.glob("postern-proof.*-path"))

    def child(self):
        return int((self.scene() / "cgroup.procs").read_text().split()[0])


@case("an agent in order is alive and ready, by a connection")
def in_order(world):
    expect("livez", get(world.port, "/livez")[::2], (200, "alive\n"))
    expect("probes before anybody asked", world.probes(), 0)
    expect("readyz", world.ready(), (200, "ready"))
    expect("probes that passed", world.metric("postern_path_probes_total", result="passed"), 1)
    status = world.agent.status()
    expect("gateways in the status", [gateway["name"] for gateway in status["gateways"]], ["default/demo"])
    expect("failures", sum(status["failures"][name] for name in status["failures"] if not name.startswith("ktls")), 0)
    expect_that("the probe is nobody's traffic", "postern-probe" not in get(world.port, "/metrics")[2], "a series")
    until(lambda: world.agent.control("status")[0] == 0, 20, "posternctl, which does not take it for a stranger's")
    expect_that("the probe is no gateway in the kernel's list", "postern-probe" not in world.agent.control("gateways")[1],
                world.agent.control("gateways")[1])


@case("many who ask at a time share one probe, and its result is good for some seconds")
def shared(world):
    world.agent.stop()
    world.start_agent()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: world.ready(), range(12)))
    expect("answers", set(answers), {(200, "ready")})
    expect_that("few probes for 12 questions", 1 <= world.probes() <= 2, world.probes())
    expect("hooks of the gateway", world.ask("vip4").status, 200)


@case("a probe that gets no answer says so, holds nobody else, and the next one is made anew", limit=120)
def no_answer(world):
    expect("readyz", world.ready(), (200, "ready"))
    child = world.child()
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        until(lambda: world.probes() >= 1, LONG, "the metrics")
        asked = []

        def refusal():
            """The first one: it is good for a second only, and whoever asks after that may begin a probe that passes."""
            asked.append(time.monotonic())
            seen = world.ready()
            asked.clear()
            return seen[0] == 503 and seen
        answer = pool.submit(lambda: until(refusal, 40, "a refusal"))
        until(lambda: [each for each in list(asked) if time.monotonic() - each > 1], 30, "a question that waits for the probe")
        expect("livez meanwhile", get(world.port, "/livez")[0], 200)
        expect("the gateway meanwhile", world.ask("vip4").status, 200)
        expect("the refusal is already there", answer.done(), False)
        status, reason = answer.result()
    expect("status", status, 503)
    expect_that("the reason names the built-in TLS peer", "built-in TLS peer" in reason, reason)
    until(lambda: world.ready() == (200, "ready"), 20, "a probe that passes")
    expect_that("another child", world.child() != child, child)


@case("a child that dies is replaced")
def dead_child(world):
    expect("readyz", world.ready(), (200, "ready"))
    scene = world.scene()
    os.kill(world.child(), signal.SIGKILL)
    # What was good stays so for some seconds; then there is a new scene.
    until(lambda: world.ready() == (200, "ready") and world.scenes() not in ([], [scene]), 20, "a new child")
    expect_that("another scene", world.scene() != scene, scene)
    expect("livez", get(world.port, "/livez")[0], 200)


@case("the next life of a killed agent is ready by a probe of its own")
def killed(world):
    expect("readyz", world.ready(), (200, "ready"))
    scene = world.scene()
    world.agent.kill()
    # The dead one's child dies by its death: a cgroup with a process in it could not be removed.
    until(lambda: "populated 0" in (scene / "cgroup.events").read_text(), 10, "the end of the dead one's child")
    world.start_agent()
    expect("readyz", world.ready(), (200, "ready"))
    expect("failed probes", world.metric("postern_path_probes_total", result="failed"), 0)
    # What the dead one left is taken away by the proof of the next.
    world.scene()


@case("the probe's destination is the probe's alone: a gateway that dials it is refused")
def reserved(world):
    expect("readyz", world.ready(), (200, "ready"))
    try:
        world.gateway.connect("192.0.2.2", 8443).close()
        seen = "success"
    except OSError as error:
        seen = type(error).__name__
    expect("connect() of the real gateway to the probe's address", seen, "ConnectionRefusedError")


@case("without its gateway the agent is not ready, and says which")
def not_ready(world):
    world.agent.stop()
    world.start_agent(gateways=[world.gateway_flags(), {"name": "default/absent", "cgroup": "/postern-e2e-absent"}],
                      ready=False)
    world.agent.process.wait_for('event="metrics served"', within=90)
    until(lambda: "default/absent" in world.ready()[1], 20, "a reason that names the gateway")
    expect("status", world.ready()[0], 503)
    expect("livez", get(world.port, "/livez")[0], 200)
    expect("ready in the metrics", world.metric("postern_ready"), 0)


if __name__ == "__main__":
    main(HealthWorld)
