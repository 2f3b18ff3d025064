# SPDX-License-Identifier: GPL-2.0-only
"""
Nodes and pods without a kubelet: a pod is a network namespace, a cgroup where the kubelet and the runtime would have
made it, a sandbox process in both, and a Pod object with the status that the kubelet would have written.
"""

import os
import secrets

from lib import cgroups
from lib.paths import cgroup2_mount
from lib.process import Process

SYSTEMD, CGROUPFS = "systemd", "cgroupfs"
CONTAINERD, CRIO = "containerd", "cri-o"
ROOT = "posterne2e"  # of a node's cgroups, with the run's process id and the node's number


class Node:
    """
    One node of a world with `.admin` (kube.cluster) and `.network` (kube.network). driver and runtime decide how the
    cgroups are called. `cgroup_root` is what the kubelet's --cgroup-root would be, "" on most clusters: here it keeps
    the run's pods apart from the machine's own.
    """

    _count = 0

    def __init__(self, world, name, driver=SYSTEMD, runtime=CONTAINERD, labels=None):
        Node._count += 1
        self.world, self.name, self.driver, self.runtime = world, name, driver, runtime
        self.cgroup_root = f"{ROOT}{os.getpid()}n{Node._count}"
        self.pods = []
        self.object = world.admin.apply({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}},
            "spec": {"podCIDRs": world.network.pod_cidrs}})
        world.admin.merge_status(self.object, {
            "addresses": [{"type": "InternalIP", "address": world.network.node_address}],
            "conditions": [{"type": "Ready", "status": "True"}]})

    def pod(self, name, namespace="default", **options):
        """A pod that runs; options as of Pod."""
        pod = Pod(self, name, namespace, **options)
        self.pods.append(pod)
        return pod

    def pod_cgroup(self, uid, qos):
        """As kubelet's cgroup manager names it: pkg/kubelet/cm/cgroup_manager_linux.go of Kubernetes 1.31."""
        parts = [self.cgroup_root, "kubepods", *([] if qos == "Guaranteed" else [qos.lower()]), f"pod{uid}"]
        mount = cgroup2_mount()
        if self.driver == CGROUPFS:
            return mount.joinpath(*parts)
        parts = [part.replace("-", "_") for part in parts]
        return mount.joinpath(*("-".join(parts[:depth]) + ".slice" for depth in range(1, len(parts) + 1)))

    def container_cgroup(self, pod_cgroup, container_id):
        if self.driver == CGROUPFS:
            return pod_cgroup / (container_id if self.runtime == CONTAINERD else f"crio-{container_id}")
        prefix = "cri-containerd" if self.runtime == CONTAINERD else "crio"
        return pod_cgroup / f"{prefix}-{container_id}.scope"

    @property
    def cgroup_top(self):
        return cgroup2_mount() / (self.cgroup_root + (".slice" if self.driver == SYSTEMD else ""))

    def close(self):
        for pod in reversed(self.pods):
            pod.close()
        cgroups.remove_tree(self.cgroup_top)


class Container:
    """One of a pod's, with a cgroup; a test starts in it what it likes: Process(argv, pod.netns, container.cgroup)."""

    def __init__(self, pod, name):
        self.pod, self.name = pod, name
        self.restarts = 0
        self._begin()

    def _begin(self):
        self.id = secrets.token_hex(32)
        self.cgroup = self.pod.node.container_cgroup(self.pod.cgroup, self.id)
        self.cgroup.mkdir(parents=True)

    def restart(self):
        """What runs in it is killed; it goes on under another id in another cgroup of the same pod."""
        old = self.cgroup
        self._begin()
        self.restarts += 1
        cgroups.remove_tree(old)
        self.pod.write_status()

    def status(self):
        scheme = {CONTAINERD: "containerd", CRIO: "cri-o"}[self.pod.node.runtime]
        return {"name": self.name, "containerID": f"{scheme}://{self.id}", "image": "none", "imageID": "none",
                "ready": True, "restartCount": self.restarts, "started": True,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}


class Pod:
    """
    A pod of a node. labels, annotations: its own. host_network: no namespace of its own, it lives in the node's.
    containers: their names. publish=False: neither object nor processes yet; publish() and run() make them.
    with_sandbox=False: as CRI-O does it, whose sandbox process may be dropped.
    """

    def __init__(self, node, name, namespace="default", labels=None, annotations=None, containers=("main",),
                 host_network=False, qos="Burstable", publish=True, with_sandbox=True, spec=None):
        self.node, self.name, self.namespace = node, name, namespace
        self.host_network, self.qos = host_network, qos
        self._labels, self._annotations, self._spec = labels or {}, annotations or {}, spec or {}
        self.object = None
        self.containers = {}
        self._names = containers
        self._sandbox = None
        self._with_sandbox = with_sandbox
        self.uid = None
        if publish:
            self.publish()
            self.run()

    # As the API server, the kubelet and the runtime do it

    def publish(self):
        """The Pod object, bound to the node; phase Pending. Its uid names the cgroup."""
        resources = {"Burstable": {"requests": {"cpu": "10m"}}, "BestEffort": {},
                     "Guaranteed": {"limits": {"cpu": "10m", "memory": "64Mi"}}}[self.qos]
        self.object = self.node.world.admin.create({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self._labels,
                         "annotations": self._annotations},
            "spec": {"nodeName": self.node.name, "hostNetwork": self.host_network,
                     "containers": [{"name": name, "image": "none", "resources": resources} for name in self._names],
                     **self._spec}})
        self.uid = self.object["metadata"]["uid"]
        return self

    def run(self, address=None):
        """Cgroups, namespace (with the address of one that is gone, if given), sandbox, containers; phase Running."""
        network = self.node.world.network
        self.cgroup = self.node.pod_cgroup(self.uid, self.qos)
        self.cgroup.mkdir(parents=True)
        if self.host_network:
            self.netns, self.address4, self.address6 = network["node"], network.node_address, network.node_address6
        else:
            self._interface, self.netns, self.address4, self.address6 = network.add_pod(address)
        if self._with_sandbox:
            self.sandbox_id = secrets.token_hex(32)
            sandbox = self.node.container_cgroup(self.cgroup, self.sandbox_id)
            sandbox.mkdir()
            self._sandbox = Process(["sleep", "infinity"], self.netns, sandbox)  # the runtime's `pause`
        self.containers = {name: Container(self, name) for name in self._names}
        self.write_status()
        return self

    @property
    def main(self):
        """The cgroup of its first container."""
        return next(iter(self.containers.values())).cgroup

    def start(self, argv, container=None, **options):
        """A program in a container."""
        cgroup = self.containers[container].cgroup if container else self.main
        return Process(argv, self.netns, cgroup, **options)

    def write_status(self, **more):
        """What the kubelet says of it. more: e.g. phase="Succeeded"."""
        self.object = self.node.world.admin.merge_status(self.object, {
            "phase": "Running", "hostIP": self.node.world.network.node_address,
            "hostIPs": [{"ip": self.node.world.network.node_address}],
            "podIP": self.address4, "podIPs": [{"ip": self.address4}, {"ip": self.address6}],
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": kind, "status": "True"} for kind in
                           ("PodScheduled", "Initialized", "ContainersReady", "Ready")],
            "containerStatuses": [container.status() for container in self.containers.values()], **more})

    def delete(self):
        """The object, then all that ran; a namespace stays as long as a socket of another process is in it."""
        if self.object:
            self.node.world.admin.delete(self.object)
        self.close()

    def close(self):
        if self.uid and not self.containers and not self._sandbox:
            return  # never ran, or is closed
        cgroups.remove_tree(self.cgroup)
        self.containers, self._sandbox = {}, None
        if not self.host_network:
            self.node.world.network.remove_pod(self._interface)


def remove_leftovers():
    """Of runs that are no more."""
    for root in cgroup2_mount().glob(f"{ROOT}*"):
        owner = root.name[len(ROOT):].split("n")[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            cgroups.remove_tree(root)
