#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
What deploy/ has as components of the controller's: the readiness gate postern.dev/enrolled and the startup taint
postern.dev/not-ready, with posternd on a node, and with the rights of base and these components and no others.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube import deployment, postern
from kube.client import condition
from kube.pods import GATEWAY_NAME, PodWorld
from kube.ports import free_ports
from lib import manifests
from lib.case import case, expect, expect_that, main
from lib.waiting import until

ENROLLED, TAINT = "postern.dev/enrolled", "postern.dev/not-ready"
COMPONENTS = ("components/readiness-gate", "components/startup-taint")
GATE = {"readinessGates": [{"conditionType": ENROLLED}]}
OTHER_TAINT = {"key": "example.com/theirs", "value": "x", "effect": "NoExecute"}


class World(PodWorld):
    def _build(self):
        super()._build()
        self.one = self.node("node-1")
        self.deployed = deployment.apply(self, self._kustomization(), but=postern.RUN_BY_THE_TEST)
        self.port, = free_ports(1)
        self.agent = self.agent_pod = None
        self.start_agent()
        self.arguments = self.container()["args"]
        self.controller = postern.start_controller(self, "postern-controller-0", *self.arguments,
                                                   f"--agent-port={self.port}")
        self.admin.apply(manifests.gateway("demo"))

    def _kustomization(self):
        """A user's own: base and the components."""
        directory = self.new_directory("kustomization")
        there = lambda name: os.path.relpath(deployment.DEPLOY / name, directory.resolve())
        (directory / "kustomization.yaml").write_text(json.dumps({
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [there("base")],
            "components": [there(each) for each in COMPONENTS]}))
        self.built = deployment.build(directory)
        return directory

    def container(self):
        return self.pod_template()["spec"]["containers"][0]

    def pod_template(self):
        return next(each for each in self.built if each["kind"] == "Deployment")["spec"]["template"]

    def start_agent(self):
        """posternd, and its Pod of which the controller hears; a kubelet would say Ready by /readyz."""
        self.agent = postern.start_agent(self, self.one, metricsAddress=f"127.0.0.1:{self.port}")
        self.agent_pod = self.agent_object("posternd-0", self.one.name, ready=True)

    def agent_object(self, name, node, ready):
        made = self.admin.apply({
            "apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": name, "namespace": deployment.NAMESPACE, "labels": {"app.kubernetes.io/name": "posternd"}},
            "spec": {"nodeName": node, "containers": [{"name": "posternd", "image": "none"}]}})
        return self.say_ready(made, ready)

    def say_ready(self, pod, ready):
        return self.admin.merge_status(pod, {
            "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": str(ready)}]})

    def until_enrolled(self, pod, status, reason, within=40):
        """Of a Pod as the API server has it."""
        seen = self.admin.until(pod.object, lambda seen: (condition(seen, ENROLLED).get("status"),
                                                          condition(seen, ENROLLED).get("reason")) == (status, reason),
                                f"{ENROLLED} {status} {reason}", within)
        return condition(seen, ENROLLED)

    def explain(self):
        return super().explain() + [f"controller: {line}" for line in self.controller.process.lines[-12:]]


@case("a gateway's Pod with the gate: True once its hooks are on; one without the gate is left alone")
def enrolled(world):
    plain = world.one.pod("plain", labels={GATEWAY_NAME: "demo"})
    gated = world.one.pod("gated", labels={GATEWAY_NAME: "demo"}, spec=GATE)
    said = world.until_enrolled(gated, "True", "Enrolled")
    expect_that("a time of it", said.get("lastTransitionTime"), said)
    expect("what the kubelet said, still", condition(world.admin.read(gated.object), "ContainersReady")["status"], "True")
    expect("of the one without", condition(world.admin.read(plain.object), ENROLLED), {})
    plain.delete()
    gated.delete()


@case("a Pod whose cgroup is not there yet: False with the agent's reason, and True when it is")
def not_yet(world):
    pod = world.one.pod("early", labels={GATEWAY_NAME: "demo"}, spec=GATE, publish=False).publish()
    said = world.until_enrolled(pod, "False", "NotEnrolled")
    expect_that("who says so, and why", said["message"].startswith("posternd-0 says: ") and "cgroup" in said["message"],
                said["message"])
    pod.run()
    world.until_enrolled(pod, "True", "Enrolled")
    pod.delete()


@case("the hooks go with the Pod's label: False, and why; and True when they are back")
def hooks_go(world):
    pod = world.one.pod("fickle", labels={GATEWAY_NAME: "demo"}, spec=GATE)
    world.until_enrolled(pod, "True", "Enrolled")
    world.admin.merge(pod.object, {"metadata": {"labels": {GATEWAY_NAME: None}}})
    said = world.until_enrolled(pod, "False", "NotAGateway")
    expect_that("the remedy", "give it the label" in said["message"], said["message"])
    until(lambda: not list(world.bpffs.glob("v*/links/*fickle*")), 20, "its hooks are gone")
    world.admin.merge(pod.object, {"metadata": {"labels": {GATEWAY_NAME: "demo"}}})
    world.until_enrolled(pod, "True", "Enrolled")
    pod.delete()


@case("the agent dies: False when its node was without a Ready one for the grace; and True by the next one", limit=120)
def agent_dies(world):
    pod = world.one.pod("orphan", labels={GATEWAY_NAME: "demo"}, spec=GATE)
    world.until_enrolled(pod, "True", "Enrolled")
    world.agent.kill()
    world.say_ready(world.agent_pod, False)
    said = world.until_enrolled(pod, "False", "NoReadyAgent")
    expect_that("the node in the message", "node node-1 has no ready agent" in said["message"], said["message"])
    world.start_agent()
    world.until_enrolled(pod, "True", "Enrolled")
    pod.delete()


@case("an agent that is Ready and does not answer the controller: conditions stay, /status names it", limit=120)
def silent(world):
    pod = world.one.pod("steady", labels={GATEWAY_NAME: "demo"}, spec=GATE)
    world.until_enrolled(pod, "True", "Enrolled")
    world.controller.wait_settled()
    mark = world.audit.mark()
    world.agent.process.signal(19)  # SIGSTOP
    try:
        seen = until(lambda: world.controller.status()["silent_agents"], 40, "a silent agent")
        expect("who", [(each["agent"], each["node"]) for each in seen], [("posternd-0", "node-1")])
        expect_that("why", seen[0]["error"], seen)
    finally:
        world.agent.process.signal(18)  # SIGCONT
    until(lambda: not world.controller.status()["silent_agents"], 40, "it answers again")
    world.controller.wait_settled()
    expect("the condition", condition(world.admin.read(pod.object), ENROLLED)["status"], "True")
    expect("writes meanwhile", [str(row) for row in world.audit.rows(mark, world.controller.account.user, verb="patch")
                                if row.resource == "pods"], [])
    pod.delete()


def taints(world, node):
    return [each for each in world.admin.read(node)["spec"].get("taints", []) if "kubernetes.io" not in each["key"]]


@case("a node that was born with the taint: it stays until the node's agent is Ready, and goes alone", limit=120)
def startup_taint(world):
    born = []
    for name in ("new-1", "new-2"):
        born.append(world.admin.create({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}, OTHER_TAINT]}}))
    starting = world.agent_object("posternd-new-1", "new-1", ready=False)
    world.agent_object("posternd-new-2", "new-2", ready=True)
    keys = lambda seen: [each["key"] for each in seen["spec"].get("taints", [])]
    world.admin.until(born[1], lambda seen: TAINT not in keys(seen), "no startup taint on new-2", 40)
    expect("new-1, whose agent is not Ready", taints(world, born[0]), [{"key": TAINT, "effect": "NoSchedule"}, OTHER_TAINT])
    world.say_ready(starting, True)
    world.admin.until(born[0], lambda seen: TAINT not in keys(seen), "no startup taint on new-1", 40)
    for node in born:
        expect(f"{node['metadata']['name']}: the others' taints", taints(world, node), [OTHER_TAINT])


@case("in a cluster of new nodes alone the controller can start: it tolerates the taint, as the agents do")
def tolerated(world):
    for kind in ("Deployment", "DaemonSet"):
        spec = next(each for each in world.built if each["kind"] == kind)["spec"]["template"]["spec"]
        expect_that(f"{kind}: a toleration", any(each.get("operator") == "Exists" and each.get("key", TAINT) == TAINT
                                                 for each in spec.get("tolerations", [])), spec.get("tolerations"))


def granted(world):
    names = {each["roleRef"]["name"] for each in world.deployed if each["kind"].endswith("RoleBinding")
             for subject in each["subjects"] if subject["name"] == "postern-controller"}
    return {(verb, group, resource) for each in world.deployed
            if each["kind"] in ("Role", "ClusterRole") and each["metadata"]["name"] in names
            for rule in each["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
            for verb in rule["verbs"]}


@case("its rights: nothing was refused, what the components give was used, and only Pods with the gate were patched")
def rights(world):
    user = world.controller.account.user
    expect("refused", [str(row) for row in world.audit.refused(user)], [])
    used = world.audit.used(user)
    expect("used, and not granted", sorted(used - granted(world)), [])
    ours = {(verb, "", resource) for verb, resource in (("get", "pods"), ("patch", "pods/status"), ("get", "nodes"),
                                                         ("patch", "nodes"))}
    expect("of the components, not granted or not used", sorted(ours - (used & granted(world))), [])
    rows = [row for row in world.audit.rows(user=user, verb="patch") if row.resource == "pods"]
    expect_that("Pods that were patched have the gate", {row.name for row in rows} <=
                {"gated", "early", "fickle", "orphan", "steady"}, {row.name for row in rows})
    expect("what a patch has", {(tuple(row.object), tuple(row.object["status"])) for row in rows},
           {(("metadata", "status"), ("conditions",))})
    expect("conditions in patches", {each["type"] for row in rows for each in row.object["status"]["conditions"]},
           {ENROLLED})
    agent = world.agent.account.user
    expect("the agent's verbs", {verb for verb, _, _ in world.audit.used(agent)}, {"list", "watch"})


@case("told to end, controller and agent do so in order, with nothing left behind (a sanitizer would say)")
def ends(world):
    expect("the controller's status", world.controller.stop(), 0)
    expect("the agent's status", world.agent.stop(), 0)


if __name__ == "__main__":
    main(World)
