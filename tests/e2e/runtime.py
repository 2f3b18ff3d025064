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

from lib import containerd
from lib.capture import Capture
from lib.case import SLOWNESS, case, expect, expect_that, main, skip, times
from lib.paths import POSTERNCTL, PYTHON, REPOSITORY, cgroup2_mount
from lib.pods_world import MARKER, PORT, PodsWorld
from lib.waiting import until

DIALER = REPOSITORY / "tests/lib/dialer.py"
NOBODY = 65532  # as deploy/ runs the gate
WITHIN = 30 * SLOWNESS


class RuntimeWorld(PodsWorld):
    def _build(self):
        containerd.need()
        super()._build()
        self.containerd = self.close_at_end(containerd.Containerd(self))
        print(f"     {containerd.version()}", flush=True)

    def wire(self):
        return Capture(self.network["backend"], MARKER)

    def dial(self, pod, name="main", address=None):
        """A container that dials the covered Service from its first instruction on, again and again."""
        address, port = address or (self.covered.vip4, 80)
        return pod.container(name, PYTHON, DIALER, address, port, MARKER.decode())

    def through_tls(self):
        """The next connection that the backend gets is TLS and carries the marker; those of before are forgotten."""
        while self.backends[0].waiting():
            self.backends[0].take().close()
        peer = self.backends[0].take(WITHIN)
        expect("what the backend got through TLS", peer.receive_exactly(len(MARKER)), MARKER)
        peer.close()

    def expect_found(self, pod):
        """The agent's gateway is that pod: its cgroup, and its network namespace, where the listeners are."""
        gateway = self.until_ready(f"default/{pod.name}", WITHIN)
        expect("its cgroup", gateway["cgroup"], str(pod.cgroup))
        expect("the runtime's own word", pod.cgroup_of(pod.pid), pod.cgroup / pod.sandbox)
        expect_that("its namespace is its own", pod.network_namespace() != os.stat("/proc/self/ns/net").st_ino,
                    pod.network_namespace())
        wanted = set(gateway["listeners"])
        expect_that("the agent listens in the pod's namespace", wanted and wanted <= listening(pod.pid),
                    (sorted(wanted), sorted(listening(pod.pid))))
        return gateway


def listening(pid):
    """Ports at 127.0.0.1 in the network namespace of a process."""
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[1].startswith("0100007F")}


def namespaces_of(pid):
    """Inodes of the network namespaces that a process has open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("net:["):
            found.add(int(target[5:-1]))
    return found


def run_gate(world, pod):
    pod.publish(gated=True, started=False)
    gate = pod.container("gate", POSTERNCTL, "gate", user=NOBODY)
    expect("the gate's status", pod.ended(gate), 0)
    expect_that("the gate names the gateway", any(f"gateway=default/{pod.name} " in line for line in pod.output("gate")),
                pod.output("gate"))
    pod.stop_container(gate)
    return world.expect_found(pod)


@case("sandbox, gate, gateway: the agent finds cgroup and namespace; every byte is TLS from the first on", limit=300)
def found(world):
    with world.containerd.pod("web") as pod:
        run_gate(world, pod)
        with world.wire() as wire:
            main_container = world.dial(pod)
            pod.publish(gated=True)
            world.through_tls()
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
            first = world.dial(pod)
            pod.publish(gated=True)
            world.through_tls()
            pod.stop_container(first)
            second = world.dial(pod)
            pod.publish(gated=True)
            world.through_tls()
            mark = world.agent.process.mark()
            world.containerd.kill()
            world.through_tls()
            world.containerd.start()
            world.through_tls()
            pod.stop_container(second)
            third = world.dial(pod)
            pod.publish(gated=True)
            world.through_tls()
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
        dialer = world.dial(pod)
        pod.publish(gated=True)
        world.through_tls()
        old = pod.network_namespace()
        os.kill(pod.pid, signal.SIGKILL)
        pod.stop_container(dialer)
        pod.renew_sandbox()
        expect_that("another namespace", pod.network_namespace() != old, old)
        until(lambda: listening(pod.pid), WITHIN, "the agent's listeners in the new namespace")
        world.expect_found(pod)
        dialer = world.dial(pod)
        pod.publish(gated=True)
        world.through_tls()
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
            dialer = world.dial(pod)
            pod.publish(gated=True)
            world.through_tls()
            pod.stop_container(dialer)
            expect("markers on the wire", wire.report().markers, 0)
    world.until_gone("default/web", WITHIN)


if __name__ == "__main__":
    main(RuntimeWorld)
