#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The gate: an init container learns that the hooks are on; nobody but the hook can tell it so."""

import os
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.paths import POSTERNCTL
from lib.process import Process, placed, run, run_in
from lib.sockets import receive_exactly
from lib.topology import backend4
from lib.waiting import LONG, until
from lib.world import Service, World

MARKER = b"postern-gate-marker-77ab"
GATE = ("192.0.2.1", 1)
PORT, PLAIN = 8960, 8961
# As a pod's security standard "restricted" has it: nobody, no capabilities, no way to get any.
RESTRICTED = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all",
              "--no-new-privs")


class GateWorld(World):
    def _build(self):
        super()._build()
        self.covered = self.publish(Service("covered", 120, target=PORT, hostname="echo.example"))
        self.start_agent()

    def gate(self, *words, cgroup=None, netns="gateway"):
        return run(*placed([*RESTRICTED, POSTERNCTL, "gate", *words], self.network[netns],
                           cgroup or self.gateway_cgroup), check=False)

    def waiting_gate(self, cgroup=None):
        return Process([*RESTRICTED, POSTERNCTL, "gate"], self.network["gateway"], cgroup or self.gateway_cgroup)

    def revive(self):
        if not self.agent.process.running():
            self.start_agent()


@case("nobody without privileges is told at once, with the gateway's name and id; no failure, no attempt is left")
def answered(world):
    done = world.gate("--timeout", "10")
    expect("status, errors", (done.returncode, done.stderr), (0, ""))
    expect_that("the gateway's name in the answer", "gateway=default/demo id=1 mode=enforce" in done.stdout,
                done.stdout)
    until(lambda: world.agent.status()["workers"]["attempts_live"] == 0, LONG, "no attempt left")
    status = world.agent.status()
    expect("connections, failures", (status["workers"]["connections_live"], sum(status["failures"].values())), (0, 0))


@case("blocking and not, and a v4-mapped IPv6 socket: one line, then a clean end, and getpeername says the gate")
def sockets(world):
    for address, blocking in ((GATE[0], False), (GATE[0], True), (f"::ffff:{GATE[0]}", False)):
        with world.gateway.connect(address, GATE[1], blocking=blocking) as g:
            peer = g.getpeername()
            expect(f"{address}: the peer", peer[:2], (address, 1))
            answer = b"".join(iter(lambda g=g: g.recv(4096), b""))
        expect(f"{address}: lines", answer.count(b"\n"), 1)
        expect_that("an answer", answer.startswith(b"postern gateway=default/demo "), answer)


@case("a hundred gates at once")
def many(world):
    results = []

    def dial():
        with world.gateway.connect(*GATE) as g:
            results.append(b"".join(iter(lambda: g.recv(4096), b"")))
    threads = [threading.Thread(target=dial) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect("answers", sum(each.startswith(b"postern gateway=") for each in results), 100)


@case("another port of the address is none of ours")
def other_port(world):
    run_in(world.network["node"], "nft", "-f", "-", stdin="""
        add table ip gate
        add chain ip gate forward { type filter hook forward priority 0; }
        add rule ip gate forward ip daddr 192.0.2.1 reject with icmp type host-prohibited
    """)
    try:
        expect_error("connect", lambda: world.gateway.connect("192.0.2.1", 2, timeout=5), OSError)
    finally:
        run_in(world.network["node"], "nft", "delete", "table", "ip", "gate")


@case("without a hook nobody is told so: a cgroup that is not enrolled, in the same network")
def no_hook(world):
    stranger = world.cgroups.make("stranger")
    done = world.gate("--timeout", "1.5", cgroup=stranger)
    expect("status", done.returncode, 1)
    expect_that("why, in words", "no hook on this pod yet" in done.stderr, done.stderr)


def answer_as_the_agent(sock):
    sock.sendall(b"postern gateway=default/demo id=1 mode=enforce\n")


@case("somebody of the network who answers at the gate's address is not believed")
def impostor(world):
    backend = world.network["backend"]
    run("ip", "-n", backend, "address", "add", "192.0.2.1/32", "dev", "lo")
    run("ip", "-n", world.network["node"], "route", "add", "192.0.2.1/32", "via", backend4(2))
    try:
        # Each connection is answered: the gate waits a second for it, and then dials once more.
        with Backend(world.backend, "192.0.2.1", 1, script=answer_as_the_agent):
            gate = Process([*RESTRICTED, POSTERNCTL, "gate", "--timeout", "3"], world.network["gateway"],
                           world.cgroups.make("stranger"))
            gate.wait_for("somebody of the network answers")
            expect("status", gate.wait(), 1)
            # And the enrolled one is led to the agent all the same.
            expect("the enrolled gateway's gate", world.gate("--timeout", "5").returncode, 0)
    finally:
        run("ip", "-n", world.network["node"], "route", "del", "192.0.2.1/32")
        run("ip", "-n", backend, "address", "del", "192.0.2.1/32", "dev", "lo")


@case("while the agent is dead the gate waits, and goes on when it is back")
def dead(world):
    world.agent.kill()
    done = world.gate("--timeout", "1")
    expect("status", done.returncode, 1)
    expect_that("why, in words", "the agent is not ready" in done.stderr, done.stderr)
    gate = world.waiting_gate()
    gate.wait_for("waiting: refused")
    world.revive()
    gate.wait_for("the hooks are on")
    expect("status", gate.wait(), 0)


@case("words that are no time, and a word too many")
def usage(world):
    for words in (("--timeout", "soon"), ("--timeout", "-1"), ("--timeout", "nan"), ("now",)):
        expect(f"gate {' '.join(words)}: status", world.gate(*words).returncode, 2)


@case("a rule that leads the agent's port elsewhere (a hostPort) gives no covered connection to a stranger")
def host_port(world):
    world.revive()
    gateway = world.network["gateway"]
    ports = world.agent.ports()
    run_in(gateway, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.eth0.route_localnet=1")
    run_in(gateway, "nft", "-f", "-", stdin=f"""
        add table ip hostport
        add chain ip hostport output {{ type nat hook output priority -100; }}
        add chain ip hostport post {{ type nat hook postrouting priority 100; }}
        add rule ip hostport output ip daddr 127.0.0.1 tcp dport {{ {", ".join(map(str, ports))} }} dnat to {backend4(3)}:{PLAIN}
        add rule ip hostport post ip saddr 127.0.0.1 oifname eth0 masquerade
    """)
    before = world.agent.counter("guard_syn_dropped")
    try:
        with Backend(world.backend, backend4(3), PLAIN) as stranger, world.capture(MARKER) as wire:
            expect_error("connect", lambda: world.gateway.connect(world.covered.vip4, 80, timeout=2), OSError)
            expect("connections that the stranger got", stranger.accepted, 0)
            expect("streams to it", len(wire.report().to_ports(PLAIN)), 0)
        expect_that("SYNs that the guard dropped", world.agent.counter("guard_syn_dropped") > before, before)
        # The same rule for a socket that was not sent to the agent would work: it is the guard that stopped it.
        with Backend(world.backend, backend4(3), PLAIN) as stranger:
            with world.stranger.connect("127.0.0.1", ports[0], timeout=5) as other:
                other.sendall(MARKER)
                expect("what a stranger in the same network reaches", receive_exactly(stranger.take(), len(MARKER)),
                       MARKER)
    finally:
        run_in(gateway, "nft", "delete", "table", "ip", "hostport")
        run_in(gateway, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=0", "net.ipv4.conf.eth0.route_localnet=0")


if __name__ == "__main__":
    main(GateWorld)
