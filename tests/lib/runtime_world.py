# SPDX-License-Identifier: GPL-2.0-only
"""A world whose gateways are pods that a real containerd made (lib/containerd.py)."""

import os
from pathlib import Path

from lib import containerd
from lib.agent import Agent
from lib.capture import Capture
from lib.case import SLOWNESS, expect, expect_that
from lib.paths import POSTERNCTL, PYTHON, REPOSITORY
from lib.pods_world import MARKER, PodsWorld
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

    def use_agent_of(self, pod, container):
        """The agent is what runs in a container, whose /run/postern is this run's."""
        self._agent = ContainedAgent(self, pod, container)

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

    def gateway_speaks(self, pod):
        """A gateway begins in the pod, behind its gate, and a connection of it comes through TLS. Its container."""
        container = self.dial(pod)
        pod.publish(gated=True)
        self.through_tls()
        return container

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


class ContainedAgent(Agent):
    """posternd in a container of a pod: asked by its socket, its log read as the runtime wrote it."""

    def __init__(self, world, pod, container):  # pylint: disable=super-init-not-called
        self.run_directory, self.bpffs = world.run_directory, world.bpffs
        self.process = ContainedProcess(pod, container)


class ContainedProcess:
    def __init__(self, pod, container):
        self._pod, self._container = pod, container

    @property
    def pid(self):
        return self._pod.runtime.container(self._container)[2]["pid"]

    @property
    def lines(self):
        return self._pod.output("posternd")


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


def run_gate(world, pod, start=None):
    """Behind it: the agent's gateway. start: makes the gate's container."""
    pod.publish(gated=True, started=False)
    gate = start(pod) if start else pod.container("gate", POSTERNCTL, "gate", user=NOBODY)
    expect("the gate's status", pod.ended(gate), 0)
    # The runtime copies its output by itself: it may tell of the end before the last line is in the log.
    until(lambda: any(f"gateway=default/{pod.name} " in line for line in pod.output("gate")), WITHIN,
          f"the gate to name the gateway in {pod.output('gate')}")
    pod.stop_container(gate)
    return world.expect_found(pod)
