#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A cluster that has not been seen yet: on a new node nothing passes; on one that knew its policy that stays in force."""

import os
import socket
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import successor
from lib.agent import Agent
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.sockets import receive_exactly
from lib.tls_peer import server_context
from lib.topology import CLUSTER_CIDRS, GATEWAY4, backend4
from lib.waiting import until
from lib.world import AGENT_PORTS, Service, World

MARKER = b"postern-unsynced-marker-90ab"
PORT, PLAIN = 8980, 8981


class Stalled:
    """An API server that takes connections and says nothing."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._taken = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self):
        while True:
            try:
                self._taken.append(self._listener.accept()[0])
            except OSError:
                return

    def asked(self):
        return len(self._taken)

    def close(self):
        self._listener.close()


class UnsyncedWorld(World):
    def _build(self):
        super()._build()
        self.leaf = self.authority.leaf("echo", "DNS:echo.example")
        self.covered = self.publish(Service("covered", 150, target=PORT, hostname="echo.example"))
        self.api = self.close_at_end(Stalled())
        self.kubeconfig = self.directory / "kubeconfig"
        self.kubeconfig.write_text(f"""
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{self.api.port}", certificate-authority: {self.authority.certificate}}}}}]
users: [{{name: u, user: {{token: secret}}}}]
""")

    def stalled(self):
        agent = Agent("", self.run_directory, self.bpffs, self.agent_cgroup, [self.gateway_flags()], CLUSTER_CIDRS,
                      AGENT_PORTS, 2, {"source": "kubernetes", "kubeconfig": self.kubeconfig, "node-name": "node-a"},
                      ready=False)
        self._stack.callback(agent.process.kill)
        return agent

    def stalled_agent(self):
        agent = self.stalled()
        agent.process.wait_for('gateway is ready" gateway=default/demo', within=60)
        return agent


@case("a new node: covered or not, nothing leaves before the cluster was seen; loopback is untouched")
def new_node(world):
    agent = world.stalled_agent()
    with Backend(world.backend, backend4(2), PORT) as covered, Backend(world.backend, backend4(3), PLAIN) as plain, \
            world.capture(MARKER) as wire:
        for address, port in ((world.covered.vip4, 80), (backend4(2), PORT), (backend4(3), PLAIN)):
            expect_error(f"connect to {address}:{port}",
                         lambda address=address, port=port: world.gateway.connect(address, port, timeout=30),
                         ConnectionRefusedError)
        expect("connections that the backends got", (covered.accepted, plain.accepted), (0, 0))
        expect("streams on the wire", len(wire.report().to_ports(PORT, PLAIN)), 0)
    with Backend(world.gateway, GATEWAY4, PLAIN), Backend(world.gateway, "127.0.0.1", PLAIN) as home:
        with world.gateway.connect("127.0.0.1", PLAIN) as g:
            g.sendall(MARKER)
            expect("loopback", receive_exactly(home.take(), len(MARKER)), MARKER)
    expect_error("the gate", lambda: world.gateway.connect("192.0.2.1", 1, timeout=30), ConnectionRefusedError)
    # A new agent, which does not see the cluster either, has given up: it is as before.
    until(lambda: (world.run_directory / "handover.sock").exists(), 60, "the handover socket")
    mark = agent.process.mark()
    successor.freezes_and_closes(world.run_directory)
    agent.process.wait_for("the successor failed", since=mark, within=60)
    with Backend(world.backend, backend4(3), PLAIN) as plain:
        expect_error("after an upgrade that failed", lambda: world.gateway.connect(backend4(3), PLAIN, timeout=30),
                     ConnectionRefusedError)
        expect("connections that the backend got", plain.accepted, 0)
    expect_error("the gate", lambda: world.gateway.connect("192.0.2.1", 1, timeout=30), ConnectionRefusedError)
    # Dead, it refuses: it never knew a policy.
    agent.process.kill()
    expect_error("without an agent", lambda: world.gateway.connect(backend4(3), PLAIN, timeout=30),
                 ConnectionRefusedError)


@case("a node that knew its policy: it stays in force while a new agent waits for the cluster")
def known(world):
    agent = world.start_agent()
    agent.until_policy("covered")
    agent.kill()
    waiting = world.stalled_agent()
    with Backend(world.backend, backend4(2), PORT, server_context(world.leaf)) as covered, \
            Backend(world.backend, backend4(3), PLAIN) as plain:
        expect_error("the covered one, whose settings nobody knows now",
                     lambda: world.gateway.connect(world.covered.vip4, 80, timeout=30), ConnectionRefusedError)
        expect("connections that its backend got", covered.accepted, 0)
        with world.gateway.connect(backend4(3), PLAIN) as g:
            g.sendall(MARKER)
            expect("what no policy concerns", receive_exactly(plain.take(), len(MARKER)), MARKER)
    waiting.process.kill()
    agent = world.start_agent()
    agent.until_policy("covered")
    with Backend(world.backend, backend4(2), PORT, server_context(world.leaf)) as covered:
        with world.gateway.connect(world.covered.vip4, 80) as g:
            g.sendall(MARKER)
            expect_that("TLS again", covered.take().receive_exactly(len(MARKER)) == MARKER, "")


@case("a new agent that waits for the cluster beside one that runs: the running one goes on serving", limit=240)
def beside(world):
    agent = world.agent
    agent.until_policy("covered")
    mark, asked = agent.process.mark(), world.api.asked()
    new = world.stalled()
    until(lambda: world.api.asked() > asked, 120, "a new agent that asks for the cluster")
    with Backend(world.backend, backend4(2), PORT, server_context(world.leaf)) as covered:
        for number in range(20):
            with world.gateway.connect(world.covered.vip4, 80, timeout=30) as g:
                g.sendall(MARKER)
                expect(f"through connect {number}", covered.take().receive_exactly(len(MARKER)), MARKER)
        new.process.kill()
        agent.process.wait_for("the successor failed", since=mark, within=60)
        with world.gateway.connect(world.covered.vip4, 80, timeout=30) as g:
            g.sendall(MARKER)
            expect("afterwards", covered.take().receive_exactly(len(MARKER)), MARKER)


if __name__ == "__main__":
    main(UnsyncedWorld)
