# SPDX-License-Identifier: GPL-2.0-only
"""
A node: containerd with runc and crun, and a kubelet, in a network namespace and a mount namespace of their own. What they
write outside of the run's directory (/var/lib, /var/log, /run, /sys/fs/bpf, kernel settings) is theirs alone. The pods'
cgroups are the one thing that is the machine's: /kubepods, as on any node whose kubelet has no --cgroup-root.
"""

import http.client
import json
import shutil
from pathlib import Path

from control_plane import NAME
from kube.accounts import write_kubeconfig
from kube.client import condition
from lib import cgroups, cri
from lib.case import SLOWNESS, Skip
from lib.containerd import V1, Containerd
from lib.paths import cgroup2_mount
from lib.process import CommandFailed, Process, run, run_in
from lib.sockets import SocketMaker
from lib.waiting import until

HERE = Path(__file__).resolve().parent
POD_CIDR = "10.77.3.0/24"  # of lib/containerd.py's CNI configuration
# What a kubelet sets on its machine, with the values that it wants: written to files of its own here, not to the kernel.
SETTINGS = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
            "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}
KUBEPODS = "kubepods"


def need():
    if any(path.exists() for path in pod_cgroups()):
        raise Skip("this machine has pods of a kubelet: /kubepods is there")


def pod_cgroups():
    """Where /kubepods is, in each hierarchy."""
    return [hierarchy / KUBEPODS for hierarchy in {cgroup2_mount(), *V1.glob("*/")}]


class RealNode:
    """world: a PodWorld with .programs, which has a kubelet. Comes back when the API server says that the node is Ready."""

    def __init__(self, world):
        self.world = world
        self.directory = world.new_directory("node")
        self.containerd = world.close_at_end(Containerd(world, self._mounts(), self._runtimes()))
        self.runtime = self.containerd.runtime
        world._stack.callback(self._remove_pods)  # before containerd: its shims are still there
        # The API server is on this machine's loopback; in the node's network it is the node's, and the ClusterIP's.
        maker = world.close_at_end(SocketMaker(world.network["node"], world.cgroups.make("wire")))
        self.api_port = world.proxy(maker.listen("0.0.0.0", 0)).port
        world.network.cluster_ip("10.96.0.1", 443, [(world.network.node_address, self.api_port)])
        self.process = None
        self.start()
        self._until_ready()

    def _mounts(self):
        commands = [f"mount -t tmpfs tmpfs {path}" for path in ("/var/lib", "/var/log", "/run")]
        commands += ["mount -t bpf bpf /sys/fs/bpf", "mkdir -p /var/lib/kubelet/plugins-exec"]
        for name, value in SETTINGS.items():
            path = self.directory / name.replace("/", "-")
            path.write_text(f"{value}\n")
            commands.append(f"mount --bind {path} /proc/sys/{name}")
        return commands

    def _runtimes(self):
        made = {}
        for name in ("runc", "crun"):
            if shutil.which(name):
                made[name] = self.directory / name
                made[name].symlink_to(HERE / "bounded-runtime")
        return made

    def start(self):
        authority = self.world.api.authority
        leaf = authority.leaf("kubelet", usage="clientAuth", subject=f"/O=system:nodes/CN=system:node:{NAME}")
        kubeconfig = write_kubeconfig(
            self.directory / "kubeconfig", f"https://127.0.0.1:{self.api_port}", authority.certificate,
            {"client-certificate": str(leaf.certificate), "client-key": str(leaf.key)})
        configuration = self.directory / "kubelet.json"
        configuration.write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.containerd.socket}", "cgroupDriver": "cgroupfs",
            # Of a machine with cgroup v1 beside v2; elsewhere it says nothing.
            "failCgroupV1": False, "failSwapOn": False, "clusterDNS": ["10.96.0.10"], "enforceNodeAllocatable": [], "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False, "address": self.world.network.node_address,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False},
                               "x509": {"clientCAFile": str(authority.certificate)}},
            "authorization": {"mode": "AlwaysAllow"}, "volumePluginDir": "/var/lib/kubelet/plugins-exec",
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100, "nodeStatusUpdateFrequency": "5s", "shutdownGracePeriod": "0s",
            "registerWithTaints": [], "serializeImagePulls": False}))
        self.process = Process(self.containerd.inside(
            self.world.programs / "kubelet", f"--config={configuration}", f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}", f"--node-ip={self.world.network.node_address}", "--v=2"),
            self.world.network["node"], self.world.cgroups.make("kubelet"))
        self.world._stack.callback(self.process.kill)

    def _until_ready(self):
        thing = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}}

        def answers():
            if not self.process.running():
                raise RuntimeError("kubelet ended: " + " | ".join(
                    line for line in self.process.lines if line[:1] in ("E", "F"))[-1500:])
            return any(each["metadata"]["name"] == NAME for each in self.world.admin.list("v1", "Node"))
        until(answers, 180 * SLOWNESS, "a node that has come to the API server", every=0.5)
        self.world.admin.merge(thing, {"spec": {"podCIDR": POD_CIDR, "podCIDRs": [POD_CIDR]}})
        self.object = self.world.admin.until(
            thing, lambda seen: condition(seen, "Ready").get("status") == "True", "the node Ready", within=180 * SLOWNESS)

    # Pods

    def container(self, pod, name):
        """(id, process id, ...) of a running container of a Pod object, by the runtime's own word."""
        identity = self.identity(self.world.admin.read(pod), name)
        return identity, self.runtime.container(identity)[2]["pid"]

    @staticmethod
    def identity(pod, name):
        status = next(each for each in pod["status"]["containerStatuses"] if each["name"] == name)
        return status["containerID"].partition("://")[2]

    def execute(self, pod, name, *argv):
        """A program in a container: (status, output, errors)."""
        return self.runtime.execute(self.identity(self.world.admin.read(pod), name), *argv)

    def logs(self, pod, name):
        """What the last container of this name has written, as the kubelet keeps it."""
        metadata = pod["metadata"]
        root = Path(f"/proc/{self.containerd.pid}/root/var/log/pods")
        directory = root / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}" / name
        files = sorted(directory.glob("*.log"), key=lambda path: int(path.stem)) if directory.exists() else []
        return [line.split(" ", 3)[3] for line in files[-1].read_text().splitlines() if line.count(" ") > 2] if files else []

    def get(self, address, port, path):
        """The status of a request from the node, 0 without an answer."""
        try:
            return int(run_in(self.world.network["node"], "curl", "--silent", "--output", "/dev/null", "--write-out",
                              "%{http_code}", "--max-time", "20", f"http://{address}:{port}{path}").stdout)
        except CommandFailed:
            return 0

    def pins(self):
        """What postern has pinned in the node's own bpffs."""
        root = Path(f"/proc/{self.containerd.pid}/root/sys/fs/bpf/postern")
        return sorted(path for path in root.rglob("*") if path.is_file())

    def _remove_pods(self):
        if self.process:
            self.process.kill()
        for path in sorted(pod_cgroups(), key=lambda path: path.parent != cgroup2_mount()):
            if path.parent == cgroup2_mount():
                cgroups.remove_tree(path)
            elif path.exists():
                run("find", path, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";", check=False)


def version(programs):
    return run(programs / "kubelet", "--version").stdout.strip()
