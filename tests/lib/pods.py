# SPDX-License-Identifier: GPL-2.0-only
"""
Pods of this node as a kubelet and a runtime make them: a manifest, a pod-level cgroup with one cgroup for the sandbox and
one for each container, a network namespace, and a process called pause that keeps it.
"""

import os
import uuid

from lib.cgroups import remove_tree
from lib.paths import PREFIX
from lib.process import Process
from lib.sockets import SocketMaker

LABEL = "gateway.networking.k8s.io/gateway-name"
NODE = "node-a"


def pod_object(name, uid, namespace="default", labels=None, annotations=None, node=NODE, phase="Running",
               qos_class="Burstable", containers=(), gated=False, started=True, **spec):
    """containers: ids of those that the status names."""
    state = {"running": {}} if started else {"waiting": {}}
    names = [{"name": "postern-gate", "image": "postern"}] if gated else []
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": labels or {},
                     "annotations": annotations or {}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "gateway"}],
                 **({"initContainers": names} if names else {}), **spec},
        "status": {"phase": phase, "qosClass": qos_class,
                   "containerStatuses": [{"name": f"c{index}", "containerID": f"containerd://{each}", "state": state}
                                         for index, each in enumerate(containers)]}}


def new_id():
    return uuid.uuid4().hex + uuid.uuid4().hex


class Pod:
    """
    In the world's gateway namespace, unless another is named. The manifest is written by publish(); cgroup and sandbox
    are there from the start, as they are before the first container.
    """

    def __init__(self, world, name, netns="gateway", labels=None, annotations=None, uid=None, sandbox=True, **more):
        self.world, self.name = world, name
        self.uid = uid or str(uuid.uuid4())
        self.labels = {LABEL: "demo"} if labels is None else labels
        self.annotations = annotations or {}
        self.more = more
        self.netns = world.network[netns]
        self.file = f"pod-{name}.yaml"
        self.cgroup = world.cgroups.make(f"kube/kubepods/burstable/pod{self.uid}")
        self.containers = []
        self.published = False
        self.sandbox = self.make_container("pause", listed=False) if sandbox else None
        self.pause = Process(["bash", "-c", "exec -a /pause sleep infinity"], self.netns, self.sandbox) \
            if sandbox else None

    def make_container(self, _name="main", listed=True):
        """The cgroup of a new container."""
        identity = new_id()
        path = self.cgroup / identity
        path.mkdir()
        if listed:
            self.containers.append(identity)
        return path

    def sockets(self):
        """A new container's own sockets."""
        return SocketMaker(self.netns, self.make_container())

    def run(self, *argv):
        """A new container with this program."""
        return Process(argv, self.netns, self.make_container())

    def object(self):
        return pod_object(self.name, self.uid, labels=self.labels, annotations=self.annotations,
                          containers=self.containers, **self.more)

    def publish(self, **more):
        self.more.update(more)
        self.published = True
        self.world.manifests.write(self.file, self.object())
        return self

    def annotate(self, **annotations):
        """mode="observe" is postern.dev/mode."""
        self.annotations.update({f"postern.dev/{key}": value for key, value in annotations.items()})
        return self.publish()

    def withdraw(self):
        """The Pod object goes; its processes and its cgroup are still there, as they are for a while."""
        if self.published:
            self.world.manifests.remove(self.file)
        self.published = False

    def remove(self):
        """All of it."""
        self.withdraw()
        if self.pause:
            self.pause.kill()
        remove_tree(self.cgroup)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.cgroup.exists():
            self.remove()


def kubelet_root():
    """Where the test's own pods are, for the setting kubeletCgroupRoot."""
    return f"{PREFIX}{os.getpid()}/kube"
