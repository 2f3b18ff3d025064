# SPDX-License-Identifier: GPL-2.0-only
"""
The Container Runtime Interface, as a kubelet speaks it: gRPC over the runtime's UNIX socket, by curl. The messages are
those of k8s.io/cri-api's runtime/v1/api.proto, as far as a pod needs them: MESSAGES has their fields' numbers.
"""

import json
import re
import struct
import subprocess

# name: (number, kind); a kind is the name of another message, "string", "int", "map" (of strings), or a list of one.
MESSAGES = {
    "PodSandboxConfig": {"metadata": (1, "PodSandboxMetadata"), "hostname": (2, "string"),
                         "log_directory": (3, "string"), "labels": (6, "map"), "annotations": (7, "map"),
                         "linux": (8, "LinuxPodSandboxConfig")},
    "PodSandboxMetadata": {"name": (1, "string"), "uid": (2, "string"), "namespace": (3, "string"),
                           "attempt": (4, "int")},
    "LinuxPodSandboxConfig": {"cgroup_parent": (1, "string"), "security_context": (2, "SecurityContext")},
    "SecurityContext": {"namespace_options": (1, "NamespaceOption")},
    "NamespaceOption": {"network": (1, "int"), "pid": (2, "int"), "ipc": (3, "int")},
    "ContainerConfig": {"metadata": (1, "ContainerMetadata"), "image": (2, "ImageSpec"), "command": (3, ["string"]),
                        "mounts": (7, ["Mount"]), "labels": (9, "map"), "log_path": (11, "string"),
                        "linux": (15, "LinuxContainerConfig")},
    "ContainerMetadata": {"name": (1, "string"), "attempt": (2, "int")},
    "ImageSpec": {"image": (1, "string")},
    "Mount": {"container_path": (1, "string"), "host_path": (2, "string"), "readonly": (3, "int"),
              "propagation": (5, "int")},
    "LinuxContainerConfig": {"security_context": (2, "ContainerSecurityContext")},
    "ContainerSecurityContext": {"capabilities": (1, "Capability"), "namespace_options": (3, "NamespaceOption"),
                                 "run_as_user": (5, "Int64Value"), "run_as_group": (12, "Int64Value"),
                                 "readonly_rootfs": (7, "int"), "no_new_privs": (11, "int"),
                                 "seccomp": (15, "SecurityProfile")},
    "Capability": {"add_capabilities": (1, ["string"]), "drop_capabilities": (2, ["string"])},
    "SecurityProfile": {"profile_type": (1, "int")},
    "Int64Value": {"value": (1, "int")},
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig"), "runtime_handler": (2, "string")},
    "PodSandboxRequest": {"pod_sandbox_id": (1, "string"), "verbose": (2, "int")},
    "CreateContainerRequest": {"pod_sandbox_id": (1, "string"), "config": (2, "ContainerConfig"),
                               "sandbox_config": (3, "PodSandboxConfig")},
    "ContainerRequest": {"container_id": (1, "string"), "verbose": (2, "int")},
    "ExecSyncRequest": {"container_id": (1, "string"), "cmd": (2, ["string"]), "timeout": (3, "int")},
    "VersionRequest": {},
}
POD_PID = {"network": 0, "pid": 1, "ipc": 0}  # NamespaceMode: POD = 0, CONTAINER = 1, NODE = 2
NODE_PID = {**POD_PID, "pid": 2}
RUNNING, EXITED = 1, 2  # ContainerState
RUNTIME_DEFAULT = {"profile_type": 0}
HOST_TO_CONTAINER = 1  # MountPropagation


class RuntimeFailed(Exception):
    """The runtime's answer to a call that it refused."""


def encode(kind, fields):
    """A message in protobuf's wire format."""
    return b"".join(_field(*MESSAGES[kind][name], value) for name, value in fields.items())


def _varint(number):
    out = bytearray()
    while number > 0x7f:
        out.append(number & 0x7f | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes(number, value):
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _field(number, kind, value):
    if isinstance(kind, list):
        return b"".join(_field(number, kind[0], each) for each in value)
    if kind == "int":
        return _varint(number << 3) + _varint(int(value))
    if kind == "string":
        return _bytes(number, str(value).encode())
    if kind == "map":
        return b"".join(_bytes(number, _bytes(1, key.encode()) + _bytes(2, each.encode()))
                        for key, each in value.items())
    return _bytes(number, encode(kind, value))


def decode(data):
    """field number -> its values in order: numbers, and bytes of what is a string or a message."""
    found, at = {}, 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag & 7 == 0:
            value, at = _read_varint(data, at)
        elif tag & 7 == 2:
            size, at = _read_varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            raise ValueError(f"wire type {tag & 7}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def _map(values):
    pairs = (decode(each) for each in values)
    return {pair[1][0].decode(): pair.get(2, [b""])[0].decode() for pair in pairs}


class Runtime:
    """A runtime's socket. Each method is one call; a refusal is a RuntimeFailed with the runtime's own words."""

    def __init__(self, socket, within=60):
        self.socket, self.within = socket, within

    def call(self, method, kind, **fields):
        message = encode(kind, fields)
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--unix-socket", str(self.socket),
             "--max-time", str(self.within), "--header", "content-type: application/grpc", "--header", "te: trailers",
             "--data-binary", "@-", "--dump-header", "/dev/stderr", f"http://localhost/runtime.v1.RuntimeService/{method}"],
            input=b"\0" + struct.pack(">I", len(message)) + message, capture_output=True, check=False)
        said = done.stderr.decode(errors="replace")
        status = re.search(r"^grpc-status: *(\d+)", said, re.M | re.I)
        if done.returncode or not status or status.group(1) != "0":
            words = re.search(r"^grpc-message: *(.*)", said, re.M | re.I)
            raise RuntimeFailed(f"{method}: {words.group(1).strip() if words else said.strip()[-500:]}")
        return decode(done.stdout[5:])

    def version(self):
        """("containerd", "1.6.20")."""
        answer = self.call("Version", "VersionRequest")
        return answer[2][0].decode(), answer[3][0].decode()

    def run_sandbox(self, config, handler):
        """Its id. handler: what a RuntimeClass would name."""
        return self.call("RunPodSandbox", "RunPodSandboxRequest", config=config, runtime_handler=handler)[1][0].decode()

    def stop_sandbox(self, sandbox):
        self.call("StopPodSandbox", "PodSandboxRequest", pod_sandbox_id=sandbox)

    def remove_sandbox(self, sandbox):
        self.call("RemovePodSandbox", "PodSandboxRequest", pod_sandbox_id=sandbox)

    def sandbox(self, sandbox):
        """(its address, what the runtime says beside that, e.g. ["pid"])."""
        answer = self.call("PodSandboxStatus", "PodSandboxRequest", pod_sandbox_id=sandbox, verbose=1)
        network = decode(answer[1][0]).get(5, [b""])[0]
        address = decode(network).get(1, [b""])[0].decode()
        return address, json.loads(_map(answer.get(2, [])).get("info", "{}"))

    def create_container(self, sandbox, config, sandbox_config):
        return self.call("CreateContainer", "CreateContainerRequest", pod_sandbox_id=sandbox, config=config,
                         sandbox_config=sandbox_config)[1][0].decode()

    def start_container(self, container):
        self.call("StartContainer", "ContainerRequest", container_id=container)

    def stop_container(self, container):
        """At once: without a grace period."""
        self.call("StopContainer", "ContainerRequest", container_id=container)

    def remove_container(self, container):
        self.call("RemoveContainer", "ContainerRequest", container_id=container)

    def container(self, container):
        """(state, exit code, what the runtime says beside that, e.g. ["pid"])."""
        answer = self.call("ContainerStatus", "ContainerRequest", container_id=container, verbose=1)
        status = decode(answer[1][0])
        return status.get(3, [0])[0], status.get(7, [0])[0], json.loads(_map(answer.get(2, [])).get("info", "{}"))

    def execute(self, container, *argv):
        """(status, standard output, standard error) of a program in a container that runs."""
        answer = self.call("ExecSync", "ExecSyncRequest", container_id=container, cmd=argv, timeout=self.within)
        return (answer.get(3, [0])[0], answer.get(1, [b""])[0].decode(errors="replace"),
                answer.get(2, [b""])[0].decode(errors="replace"))
