#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The agent's source against a real API server: what it asks, and that no trouble on the way makes it lose or invent."""

import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube.accounts import bind, rule
from kube.cluster import Cluster
from kube.source_tool import SourceTool, ca_map, ca_secret, policy, service, slice_of, verdicts
from lib.case import case, expect, expect_that, main
from lib.certificates import Authority
from lib.waiting import until

GATEWAY_API = "gateway.networking.k8s.io"
# What deploy/ gives the agent.
READS = [rule("", "services configmaps pods nodes", "get list watch"),
         rule("discovery.k8s.io", "endpointslices", "get list watch"),
         rule(GATEWAY_API, "backendtlspolicies gateways gatewayclasses httproutes grpcroutes tlsroutes tcproutes "
                           "referencegrants", "get list watch"),
         rule("networking.k8s.io", "servicecidrs", "get list watch"),
         rule("certificates.k8s.io", "clustertrustbundles", "get list watch")]


class World(Cluster):
    def _build(self):
        super()._build()
        self.authority = Authority(self.new_directory("ca"))
        self.pem = self.authority.certificate.read_text()
        self.account = self.service_account("agent", rules=READS)
        self._files = 0

    def new_path(self):
        self._files += 1
        return self.directory / f"credentials-{self._files}"

    def tool(self, proxy=None):
        return SourceTool(self.account.kubeconfig(self.new_path(), port=proxy.port if proxy else None))

    def covered(self, name, address):
        """A Service with one endpoint and a policy; the endpoint's key."""
        self.admin.apply_all(ca_map("ca", self.pem), service(name), slice_of(name, [address]), policy(name, name, "ca"))
        return f"{address}:8443"


def watch_of(status, resource):
    return next(watch for watch in status["watches"] if watch["resource"] == resource and not watch["name"])


@case("everything is read over one connection, by what its account may and no more")
def reads(world):
    key = world.covered("reads", "10.77.1.1")
    mark = world.audit.mark()
    with world.tool() as tool:
        tool.until_synced()
        # A resource that has just been defined is refused for a moment: 429, "storage is (re)initializing".
        seen = tool.until(lambda event: verdicts(event).get(key) == "TLS" and not event["errors"], f"{key} TLS")
        expect("connections", seen["connections"], 1)
        expect_that("a note about what is not served", any("clustertrustbundles" in note for note in seen["notes"]),
                    seen["notes"])
        expect("policy", seen["policies"]["default/reads"]["accepted"]["reason"], "Accepted")
        expect_that("an answer as of now", tool.current(), None)
    asked = lambda: world.audit.rows(mark, world.account.user)
    until(lambda: {row.resource for row in asked() if row.verb == "watch"} >= {"pods", "configmaps"}, 20,
          "its watches, in the audit log")
    rows = asked()
    expect("verbs", sorted({row.verb for row in rows}), ["list", "watch"])
    expect("refused", [str(row) for row in world.audit.refused(world.account.user, mark)], [])
    expect("Pods of this node alone", {row.field_selector for row in rows if row.resource == "pods"},
           {"spec.nodeName=node-1"})
    expect("ConfigMaps by namespace", {row.namespace for row in rows if row.resource == "configmaps"}, {"default"})
    expect("Secrets", [str(row) for row in rows if row.resource == "secrets"], [])


@case("a Secret that the Role does not allow: refused with the reason; allowed, it is used, and by its name alone")
def secrets(world):
    world.admin.apply_all(ca_secret("hidden", world.pem), service("hidden"), slice_of("hidden", ["10.77.2.1"]),
                          policy("hidden", "hidden", "hidden", kind="Secret"))
    mark = world.audit.mark()
    with world.tool() as tool:
        tool.until_synced()
        seen = tool.until(lambda event: "postern may not read it" in event.get("policies", {}).get(
            "default/hidden", {"resolved": {"message": ""}})["resolved"]["message"], "what is denied, said")
        expect("its endpoint", verdicts(seen)["10.77.2.1:8443"], "DENY")
        expect("ResolvedRefs", seen["policies"]["default/hidden"]["resolved"]["status"], False)
        bind(world.admin, world.account, [rule("", "secrets", "get list watch", names=["hidden"])],
             namespace="default", name="hidden")
        tool.until(lambda event: verdicts(event).get("10.77.2.1:8443") == "TLS", "TLS with the Secret's CA", 60)
    asked = [row for row in world.audit.rows(mark, world.account.user) if row.resource == "secrets"]
    expect("asked for", {(row.namespace, row.field_selector) for row in asked}, {("default", "metadata.name=hidden")})
    world.admin.delete(policy("hidden", "hidden", "hidden"))


@case("as of now: an endpoint that was made a moment ago is there, each time; and one that went is not")
def as_of_now(world):
    world.covered("fresh", "10.77.3.1")
    with world.tool() as tool:
        tool.until_synced()
        for turn in range(2, 32):
            addresses = [f"10.77.3.{turn}"]
            world.admin.apply(slice_of("fresh", addresses))
            seen = verdicts(tool.current())
            expect_that(f"{addresses[0]} TLS", seen.get(f"{addresses[0]}:8443") == "TLS", seen)


@case("a watch that is behind: nothing is answered until it has caught up, and then with what it lacked")
def delayed(world):
    proxy = world.proxy()
    world.covered("late", "10.77.4.1")
    with world.tool(proxy) as tool:
        tool.until_synced()
        expect_that("an answer as of now", tool.current(), None)
        proxy.stall()
        world.admin.apply(slice_of("late", ["10.77.4.2"]))
        expect("an answer while nothing comes through", tool.current(within=3), None)
        proxy.pass_on()
        seen = verdicts(until(lambda: tool.current(5), 60, "an answer"))
        expect_that("10.77.4.2 TLS", seen.get("10.77.4.2:8443") == "TLS", seen)


@case("the API server killed: the last state stays, nothing is answered as of now; started again, all goes on", limit=180)
def killed(world):
    key = world.covered("steady", "10.77.5.1")
    with world.tool() as tool:
        tool.until(lambda event: verdicts(event).get(key) == "TLS", f"{key} TLS")
        before = tool.status()
        world.api.kill()
        seen = tool.until(lambda event: len(event.get("errors", [])) >= 3, "watches that fail, among the errors")
        expect("destinations", verdicts(seen), verdicts(before))
        expect("in order", seen["in_order"], True)
        expect("an answer as of now", tool.current(within=4), None)
        world.api.start()
        world.admin.apply(slice_of("steady", ["10.77.5.2"]))
        tool.until(lambda event: verdicts(event).get("10.77.5.2:8443") == "TLS", "the change, TLS", 120)
        tool.until(lambda event: not event.get("errors", [1]), "no errors", 120)


@case("etcd compacted while the agent was away: 410, the list is read again, and what went meanwhile is gone", limit=180)
def compacted(world):
    proxy = world.proxy()
    key = world.covered("old", "10.77.6.1")
    with world.tool(proxy) as tool:
        tool.until(lambda event: verdicts(event).get(key) == "TLS", f"{key} TLS")
        lists = watch_of(tool.status(), "endpointslices")["lists"]
        proxy.refuse()
        world.admin.apply(slice_of("old", ["10.77.6.2"]))
        world.compact()
        world.restart_api()
        proxy.pass_on()
        tool.until(lambda event: "10.77.6.2:8443" in verdicts(event) and watch_of(event, "endpointslices")["lists"] >
                   lists, "the new endpoint, by a new list", 120)


@case("the token is rotated and the old one is no more: the agent goes on with the new one", limit=180)
def rotated(world):
    secret = world.admin.create({"apiVersion": "v1", "kind": "Secret", "metadata": {
        "name": "bound", "namespace": "postern-system"}})
    key = world.covered("token", "10.77.7.1")
    directory = world.new_path()
    world.account.directory(directory, world.account.token(bound_to=secret))
    with SourceTool(directory, KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=str(world.api.port)) as tool:
        tool.until(lambda event: verdicts(event).get(key) == "TLS", f"{key} TLS")
        world.account.directory(directory, world.account.token())
        world.admin.delete(secret)
        world.restart_api()
        world.admin.apply(slice_of("token", ["10.77.7.2"]))
        tool.until(lambda event: "10.77.7.2:8443" in verdicts(event), "the new endpoint", 120)
        expect_that("an answer as of now", until(lambda: tool.current(5), 60, "an answer"), None)


@case("a watch cut in the middle of an object of 1 MB: not applied in part, and then as a whole")
def cut(world):
    proxy = world.proxy()
    key = world.covered("cut", "10.77.8.1")
    with world.tool(proxy) as tool:
        tool.until(lambda event: verdicts(event).get(key) == "TLS", f"{key} TLS")
        proxy.cut_after(300_000)
        large = ca_map("large", world.pem)
        large["data"]["other"] = "x" * 900_000
        world.admin.apply_all(large, policy("cut", "cut", "large", hostname="other.example"))
        proxy.wait_cut()
        seen = tool.until(lambda event: event.get("counts", {}).get("ConfigMap", 0) >= 2 and
                          event["policies"]["default/cut"]["resolved"]["status"], "the policy with the large CA", 60)
        expect("verdict", verdicts(seen)[key], "TLS")


@case("30 s of silence on the wire: no list is read again, and what happened meanwhile comes", limit=180)
def stalled(world):
    proxy = world.proxy()
    key = world.covered("stall", "10.77.9.1")
    with world.tool(proxy) as tool:
        tool.until(lambda event: verdicts(event).get(key) == "TLS", f"{key} TLS")
        before = tool.status()
        proxy.stall()
        world.admin.apply(slice_of("stall", ["10.77.9.2"]))
        threading.Event().wait(30)
        expect("destinations", verdicts(tool.status()), verdicts(before))
        proxy.pass_on()
        seen = tool.until(lambda event: "10.77.9.2:8443" in verdicts(event), "the new endpoint", 60)
        expect("lists", watch_of(seen, "endpointslices")["lists"], watch_of(before, "endpointslices")["lists"])


main(World)
