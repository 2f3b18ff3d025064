#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""postern-controller against a real API server, with the rights that deploy/ gives it and no others."""

import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube import deployment
from kube.accounts import ServiceAccount
from kube.client import ApiError, condition
from kube.cluster import Cluster
from kube.deployment import NAMESPACE, Controller
from lib.case import case, expect, expect_that, main
from lib.certificates import Authority
from lib.manifests import backend_tls_policy, config_map, endpoint_slice, http_route
from lib.waiting import until

OURS = "postern.dev/backend-tls"
GATEWAY_API = "gateway.networking.k8s.io/v1"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
CLASS = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "other"},
         "spec": {"controllerName": "example.com/other"}}
# In base and not put in: nobody would run them here, and admission is deploy.py's.
NOT_APPLIED = ("DaemonSet", "Deployment", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")


def gateway(name, class_name="other", annotations=None, **tls):
    return {"apiVersion": GATEWAY_API, "kind": "Gateway",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
            "spec": {"gatewayClassName": class_name, **tls,
                     "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]}}


def service(name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]}}


def entries(policy, controller=OURS):
    return [each for each in policy.get("status", {}).get("ancestors", []) if each["controllerName"] == controller]


def said(policy, kind="Accepted", of=None):
    """(status, reason) of our condition, for each Gateway."""
    return {each["ancestorRef"]["name"]: (found["status"], found["reason"]) for each in entries(policy)
            for found in [condition({"status": each}, kind)] if of is None or each["ancestorRef"]["name"] == of}


class World(Cluster):
    def _build(self):
        super()._build()
        self.deployed = deployment.apply(self, "overlays/default", NOT_APPLIED)
        self.account = ServiceAccount(self, NAMESPACE, "postern-controller")
        self.authority = Authority(self.new_directory("authority"), "backends")
        self.admin.apply(CLASS)
        self.admin.apply(config_map("ca", self.authority.pem))
        self.count = 0
        self.one = self.controller().wait_ready().wait_leading()

    def controller(self):
        self.count += 1
        return self.close_at_end(Controller(self, self.account, f"controller-{self.count}"))

    def leader(self):
        """The one that leads now; a case may have killed another."""
        if not self.one.process.running():
            self.one = self.controller().wait_ready()
        return self.one.wait_leading(30)

    def policy(self, name, gateways=(), ca="ca", hostname="web.example"):
        """A Service of this name, Gateways with a Route to it, and a policy for it."""
        self.admin.apply_all(service(name), *(gateway(each) for each in gateways),
                             *(http_route(f"{name}-{each}", each, name, 443) for each in gateways))
        return self.admin.apply(backend_tls_policy(name, name, hostname, ca))

    def until_said(self, policy, wanted, kind="Accepted", within=30):
        return self.admin.until(policy, lambda seen: said(seen, kind) == wanted, f"{kind} {wanted}", within)

    def events(self, name, reason=None):
        return [each for each in self.admin.list("events.k8s.io/v1", "Event", "default")
                if each["regarding"]["name"] == name and reason in (None, each["reason"])]

    def writes(self, since):
        return [row for row in self.audit.rows(since, self.account.user)
                if row.verb in ("update", "create", "patch") and row.resource != "leases" and row.code < 300]

    def explain(self):
        return super().explain() + [f"{self.one.name}: {line}" for line in self.one.process.lines[-12:]]


@case("a policy's status: an entry for each Gateway with a Route to it, and it goes with the Route")
def status(world):
    world.leader()
    policy = world.policy("status", ["status-a", "status-b"])
    seen = world.until_said(policy, {"status-a": ("True", "Accepted"), "status-b": ("True", "Accepted")})
    expect("ResolvedRefs", said(seen, "ResolvedRefs"), {name: ("True", "ResolvedRefs") for name in said(seen)})
    expect("ancestorRef", entries(seen)[0]["ancestorRef"], {
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default", "name": "status-a"})
    world.admin.delete(http_route("status-status-a", "status-a", "status", 443))
    world.until_said(policy, {"status-b": ("True", "Accepted")})
    world.admin.delete(world.admin.read(service("status")))
    world.until_said(policy, {"status-b": ("False", "TargetNotFound")})


def generations(policy):
    return {each["observedGeneration"] for entry in entries(policy) for each in entry["conditions"]}


@case("observedGeneration goes up in one write, for all conditions of all entries")
def generation(world):
    world.leader()
    policy = world.policy("bump", ["bump-a", "bump-b"])
    world.until_said(policy, {name: ("True", "Accepted") for name in ("bump-a", "bump-b")})
    world.one.wait_settled()
    mark = world.audit.mark()
    world.admin.merge(policy, {"spec": {"validation": {"hostname": "other.example"}}})
    seen = world.admin.until(policy, lambda seen: all(
        each["observedGeneration"] == 2 for entry in entries(seen) for each in entry["conditions"]), "generation 2")
    changed = [each["lastTransitionTime"] for entry in entries(seen) for each in entry["conditions"]]
    expect("conditions", len(changed), 4)
    world.one.wait_settled()
    written = [row for row in world.writes(mark) if row.name == "bump"]
    expect("generations in what was written", [generations(row.object) for row in written], [{2}])


@case("entries of others are as they were, though they write all the time; conflicts are written again")
def others(world):
    world.leader()
    policy = world.policy("others", ["others-a"])
    world.until_said(policy, {"others-a": ("True", "Accepted")})
    theirs = {"ancestorRef": {"name": "others-a", "group": "gateway.networking.k8s.io", "kind": "Gateway"},
              "controllerName": "example.com/other", "conditions": [
                  {"type": "Accepted", "status": "False", "reason": "Odd", "message": "theirs",
                   "lastTransitionTime": "2020-01-01T00:00:00Z", "observedGeneration": 77}]}

    def write_theirs(turn):
        theirs["conditions"][0]["message"] = f"theirs {turn}"
        while True:
            seen = world.admin.read(policy)
            seen.setdefault("status", {})["ancestors"] = [theirs] + entries(seen)
            try:
                return world.admin.replace(seen, "status")
            except ApiError as error:
                if error.code != 409:
                    raise

    for turn in range(20):
        world.admin.merge(policy, {"spec": {"validation": {"hostname": f"turn-{turn}.example"}}})
        write_theirs(turn)
    seen = world.admin.until(policy, lambda seen: all(
        each["observedGeneration"] == seen["metadata"]["generation"] for each in entries(seen)[0]["conditions"]),
        "the last generation")
    expect("theirs", entries(seen, "example.com/other"), [theirs])
    expect("ours", said(seen), {"others-a": ("True", "Accepted")})


@case("nothing is written when nothing changed: not after a restart, not for what others change")
def quiet(world):
    leader = world.leader()
    policy = world.policy("quiet", ["quiet-a"])
    world.until_said(policy, {"quiet-a": ("True", "Accepted")})
    leader.wait_settled()
    mark = world.audit.mark()
    world.admin.merge(policy, {"metadata": {"annotations": {"example.com/x": "y"}}})
    leader.stop()
    world.leader()
    reads = lambda: [row for row in world.audit.rows(mark, world.account.user, verb="get",
                                                     resource="backendtlspolicies") if row.name == "quiet"]
    until(reads, 30, "the policy is looked at by the new leader")
    world.one.wait_settled()
    expect("writes", [str(row) for row in world.writes(mark) if row.resource != "events"], [])


@case("refused policies: the reason in the status, and an Event; once, however long it lasts")
def refused(world):
    world.leader()
    policy = world.policy("refused", ["refused-a"], ca="nowhere")
    seen = world.until_said(policy, {"refused-a": ("False", "NoValidCACertificate")})
    expect("ResolvedRefs", said(seen, "ResolvedRefs"), {"refused-a": ("False", "InvalidCACertificateRef")})
    event = until(lambda: world.events("refused", "NoValidCACertificate"), 20, "an Event")[0]
    expect("type", event["type"], "Warning")
    expect("regarding", event["regarding"]["uid"], seen["metadata"]["uid"])
    expect_that("the note to say why", "caCertificateRefs" in event["note"], event["note"])
    world.admin.apply(config_map("nowhere", world.authority.pem))
    world.until_said(policy, {"refused-a": ("True", "Accepted")})
    world.admin.delete(config_map("nowhere", ""))
    world.until_said(policy, {"refused-a": ("False", "NoValidCACertificate")})
    again = until(lambda: [each for each in world.events("refused", "NoValidCACertificate")
                           if (each.get("series") or {}).get("count") == 2], 20, "a series of two")
    expect("Events", len(again), 1)
    unattached = world.policy("nobody", ca="nowhere2")
    until(lambda: world.events("nobody"), 20, "an Event of a policy without a Gateway")
    expect("its entries", entries(world.admin.read(unattached)), [])


@case("an ambiguous endpoint: both policies are told, in the status and by Events")
def ambiguous(world):
    world.leader()
    pods = ["10.77.9.9"]
    world.admin.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one-0"}, "spec": {
        "containers": [{"name": "main", "image": "none"}]}})
    for name, hostname in (("one", "one.example"), ("two", "two.example")):
        world.policy(name, ["both"], hostname=hostname)
        world.admin.apply(endpoint_slice(name, pods, [("https", 8443)]))
    for name in ("one", "two"):
        event = until(lambda: world.events(name, "AmbiguousEndpoint"), 30, f"AmbiguousEndpoint on {name}")[0]
        expect_that("both policies in the note", "default/one" in event["note"] and "default/two" in event["note"],
                    event["note"])
        seen = world.admin.read(backend_tls_policy(name, name, "x", "ca"))
        expect_that("AmbiguousEndpoint in the message of Accepted", "AmbiguousEndpoint" in
                    condition({"status": entries(seen)[0]}, "Accepted")["message"], entries(seen))


@case("no room among the sixteen: told on the Gateway, of any class, and taken back", limit=120)
def full(world):
    world.leader()
    names = [f"full-{index:02}" for index in range(17)]
    policy = world.policy("full", names)
    world.until_said(policy, {name: ("True", "Accepted") for name in names[:16]}, within=60)
    last = gateway("full-16")
    seen = world.admin.until(last, lambda seen: condition(seen, "postern.dev/PolicyStatusFull").get("status") == "True",
                             "PolicyStatusFull")
    expect_that("the policy in the message", "default/full" in condition(seen, "postern.dev/PolicyStatusFull")["message"],
                seen["status"])
    expect("the Gateway's own conditions", condition(seen, "Accepted")["status"], "Unknown")
    world.admin.delete(http_route("full-full-00", "full-00", "full", 443))
    world.admin.until(last, lambda seen: not condition(seen, "postern.dev/PolicyStatusFull"), "the condition to go")
    world.until_said(policy, {name: ("True", "Accepted") for name in names[1:]})


@case("the adopted class and its Gateways are ours: Accepted, and ResolvedRefs of their client certificate")
def adopted(world):
    world.leader()
    world.admin.until({"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "postern-adopted"}},
                      lambda seen: condition(seen, "Accepted").get("status") == "True", "the class Accepted")
    tls = {"tls": {"backend": {"clientCertificateRef": {"group": "", "kind": "Secret", "name": "nowhere"}}}}
    mine = world.admin.apply(gateway("adopted", "postern-adopted", **tls))
    theirs = world.admin.apply(gateway("theirs", **tls))
    seen = world.admin.until(mine, lambda seen: condition(seen, "ResolvedRefs").get("status") == "False", "ResolvedRefs")
    expect("reason", condition(seen, "ResolvedRefs")["reason"], "InvalidClientCertificateRef")
    expect("Accepted", condition(seen, "Accepted")["status"], "True")
    expect("Programmed", condition(seen, "Programmed")["status"], "True")
    expect("another's", condition(world.admin.read(theirs), "ResolvedRefs"), {})
    expect("Accepted of another's class", condition(world.admin.read(CLASS), "Accepted")["status"], "Unknown")


@case("a Gateway that is only observed: no Accepted of policies, until it is enforced")
def observed(world):
    world.leader()
    policy = world.policy("observed")
    edge = gateway("observed-a", annotations={"postern.dev/mode": "observe"})
    world.admin.apply_all(edge, gateway("observed-b"), http_route("oa", "observed-a", "observed", 443),
                          http_route("ob", "observed-b", "observed", 443))
    world.until_said(policy, {"observed-b": ("True", "Accepted")})
    world.admin.merge(edge, {"metadata": {"annotations": {"postern.dev/mode": None}}})
    world.until_said(policy, {"observed-a": ("True", "Accepted"), "observed-b": ("True", "Accepted")})


def pod(name, node, labels, init=(), namespace="default"):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}],
                     "initContainers": [{"name": each, "image": "none"} for each in init]}}


@case("gateway pods: without an agent on their node, and without a gate; told on the Pod, shown in status and metrics")
def findings(world):
    leader = world.leader()
    world.admin.apply(gateway("edge"))
    gated = world.admin.create(pod("gated", "node-1", {GATEWAY_NAME: "edge"}, ["postern-gate"]))
    world.admin.create(pod("ungated", "node-1", {GATEWAY_NAME: "edge"}))
    world.admin.create(pod("no-gateway", "node-1", {}))
    found = lambda: sorted((each["reason"], each["name"]) for each in leader.status()["findings"]
                           if each["kind"] == "Pod")
    until(lambda: len(found()) == 3, 30, "three findings")
    expect("findings", found(), [("StartRace", "ungated"), ("UnprotectedGatewayPod", "gated"),
                                 ("UnprotectedGatewayPod", "ungated")])
    event = until(lambda: world.events("gated", "UnprotectedGatewayPod"), 20, "an Event")[0]
    expect("regarding", (event["regarding"]["kind"], event["regarding"]["uid"]), ("Pod", gated["metadata"]["uid"]))
    until(lambda: world.events("ungated", "StartRace"), 20, "an Event")
    expect_that("metrics", "postern_unprotected_gateway_pods 2" in leader.get("/metrics")[1], "another number")
    agent = world.admin.create(pod("posternd-x", "node-1", {"app.kubernetes.io/name": "posternd"}, namespace=NAMESPACE))
    expect("an agent that is not ready", len(found()), 3)
    world.admin.merge_status(agent, {"conditions": [{"type": "Ready", "status": "True"}]})
    until(lambda: found() == [("StartRace", "ungated")], 20, "the agent counts once it is ready")
    world.admin.delete(agent)
    until(lambda: len(found()) == 3, 30, "the agent is gone")


@case("two replicas: the leader is killed, and the other writes within 15 s; nothing is written twice", limit=120)
def takeover(world):
    first, second = world.leader(), world.controller().wait_ready()
    policy = world.policy("takeover", ["takeover-a"])
    world.until_said(policy, {"takeover-a": ("True", "Accepted")})
    first.wait_settled()
    mark = world.audit.mark()
    expect("the other one", second.leads(), False)
    killed = time.monotonic()
    first.kill()
    world.one = second
    world.admin.merge(policy, {"spec": {"validation": {"hostname": "after.example"}}})
    world.admin.until(policy, lambda seen: all(each["observedGeneration"] == 2 for each in entries(seen)[0]["conditions"]),
                      "written by the other", 40)
    took = time.monotonic() - killed
    print(f"     written {took:.2f} s after the kill")
    # 9 s after the last renewal, which was before the kill (test_controller_election has it to the tick), and then three
    # or four requests, which take their time where the machine is loaded (docs/controller.md).
    expect_that("at most 15 s", took < 15, took)
    second.wait_settled()
    expect("writes", [f"{row.resource} {row.name}" for row in world.writes(mark) if row.resource != "events"],
           ["backendtlspolicies takeover"])


@case("SIGTERM gives the Lease up: the other leads at once", limit=90)
def release(world):
    first, second = world.leader(), world.controller().wait_ready()
    began = time.monotonic()
    expect("status of its end", first.stop(), 0)
    world.one = second.wait_leading(10)
    took = time.monotonic() - began
    print(f"     {took:.2f} s after the signal")
    expect_that("not by the Lease's end (9 s)", took < 8, took)
    lease = world.admin.get("coordination.k8s.io/v1", "Lease", "postern-controller", NAMESPACE)
    expect_that("its holder", lease["spec"]["holderIdentity"].startswith(second.name), lease["spec"])


@case("a leader that was away for longer than its term writes nothing when it is back", limit=120)
def paused(world):
    first, second = world.leader(), world.controller().wait_ready()
    policy = world.policy("paused", ["paused-a"])
    world.until_said(policy, {"paused-a": ("True", "Accepted")})
    first.wait_settled()  # what it has sent already would fail, and say so, when it is back
    first.pause()
    world.admin.merge(policy, {"spec": {"validation": {"hostname": "after.example"}}})
    second.wait_leading(40)
    world.admin.until(policy, lambda seen: all(each["observedGeneration"] == 2 for each in entries(seen)[0]["conditions"]),
                      "written by the other", 40)
    since = len(first.process.lines)
    first.resume()
    first.process.wait_for("leading no more", since=since, within=20)
    expect("who leads", (first.leads(), second.leads()), (False, True))
    written = [line for line in first.process.lines[since:] if "status not written" in line]
    expect("tries of the one that was away", written, [])
    first.stop()
    world.one = second


def granted(world):
    """{(verb, group, resource)} of every Role that is bound to the controller."""
    roles = {each["metadata"]["name"]: each["rules"] for each in world.deployed if each["kind"] == "ClusterRole"}
    rules = roles["postern-read"] + roles["postern-controller"] + next(
        each["rules"] for each in world.deployed if each["kind"] == "Role")
    return {(verb, group, resource) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"]
            for verb in rule["verbs"]}


@case("its rights are what it uses: nothing was refused, and each verb was needed")
def least(world):
    world.leader()
    # Before the case that starts the API server anew: it refuses everything until it has read its roles.
    refusals = {(row.verb, row.resource) for row in world.audit.refused(world.account.user)}
    # Secrets are allowed a namespace at a time; asked for by name where a reference names one.
    expect("refused", refusals - {("list", "secrets"), ("watch", "secrets")}, set())
    used = world.audit.used(world.account.user)
    expect("used, and not granted", sorted(used - granted(world) - {("list", "", "secrets")}), [])
    # Not served unless it is switched on: listed in vain, and so never watched.
    expect("granted, and not used", sorted(granted(world) - used - {("watch", "certificates.k8s.io", "clustertrustbundles")}),
           [])


def words(leader, since):
    """What the leader says of its Lease: a line of its log, and /status."""
    line = leader.process.wait_for("leading no more", since=since, within=20)
    said = leader.status()["lease"]
    return line, said["problem"], said["remedy"]


@case("fault: the Lease is lost, by RBAC: log and /status name the cause and the remedy, and it leads again", limit=120)
def lease_denied(world):
    leader = world.leader()
    binding = next(each for each in world.deployed if each["kind"] == "RoleBinding")
    since = leader.process.mark()
    world.admin.delete(binding)
    try:
        line, problem, remedy = words(leader, since)
        for word in ("postern-system/postern-controller cannot be written: 403", "cannot update resource"):
            expect_that(f"{word!r} in the cause", word in problem, problem)
        expect_that("the file that mends it in the remedy", "deploy/base/rbac-controller.yaml" in remedy, remedy)
        expect_that("both in the log", problem.split(":", maxsplit=1)[0] in line and remedy in line, line)
    finally:
        world.admin.apply(binding)
    leader.wait_leading(60)
    expect("afterwards", world.one.status()["lease"]["problem"], "")


@case("fault: the Lease is lost, taken by another: the one that was away says that it was not run", limit=120)
def lease_taken(world):
    first, second = world.leader(), world.controller().wait_ready()
    expect("nothing wrong with one that waits", second.status()["lease"]["problem"], "")
    since = first.process.mark()
    first.pause()
    second.wait_leading(40)
    first.resume()
    line, _, remedy = words(first, since)
    expect_that("the remedy in the log", remedy[:60] in line, line)
    until(lambda: "took the Lease" in first.status()["lease"]["problem"], 20, "who took it")
    _, problem, remedy = words(first, since)
    expect_that("its name", problem.startswith(f"{second.name}_"), problem)
    expect_that("what to look at", "CPU throttling" in remedy and "the other one writes" in remedy, remedy)
    expect("of the one that leads", second.status()["lease"]["problem"], "")
    first.stop()
    world.one = second


@case("the API server goes and comes back: the leader writes again", limit=150)
def outage(world):
    leader = world.leader()
    policy = world.policy("outage", ["outage-a"])
    world.until_said(policy, {"outage-a": ("True", "Accepted")})
    world.restart_api()
    world.admin.merge(policy, {"spec": {"validation": {"hostname": "after.example"}}})
    world.admin.until(policy, lambda seen: all(each["observedGeneration"] == 2 for each in entries(seen)[0]["conditions"]),
                      "written after the restart", 90)
    expect("the same one", leader.process.running(), True)


if __name__ == "__main__":
    main(World)
