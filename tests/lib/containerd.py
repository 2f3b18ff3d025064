# SPDX-License-Identifier: GPL-2.0-only
"""
A containerd of the test's own, with runc, Debian's CNI plug-ins and an image that is made here: pods as a real runtime
makes them. Its sockets, state and mounts are below the run's directory and in a mount namespace of its own; it and its
shims live in a cgroup of the run, so they end with it. Its pods have addresses 10.77.3.x, behind the node.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import uuid
from pathlib import Path

from lib import cri
from lib.case import SLOWNESS, Skip
from lib.cgroups import remove_tree
from lib.paths import BUILD, REPOSITORY, cgroup2_mount
from lib.pods import LABEL, kubelet_root, pod_object
from lib.process import Process, placed, run
from lib.waiting import until

IMAGE = "postern.test/pause:1"
NEEDED = {"containerd": "containerd", "ctr": "containerd", "containerd-shim-runc-v2": "containerd", "runc": "runc",
          "curl": "curl"}
PLUGINS = Path("/usr/lib/cni")
# What a container sees of this machine, read-only: programs and libraries. The image has nothing but `pause`.
SEEN = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives")
V1 = Path("/sys/fs/cgroup")

CONFIGURATION = """
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
disable_apparmor = true
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_tcp_service = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"
"""

RUNTIME = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
BinaryName = "{path}"
"""


def need():
    """Skips the file where there is no containerd to run."""
    missing = sorted({package for program, package in NEEDED.items() if not shutil.which(program)})
    if not (PLUGINS / "ptp").exists():
        missing.append("containernetworking-plugins")
    if missing:
        raise Skip(f"not installed: {' '.join(missing)}")


class Containerd:
    """With handlers "runc" and, where it is installed, "crun". They make the cgroups themselves (driver cgroupfs)."""

    def __init__(self, world, mounts=("mount -t tmpfs tmpfs /var/lib",), runtimes=None):
        """mounts: commands that make its namespace what it is. runtimes: name of a handler -> its program."""
        self.world = world
        self.directory = world.new_directory("containerd")
        runtimes = runtimes or {name: shutil.which(name) for name in ("runc", "crun") if shutil.which(name)}
        self.cgroup = world.cgroups.make("containerd")
        self.socket = self.directory / "containerd.sock"
        # Without overlayfs each container is a copy of its image: right, and slow.
        self.snapshotter = "overlayfs" if "\toverlay\n" in Path("/proc/filesystems").read_text() else "native"
        (self.directory / "cni").mkdir()
        (self.directory / "cni/10-pods.conflist").write_text(json.dumps({
            "cniVersion": "0.4.0", "name": f"postern{os.getpid()}", "plugins": [{
                "type": "ptp", "ipMasq": False, "ipam": {
                    "type": "host-local", "dataDir": str(self.directory / "addresses"),
                    "ranges": [[{"subnet": "10.77.3.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}))
        self.configuration = self.directory / "config.toml"
        self.configuration.write_text(CONFIGURATION.format(
            root=self.directory / "root", state=self.directory / "state", socket=self.socket, image=IMAGE,
            plugins=PLUGINS, cni=self.directory / "cni", snapshotter=self.snapshotter) + "".join(
                RUNTIME.format(name=name, path=path) for name, path in runtimes.items()))
        self.runtime = cri.Runtime(self.socket, within=60 * SLOWNESS)
        # The mounts of its pods go with its namespace. It lives in the node's network, where the pods' other ends are.
        # What CNI remembers below /var/lib goes with it, too. Shared among its own, as systemd has it on a node: without
        # that containerd refuses mounts with propagation HostToContainer.
        self._namespace = Process(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                   " && ".join(["mount --make-rshared /", *mounts, "exec sleep infinity"])],
                                  world.network["node"], self.cgroup)
        self.process = None
        self.pods = []
        self.start()
        self._import_image()

    @property
    def pid(self):
        """A process that lives in its mount namespace."""
        return self._namespace.pid

    def inside(self, *argv):
        """argv in its mount namespace."""
        return ["nsenter", f"--target={self._namespace.pid}", "--mount", "--root", "--", *map(str, argv)]

    def start(self):
        until(lambda: Path(f"/proc/{self._namespace.pid}/comm").read_text().strip() == "sleep", 10 * SLOWNESS,
              "a mount namespace")
        self.process = Process(self.inside("containerd", "--config", self.configuration), self.world.network["node"],
                               self.cgroup)
        until(self._answers, 120 * SLOWNESS, "a containerd that answers", every=0.2)

    def _answers(self):
        if not self.process.running():
            raise RuntimeError("containerd ended: " + " | ".join(self.process.lines[-5:]))
        try:
            return self.runtime.version()
        except cri.RuntimeFailed:
            return None

    def kill(self):
        """The daemon alone: its shims and their containers go on."""
        self.process.kill()

    def _import_image(self):
        archive = self.directory / "image.tar"
        write_image(archive, self.directory)
        self.import_image(archive)

    def import_image(self, archive):
        """What an OCI archive has, under the name that it says."""
        run(*placed(self.inside("ctr", "--address", self.socket, "--namespace", "k8s.io", "images", "import",
                                 "--snapshotter", self.snapshotter, archive), self.world.network["node"], self.cgroup),
            within=600 * SLOWNESS)

    def pod(self, name, **options):
        made = Pod(self, name, **options)
        self.pods.append(made)
        return made

    def close(self):
        for pod in self.pods:
            pod.remove()
        self.process.stop()
        remove_tree(self.cgroup)


class Pod:
    """
    A sandbox at first, as a kubelet asks for it: in the pod's cgroup, which is there before. container() adds one.
    publish() writes the Pod object with the status that the kubelet would make of the runtime's answers.
    """

    def __init__(self, containerd, name, qos="burstable", handler="runc", namespaces=None, **more):
        self.containerd, self.runtime, self.name = containerd, containerd.runtime, name
        self.world = containerd.world
        self.uid = str(uuid.uuid4())
        self.more = {"labels": {LABEL: "demo"}, "qos_class": {"": "Guaranteed"}.get(qos, qos.capitalize()), **more}
        self.file = f"pod-{name}.yaml"
        self.containers = []  # ids, the last one of each
        self.published = False
        self._attempts = self._sandboxes = 0
        self.parent = "/".join(("", kubelet_root(), "kubepods", *([qos] if qos else []), f"pod{self.uid}"))
        self.cgroup = cgroup2_mount() / self.parent[1:]
        self.cgroup.mkdir(parents=True)
        self.logs = self.containerd.directory / f"logs-{self.uid}"
        self.logs.mkdir()
        self._handler = handler
        self._namespaces = namespaces or cri.POD_PID
        self._run_sandbox()

    def _run_sandbox(self):
        self.config = {
            "metadata": {"name": self.name, "uid": self.uid, "namespace": "default", "attempt": self._sandboxes},
            "hostname": self.name, "log_directory": self.logs, "labels": {"io.kubernetes.pod.uid": self.uid},
            "linux": {"cgroup_parent": self.parent, "security_context": {"namespace_options": self._namespaces}}}
        self._sandboxes += 1
        self.sandbox = self.runtime.run_sandbox(self.config, self._handler)
        self.address, info = self.runtime.sandbox(self.sandbox)
        self.pid = info["pid"]

    def _remove_sandbox(self):
        self.runtime.stop_sandbox(self.sandbox)
        self.runtime.remove_sandbox(self.sandbox)
        self.sandbox = None

    def renew_sandbox(self):
        """What a kubelet does when the sandbox has died: what is left of it goes, and another one comes, in the same pod."""
        self._remove_sandbox()
        self._run_sandbox()

    def container(self, name, *argv, user=0):
        """Created and started, with this machine's programs; the id. Its output is output(name)."""
        mounts = [{"container_path": path, "host_path": os.path.realpath(path), "readonly": 1}
                  for path in (*SEEN, str(BUILD), str(REPOSITORY)) if os.path.exists(path)]
        return self.container_of(IMAGE, name, argv, mounts, {"run_as_user": {"value": user}, "readonly_rootfs": 1,
                                                             "no_new_privs": 1})

    def container_of(self, image, name, argv, mounts, security):
        """The same of an image, with mounts and security context in CRI's words."""
        self._attempts += 1
        config = {
            "metadata": {"name": name, "attempt": self._attempts}, "image": {"image": image},
            "command": [str(word) for word in argv], "mounts": mounts, "log_path": f"{name}-{self._attempts}.log",
            "linux": {"security_context": {"namespace_options": self._namespaces, **security}}}
        made = self.runtime.create_container(self.sandbox, config, self.config)
        self.runtime.start_container(made)
        self.containers.append(made)
        return made

    def stop_container(self, container):
        self.runtime.stop_container(container)
        self.runtime.remove_container(container)
        self.containers.remove(container)

    def ended(self, container, within=30):
        """The exit status of one that ends by itself."""
        def status():
            state, code, _ = self.runtime.container(container)
            return (code,) if state == cri.EXITED else None
        return until(status, within * SLOWNESS, f"container {container[:12]} ended", every=0.1)[0]

    def output(self, name):
        """What the last container of this name has written, line by line."""
        logs = sorted(self.logs.glob(f"{name}-*.log"), key=lambda path: int(path.stem.rpartition("-")[2]))
        return [line.split(" ", 3)[3] for line in logs[-1].read_text().splitlines() if line.count(" ") > 2] \
            if logs else []

    def network_namespace(self):
        return os.stat(f"/proc/{self.pid}/ns/net").st_ino

    def cgroup_of(self, pid):
        """As the kernel has it, of the cgroup2 hierarchy."""
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return cgroup2_mount() / line[4:]
        return None

    def publish(self, **more):
        self.more.update(more)
        self.published = True
        made = pod_object(self.name, self.uid, containers=self.containers, **self.more)
        made["status"].update(podIP=self.address, podIPs=[{"ip": self.address}])
        self.world.manifests.write(self.file, made)
        return self

    def remove(self):
        """As a kubelet does it: the containers, the sandbox, its cgroup; then the object goes."""
        if not self.sandbox:
            return
        for container in list(self.containers):
            self.stop_container(container)
        self._remove_sandbox()
        remove_tree(self.cgroup)
        for hierarchy in V1.glob("*/"):
            _remove_empty(hierarchy / self.parent[1:], hierarchy)
        if self.published:
            self.world.manifests.remove(self.file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


def _remove_empty(path, top):
    """Of the v1 hierarchies, where runc has made them for containers that are gone; parents are others' business, too."""
    while path != top:
        try:
            path.rmdir()
        except OSError:
            return
        path = path.parent


def write_image(archive, work):
    """An OCI image with one file, /pause, and the directories that mounts go on."""
    program = work / "pause"
    run("gcc", "-static", "-O2", "-o", program, Path(__file__).with_name("pause.c"))
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in ("proc", "sys", "dev", "etc", "tmp", *(path[1:] for path in SEEN), str(BUILD)[1:],
                          str(REPOSITORY)[1:]):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(program, "pause")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    layer_digest = _digest(layer.getvalue())
    config = json.dumps({"architecture": architecture, "os": "linux", "config": {"Entrypoint": ["/pause"]},
                         "rootfs": {"type": "layers", "diff_ids": [layer_digest]}}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": _digest(config),
                   "size": len(config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest,
                    "size": len(layer.getvalue())}]}).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": _digest(manifest), "size": len(manifest),
        "annotations": {"io.containerd.image.name": IMAGE}}]}).encode()
    with tarfile.open(archive, "w") as tar:
        blobs = {f"blobs/sha256/{_digest(each)[7:]}": each for each in (layer.getvalue(), config, manifest)}
        for name, content in {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, **blobs}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def version():
    """For the report: what ran."""
    containerd = subprocess.run(["containerd", "--version"], check=True, capture_output=True, text=True).stdout.split()
    runc = subprocess.run(["runc", "--version"], check=True, capture_output=True, text=True).stdout.split()
    return f"containerd {containerd[2]}, runc {runc[2]}"
