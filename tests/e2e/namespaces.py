#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
A hundred gateways, each in a cgroup and a network namespace of its own, as on a node with many small ones. The agent
dials from each gateway's namespace: that is two setns() for each connect, and they must never lead into another's.
"""

import os
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main, times
from lib.crowd import MARKER, Books, Crowd, Hall, outcomes, until_quiet
from lib.topology import backend4, backend6
from lib.waiting import until
from lib.world import Service, World

GATEWAYS = times(100)
EACH = 8
ALL = GATEWAYS * EACH
PORT, REFUSING = 8730, 8731
NO_END = 600  # seconds: a case that takes longer has failed


class NamespacesStage(World):
    def _build(self):
        super()._build()
        leaf = self.authority.leaf("crowd", "DNS:crowd.example")
        self.service = self.publish(Service("crowd", 90, target=PORT, endpoints=(2, 3), hostname="crowd.example"))
        self.refusing = self.publish(Service("refusing", 91, target=REFUSING, hostname="crowd.example"))
        self.hall = self.close_at_end(Hall(self.network["backend"], self.backend_cgroup,
                                           [(make(number), PORT) for number in (2, 3) for make in (backend4, backend6)],
                                           leaf))
        self.addresses = {f"pod{number}": (f"10.77.{100 + number}.2", f"fd77:0:0:{100 + number}::2",
                                           f"10.77.{100 + number}.1", f"fd77:0:0:{100 + number}::1")
                          for number in range(GATEWAYS)}
        self.network.add_pods(self.addresses)
        self.places = {name: (self.network.path(name), self.cgroups.make(name)) for name in self.addresses}
        self.own = (self.network.path("gateway"), self.gateway_cgroup)
        self.crowd = self.close_at_end(Crowd(self.network["gateway"], self.gateway_cgroup))
        self.start_agent([self.gateway_flags(), *({"name": f"default/{name}", "cgroup": cgroup, "netns": netns}
                                                  for name, (netns, cgroup) in self.places.items())],
                         handshake_timeout="300s", dial_timeout="300s")
        self.agent.until_policy("crowd")
        self.agent.until_policy("refusing")

    def begin(self, speaks):
        """Of a case: nothing is under way, and the backend speaks or not."""
        self.crowd.drop()
        self.until_quiet()
        self.hall.speak(speaks)
        return Books(self.agent)

    def until_quiet(self):
        until_quiet(self.agent, self.hall, 60)

    def start_everywhere(self, targets):
        for name, place in self.places.items():
            expect(f"connects begun by {name}", self.crowd.start(targets, EACH, place=place), {"started": EACH})

    def agents_time(self):
        """Nanoseconds of CPU that the agent's threads had."""
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{self.agent.pid}/task").glob("*/schedstat"))



@case(f"{ALL} connects held at once, {EACH} in each of {GATEWAYS} namespaces: none succeeds early, each is served from its own",
      limit=NO_END)
def held_and_served(stage):
    books, seen = stage.begin(speaks=False), stage.hall.peers()
    with stage.capture(MARKER) as wire:
        # Endpoints only: what kube-proxy has done to a ClusterIP's packets is not what this is about.
        stage.start_everywhere([*stage.service.endpoints4, *stage.service.endpoints6])
        until(lambda: stage.hall.count()["open"] >= ALL, NO_END, f"{ALL} Bs at the silent backend", every=0.1)
        expect("while the backend is silent", outcomes(stage.crowd.wait(0.5)), {"pending": ALL})
        expect("attempts in flight", stage.agent.status()["workers"]["attempts_live"], ALL)
        stage.hall.speak(True)
        expect("when it speaks", outcomes(stage.crowd.wait(NO_END, keep=True)), {"ok": ALL})
        report = wire.report()
    rows = stage.agent.connections()
    expect("connections of each gateway", Counter(row["gateway"] for row in rows),
           {f"default/{name}": EACH for name in stage.places})
    # A dial from another's namespace would have another's address.
    peers = {peer: number - seen.get(peer, 0) for peer, number in stage.hall.peers().items()}
    expect("exchanges with each gateway's own address", peers,
           {address: EACH // 2 for v4, v6, _, _ in stage.addresses.values() for address in (v4, v6)})
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(PORT), [])
    expect("failures", books.failures(), {})


@case(f"{EACH} connects in each of {GATEWAYS} namespaces to a port where nothing listens: ECONNREFUSED, each of them",
      limit=NO_END)
def refused(stage):
    books = stage.begin(speaks=True)
    stage.start_everywhere([stage.refusing.endpoint4, stage.refusing.endpoint6])
    expect("every connect", outcomes(stage.crowd.wait(NO_END)), {"ECONNREFUSED": ALL})
    stage.until_quiet()
    expect("failures", books.failures(), {"backend_refused": ALL})


@case(f"what a connect costs the agent does not grow with the namespaces: {ALL} of one, and {EACH} in each of {GATEWAYS}",
      limit=NO_END)
def cost(stage):
    """Refused ones: what a handshake costs would hide the rest. The least of three turns; four times it is another order."""
    targets, spent = [stage.refusing.endpoint4], {"one": [], "many": []}
    for _ in range(3):
        for name, begin in (("one", lambda: stage.crowd.start(targets, ALL, place=stage.own)),
                            ("many", lambda: stage.start_everywhere(targets))):
            stage.begin(speaks=True)
            before = stage.agents_time()
            begin()
            expect(f"every connect of {name}", outcomes(stage.crowd.wait(NO_END)), {"ECONNREFUSED": ALL})
            stage.until_quiet()
            spent[name].append((stage.agents_time() - before) / ALL / 1000)
    one, many = min(spent["one"]), min(spent["many"])
    print(f"     {one:.1f} us of the agent's CPU a refused connect in one namespace, {many:.1f} us over {GATEWAYS}")
    expect_that("no more than four times as much", many < 4 * one, (one, many))


if __name__ == "__main__":
    main(NamespacesStage)
