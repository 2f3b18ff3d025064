#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
`posternctl check --from-cluster` before anything is installed: with an account that may only read it says of a real
cluster what would be covered and how many endpoints are ambiguous, and writes nothing.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube import deployment, postern
from kube.accounts import ServiceAccount, rule
from kube.cluster import Cluster
from kube.source_tool import ca_map, policy, service, slice_of
from lib.case import SLOWNESS, case, expect, expect_that, main
from lib.certificates import Authority
from lib.paths import POSTERNCTL

ENDPOINT = "10.1.1.1"
LIMIT = 120 * SLOWNESS


class World(Cluster):
    def _build(self):
        super()._build()
        postern.install(self)
        self.reader = ServiceAccount(self, deployment.NAMESPACE, "posternd")
        self.admin.apply(ca_map("ca", Authority(self.new_directory("ca")).certificate.read_text()))
        for name, hostname in (("one", "one.example"), ("two", "two.example"), ("alone", "alone.example")):
            self.admin.apply(service(name))
            self.admin.apply(policy(name, name, "ca", hostname=hostname))
        # Two Services with a policy each share an endpoint; the third has its own.
        for name, address in (("one", ENDPOINT), ("two", ENDPOINT), ("alone", "10.1.1.2")):
            self.admin.apply(slice_of(name, [address]))

    def check(self, account, *arguments, port=None):
        """(exit status, standard output, standard error)"""
        kubeconfig = account.kubeconfig(self.directory / f"{account.name}.kubeconfig", port)
        done = subprocess.run([POSTERNCTL, "check", "--from-cluster", "--kubeconfig", kubeconfig, *arguments],
                              capture_output=True, text=True, timeout=LIMIT, check=False)
        return done.returncode, done.stdout, done.stderr


@case("an account that may list and watch: what is covered, the ambiguous endpoint counted and named, and nothing written")
def judged(world):
    mark = world.audit.mark()
    status, page, errors = world.check(world.reader)
    expect("status and errors", (status, errors), (0, ""))
    expect("the count", page.splitlines()[-1], "ambiguous endpoints: 1")
    expect_that("policies and destinations", "3 policies: 3 good, 0 bad" in page and "4 TLS, 1 DENY, 1 PLAIN" in page,
                page.splitlines()[-2:])  # the plain one: the API server's own Service
    status, text, _ = world.check(world.reader, "--json")
    answer = json.loads(text)
    expect("the status of --json", status, 0)
    expect("what is refused", [(each["address"], each["port"], each["reason"]) for each in answer["destinations"]
                               if each["verdict"] == "DENY"], [(ENDPOINT, 8443, "AmbiguousEndpoint")])
    rows = world.audit.rows(mark, world.reader.user)
    expect("refused by RBAC", [str(row) for row in rows if row.code == 403], [])
    expect("verbs", {row.verb for row in rows} - {"list", "watch"}, set())


@case("the remedy is seen: with an endpoint for each Service nothing is ambiguous")
def remedied(world):
    world.admin.apply(slice_of("two", ["10.1.1.3"]))
    status, page, _ = world.check(world.reader)
    expect("status", status, 0)
    expect("the count", page.splitlines()[-1], "ambiguous endpoints: 0")
    world.admin.apply(slice_of("two", [ENDPOINT]))


@case("an account that may read Services alone: status 2, what it may not is named, and the rest is judged")
def narrow(world):
    account = world.service_account("narrow", rules=[rule("", "services", "get list watch")])
    status, page, errors = world.check(account, "--timeout", "10")
    expect("status", status, 2)
    expect_that("which resource", "backendtlspolicies" in page + errors, page + errors)
    expect("the count", page.splitlines()[-1], "ambiguous endpoints: 0 in what could be read")


@case("nobody answers: status 2 when the time is over, and the server is named")
def nobody(world):
    proxy = world.proxy()
    proxy.refuse()
    status, page, errors = world.check(world.reader, "--timeout", "2", port=proxy.port)
    expect("status", status, 2)
    expect_that("who", str(proxy.port) in page + errors, page + errors)


if __name__ == "__main__":
    main(World)
