#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The start race: a gateway that dials from its first instruction on, behind the gate and without it."""

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main, times
from lib.paths import POSTERNCTL, PYTHON
from lib.pods import Pod
from lib.pods_world import MARKER, PORT, PodsWorld
from lib.waiting import until

DIALER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib/dialer.py")


def start_dialer(world, pod):
    dialer = pod.run(PYTHON, DIALER, *map(str, world.covered.endpoint4), MARKER.decode())
    dialer.wait_for("begun")
    return dialer


@case("behind the gate nothing plain leaves, however early the gateway dials", limit=120)
def gated(world):
    for turn in range(times(10)):
        with Pod(world, f"gated-{turn}") as pod, world.capture(MARKER) as wire:
            # As a kubelet has it: the Pod is known to the API server, its init container runs, then the others.
            pod.publish(gated=True, started=False)
            gate = pod.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", POSTERNCTL, "gate")
            expect(f"turn {turn}: the gate's status", gate.wait(20), 0)
            dialer = start_dialer(world, pod)
            mark = dialer.mark()
            dialer.wait_for("sent", since=mark)
            dialer.kill()
            report = wire.report()
            expect(f"turn {turn}: markers on the wire", report.markers, 0)
            expect(f"turn {turn}: streams that are not TLS", report.not_tls(PORT), [])
            expect("findings", world.findings(), {})


@case("without the gate it is enrolled as soon as it is seen, which StartRace says; from then on nothing plain leaves",
      limit=120)
def ungated(world):
    early = 0
    for turn in range(times(10)):
        with Pod(world, f"ungated-{turn}") as pod:
            with world.capture(MARKER) as wire:
                dialer = start_dialer(world, pod)
                dialer.wait_for("sent")  # the race is lost
                pod.publish()
                world.until_ready(f"default/ungated-{turn}")
                early += wire.report().markers
            until(lambda turn=turn: set(world.findings()) == {("StartRace", f"Pod default/ungated-{turn}")}, 5,
                  "the finding StartRace")
            with world.capture(MARKER) as wire:
                mark = dialer.mark()
                for _ in range(5):
                    dialer.wait_for("sent", since=mark)
                    mark = dialer.mark()
                expect(f"turn {turn}: markers on the wire once it is enrolled", wire.report().markers, 0)
            dialer.kill()
        world.until_gone(f"default/ungated-{turn}")
    # A race that is never lost would not need the gate, and this test would show nothing.
    expect_that("at least one plain marker before it was enrolled", early > 0, early)
    print(f"     plain markers before enrolment, in {times(10)} turns: {early}")


if __name__ == "__main__":
    main(PodsWorld)
