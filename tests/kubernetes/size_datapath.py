#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
HOLD as a gateway meets it in a cluster of 5,000 Services, 50,000 endpoints and 5,000 policies: connect() to addresses of
the cluster that no object has, that an uncovered Service was given a moment ago, and that a covered one was. What each
connect() came to and how long it took is printed. Asserted is what must hold however long it takes: a covered address is
TLS or refused and never plain, a refusal comes at once and by its name, and who asks again is served.
"""

import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube.large import SERVICES, Burst, Churn, put_policies, put_services
from kube.source_tool import ca_map, policy, service, slice_of
from kube.speaking import MARKER, TARGET, SpeakingWorld
from lib.case import SLOWNESS, Failure, case, expect, expect_that, main
from lib.process import run

EACH = 10
# A refusal after the limit of HOLD (3 s); whoever waits for ever fails.
PATIENCE = 60 * SLOWNESS
# A client that asks again has its answer within that.
WITHIN = 180 * SLOWNESS
REQUEST = f"GET / HTTP/1.1\r\nHost: crowd\r\nX-Marker: {MARKER}\r\n\r\n".encode()
RANGE = "10.128.0.0/16"  # of a node of its own, so that it is the cluster's


class Range:
    """A pod that is at every address of 10.128.NUMBER.0/24; next() gives one that nobody dialed or named before."""

    def __init__(self, world, number, name, service_name=None):
        self.pod = world.one.pod(name)
        self._number, self._used = number, 0
        network = f"10.128.{number}.0/24"
        run("ip", "-n", world.network["node"], "route", "add", network, "via", self.pod.address4)
        run("ip", "-n", self.pod.netns, "route", "add", "local", network, "dev", "lo")
        self.speaker = world.speaker(self.pod, name, service_name, ["0.0.0.0"])

    def next(self):
        self._used += 1
        return f"10.128.{self._number}.{self._used}"


class World(SpeakingWorld):
    def _build(self):
        super()._build()
        self.admin.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}, "spec": {"podCIDRs": [RANGE]}})
        self.nobodys = Range(self, 1, "nobodys")
        self.uncovered = Range(self, 2, "uncovered")
        self.covered = Range(self, 3, "covered", "echo")
        self._made = 0

    def fill(self):
        self.admin.apply(ca_map("ca", self.authority.pem))
        put_services(self.etcd)
        put_policies(self.etcd, 0, SERVICES)

    def new_name(self):
        self._made += 1
        return f"new-{self._made}"

    # What an address is when it is dialed

    def unnamed(self):
        return self.nobodys.next()

    def plain(self):
        name, address = self.new_name(), self.uncovered.next()
        self.admin.apply(service(name))
        self.admin.apply(slice_of(name, [address], pods=["uncovered"]))
        return address

    def covered_from_the_start(self):
        """The policy first: there is no moment in which it is an uncovered Service's address."""
        name, address = self.new_name(), self.covered.next()
        self.admin.apply(policy(name, name, "ca"))
        self.admin.apply(service(name))
        self.admin.apply(slice_of(name, [address], pods=["covered"]))
        return address


class Dialed:
    """Connects of one sort: what became of each, and after how long."""

    def __init__(self, world, title, new_address):
        self._world, self._title, self._new_address = world, title, new_address
        self.seconds, self.outcomes, self.served = [], [], []

    def _once(self, address):
        started = time.monotonic()
        try:
            with self._world.gateway.sockets.connect(address, TARGET, timeout=PATIENCE) as sock:
                self.seconds.append(time.monotonic() - started)
                sock.sendall(REQUEST)
                answer = b""
                while data := sock.recv(65536):
                    answer += data
                return answer.partition(b"kind=")[2].split(b"\n")[0].decode()
        except ConnectionRefusedError:
            self.seconds.append(time.monotonic() - started)
            return "refused"
        except ConnectionError:
            return "reset"  # it was plain when a policy came into force

    def dial(self):
        """A new address, until it is served."""
        address, began = self._new_address(), time.monotonic()
        while (outcome := self._once(address)) == "refused":
            self.outcomes.append(outcome)
            if time.monotonic() > began + WITHIN:
                raise Failure(f"{self._title}: {address} was refused for {WITHIN} s")
        self.outcomes.append(outcome)
        self.served.append(time.monotonic() - began)

    def report(self):
        counts = ", ".join(f"{self.outcomes.count(each)} {each}" for each in sorted(set(self.outcomes)))
        print(f"     {self._title}: {counts}; connect() median {statistics.median(self.seconds) * 1000:.0f} ms, most "
              f"{max(self.seconds) * 1000:.0f} ms; served after at most {max(self.served):.1f} s; load "
              f"{os.getloadavg()[0]:.0f}", flush=True)


def dial_all(world):
    sorts = [(Dialed(world, title, new), kind) for title, new, kind in (
        ("in no object", world.unnamed, "plain"),
        ("of an uncovered Service, a moment old", world.plain, "plain"),
        ("covered, a moment old", world.covered_from_the_start, "tls"))]
    with world.capture(world.covered.pod, MARKER.encode()) as wire:
        for _ in range(EACH):
            for sort, _ in sorts:
                sort.dial()
        expect("in the clear", wire.report().in_the_clear(TARGET), [])
    for sort, kind in sorts:
        sort.report()
        expect("served, and else refused", (set(sort.outcomes) - {"refused"}, sort.outcomes.count(kind)), ({kind}, EACH))
    expect("what the covered backend saw", set(world.covered.speaker.kinds), {"tls"})


@case("beside the writes that a cluster never is without: what is covered is never plain, and all are served", limit=900)
def quiet(world):
    with Churn(world.etcd):
        dial_all(world)


@case("the same while policies are created by three clients", limit=900)
def burst(world):
    with Burst(world.new_admin, 3) as meanwhile:
        dial_all(world)
    print(f"     {len(meanwhile.made)} policies created meanwhile", flush=True)
    expect_that("policies that were created meanwhile", meanwhile.made, meanwhile.made)


@case("a Service that was plain is given a policy: it may be plain until that is in force, and never after it", limit=600)
def covered_meanwhile(world):
    name, address = world.new_name(), world.covered.next()
    world.admin.apply(service(name))
    world.admin.apply(slice_of(name, [address], pods=["covered"]))
    sort = Dialed(world, "plain, then covered", lambda: address)
    with Churn(world.etcd):
        sort.dial()
        expect("before", sort.outcomes[-1], "plain")
        world.admin.apply(policy(name, name, "ca"))
        began, in_force = time.monotonic(), None
        while not in_force and time.monotonic() < began + WITHIN:
            sort.dial()
            in_force = time.monotonic() - began if sort.outcomes[-1] == "tls" else None
        expect_that("in force", in_force, sort.outcomes[-10:])
        print(f"     in force {in_force * 1000:.0f} ms after the API server had the policy", flush=True)
        for _ in range(EACH):
            sort.dial()
    before, after = (sort.outcomes[:sort.outcomes.index("tls")], sort.outcomes[sort.outcomes.index("tls"):])
    expect_that("before it", set(before) <= {"plain", "refused", "reset"}, before)
    expect("after it", set(after) - {"refused"}, {"tls"})
    sort.report()


if __name__ == "__main__":
    main(World)
