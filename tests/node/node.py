#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
postern on a real node: etcd, kube-apiserver, a kubelet and containerd with runc (and crun) run the image and the manifests
of deploy/, unchanged but for the image's name; backends and gateways are pods.

Minutes, and the first time it compiles the kubelet, so it is not part of `make check`: `make check-node`. What is played
is in control_plane.py (no kube-controller-manager, no kube-scheduler) and in tests/kubernetes/kube/network.py (ClusterIPs
are DNAT in the node's network, as kube-proxy has it).
"""

import json
import os
import re
import shutil
import sys
import threading
from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [HERE, f"{TESTS}/kubernetes", TESTS]

import images
import real_node
import workloads
from control_plane import ControlPlane
from kube import deployment
from kube.client import condition
from lib import containerd, http, manifests
from lib.capture import Capture
from lib.case import SLOWNESS, case, expect, expect_that, main, skip
from lib.certificates import Authority
from lib.paths import PREFIX, cgroup2_mount
from lib.process import run
from lib.waiting import until
from workloads import LISTEN, PORT, TARGET

MARKER = "postern-node-marker-71c2"
WITHIN = 120 * SLOWNESS
HOST = "web.example"


class World(ControlPlane):
    def _build(self):
        containerd.need()
        real_node.need()
        self.archives = images.build()
        super()._build()
        self.node = real_node.RealNode(self)
        print(f"     {real_node.version(self.programs)}, {containerd.version()}, {os.uname().release}", flush=True)
        for archive in self.archives:
            self.node.containerd.import_image(archive)
        for handler in ("runc", "crun"):
            self.admin.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": handler},
                              "handler": handler})
        self.namespace("default", **{"postern.dev/gate": "enabled"})

    def deploy(self, directory, gate=False):
        """A kustomization of deploy/ with the image that is at hand."""
        own = self.new_directory(directory.replace("/", "-"))
        name, tag = images.POSTERN.rsplit(":", 1)
        lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources:",
                 f"- {os.path.relpath(deployment.DEPLOY / directory, own.resolve())}",
                 "images:", f"- {{name: postern, newName: {name}, newTag: {tag}}}"]
        if gate:
            (own / "image.yaml").write_text((deployment.DEPLOY / "components/gate-policy/image.yaml").read_text())
            lines += ["replacements:", "- path: image.yaml"]
        (own / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        self.furnish(deployment.NAMESPACE)
        return {thing["kind"]: thing for thing in deployment.apply(self, own)}

    def apply_ready(self, *things):
        """Objects of which the last is a Pod; it, when it is Ready."""
        things = [dict(each) for each in things]
        things[-1]["spec"] = {**things[-1]["spec"], "nodeName": real_node.NAME}
        return self.until_ready(self.admin.apply_all(*things)[-1])

    def posternctl(self, *words):
        """In the agent's own container, as `kubectl exec` has it."""
        status, out, errors = self.node.execute(self.daemon, "posternd", "/usr/bin/posternctl", *words)
        expect(f"posternctl {' '.join(words)}: status, errors", (status, errors), (0, ""))
        return out

    def ask(self, gateway):
        """One request of a client on the node: (status, the SNI that the backend saw, the marker that came back)."""
        answer = http.request(self.client, gateway["status"]["podIP"], LISTEN, "/", headers={"X-Marker": MARKER}, timeout=60)
        return answer.status, answer.values.get("sni"), answer.values.get("marker")

    def wire(self, pod):
        """Eyes on a pod's own end of the wire."""
        _, pid = self.node.container(pod, "main")
        name = f"{PREFIX}{os.getpid()}-{pod['metadata']['name']}"
        if not Path(f"/run/netns/{name}").exists():
            run("ip", "netns", "attach", name, pid)
            self._stack.callback(run, "ip", "netns", "delete", name, check=False)
        return Capture(name, MARKER.encode())

    def explain(self):
        lines = super().explain()
        for pod in self.admin.list("v1", "Pod"):
            metadata, status = pod["metadata"], pod.get("status", {})
            waiting = [each["state"] for each in status.get("initContainerStatuses", []) +
                       status.get("containerStatuses", []) if "running" not in each["state"]]
            lines.append(f"{metadata['name']}: {status.get('phase')} {waiting}")
            lines += [f"{metadata['name']}: {line}" for container in pod["spec"]["containers"]
                      for line in self.node.logs(pod, container["name"])[-6:]]
        for event in self.admin.list("v1", "Event"):
            if event.get("type") == "Warning":
                lines.append(f"event: {event['involvedObject'].get('name')}: {event.get('message', '')[:300]}")
        return lines[-60:]


GOOD = (200, HOST, MARKER)


@case("deploy/'s DaemonSet is Ready on a real kubelet: startup, liveness and readiness probes pass", limit=900)
def daemonset(world):
    world.deployed = world.deploy("overlays/default", gate=True)
    world.daemon = agent = world.until_ready(world.pod_of(world.deployed["DaemonSet"]))
    status, = agent["status"]["containerStatuses"]
    expect("restarts", status["restartCount"], 0)
    for path in ("/livez", "/readyz", "/metrics"):
        expect(path, world.node.get(agent["status"]["podIP"], 9905, path), 200)


@case("its container has what deploy/ says: seccomp, a root that is read-only, no new privileges, these capabilities alone")
def container(world):
    agent = world.daemon
    identity, pid = world.node.container(agent, "posternd")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    expect("seccomp's mode: a filter", status["Seccomp"].strip(), "2")
    expect("no new privileges", status["NoNewPrivs"].strip(), "1")
    wanted = {each.lower() for each in agent["spec"]["containers"][0]["securityContext"]["capabilities"]["add"]}
    here = set(re.search(r"bounding set: (.*)", run("setpriv", "--dump").stdout).group(1).split(","))
    names = run("setpriv", "--list-caps").stdout.split()
    held = int(status["CapEff"], 16)
    expect("capabilities that it has", {name for number, name in enumerate(names) if held >> number & 1}, wanted & here)
    expect("capabilities that it can ever have", int(status["CapBnd"], 16), held)
    root = next(line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines() if line.split()[4] == "/")
    expect_that("a root that is read-only", "ro" in root[5].split(","), root)
    expect_that("the runtime's cgroup is found below the pod's", identity in Path(f"/proc/{pid}/cgroup").read_text(), identity)


@case("the controller's two pods are Ready", limit=300)
def controller(world):
    for pod in [world.pod_of(world.deployed["Deployment"]) for _ in range(2)]:
        world.until_ready(pod)


@case("a gateway's pod gets the gate, is found by its label, and is Ready when its hooks are on", limit=600)
def enrolled(world):
    world.backend = world.apply_ready(*workloads.backend("web", world.authority.leaf("web", f"DNS:{HOST}")))
    address = world.backend["status"]["podIP"]
    slices = manifests.endpoint_slice("web", [address], [("main", TARGET)])
    slices["endpoints"][0].update(nodeName=real_node.NAME)
    slices["endpoints"][0]["targetRef"].update(name="web", namespace="default", uid=world.backend["metadata"]["uid"])
    world.admin.apply(slices, manager="endpoint-slice-controller")
    world.vip = world.admin.get("v1", "Service", "web", "default")["spec"]["clusterIP"]
    world.network.cluster_ip(world.vip, PORT, [(address, TARGET)])
    world.policy_object = world.policy("web", "web", HOST)
    world.admin.apply_all(manifests.gateway("demo"), manifests.http_route("web", "demo", "web", PORT))
    world.gateway = world.apply_ready(*workloads.gateway("gateway", world.vip))
    expect_found(world, world.gateway)


def expect_found(world, gateway):
    """As the kernel and the runtime have it: cgroup, network namespace, the gate's own word."""
    gate, = gateway["status"]["initContainerStatuses"]
    expect("the gate", (gate["name"], gate["state"]["terminated"]["exitCode"]), ("postern-gate", 0))
    identity, pid = world.node.container(gateway, "main")
    cgroup = next(line[4:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::/"))
    cgroup = cgroup2_mount() / cgroup
    expect_that("a cgroup of cgroup2 called by the container", identity in cgroup.name, cgroup)
    seen = next(each for each in json.loads(world.posternctl("--json", "status"))["gateways"]
                if each["name"] == f"default/{gateway['metadata']['name']}")
    expect("its state, its cgroup", (seen["state"], seen["cgroup"]), ("ready", str(cgroup.parent)))


@case("a request through it reaches the backend over TLS, and nothing on the wire is plain", limit=120)
def request(world):
    with world.wire(world.backend) as wire:
        expect("status, SNI, marker", world.ask(world.gateway), GOOD)
        seen = wire.report()
    expect_that("connections to the backend on the wire", seen.towards(TARGET), seen.raw)
    expect("of these in the clear", seen.in_the_clear(TARGET), [])
    expect_that("a table of the connections from posternctl", "web" in world.posternctl("policies"), "no web")


@case("the controller says Accepted of the policy", limit=120)
def accepted(world):
    world.admin.until(world.policy_object, lambda seen: any(
        condition({"status": each}, "Accepted").get("status") == "True"
        for each in seen.get("status", {}).get("ancestors", [])), "Accepted", within=WITHIN)


@case("a connect is refused while the policy's CA is another, and served when it is right again", limit=300)
def wrong_authority(world):
    other = Authority(world.directory / "other", "other-ca")
    world.policy("web", "web", HOST, other)
    until(lambda: world.ask(world.gateway)[0] == 502, WITHIN, "502", every=0.5)
    with world.wire(world.backend) as wire:
        expect("status", world.ask(world.gateway)[0], 502)
        expect("in the clear", wire.report().in_the_clear(TARGET), [])
    world.policy("web", "web", HOST)
    until(lambda: world.ask(world.gateway) == GOOD, WITHIN, "served again", every=0.5)


@case("a gateway's container that is killed is started by the kubelet, and what it sends first is TLS", limit=300)
def restarted(world):
    with world.wire(world.backend) as wire:
        before, pid = world.node.container(world.gateway, "main")
        os.kill(pid, 9)
        world.gateway = world.admin.until(
            world.gateway, lambda seen: seen["status"]["containerStatuses"][0]["restartCount"] == 1 and
            condition(seen, "Ready").get("status") == "True", "a second life", within=WITHIN)
        after, _ = world.node.container(world.gateway, "main")
        expect_that("another container", before != after, after)
        expect("status, SNI, marker", world.ask(world.gateway), GOOD)
        expect("in the clear", wire.report().in_the_clear(TARGET), [])


class Load:
    """Requests without a pause, in threads; each answer that was not right is kept."""

    def __init__(self, world, clients=2):
        self._world, self._over = world, threading.Event()
        self.good, self.bad = 0, []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def _run(self):
        while not self._over.is_set():
            try:
                answer = self._world.ask(self._world.gateway)
            except OSError as error:
                answer = repr(error)
            if answer == GOOD:
                self.good += 1
            else:
                self.bad.append(answer)

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for each in self._threads:
            each.join(60 * SLOWNESS)


@case("the DaemonSet is rolled under load: the next agent is Ready before the one before ends, and no request is lost", limit=1500)
def rolled(world):
    before = world.daemon
    daemonset = world.deployed["DaemonSet"]
    with world.wire(world.backend) as wire, Load(world) as load:
        until(lambda: load.good > 20 or load.bad, WITHIN, "requests before")
        world.admin.merge(daemonset, {"spec": {"template": {"metadata": {"annotations": {"test.postern.dev/turn": "2"}}}}})
        world.daemon = world.until_ready(world.pod_of(daemonset))
        world.delete_pod(before, 3 * WITHIN)
        mark = load.good
        until(lambda: load.good > mark + 20 or load.bad, WITHIN, "requests after")
        clear = wire.report().in_the_clear(TARGET)
    print(f"     {load.good} requests")
    expect("requests that were lost", load.bad[:3], [])
    expect("in the clear", clear, [])


@case("a gateway's pod that is deleted leaves nothing; HAProxy in another one comes, and is served", limit=600)
def replaced(world):
    world.delete_pod(world.gateway)
    until(lambda: "default/gateway" not in world.posternctl("status"), WITHIN, "no such gateway", every=0.5)
    expect("pins of it", [str(path) for path in world.node.pins() if "gateway" in path.parent.name], [])
    world.gateway = world.apply_ready(*workloads.gateway("second", world.vip, "haproxy"))
    expect_found(world, world.gateway)
    with world.wire(world.backend) as wire:
        expect("status, SNI, marker", world.ask(world.gateway), GOOD)
        expect("in the clear", wire.report().in_the_clear(TARGET), [])


@case("a gateway in a container of crun", limit=300)
def crun(world):
    if cgroup2_mount() != Path("/sys/fs/cgroup"):
        skip("crun refuses hybrid cgroups")
    if not shutil.which("crun"):
        skip("not installed: crun")
    gateway = world.apply_ready(*workloads.gateway("third", world.vip, "nginx", "crun"))
    expect_found(world, gateway)
    expect("status, SNI, marker", world.ask(gateway), GOOD)


@case("deploy/uninstall takes every hook away, in the steps that deploy/README.md has", limit=900)
def uninstall(world):
    world.admin.delete(world.deployed["DaemonSet"])
    world.delete_pod(world.daemon, 3 * WITHIN)
    expect("what is covered, without an agent", world.ask(world.gateway)[0], 503)
    expect_that("pins that outlive it", world.node.pins(), [])
    world.until_ready(world.pod_of(world.deploy("uninstall")["DaemonSet"]))
    expect("pins", [str(path) for path in world.node.pins()], [])


if __name__ == "__main__":
    main(World)
