#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
An agent of another ABI number takes over, and one of the first number after it (a rollback): each has maps, hooks and
pins of its own, no connection can be handed over, so the old one drains what it has. No byte is lost, no connect fails,
nothing plain is on the wire, and no hook or pin of the other one is left behind.
"""

import json
import os
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import SLOWNESS, case, expect, expect_error, expect_that, main, times
from lib.paths import OTHER_ABI_POSTERND, POSTERND
from lib.process import run
from lib.stage import ECHO_PORT, PLAIN_PORT
from lib.sockets import receive_exactly
from lib.topology import GATEWAY4, backend4
from lib.transfer import Job, both_ways
from lib.upgrading import HANDED_OVER, MARKER, TLS_PORT, UpgradeStage, expect_serves
from lib.waiting import until
from lib.world import Service

INBOUND_PORT = 8099
HOOKS = 8  # programs on a gateway's cgroup
CONNECT_HOOKS = 2
NEXT = {POSTERND: OTHER_ABI_POSTERND, OTHER_ABI_POSTERND: POSTERND}


class AbiStage(UpgradeStage):
    program = POSTERND

    def _build(self):
        self.agents = []
        super()._build()

    def new_agent(self, *arguments, **options):
        agent = super().new_agent(*arguments, **options)
        self.agents.append(agent)
        return agent

    def upgrade(self, program=None, proved=lambda: None):
        """To the other number; the numbers take turns. proved() is called when the proof is over: that takes its time."""
        self.program = program or NEXT[self.program]
        new = self.start_agent(ready=False, program=self.program)
        new.process.wait_for("proof done", within=90 * SLOWNESS)
        proved()
        new.wait_ready()
        expect_that("the new agent tells of the old one", any("an agent runs" in line for line in new.process.lines),
                    new.process.lines[:3])
        return new

    def attached(self, kind=""):
        programs = json.loads(run("bpftool", "--json", "cgroup", "show", self.gateway_cgroup).stdout or "[]")
        return len([each for each in programs if each["name"].startswith(kind)])

    def versions_pinned(self):
        return sorted(path.name for path in self.bpffs.iterdir() if path.name != "passed_socket")

    def until_alone(self):
        """The other number's hooks and pins are gone."""
        until(lambda: len(self.versions_pinned()) == 1, 30 * SLOWNESS, "pins of one version")
        expect("programs on the gateway's cgroup", self.attached(), HOOKS)

    def revive(self):
        """Any agent that serves, alone: what a failed case left is ended."""
        self.end_background()
        for agent in self.agents:
            if agent is not self.agent and agent.process.running():
                agent.kill()
        if not self.serves():
            self.agent.kill()
            self.program = POSTERND
            self.start_agent()
        self.until_alone()

    def inbound(self):
        """A client's connection to the gateway: (the client's end, the gateway's)."""
        with self.gateway.listen(GATEWAY4, INBOUND_PORT) as listener:
            client = self.client.connect(GATEWAY4, INBOUND_PORT)
            return client, listener.accept()[0]

    def tls_pairs(self, backend, count):
        pairs = []
        for number in range(count):
            g = self.gateway.connect(self.service.vip4, 80, timeout=20 * SLOWNESS, blocking=bool(number % 2))
            pairs.append((g, backend.take()))
        return pairs


class Downloads:
    """TLS connections on which bytes go both ways while agents come and go."""

    def __init__(self, pairs, megabytes):
        self._pairs, self._bytes, self._jobs = pairs, megabytes << 20, []

    def begin(self):
        self._jobs = [Job(both_ways, g, peer, self._bytes, self._bytes) for g, peer in self._pairs]

    def finish(self):
        for job in self._jobs:
            job.result()


def expect_clean(report):
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(ECHO_PORT, TLS_PORT), [])


def say_hello(pairs):
    for g, peer in pairs:
        g.sendall(MARKER)
        expect("bytes to the backend", peer.receive_exactly(len(MARKER)), MARKER)


@case("to another ABI and back: connects go on without a fault, all old connections are drained, nothing is left", limit=180)
def there_and_back(stage):
    stage.revive()
    client, served = stage.inbound()  # in strict mode the guard takes its address for a destination to be held
    pooled = [stage.gateway.connect(stage.plain.vip4, 80) for _ in range(4)]
    for _ in range(2):
        former, repeated = stage.agent, stage.repeated_syns()
        with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
            idle, busy = stage.tls_pairs(backend, times(10)), stage.tls_pairs(backend, 4)
            say_hello(idle)
            plain = stage.plain_pairs(times(20))
            transfers, connecting = stage.streaming(plain, stuffed=(0, 10)), stage.connecting()
            moving = Downloads(busy, times(20))
            new = stage.upgrade(proved=moving.begin)
            former.process.wait_for(HANDED_OVER, within=10 * SLOWNESS)
            expect("programs that decide about connects", stage.attached("connect"), CONNECT_HOOKS)
            expect("programs that guard", stage.attached("guard"), 3)  # guard, and guard_inbound of both
            expect("versions pinned", len(stage.versions_pinned()), 2)
            before = connecting.count
            until(lambda seen=before: connecting.count > seen + times(20), 60 * SLOWNESS, "connects after the switch")
            served.sendall(MARKER)
            expect("an answer to a client that came before", receive_exactly(client, len(MARKER)), MARKER)
            expect("the new agent's own connections", new.status()["workers"]["taken_over"], 0)
            say_hello(idle)
            moving.finish()
            expect("the old agent, which still has some", former.process.running(), True)
            for g, peer in idle:
                both_ways(g, peer, 1 << 16, 1 << 16)
            transfers.finish()
            count = connecting.stop()
            expect("how the old agent ended", former.process.wait(20 * SLOWNESS), 0)
            stage.until_alone()
            expect_clean(wire.report())
        expect("kernel helper errors", new.status()["helper_errors"], [])
        stage.expect_no_syn_again(repeated)
        print(f"     {count} connects, slowest {connecting.slowest * 1000:.0f} ms")
    for g in pooled:  # uncovered, from before all of this
        g.sendall(b"GET /files/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        expect_that("an answer on a pooled plain connection", g.recv(4096).startswith(b"HTTP/1.1 "), "none")


@case("rolled back while the first agent still drains: its connections live on, and the maps have one writer", limit=180)
def rolled_back_at_once(stage):
    stage.revive()
    first = stage.agent
    with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
        of_first = stage.tls_pairs(backend, 4)
        connecting = stage.connecting()
        second = stage.upgrade()
        of_second = stage.tls_pairs(backend, 4)
        third = stage.upgrade()
        of_third = stage.tls_pairs(backend, 4)
        expect("all agents run", [each.process.running() for each in (first, second, third)], [True] * 3)
        # It has let go of the maps: it says so when the channel is closed, which is all that the third one waits for.
        first.process.wait_for("the successor is gone")
        expect("programs that decide about connects", stage.attached("connect"), CONNECT_HOOKS)
        for g, peer in of_first + of_second + of_third:
            both_ways(g, peer, 1 << 18, 1 << 18)
        connecting.stop()
        expect("how the others ended", [each.process.wait(20 * SLOWNESS) for each in (first, second)], [0, 0])
        stage.until_alone()
        expect_serves(stage, third)
        expect_clean(wire.report())


@case("a key that becomes covered while the old agent drains: its plain relay to it is reset, nothing goes out", limit=90)
def covered_while_draining(stage):
    stage.revive()
    former = stage.agent
    g, peer = stage.plain_pairs(1)[0]
    address, port = peer.getsockname()
    with stage.capture(MARKER) as wire:
        new = stage.upgrade()
        g.sendall(b"plain, as it was")
        expect("bytes before", peer.recv(64), b"plain, as it was")
        late = Service("late", 41, target=port, endpoints=(int(address.rsplit(".", 1)[1]),), hostname="echo.example")
        stage.write_manifests(late)
        new.until_policy("late", within=10 * SLOWNESS)
        g.settimeout(20 * SLOWNESS)
        expect_error("G", lambda: g.recv(1), ConnectionResetError)
        expect("how the old agent ended", former.process.wait(20 * SLOWNESS), 0)
        expect("markers on the wire", wire.report().markers, 0)
    stage.manifests.remove("late.yaml")
    stage.until_alone()


@case("killed at any moment of its start: the running agent serves on, and takes the other's hooks away", limit=240)
def killed_while_it_starts(stage):
    for moment in ("an agent runs", "proof done", "snapshot applied", *range(times(10))):
        stage.revive()
        old, program = stage.agent, NEXT[stage.program]
        with Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
            pairs, mark = stage.tls_pairs(backend, 2), old.process.mark()
            new = stage.new_agent(ready=False, program=program)
            if isinstance(moment, str):
                new.process.wait_for(moment, within=90 * SLOWNESS)
            else:
                new.process.wait_for("proof done", within=90 * SLOWNESS)
                threading.Event().wait(0.02 * moment)  # an event that never comes: the moment is the test
            new.kill()
            # The last word of the dead one may still lie unread in the channel.
            if "handed over" in old.process.wait_for(f"{HANDED_OVER}|the successor failed", mark, 30 * SLOWNESS):
                for g, peer in pairs:  # past the point of no return: it drains
                    both_ways(g, peer, 1 << 16, 1 << 16)
                expect("how the old agent ended", old.process.wait(20 * SLOWNESS), 0)
                stage.program = program
                stage.start_agent(program=program)
            else:
                stage.serves_again(old)
                for g, peer in pairs:
                    both_ways(g, peer, 1 << 16, 1 << 16)
            stage.until_alone()
            expect("a request", stage.ask("vip4").status, 200)


@case("the old agent is killed while it drains: its connections are reset, its hooks go, the new one serves")
def killed_while_it_drains(stage):
    stage.revive()
    old = stage.agent
    with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
        pairs = stage.tls_pairs(backend, 4)
        say_hello(pairs)
        new = stage.upgrade()
        old.kill()
        for g, _ in pairs:
            expect_error("G", lambda g=g: g.recv(1), ConnectionResetError)
        stage.until_alone()
        expect_serves(stage, new)
        expect_clean(wire.report())


@case("a dead agent's hooks of another ABI: covered connects are refused until the new one serves; never plain")
def dead_before(stage):
    stage.revive()
    stage.agent.kill()
    with stage.capture(MARKER) as wire:
        expect("a request without an agent", stage.ask("vip4", headers={"X-Marker": MARKER.decode()}).status, 502)
        asking = Asking(stage)
        stage.program = NEXT[stage.program]
        new = stage.start_agent(program=stage.program)
        stage.until_alone()
        statuses = asking.stop()
        expect_serves(stage, new)
        expect("answers meanwhile", set(statuses) - {200, 502}, set())
        expect_clean(wire.report())
        expect("bytes to the plain port that no plain request made", wire.report().towards(PLAIN_PORT), [])


class Asking:
    """Requests one after the other, whatever comes of them."""

    def __init__(self, stage):
        self._stage, self._stop, self.statuses = stage, threading.Event(), []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.005):
            self.statuses.append(self._stage.ask("vip4", headers={"X-Marker": MARKER.decode()}).status)

    def stop(self):
        self._stop.set()
        self._thread.join()
        return self.statuses


if __name__ == "__main__":
    main(AbiStage)
