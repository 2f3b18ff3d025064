#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The hold at scale: thousands of attempts in flight at once, rings that run over, gateways that give up, ports that run
out, many namespaces, an agent that is stopped or replaced. In every case each connect() is told the truth, nothing
plain is on the wire, nothing is left behind, and the agent's counters add up.

POSTERN_SCALE=full is what `make soak` runs: 10,000 attempts at once instead of 2,000, or what RLIMIT_NOFILE lets the
agent have.
"""

import os
import re
import resource
import signal
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import envoy
from lib.case import case, expect, expect_that, main
from lib.crowd import MARKER, Books, Crowd, Hall, outcomes, until_quiet
from lib.process import run_in
from lib.prometheus import free_port, get
from lib.topology import GATEWAY4, backend4, backend6
from lib.waiting import until
from lib.world import Service, World

FULL = os.environ.get("POSTERN_SCALE") == "full"
GATEWAYS = 20
MOST_GATEWAYS = 254  # POSTERN_MAX_SERVED


def descriptors():
    """What one process may have: raised where this process may (CAP_SYS_RESOURCE; then so may the agent)."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32_768, 32_768))
    except (ValueError, PermissionError):
        pass
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


# The agent refuses what it may have no descriptors for, two each; the shares of its workers are a little uneven.
MANY = min(10_000, int(descriptors() * 0.47) // GATEWAYS * GATEWAYS) if FULL else 2_000
SOME = 1_000 if FULL else 500
PORT, REFUSING = 8730, 8731
NO_END = 600  # seconds: a case that takes longer has failed


class ScaleStage(World):
    def _build(self):
        super()._build()
        self.leaf = self.authority.leaf("crowd", "DNS:crowd.example")
        for name in ("gateway", "node", "backend"):
            run_in(self.network[name], "sysctl", "-qw", "net.core.somaxconn=16384", "net.ipv4.tcp_max_syn_backlog=16384",
                   "net.ipv6.neigh.default.gc_thresh3=8192", check=False)
        self.service = self.publish(Service("crowd", 90, target=PORT, endpoints=(2, 3, 4, 5), hostname="crowd.example"))
        self.refusing = self.publish(Service("refusing", 91, target=REFUSING, hostname="crowd.example"))
        self.targets = [(self.service.vip4, 80), *self.service.endpoints4, (self.service.vip6, 80),
                        *self.service.endpoints6, (f"::ffff:{self.service.vip4}", 80)]
        self.refused = [(self.refusing.vip4, 80), (self.refusing.vip6, 80), self.refusing.endpoint4,
                        self.refusing.endpoint6]
        self.hall = self.close_at_end(Hall(self.network["backend"], self.backend_cgroup,
                                           [(make(number), PORT) for number in (2, 3, 4, 5)
                                            for make in (backend4, backend6)], self.leaf))
        self.crowd = self.close_at_end(Crowd(self.network["gateway"], self.gateway_cgroup))
        self.begin_agent()

    def begin_agent(self, gateways=None, limit="300s"):
        self.start_agent(gateways, max_handshakes=65536, max_connections=131072, handshake_timeout=limit,
                         dial_timeout=limit)
        self.agent.until_policy("crowd")
        self.agent.until_policy("refusing")

    def begin(self, speaks=False):
        """For each case: nothing is under way, and the backend speaks or not."""
        if not self.agent.process.running():
            self.begin_agent()
        self.crowd.drop()
        self.until_quiet()
        self.hall.speak(speaks)
        return Books(self.agent)

    def attempts(self):
        return self.agent.status()["workers"]["attempts_live"]

    def descriptors(self):
        """The agent's, at rest: now and then it has a file open for a moment, to see what memory it uses."""
        return min(self.agent.descriptors() for _ in range(5))

    def until_quiet(self, within=30):
        until_quiet(self.agent, self.hall, within)


def expect_all(what, outcome, **wanted):
    expect(what, outcomes(outcome), wanted)


def held(stage, count):
    """Wait until that many attempts are in flight, and their Bs are at the silent backend."""
    until(lambda: stage.attempts() >= count, 300, f"{count} attempts in flight", every=0.1)
    until(lambda: stage.hall.count()["open"] >= count, 300, f"{count} Bs at the backend", every=0.1)


@case(f"{MANY} attempts in flight at once, IPv4, IPv6 and v4-mapped: none succeeds before its B is verified, then all do",
      limit=NO_END)
def in_flight(stage):
    books, quiet = stage.begin(), stage.descriptors()
    with stage.capture(MARKER) as wire:
        expect_all("started", stage.crowd.start(stage.targets, MANY), started=MANY)
        held(stage, MANY)
        expect_all("while the backend is silent", stage.crowd.wait(0.5), pending=MANY)
        stage.hall.speak(True)
        outcome = stage.crowd.wait(300)
        expect_all("once it speaks", outcome, ok=MANY)
        report = wire.report()
    print(f"     {MANY} connects, held and released in {outcome['seconds']} s")
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(PORT), [])
    stage.until_quiet()
    expect("attempts", books.since("workers", "attempts"), MANY)
    expect("connections", books.since("workers", "connections"), MANY)
    expect("failures", books.failures(), {})
    until(lambda: stage.agent.descriptors() == quiet, 10, f"{quiet} descriptors, as before")


@case(f"{MANY} connections open at once, with 2 workers: two descriptors each, all of them alive, and none left behind",
      limit=NO_END)
def open_at_once(stage):
    books, quiet = stage.begin(speaks=True), stage.descriptors()
    with stage.capture(MARKER) as wire:
        done = 0
        while done < MANY:  # a few hundred at a time: that many in flight is another case
            step = min(500, MANY - done)
            stage.crowd.start(stage.targets, step)
            done += step
            expect_all("connects and exchanges so far", stage.crowd.wait(300, keep=True), ok=step)
        workers = stage.agent.status()["workers"]
        expect("connections open", workers["connections_live"], MANY)
        used = stage.agent.descriptors() - quiet
        expect_that("two descriptors for each, and a pipe or two", 2 * MANY <= used <= 2 * MANY + 64, used)
        print(f"     {MANY} connections, {used} descriptors of {descriptors()} that a process may have, "
              f"{stage.agent.resident_kilobytes() >> 10} MB resident")
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    stage.crowd.drop()
    stage.until_quiet(120)
    expect("failures", books.failures(), {})
    until(lambda: stage.agent.descriptors() <= quiet + 8, 10, f"{quiet} descriptors, as before, or a pipe more")


@case("over several ports of the agent: each worker has a share", limit=NO_END)
def shared_out(stage):
    """The hook chooses among the ports; what each of the agent's listeners got is seen from G's end."""
    stage.begin()
    ports = stage.agent.ports()
    expect("ports of two workers", len(ports), 4)
    expect_all("started", stage.crowd.start(stage.targets, SOME), started=SOME)
    held(stage, SOME)
    text = run_in(stage.network["gateway"], "ss", "-Htn", "state", "syn-sent").stdout
    share = {port: len(re.findall(rf":{port}\s*$", text, re.M)) for port in ports}
    expect("held connects on the agent's ports", sum(share.values()), SOME)
    expect_that("no port with less than half of its share", min(share.values()) > SOME / 8, share)
    stage.hall.speak(True)
    expect_all("released", stage.crowd.wait(60), ok=SOME)
    stage.until_quiet()


@case(f"{MANY} gateways give up: all attempts are gone, every B cancelled, nothing is left", limit=NO_END)
def give_up(stage):
    """
    A GONE record that finds no room in the ring is healed by the limit of the handshake; a connect whose records were all
    lost meanwhile was never known. They give up between two of their SYNs (at 1 and at 3 s): one that is still on its way
    when its G is gone is nobody's, and counted as such (no_connect_record).
    """
    stage.begin()
    stage.agent.stop()
    stage.begin_agent(limit="15s")
    books, quiet, before = stage.begin(), stage.descriptors(), stage.hall.count()
    expect_all("started", stage.crowd.start(stage.targets, MANY, patience=2.0), started=MANY)
    expect_all("every connect", stage.crowd.wait(60), gave_up=MANY)
    stage.until_quiet(60)
    failures, lost = books.failures(), books.since("counters", "ring_full")
    print(f"     {failures}, {lost} records lost")
    expect("attempts", books.since("workers", "attempts"), sum(failures.values()))
    expect("connections", books.since("workers", "connections"), 0)
    if not lost:
        failures.pop("no_connect_record", 0)
        expect("failures", sum(failures.values()), MANY)
        expect_that("none but the gateway's giving up", set(failures) <= {"handshake_timeout", "backend_silent"}, failures)
    expect("handshakes that the backend finished", stage.hall.count()["verified"] - before["verified"], 0)
    until(lambda: stage.agent.descriptors() == quiet, 10, f"{quiet} descriptors, as before")
    stage.agent.stop()
    stage.begin_agent()


@case(f"{MANY} connects to a port where nothing listens: ECONNREFUSED, each of them", limit=NO_END)
def refused(stage):
    books = stage.begin()
    expect_all("started", stage.crowd.start(stage.refused, MANY), started=MANY)
    outcome = stage.crowd.wait(60)
    expect_all("every connect", outcome, ECONNREFUSED=MANY)
    print(f"     {MANY} refused in {outcome['seconds']} s")
    stage.until_quiet()
    expect("failures", books.failures(), {"backend_refused": MANY})


def expect_heals(books):
    """
    After a loss: an attempt without its other record, and one begun for a connect that is over, end by themselves, the
    latter also where the backend's queue has no room for a SYN that nobody asked for any more.
    """
    failures = books.failures()
    print(f"     {failures}")
    expect_that("no failure but the backend's refusals and what a loss leaves behind",
                set(failures) <= {"backend_refused", "gateway_gave_up", "no_connect_record", "never_accepted",
                                  "backend_silent"}, failures)


@case("the agent is stopped while gateways connect: rings run over, and every connect heals at a SYN of its own",
      limit=NO_END)
def rings_run_over(stage):
    """A ring holds the records of about 3,700 connects. Those that fill it are refused later: that costs little."""
    filling = 9_000
    books, before = stage.begin(speaks=True), stage.hall.count()
    with stage.capture(MARKER) as wire:
        stage.agent.suspend()
        try:
            expect_all("started", stage.crowd.start(stage.refused, filling), started=filling)
            expect_all("started", stage.crowd.start(stage.targets, SOME), started=SOME)
            expect_all("while the agent is stopped", stage.crowd.wait(0.5), pending=filling + SOME)
        finally:
            stage.agent.resume()
        full = books.since("counters", "ring_full")
        outcome = stage.crowd.wait(120)
        expect_all("every connect", outcome, ok=SOME, ECONNREFUSED=filling)
        report = wire.report()
    print(f"     {full} records lost, all {filling + SOME} connects told the truth after {outcome['seconds']} s")
    expect_that("lost records", full > SOME, full)
    # What G sent again and the ring held until after its connect was completed is dialed for once more, and dropped.
    verified = stage.hall.count()["verified"] - before["verified"]
    expect_that(f"at least {SOME} handshakes at the backend", verified >= SOME, verified)
    expect("markers on the wire", report.markers, 0)
    stage.until_quiet()
    expect("connections", books.since("workers", "connections"), SOME)
    expect_heals(books)


@case("rings that run over while the agent reads them: records of either kind are lost, and heal, too", limit=NO_END)
def storm(stage):
    """The agent is stopped and goes on, again and again."""
    rounds, each = 3, 6_000 if FULL else 4_500
    books = stage.begin(speaks=True)
    over = threading.Event()

    def stutter():
        while not over.wait(0.01):
            stage.agent.process.signal(signal.SIGSTOP)
            over.wait(0.7)
            stage.agent.process.signal(signal.SIGCONT)
    stutterer = threading.Thread(target=stutter)
    stutterer.start()
    good = 0
    try:
        for _ in range(rounds):
            stage.crowd.start(stage.refused, each)
            good += stage.crowd.start(stage.targets, SOME // rounds)["started"]
    finally:
        over.set()
        stutterer.join()
        stage.agent.process.signal(signal.SIGCONT)
    outcome = stage.crowd.wait(150)
    print(f"     {books.since('counters', 'ring_full')} records lost, over after {outcome['seconds']} s")
    expect_all("every connect", outcome, ok=good, ECONNREFUSED=rounds * each)
    stage.until_quiet()
    expect("connections", books.since("workers", "connections"), good)
    expect_heals(books)


def until_refused(stage, count):
    def outcome():
        seen = stage.crowd.wait(1)
        return seen if seen.get("ECONNREFUSED", 0) >= count else None
    return until(outcome, 60, f"{count} connects refused")


@case("B has no port left: that connect is refused, and those that have one go on", limit=NO_END)
def no_port_for_b(stage):
    """
    One destination: it would be at its end after 500 connects of the gateway's own, too. Ports that no other case uses:
    what is in TIME-WAIT is not free.
    """
    ports, netns = 500, stage.network["gateway"]
    before = run_in(netns, "sysctl", "-n", "net.ipv4.ip_local_port_range").stdout.split()
    books = stage.begin()
    run_in(netns, "sysctl", "-qw", f"net.ipv4.ip_local_port_range=61000 {61000 + ports - 1}")
    try:
        expect_all("started", stage.crowd.start([stage.service.endpoint4], 2 * ports), started=2 * ports)
        held(stage, ports)
        expect_all("without a port", until_refused(stage, ports), ECONNREFUSED=ports, pending=ports)
        stage.hall.speak(True)
        expect_all("all", stage.crowd.wait(60), ECONNREFUSED=ports, ok=ports)
        stage.until_quiet()
        expect("failures", books.failures(), {"source_address": ports})
    finally:
        run_in(netns, "sysctl", "-qw", f"net.ipv4.ip_local_port_range={' '.join(before)}")


@case("ports run out: EADDRNOTAVAIL is the kernel's own, and four ports of the agent carry more than one would",
      limit=NO_END)
def ports_run_out(stage):
    """
    A range of 500 ephemeral ports: one loopback destination would be at its end after 500 connects. The Bs take theirs
    from the same range, so there are five destinations to dial.
    """
    ports, netns = 500, stage.network["gateway"]
    targets = [(stage.service.vip4, 80), *stage.service.endpoints4]
    before = run_in(netns, "sysctl", "-n", "net.ipv4.ip_local_port_range").stdout.split()
    books = stage.begin()
    run_in(netns, "sysctl", "-qw", f"net.ipv4.ip_local_port_range=62000 {62000 + ports - 1}")
    try:
        seen = stage.crowd.start(targets, 5 * ports)
        started = seen.pop("started")
        print(f"     {started} connects over 4 ports of the agent, {seen}")
        expect_that("connects of more than three agent ports", 3 * ports < started <= 4 * ports, started)
        expect("all others", seen, {"EADDRNOTAVAIL": 5 * ports - started})
        held(stage, started)
        stage.hall.speak(True)
        expect_all("those that had a port", stage.crowd.wait(60), ok=started, EADDRNOTAVAIL=5 * ports - started)
        stage.until_quiet()
        expect("connections", books.since("workers", "connections"), started)
        expect("failures", books.failures(), {})
    finally:
        run_in(netns, "sysctl", "-qw", f"net.ipv4.ip_local_port_range={' '.join(before)}")


@case(f"the agent is killed and another one starts while {SOME} connects are held: each is healed at its next SYN",
      limit=NO_END)
def restarted(stage):
    stage.begin()
    with stage.capture(MARKER) as wire:
        expect_all("started", stage.crowd.start(stage.targets, SOME), started=SOME)
        held(stage, SOME)
        # A SYN that finds no listener is refused. How long the new agent takes must not decide this case.
        run_in(stage.network["gateway"], "nft", "-f", "-", stdin=f"""
            add table inet lost
            add chain inet lost input {{ type filter hook input priority 0; }}
            add rule inet lost input iifname lo tcp dport {{ {", ".join(map(str, stage.agent.ports()))} }} drop
        """)
        try:
            stage.agent.kill()
            stage.begin_agent()
        finally:
            run_in(stage.network["gateway"], "nft", "delete", "table", "inet", "lost")
        stage.hall.speak(True)
        outcome = stage.crowd.wait(60)
        expect_all("every connect", outcome, ok=SOME)
        report = wire.report()
    print(f"     {SOME} connects healed, the last one {outcome['seconds']} s after it began")
    expect("markers on the wire", report.markers, 0)
    expect("sent and not TLS", report.sent_not_tls(PORT), [])
    stage.until_quiet()


@case("Envoy as the gateway: 300 requests held at once by a silent backend, all answered when it speaks", limit=NO_END)
def through_envoy(stage):
    count, port = 300, 8404
    front = envoy.Envoy(stage.new_directory("gateway"), stage.network["gateway"], stage.gateway_cgroup, GATEWAY4, port,
                        {"crowd": [(stage.service.vip4, 80)]}, connect_timeout="60s")
    books = stage.begin()
    try:
        clients = []
        for _ in range(count):
            client = stage.client.connect(GATEWAY4, port)
            client.sendall(b"GET /crowd/ HTTP/1.1\r\nHost: crowd\r\nConnection: close\r\n\r\n")
            clients.append(client)
        held(stage, count)
        stage.hall.speak(True)
        statuses = {}
        for client in clients:
            client.settimeout(30)
            status = client.recv(4096).partition(b"\r\n")[0]
            statuses[status] = statuses.get(status, 0) + 1
            client.close()
        expect("statuses", statuses, {b"HTTP/1.1 200 OK": count})
        expect("failures", books.failures(), {})
        stage.until_quiet()
    finally:
        front.close()


@case(f"{GATEWAYS} gateways, each in a namespace of its own, {MANY} connects at once in all", limit=NO_END)
def many_namespaces(stage):
    gateways, crowds = [], []
    for index in range(GATEWAYS):
        name = f"gw{index}"
        stage.network.namespace(name)
        stage.network.join(name, f"10.77.{100 + index}.2", f"fd77:0:0:{100 + index}::2", f"10.77.{100 + index}.1",
                           f"fd77:0:0:{100 + index}::1")
        cgroup = stage.cgroups.make(name)
        gateways.append({"name": f"default/{name}", "cgroup": cgroup, "netns": stage.network.path(name)})
        crowds.append(Crowd(stage.network[name], cgroup))
    stage.agent.stop()
    stage.begin_agent([stage.gateway_flags(), *gateways])
    each = MANY // GATEWAYS
    books = stage.begin()
    try:
        with stage.capture(MARKER) as wire:
            for crowd in crowds:
                crowd.say(do="start", targets=stage.targets, count=each, patience=0)
            for crowd in crowds:
                expect_all("started", crowd.answer(), started=each)
            held(stage, MANY)
            stage.hall.speak(True)
            for crowd in crowds:
                crowd.say_wait(60)
            for crowd in crowds:
                expect_all("each gateway's connects", crowd.answer(), ok=each)
            report = wire.report()
        expect("markers on the wire", report.markers, 0)
        expect("streams that are not TLS", report.not_tls(PORT), [])
        stage.until_quiet()
        expect("connections", books.since("workers", "connections"), MANY)
        expect("failures", books.failures(), {})
    finally:
        for crowd in crowds:
            crowd.close()


@case("as many gateways as there may be, in one namespace: enrolled, each with ports of its own, served, and /readyz",
      limit=NO_END)
def most_gateways(stage):
    cgroups = [stage.cgroups.make(f"most{index}") for index in range(MOST_GATEWAYS)]
    stage.agent.stop()
    port = free_port()
    stage.start_agent([{"name": f"default/most{index}", "cgroup": cgroup, "netns": stage.network.path("gateway")}
                       for index, cgroup in enumerate(cgroups)], ready=False, ports="20000-24999",
                      metrics_address=f"127.0.0.1:{port}")
    stage.agent.wait_ready(within=NO_END)
    ports = [port for index in range(MOST_GATEWAYS) for port in stage.agent.ports(index)]
    expect("different ports", len(set(ports)), MOST_GATEWAYS * 4)
    expect("readyz", get(port, "/readyz")[::2], (200, "ready\n"))
    stage.hall.speak(True)
    for index in (0, 1, MOST_GATEWAYS // 2, MOST_GATEWAYS - 1):
        crowd = Crowd(stage.network["gateway"], cgroups[index])
        try:
            expect_all("started", crowd.start(stage.targets, 40), started=40)
            expect_all(f"connects of gateway {index}", crowd.wait(60), ok=40)
        finally:
            crowd.close()
    print(f"     {MOST_GATEWAYS} gateways, {stage.agent.descriptors()} descriptors")
    stage.agent.stop()
    stage.uninstall()


if __name__ == "__main__":
    main(ScaleStage)
