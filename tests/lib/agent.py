# SPDX-License-Identifier: GPL-2.0-only
"""posternd as the tests run it, and what posternctl says about it."""

import json
import os
import re
import socket
from pathlib import Path

from lib.paths import POSTERNCTL, POSTERND
from lib.process import Process, run
from lib.waiting import until


class Agent:
    """One life of posternd. `switches`: e.g. {"ktls": "off", "coverage": "strict"}, given as its command-line flags."""

    def __init__(self, manifests, run_directory, bpffs, cgroup, gateways, cidrs, ports, workers=2, switches=None,
                 ready=True):
        """gateways: [{"name":, "cgroup":, "netns": path, "mode":}...]"""
        self.run_directory, self.bpffs = run_directory, bpffs
        self.argv = [str(POSTERND), "--manifests", str(manifests), "--run-dir", str(run_directory),
                     "--bpffs", str(bpffs), "--agent-cgroup", str(cgroup), "--workers", str(workers),
                     "--ports", ports, "--log-level", os.environ.get("POSTERN_LOG_LEVEL", "info")]
        for gateway in gateways:
            words = [gateway["name"], *(f"{key}={value}" for key, value in gateway.items() if key != "name")]
            self.argv += ["--gateway", ",".join(words)]
        for cidr in cidrs:
            self.argv += ["--cluster-cidr", cidr]
        for name, value in (switches or {}).items():
            self.argv += [f"--{name}", str(value)]
        self.argv += os.environ.get("POSTERN_FLAGS", "").split()  # for a developer's experiments
        self.process = Process(self.argv, cgroup=cgroup)
        if ready:
            self.wait_ready()

    def wait_ready(self, within=90):
        self.process.wait_for(r"\bevent=ready\b|agent ready", within=within)

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """SIGKILL; comes back when the kernel has closed all that it had."""
        self.process.kill()

    def stop(self):
        """SIGTERM; the exit status."""
        return self.process.stop()

    def ask(self, command):
        """The agent's answer on its status socket, as posternctl gets it; without the cost of a program for each."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(self.run_directory / "posternd.sock"))
            client.sendall(command.encode() + b"\n")
            return json.loads(b"".join(iter(lambda: client.recv(1 << 16), b"")))

    def control(self, *words):
        """posternctl WORDS...: status, standard output, standard error."""
        done = run(POSTERNCTL, "--run-dir", self.run_directory, "--bpffs", self.bpffs, *words, check=False)
        return done.returncode, done.stdout, done.stderr

    def status(self):
        return self.ask("status")

    def connections(self):
        return self.ask("connections")

    def failures(self):
        """Newest first."""
        return self.ask("failures")

    def counter(self, name):
        status = self.status()
        return status["counters"].get(name, status["failures"].get(name, 0))

    def generation(self):
        return self.status()["snapshot"]["generation"]

    def until_policy(self, name, accepted=True, within=5):
        """Wait until the agent serves a policy of this name with this Accepted status ("True" or not)."""
        def served():
            for policy in self.status()["policies"]:
                if policy["name"] == name and _true(policy["accepted"]["status"]) == accepted:
                    return policy
            return None
        return until(served, within, f"policy {name} with Accepted={accepted}")

    def until_no_policy(self, name, within=5):
        until(lambda: all(policy["name"] != name for policy in self.status()["policies"]), within,
              f"no policy {name}")

    def ports(self, gateway=0):
        """The agent's own ports for a gateway, from its listeners."""
        listeners = self.status()["gateways"][gateway]["listeners"]
        return sorted({int(port) for port in re.findall(r"\d{4,5}", json.dumps(listeners))})

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
