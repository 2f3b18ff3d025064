#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""deploy/ against a real API server: every manifest is accepted, the gate is put where it belongs, and nowhere else."""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import yaml

from kube import deployment
from kube.client import ApiError
from kube.cluster import Cluster
from lib.case import case, expect, expect_error, expect_that, main
from lib.waiting import until

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
IMAGE = ("registry.example/postern", "v9")
# Kinds of others that deploy/ has objects of; their own schemas are not at hand.
FOREIGN = (("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors", "Namespaced"),
           ("security.openshift.io", "v1", "SecurityContextConstraints", "securitycontextconstraints", "Cluster"))


def definition(group, version, kind, plural, scope):
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": scope, "names": {"kind": kind, "plural": plural}, "versions": [{
                "name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}


class World(Cluster):
    # Older clusters have the admission policy as v1beta1.
    api_flags = {"runtime_config": "admissionregistration.k8s.io/v1beta1=true"}

    def _build(self):
        super()._build()
        for each in FOREIGN:
            made = self.admin.apply(definition(*each))
            self.admin.until(made, lambda seen: any(
                one["type"] == "Established" and one["status"] == "True"
                for one in seen.get("status", {}).get("conditions") or []), f"{each[2]} Established")
        self.namespace(deployment.NAMESPACE)
        self.gate_applied = False

    def gate(self):
        """The default overlay for real, until its policy is in force."""
        if self.gate_applied:
            return
        deployment.apply(self, "overlays/default")
        self.gate_applied = True
        self.namespace("shop", **{"postern.dev/gate": "enabled"})
        until(lambda: gates(self.pod("probe", annotations={"postern.dev/gateway": "default/x"})), 60,
              "the admission policy is in force", every=0.5)

    def pod(self, name, namespace="default", labels=None, annotations=None, containers=(), dry=True):
        """As the API server would make it."""
        spec = {"containers": [{"name": "main", "image": "nginx"}]}
        if containers:
            spec["initContainers"] = [{"name": each, "image": "other"} for each in containers]
        thing = {"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {
            "name": name, "namespace": namespace, "labels": labels or {}, "annotations": annotations or {}}}
        return self.admin.create(thing, **({"dryRun": "All"} if dry else {}))


def gates(pod):
    """Where the gate is among its init containers."""
    return [f"{index}:{each['name']}" for index, each in enumerate(pod["spec"].get("initContainers", []))
            if each["name"] == "postern-gate"]


def kustomizations():
    """Every directory that can be applied by itself, and the components, each on the base."""
    own = sorted(path.parent.relative_to(deployment.DEPLOY) for path in deployment.DEPLOY.rglob("kustomization.yaml"))
    return [str(path) for path in own if path.parts[0] != "components"], [str(path) for path in own
                                                                          if path.parts[0] == "components"]


def with_component(world, component):
    """A user's own kustomization: the base and one component."""
    directory = world.new_directory(component.replace("/", "-"))
    base = os.path.relpath(deployment.DEPLOY / "base", directory.resolve())
    there = os.path.relpath(deployment.DEPLOY / component, directory.resolve())
    # kustomize takes no replacement from a file elsewhere: users copy it (README.md).
    replaced = yaml.safe_load((deployment.DEPLOY / component / "image.yaml").read_text()) if "gate-policy" in component else []
    (directory / "kustomization.yaml").write_text(json.dumps({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [base],
        "components": [there], "images": [{"name": "postern", "newName": IMAGE[0], "newTag": IMAGE[1]}],
        "replacements": replaced}))
    return directory


def dry_run(world, things):
    for thing in things:
        world.admin.request("PATCH", world.admin.path_of(thing), thing, "application/apply-patch+yaml",
                            fieldManager="test", force="true", dryRun="All", fieldValidation="Strict")


@case("every kustomization is accepted by the API server, with no field that it does not know", limit=300)
def accepted(world):
    own, components = kustomizations()
    expect_that("base, overlays and uninstall", {"base", "overlays/default", "overlays/openshift", "uninstall"} <=
                set(own), own)
    for directory in own:
        dry_run(world, deployment.build(directory))
    for component in components:
        things = deployment.build(with_component(world, component))
        dry_run(world, things)
        for thing in things:
            if thing["kind"] == "MutatingAdmissionPolicy":
                expect(f"{component}: the gate's image", thing["spec"]["variables"][0]["expression"],
                       f"'{IMAGE[0]}:{IMAGE[1]}'")


@case("a field that is not known would have been refused: the case before can fail")
def strict(world):
    thing = next(each for each in deployment.build("base") if each["kind"] == "DaemonSet")
    thing["spec"]["template"]["spec"]["hostPid"] = True
    error = expect_error("hostPid", lambda: dry_run(world, [thing]), ApiError)
    expect_that("its name in the message", "hostPid" in error.message, error.message)


@case("the agent's pod: what it may is what is named, and nobody can be it without a host's files")
def agent_pod(world):
    things = deployment.build("base")
    spec = next(each for each in things if each["kind"] == "DaemonSet")["spec"]
    pod = spec["template"]["spec"]
    security = pod["containers"][0]["securityContext"]
    expect("rolling update", spec["updateStrategy"]["rollingUpdate"], {"maxSurge": 1, "maxUnavailable": 0})
    expect("host network", pod.get("hostNetwork", False), False)
    expect("host ports", [port for port in pod["containers"][0]["ports"] if "hostPort" in port], [])
    expect("dropped", security["capabilities"]["drop"], ["ALL"])
    expect("capabilities", security["capabilities"]["add"],
           ["BPF", "PERFMON", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE"])
    expect("privileged", security.get("privileged", False), False)
    expect("root file system read-only", security["readOnlyRootFilesystem"], True)
    for rules in (each["rules"] for each in things if each["kind"] in ("ClusterRole", "Role")
                  and each["metadata"]["name"] == "postern-read"):
        expect("the agent's verbs", sorted({verb for rule in rules for verb in rule["verbs"]}), ["list", "watch"])


@case("the gate comes first in a gateway's pod, restricted, with the agent's own image", limit=120)
def gate(world):
    world.gate()
    pod = world.pod("a", annotations={"postern.dev/gateway": "default/edge"}, containers=["before"])
    expect("the gate's place", gates(pod), ["0:postern-gate"])
    made = pod["spec"]["initContainers"][0]
    expect("image", made["image"], "postern:latest")
    expect("command", made["command"], ["/usr/bin/posternctl", "gate"])
    expect("mounts", made.get("volumeMounts", []), [])
    world.namespace("strict", **{"pod-security.kubernetes.io/enforce": "restricted"})
    error = expect_error("a pod that is not restricted itself", lambda: world.pod(
        "a", "strict", annotations={"postern.dev/gateway": "default/edge"}), ApiError)
    expect_that("Pod Security to complain of the gateway's own container, not of the gate",
                "postern-gate" not in error.message and "main" in error.message, error.message)


@case("which pods get a gate", limit=120)
def who(world):
    world.gate()
    by_label, by_annotation = {GATEWAY_NAME: "edge"}, {"postern.dev/gateway": "default/edge"}
    table = [
        ("no gateway", "shop", None, None, (), False),
        ("the annotation, anywhere", "default", None, by_annotation, (), True),
        ("the label, in a namespace that is enabled", "shop", by_label, None, (), True),
        ("the label alone: its implementation may do TLS itself", "default", by_label, None, (), False),
        ("left out by annotation", "shop", by_label, {"postern.dev/gate": "none"}, (), False),
        ("another annotation of that name", "shop", by_label, {"postern.dev/gate": "x"}, (), True),
        ("init containers of its own", "shop", by_label, None, ("one", "two"), True),
        ("both", "shop", by_label, by_annotation, (), True),
    ]
    for name, namespace, labels, annotations, containers, wanted in table:
        pod = world.pod("a", namespace, labels, annotations, containers)
        expect(name, gates(pod), ["0:postern-gate"] if wanted else [])
        expect(f"{name}: the others, in order",
               [each["name"] for each in pod["spec"].get("initContainers", []) if each["name"] != "postern-gate"],
               list(containers))
    twice = world.pod("a", "shop", by_label, None, ("postern-gate",))
    expect("one that has it already", gates(twice), ["0:postern-gate"])
    expect("its image, not ours", twice["spec"]["initContainers"][0]["image"], "other")


@case("a policy that cannot be carried out refuses gateways, and nobody else", limit=120)
def closed(world):
    world.gate()
    policy = next(each for each in deployment.build("overlays/default") if each["kind"] == "MutatingAdmissionPolicy")
    image = policy["spec"]["variables"][0]["expression"]
    policy["spec"]["variables"][0]["expression"] = "string(1 / (size(variables.labels) - size(variables.labels)))"
    policy["spec"]["variables"].append(policy["spec"]["variables"].pop(0))  # after what it refers to
    world.admin.apply(policy)

    def refused():
        try:
            world.pod("a", annotations={"postern.dev/gateway": "default/edge"})
        except ApiError as error:
            return error.message
        return None

    expect_that("postern-gate in the refusal", "postern-gate" in until(refused, 30, "a refusal"), refused())
    expect("a pod that is no gateway", gates(world.pod("a")), [])
    policy["spec"]["variables"].insert(0, policy["spec"]["variables"].pop())
    policy["spec"]["variables"][0]["expression"] = image
    world.admin.apply(policy)
    until(lambda: refused() is None, 30, "gateways are made again")


@case("clusters without admission policies: the patch gives the same init container to workloads that ask for it")
def patched(world):
    directory = world.new_directory("gateways")
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "main", "image": "nginx"}]}}
    things = [{"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels},
               "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template}}
              for kind, name, labels in (("Deployment", "edge", {"postern.dev/gate": "enabled"}),
                                         ("DaemonSet", "edge", {"postern.dev/gate": "enabled"}),
                                         ("Deployment", "other", {}))]
    (directory / "all.yaml").write_text("---\n".join(json.dumps(thing) + "\n" for thing in things))
    component = os.path.relpath(deployment.DEPLOY / "components/gate-patch", directory.resolve())
    (directory / "kustomization.yaml").write_text(json.dumps({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": ["all.yaml"],
        "components": [component]}))
    built = deployment.build(directory)
    for thing in built:
        thing["metadata"]["namespace"] = "default"
    dry_run(world, built)
    gated = {(thing["kind"], thing["metadata"]["name"]): gates({"spec": thing["spec"]["template"]["spec"]})
             for thing in built}
    expect("who has it", gated, {("Deployment", "edge"): ["0:postern-gate"], ("DaemonSet", "edge"): ["0:postern-gate"],
                                 ("Deployment", "other"): []})


if __name__ == "__main__":
    main(World)
