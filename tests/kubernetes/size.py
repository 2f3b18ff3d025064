#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The state as of now (HOLD) in a cluster of 5,000 Services, 50,000 endpoints and 5,000 policies, beside the writes to etcd
that a cluster never is without. How long an answer took, and how often it was longer than a held connect waits, is
printed and judged by whoever reads it.
"""

import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube.accounts import rule
from kube.cluster import Cluster
from kube.large import GATEWAY_API, SERVICES, Burst, Churn, one_slice, put_policies, put_services
from kube.source_tool import SourceTool, ca_map, verdicts
from lib.case import Failure, case, expect, expect_that, main
from lib.certificates import Authority
from lib.waiting import until

HOLD_LIMIT = 3
QUESTIONS = 20
READS = [rule("", "services configmaps pods nodes secrets", "get list watch"),
         rule("discovery.k8s.io", "endpointslices", "get list watch"),
         rule(GATEWAY_API, "backendtlspolicies gateways gatewayclasses httproutes grpcroutes tlsroutes tcproutes "
                           "referencegrants", "get list watch"),
         rule("networking.k8s.io", "servicecidrs", "get list watch"),
         rule("certificates.k8s.io", "clustertrustbundles", "get list watch")]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class World(Cluster):
    def _build(self):
        super()._build()
        self.pem = Authority(self.new_directory("ca")).certificate.read_text()
        self.account = self.service_account("agent", rules=READS)
        self.admin.apply(ca_map("ca", self.pem))
        put_services(self.etcd)
        self.tool = self._stack.enter_context(SourceTool(self.account.kubeconfig(self.directory / "kubeconfig"),
                                                         POSTERN_LOG_LEVEL=os.environ.get("POSTERN_LOG_LEVEL", "")))
        seen = self.tool.until(lambda event: event.get("counts", {}).get("Service", 0) >= SERVICES,
                               "the Services", 120)
        print(f"     {seen['destination_count']} destinations, {seen['rss_kib'] >> 10} MB", flush=True)

    def put_policies(self, first, count):
        put_policies(self.etcd, first, count)
        return self.tool.until(lambda event: event.get("counts", {}).get("BackendTLSPolicy", 0) >= first + count,
                               "the policies", 240)

    def ask(self, scope="addresses"):
        """Seconds until the answer. Who got none within the limit asks again, as a client does."""
        started = time.monotonic()
        for turn in range(1, 21):
            self.tool.command(scope)
            while (now := time.monotonic()) < started + turn * HOLD_LIMIT:
                event = self.tool.next_event(started + turn * HOLD_LIMIT - now)
                if event and event["event"] == "current" and event["all"] >= (scope == "current"):
                    return time.monotonic() - started
        raise Failure(f"{scope}: expected an answer, seen none in {20 * HOLD_LIMIT} s")

    def measure(self, what, scope):
        pids = {"agent": self.tool.pid, "API server": self.api.process.pid}
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        seconds = [self.ask(scope) for _ in range(QUESTIONS)]
        spent = ", ".join(f"{name} {(cpu_seconds(pid) - before[name]) * 1000 / QUESTIONS:.0f} ms"
                          for name, pid in pids.items())
        print(f"     {what}, {'all' if scope == 'current' else scope}: median {statistics.median(seconds) * 1000:.0f} "
              f"ms, most {max(seconds) * 1000:.0f} ms of {QUESTIONS}, {sum(each > HOLD_LIMIT for each in seconds)} "
              f"refused; CPU time of each: {spent}; load "
              f"{os.getloadavg()[0]:.0f}", flush=True)


@case("5,000 Services: a question costs no compile, lists no policy that it need not, and many share an answer", 600)
def quiet(world):
    with Churn(world.etcd):
        world.ask()
        before = world.tool.status()["compiles"]
        mark = world.audit.mark()
        world.measure("no policies", "addresses")
        expect("compiles", world.tool.status()["compiles"], before)
        rows = world.audit.rows(mark, world.account.user, verb="list")
        expect("lists of policies", [str(row) for row in rows if row.resource == "backendtlspolicies"], [])
        mark = world.audit.mark()
        world.tool.command("\n".join(["addresses"] * 100))
        world.ask()
        rows = world.audit.rows(mark, world.account.user, verb="list", resource="services")
        expect_that("one question for all who ask at once, and the next: two lists each", len(rows) <= 6, len(rows))


@case("and 5,000 policies: the same, and with the policies", 600)
def policies(world):
    world.put_policies(0, SERVICES)
    with Churn(world.etcd):
        world.ask()
        before = world.tool.status()["compiles"]
        world.measure("policies", "addresses")
        world.measure("policies", "current")
        expect("compiles", world.tool.status()["compiles"], before)


@case("policies are created by six clients while questions are asked", 600)
def burst(world):
    with Burst(world.new_admin, 6) as meanwhile:
        started = time.monotonic()
        world.measure("burst", "addresses")
        world.measure("burst", "current")
        print(f"     {len(meanwhile.made)} policies in {time.monotonic() - started:.0f} s", flush=True)
    until(lambda: world.tool.status()["counts"]["BackendTLSPolicy"] >= SERVICES + len(meanwhile.made), 60, "all the policies")


@case("an endpoint made a moment ago is there, each time", 300)
def fresh(world):
    with Churn(world.etcd):
        for turn in range(5):
            new = one_slice(1, 60000 + turn, 1)
            new["endpoints"][0]["addresses"] = [f"10.1.1.{turn}"]
            world.admin.apply(new)
            world.tool.command("addresses")
            seen = until(lambda: next_current(world.tool), HOLD_LIMIT, "an answer")
            at = f"10.1.1.{turn}:8443"
            expect_that(f"{at} TLS", verdicts(seen).get(at) == "TLS", sorted(verdicts(seen))[:10])


def next_current(tool):
    event = tool.next_event(1)
    return event if event and event["event"] == "current" else None


main(World)
