# SPDX-License-Identifier: GPL-2.0-only
"""posternd as the tests run it, and what posternctl says about it."""

import json
import os
import re
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

    def control(self, *words, check=True):
        """posternctl --json WORDS..."""
        done = run(POSTERNCTL, "--json", "--run-dir", self.run_directory, "--bpffs", self.bpffs, *words, check=False)
        if check and not done.stdout.strip():
            raise RuntimeError(f"posternctl {' '.join(words)}: status {done.returncode}, no output: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def status(self):
        return self.control("status")

    def connections(self):
        return self.control("connections")

    def failures(self):
        """Newest first."""
        return self.control("failures")

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
