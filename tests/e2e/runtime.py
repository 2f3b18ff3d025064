#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Gateways in pods that a real runtime made: containerd and runc are asked as the kubelet asks (CRI), and the agent finds
from the Pod object their cgroup and their network namespace. Skipped where they are not installed
(apt-get install containerd runc containernetworking-plugins).
"""

import os
import shutil
import signal
import sys
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main, skip, times
from lib.paths import cgroup2_mount
from lib.pods_world import PORT
from lib.runtime_world import WITHIN, RuntimeWorld, listening, namespaces_of, run_gate
from lib.waiting import until

@case("sandbox, gate, gateway: the agent finds cgroup and namespace; every byte is TLS from the first on", limit=300)
def found(world):
    with world.containerd.pod("web") as pod:
        run_gate(world, pod)
        with world.wire() as wire:
            main_container = world.gateway_speaks(pod)
            pod.stop_container(main_container)
            report = wire.report()
            expect_that("streams to the backend", report.to_ports(PORT), report.raw)
            expect("markers on the wire", report.markers, 0)
            expect("streams that are not TLS", report.not_tls(PORT), [])
        expect("findings", world.findings(), {})
    world.until_gone("default/web", WITHIN)
    expect("pins of links", world.links(), [])


@case("the start race without the gate: StartRace says so; once it is enrolled nothing plain leaves", limit=300)
def ungated(world):
    with world.containerd.pod("early") as pod:
        with world.wire() as wire:
            dialer = world.dial(pod)
            until(lambda: "sent" in pod.output("main"), WITHIN, "a gateway that nobody guards")
            expect_that("markers on the wire before anybody knew of it", wire.report().markers > 0, wire.report().raw)
        pod.publish()
        world.expect_found(pod)
        until(lambda: set(world.findings()) == {("StartRace", "Pod default/early")}, WITHIN, "the finding StartRace")
        with world.wire() as wire:
            for _ in range(3):
                world.through_tls()
            expect("markers on the wire once it is enrolled", wire.report().markers, 0)
        pod.stop_container(dialer)
    world.until_gone("default/early", WITHIN)


@case("the start race behind the gate, won by it every time: nothing plain, at any time", limit=600)
def gated(world):
    for turn in range(times(5)):
        with world.containerd.pod(f"gated-{turn}") as pod, world.wire() as wire:
            run_gate(world, pod)
            dialer = world.dial(pod)
            world.through_tls()
            pod.stop_container(dialer)
            expect(f"turn {turn}: markers on the wire", wire.report().markers, 0)
            expect(f"turn {turn}: streams that are not TLS", wire.report().not_tls(PORT), [])
            expect("findings", world.findings(), {})


@case("a container that restarts, and a containerd that is killed and started: the same hooks, no plain byte", limit=300)
def restarts(world):
    with world.containerd.pod("web") as pod:
        before = run_gate(world, pod)
        with world.wire() as wire:
            first = world.gateway_speaks(pod)
            pod.stop_container(first)
            second = world.gateway_speaks(pod)
            mark = world.agent.process.mark()
            world.containerd.kill()
            world.through_tls()
            world.containerd.start()
            world.through_tls()
            pod.stop_container(second)
            third = world.gateway_speaks(pod)
            after = world.expect_found(pod)
            expect("its cgroup and the agent's ports", (after["cgroup"], after["listeners"]),
                   (before["cgroup"], before["listeners"]))
            expect("what the agent lost meanwhile",
                   [line for line in world.agent.process.lines[mark:] if "gateway lost" in line], [])
            pod.stop_container(third)
            expect("markers on the wire", wire.report().markers, 0)
    world.until_gone("default/web", WITHIN)


@case("a sandbox that dies is made anew in the same pod: the agent goes over to its network namespace", limit=300)
def sandbox_dies(world):
    with world.containerd.pod("web") as pod, world.wire() as wire:
        run_gate(world, pod)
        dialer = world.gateway_speaks(pod)
        old = pod.network_namespace()
        os.kill(pod.pid, signal.SIGKILL)
        pod.stop_container(dialer)
        pod.renew_sandbox()
        expect_that("another namespace", pod.network_namespace() != old, old)
        until(lambda: listening(pod.pid), WITHIN, "the agent's listeners in the new namespace")
        world.expect_found(pod)
        dialer = world.gateway_speaks(pod)
        pod.stop_container(dialer)
        expect("markers on the wire", wire.report().markers, 0)
        until(lambda: old not in namespaces_of(world.agent.pid), WITHIN, "the agent to let go of the old namespace")
    world.until_gone("default/web", WITHIN)


@case("a pod that is removed: hooks, pins and namespace go; one of the same name is another", limit=300)
def removed(world):
    for qos in ("burstable", "besteffort", ""):
        with world.containerd.pod("web", qos=qos) as pod:
            run_gate(world, pod)
            namespace = pod.network_namespace()
            expect_that("the agent has the namespace open", namespace in namespaces_of(world.agent.pid), namespace)
        world.until_gone("default/web", WITHIN)
        expect("pins of links", world.links(), [])
        until(lambda inode=namespace: inode not in namespaces_of(world.agent.pid), WITHIN,
              "the agent to let go of the namespace")


@case("crun in runc's place", limit=300)
def crun(world):
    if not shutil.which("crun"):
        skip("not installed: crun")
    if cgroup2_mount() != Path("/sys/fs/cgroup"):
        skip("crun knows no hybrid cgroups: it needs cgroup2 at /sys/fs/cgroup, as in a guest")
    with world.containerd.pod("web", handler="crun") as pod:
        run_gate(world, pod)
        with world.wire() as wire:
            dialer = world.gateway_speaks(pod)
            pod.stop_container(dialer)
            expect("markers on the wire", wire.report().markers, 0)
    world.until_gone("default/web", WITHIN)


if __name__ == "__main__":
    main(RuntimeWorld)
