# SPDX-License-Identifier: GPL-2.0-only
"""posternd as the tests run it, and what posternctl says about it."""

import ctypes
import json
import os
import re
import signal
import socket
from pathlib import Path

from lib.case import SLOWNESS
from lib.paths import POSTERNCTL, POSTERND
from lib.process import Process, run
from lib.waiting import until

SYS_PIDFD_GETFD = 438


class Agent:
    """One life of posternd. `switches`: e.g. {"ktls": "off", "coverage": "strict"}, given as its command-line flags."""

    def __init__(self, manifests, run_directory, bpffs, cgroup, gateways, cidrs, ports, workers=2, switches=None,
                 ready=True, env=None, before=()):
        """`before`: words in front of the agent's own. gateways: [{"name":, "cgroup":, "netns": path, "mode":, "gatewayRef": ("namespace/name", ...)}...]"""
        self.run_directory, self.bpffs = run_directory, bpffs
        self.argv = [str(POSTERND), "--manifests", str(manifests), "--run-dir", str(run_directory),
                     "--bpffs", str(bpffs), "--agent-cgroup", str(cgroup), "--workers", str(workers),
                     "--ports", ports, "--log-level", os.environ.get("POSTERN_LOG_LEVEL", "info")]
        for gateway in gateways:
            words = [gateway["name"], *(f"{key}={value}" for key, values in gateway.items() if key != "name"
                                        for value in (values if isinstance(values, tuple) else (values,)))]
            self.argv += ["--gateway", ",".join(words)]
        for cidr in cidrs:
            self.argv += ["--cluster-cidr", cidr]
        # Not the default: agents of several tests run at a time.
        for name, value in {"metrics-address": "", **(switches or {})}.items():
            self.argv += [f"--{name}", str(value)]
        self.argv += os.environ.get("POSTERN_FLAGS", "").split()  # for a developer's experiments
        self.process = Process([*before, *self.argv], cgroup=cgroup, env=env)
        if ready:
            self.wait_ready()

    def wait_ready(self, within=90 * SLOWNESS):
        self.process.wait_for(r"\bevent=ready\b|agent ready", within=within)

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """SIGKILL; comes back when the kernel has closed all that it had."""
        self.process.kill()

    def suspend(self):
        """SIGSTOP; comes back when every thread has stopped."""
        self.process.signal(signal.SIGSTOP)
        until(lambda: all("State:\tT" in path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/status")),
              5, "all threads of the agent stopped")

    def resume(self):
        self.process.signal(signal.SIGCONT)

    def stop(self):
        """SIGTERM; the exit status. A sanitizer looks for leaks at the end: that must not be cut short."""
        return self.process.stop(within=60)

    def ask(self, command):
        """The agent's answer on its status socket, as posternctl gets it; without the cost of a program for each."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30 * SLOWNESS)
            client.connect(str(self.run_directory / "posternd.sock"))
            client.sendall(command.encode() + b"\n")
            return json.loads(b"".join(iter(lambda: client.recv(1 << 16), b"")))

    def control(self, *words):
        """posternctl WORDS...: status, standard output, standard error."""
        done = run(POSTERNCTL, "--run-dir", self.run_directory, "--bpffs", self.bpffs, *words, check=False)
        return done.returncode, done.stdout, done.stderr

    def status(self):
        return self.ask("status")

    def answers(self):
        """Somebody answers on the status socket, and is ready."""
        try:
            return self.status()["ready"]
        except (OSError, ValueError):
            return False

    def connections(self):
        """While a worker is more than a second late there is no list, but an error."""
        def listed():
            rows = self.ask("connections")
            return None if "error" in rows else (rows,)
        return until(listed, 30 * SLOWNESS, "a list of the connections")[0]

    def under_way(self):
        """Attempts and connections."""
        workers = self.status()["workers"]
        return workers["attempts_live"] + workers["connections_live"]

    def until_idle(self, within=30):
        """A connection is counted as live until it is in every number and its line is written, or is not for its level."""
        until(lambda: self.under_way() == 0, within, "no attempt and no connection left", every=0.1)

    def failures(self):
        """Newest first."""
        return self.ask("failures")

    def connection_of(self, g, within=10 * SLOWNESS):
        """The row of a G whose connect() is over: it may see that before the worker has accepted its other end."""
        port = g.getsockname()[1]
        return until(lambda: next((each for each in self.connections() if each["gateway_port"] == port), None), within,
                     f"a connection of G's port {port}")

    def failure_of(self, g, within=30 * SLOWNESS):
        """The newest failure of a G that was reset: it may see its end before the agent has written it down."""
        port = g.getsockname()[1]
        return until(lambda: next((each for each in self.failures() if each["gateway_port"] == port), None), within,
                     f"a failure of G's port {port}")

    def counter(self, name):
        status = self.status()
        return status["counters"].get(name, status["failures"].get(name, 0))

    def generation(self):
        return self.status()["snapshot"]["generation"]

    def until_policy(self, name, accepted=True, within=30 * SLOWNESS):
        """Wait until the agent serves a policy of this name with this Accepted status ("True" or not)."""
        def served():
            for policy in self.status()["policies"]:
                if policy["name"] == name and _true(policy["accepted"]["status"]) == accepted:
                    return policy
            return None
        return until(served, within, f"policy {name} with Accepted={accepted}")

    def until_no_policy(self, name, within=30 * SLOWNESS):
        until(lambda: all(policy["name"] != name for policy in self.status()["policies"]), within,
              f"no policy {name}")

    def ports(self, gateway=0):
        """The agent's own ports for a gateway, from its listeners."""
        listeners = self.status()["gateways"][gateway]["listeners"]
        return sorted({int(port) for port in re.findall(r"\d{4,5}", json.dumps(listeners))})

    def backend_socket(self, address, port):
        """A copy of one of the agent's B: the TCP socket that was connected to what G wanted to be connected to."""
        libc = ctypes.CDLL(None, use_errno=True)
        pidfd = os.pidfd_open(self.pid)
        try:
            for name in os.listdir(f"/proc/{self.pid}/fd"):
                fd = libc.syscall(SYS_PIDFD_GETFD, pidfd, int(name), 0)
                if fd < 0:
                    continue
                try:
                    copy = socket.socket(fileno=fd)
                except OSError:  # no socket
                    os.close(fd)
                    continue
                try:
                    if copy.type == socket.SOCK_STREAM and copy.getpeername()[:2] == (address, port):
                        return copy
                except OSError:  # not connected
                    pass
                copy.close()
        finally:
            os.close(pidfd)
        raise AssertionError(f"the agent has no B to {address}:{port}")

    # What must not grow.

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_kilobytes(self):
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+)", text, re.M).group(1))


def _true(status):
    return status in (True, "True", "true")


def pinned_maps(bpffs):
    """name -> path of each pinned map below bpffs."""
    return {path.name: path for path in Path(bpffs).rglob("*") if path.is_file()}


def map_entries(path):
    """How many entries a pinned hash map has, by bpftool."""
    return len(json.loads(run("bpftool", "--json", "map", "dump", "pinned", path).stdout))
