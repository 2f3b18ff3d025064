#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The image that the Dockerfile makes, built by buildah on a Debian 12 that mmdebstrap makes (there need be no registry),
and run by a real containerd as deploy/ says: commands, users, capabilities, mounts, seccomp, a root that is read-only.

Minutes, so it is not part of `make check`: `make check-image`. Skipped where a tool is missing
(apt-get install buildah mmdebstrap containerd runc containernetworking-plugins). POSTERN_IMAGE_ARCHIVE=FILE takes an OCI
archive that is there already, of the name docker.io/library/postern:latest.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import cri
from lib.case import SLOWNESS, Skip, case, expect, expect_that, main
from lib.paths import REPOSITORY
from lib.pods import NODE, kubelet_root
from lib.process import CommandFailed, run, run_in
from lib.runtime_world import WITHIN, RuntimeWorld, run_gate
from lib.topology import CLUSTER_CIDRS, bracketed
from lib.waiting import until
from lib.world import AGENT_PORTS

IMAGE = "docker.io/library/postern:latest"
CACHE = Path(os.environ.get("POSTERN_CACHE") or Path.home() / ".cache/postern") / "image"
DEPLOY = REPOSITORY / "deploy"
COMPILERS = ("gcc", "cc", "clang", "ld", "as", "make", "git", "python3")
SIZE_MOST = 120 << 20  # of the archive, whose base is compressed
MANIFESTS = "/manifests"


def objects(path):
    return [each for each in yaml.safe_load_all((DEPLOY / path).read_text()) if each]


def pod_spec(path, kind):
    return next(each for each in objects(path) if each["kind"] == kind)["spec"]["template"]["spec"]


def security(container):
    """A container's securityContext, as a kubelet tells the runtime of it."""
    context = container["securityContext"]
    expect("the profile that deploy/ asks for", context["seccompProfile"], {"type": "RuntimeDefault"})
    granted = context["capabilities"]
    add = [each for each in granted.get("add", []) if each.lower() in bounding_set()]
    return {"run_as_user": {"value": context["runAsUser"]}, "readonly_rootfs": context["readOnlyRootFilesystem"],
            "no_new_privs": not context["allowPrivilegeEscalation"], "seccomp": cri.RUNTIME_DEFAULT,
            "capabilities": {"add_capabilities": add, "drop_capabilities": granted["drop"]}}


def bounding_set():
    """This machine may have lost some of what deploy/ grants: the runtime cannot give those."""
    dumped = run("setpriv", "--dump").stdout
    return re.search(r"bounding set: (.*)", dumped).group(1).split(",")


class ImageWorld(RuntimeWorld):
    def begin(self, **switches):
        """No agent yet: it comes from the image."""

    def _build(self):
        self.archive = Path(os.environ.get("POSTERN_IMAGE_ARCHIVE") or build_image())
        super()._build()
        self.containerd.import_image(self.archive)
        self.manifests.write("gateway.yaml", *self.gateway_objects())

    def mounts(self, container):
        """deploy/'s, onto this run's own bpffs and run directory."""
        places = {"cgroup": "/sys/fs/cgroup", "bpf": str(self.bpffs.parent), "run": str(self.run_directory)}
        return [{"container_path": each["mountPath"], "host_path": places[each["name"]],
                 "propagation": cri.HOST_TO_CONTAINER if each.get("mountPropagation") == "HostToContainer" else 0}
                for each in container["volumeMounts"]]

    def image_run(self, pod, *argv, **more):
        """A program of the image, as the gate runs: its status and output."""
        container = pod.container_of(IMAGE, "once", argv, [], {**security(gate_container()), **more})
        status = pod.ended(container)
        pod.stop_container(container)
        return status, pod.output("once")


def gate_container():
    """deploy/'s gate where clusters have no admission policies; the policy's is the same (tests/kubernetes/deploy.py)."""
    patch = yaml.safe_load(objects("components/gate-patch/kustomization.yaml")[0]["patches"][0]["patch"])
    return patch[0]["value"][0]


def build_image():
    missing = [tool for tool in ("buildah", "mmdebstrap") if not shutil.which(tool)]
    if missing:
        raise Skip(f"not installed: {' '.join(missing)}")
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{CACHE}/storage"\nrunroot = "{CACHE}/run"\n')
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(CACHE / "storage.conf"), "STORAGE_DRIVER": "vfs",
                   "BUILDAH_ISOLATION": "chroot"}

    def buildah(*argv):
        subprocess.run(["nice", "buildah", *map(str, argv)], check=True, env=environment, stdout=subprocess.DEVNULL)

    base = CACHE / "debian-12.tar"
    if not base.exists():
        part = base.with_suffix(".part.tar")
        # usr-is-merged keeps usrmerge, and perl with it, out: as in the image of that name.
        done = subprocess.run(["nice", "mmdebstrap", "--quiet", "--variant=minbase", "--include=usr-is-merged",
                               "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                               "--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", part], check=False)
        if done.returncode:
            raise Skip("mmdebstrap cannot make a Debian 12 here: no mirror?")
        part.rename(base)
    build = CACHE / "base"
    build.mkdir(exist_ok=True)
    (build / "Dockerfile").write_text("FROM scratch\nADD debian-12.tar /\n")
    if not (build / "debian-12.tar").exists():
        os.link(base, build / "debian-12.tar")
    buildah("bud", "--layers", "--quiet", "--tag", "docker.io/library/debian:12-slim", build)
    buildah("bud", "--layers", "--quiet", "--network", "host", "--pull-never", "--tag", IMAGE, REPOSITORY)
    archive = CACHE / "postern.tar"
    archive.unlink(missing_ok=True)
    buildah("push", "--quiet", IMAGE, f"oci-archive:{archive}:{IMAGE}")
    return archive


@case("each program runs as nobody, with a read-only root and without privileges, and says the same version", limit=300)
def programs(world):
    with world.containerd.pod("programs") as pod:
        seen = {}
        for program in ("/usr/sbin/posternd", "/usr/sbin/postern-controller", "/usr/bin/posternctl"):
            status, lines = world.image_run(pod, program, "--version")
            expect(f"{program}: status, lines", (status, len(lines)), (0, 1))
            seen[program] = lines[0].split()[1]
        expect("versions", len(set(seen.values())), 1)
        expect_that("a version of git's", not seen["/usr/bin/posternctl"].startswith("unknown"), seen)
        status, _ = world.image_run(pod, "/usr/bin/sleep", "0")  # what deploy/uninstall waits by
        expect("sleep", status, 0)
        status, _ = world.image_run(pod, "/bin/sh", "-c", "echo no > /etc/postern/written")
        expect_that("nothing can be written", status != 0, status)


@case("no compiler is in it, and it is not large", limit=300)
def small(world):
    with world.containerd.pod("small") as pod:
        _, lines = world.image_run(pod, "/bin/sh", "-c", f"command -v {' '.join(COMPILERS)}; :")
        expect("compilers", lines, [])
        _, lines = world.image_run(pod, "/bin/sh", "-c", "ls /var/lib/apt/lists /var/cache/apt; du -smx / 2>/dev/null")
        size = world.archive.stat().st_size
        print(f"     unpacked {lines[-1].split()[0]} MB, archive {size >> 20} MB")
        expect("what apt has left", lines[:-1], ["/var/cache/apt:", "", "/var/lib/apt/lists:"])
        expect_that("an archive that is not large", size < SIZE_MOST, size)


@case("deploy/'s commands are in it, and none of them but the agent and its uninstaller is root's", limit=300)
def commands(world):
    wanted = {}
    for path, kind in (("base/agent.yaml", "DaemonSet"), ("base/controller.yaml", "Deployment"),
                       ("uninstall/uninstall.yaml", "DaemonSet")):
        spec = pod_spec(path, kind)
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            user = container["securityContext"].get("runAsUser", spec.get("securityContext", {}).get("runAsUser"))
            wanted[container["name"]] = (container["command"][0], user)
    expect("users", {name: user for name, (_, user) in wanted.items()},
           {"posternd": 0, "postern-controller": 65532, "uninstall": 0, "done": 65532})
    with world.containerd.pod("commands") as pod:
        for command in sorted({command for command, _ in wanted.values()} | {gate_container()["command"][0]}):
            status, _ = world.image_run(pod, "/usr/bin/test", "-x", command)
            expect(f"{command} is there", status, 0)


@case("the agent as deploy/'s DaemonSet has it: in a container, with those capabilities and seccomp; it serves a gateway "
      "behind the image's own gate, and its uninstaller takes all away", limit=900)
def daemon(world):
    spec = pod_spec("base/agent.yaml", "DaemonSet")
    container = spec["containers"][0]
    # Of this run: no API server, a directory of manifests instead; ports and cgroups apart from the machine's own.
    argv = [*container["command"], f"--manifests={MANIFESTS}", f"--node-name={NODE}", "--after-handover=wait",
            "--metrics-address=[::]:9905", f"--kubelet-cgroup-root={kubelet_root()}", f"--ports={AGENT_PORTS}",
            "--workers=2", *(f"--cluster-cidr={each}" for each in CLUSTER_CIDRS)]
    expect("deploy/'s other arguments", [each for each in container["args"] if each not in argv],
           ["--source=kubernetes", "--node-name=$(NODE_NAME)"])
    mounts = [*world.mounts(container),
              {"container_path": MANIFESTS, "host_path": str(world.manifests.path), "readonly": 1}]
    node = world.containerd.pod("posternd", labels={}, namespaces=cri.NODE_PID)
    agent = node.container_of(IMAGE, "posternd", argv, mounts, security(container))
    world.use_agent_of(node, agent)
    until(lambda: any("agent ready" in line for line in world.agent.process.lines), 120 * SLOWNESS, "an agent that is ready")
    world.agent.until_policy("covered", within=WITHIN)

    def answer(path):
        try:
            return run_in(world.network["node"], "curl", "--silent", "--output", "/dev/null", "--write-out",
                          "%{http_code}", "--max-time", "20", f"http://{bracketed(node.address)}:9905{path}").stdout
        except CommandFailed:
            return ""
    for path in ("/livez", "/readyz", "/metrics"):
        until(lambda path=path: answer(path) == "200", WITHIN, f"200 from {path}", every=0.5)
    # Its status says whether this kernel has all that there could be.
    _, out, err = world.containerd.runtime.execute(agent, "/usr/bin/posternctl", "status")
    expect("errors of posternctl status in its container", err, "")
    expect_that("the policy in posternctl's answer", "covered" in out, out)

    with world.containerd.pod("web") as pod:
        gate = gate_container()
        run_gate(world, pod, lambda pod: pod.container_of(IMAGE, "gate", gate["command"], [], security(gate)))
        with world.wire() as wire:
            dialer = world.gateway_speaks(pod)
            pod.stop_container(dialer)
            expect("markers on the wire", wire.report().markers, 0)
        node.stop_container(agent)
        expect_that("hooks that outlive the agent", world.links(), world.links())
        uninstall = pod_spec("uninstall/uninstall.yaml", "DaemonSet")["initContainers"][0]
        gone = node.container_of(IMAGE, "uninstall", uninstall["command"], world.mounts(uninstall), security(uninstall))
        expect("the uninstaller's status", (node.ended(gone), node.output("uninstall")[-1:]),
               (0, node.output("uninstall")[-1:]))
        expect("pins", sorted(str(path) for path in world.bpffs.rglob("*") if path.is_file()), [])
        node.stop_container(gone)


if __name__ == "__main__":
    main(ImageWorld)
