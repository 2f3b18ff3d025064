#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
native.py idle|latency: what is measured on the machine itself, with the whole agent and real gateways. Where the kernel
has no TLS the agent's records are made in user space, and each row says so.

  idle     memory of 10,000 connections that are open and silent, three seconds after a first response, when the heap that
           handshakes took is given back: the agent's own (anonymous pages), and the kernel's: for the agent's cgroup where
           the memory controller is there, and in a guest, where nobody else makes sockets, of the whole machine by
           slab cache. As many as RLIMIT_NOFILE lets one process have (two descriptors each) if that is fewer, and it
           may not be raised. POSTERN_BENCH_CONNECTIONS="300 500 700" measures at each of these: what the agent has in
           all, and what each connection more than at the size before costs. POSTERN_BENCH_AT_ONCE: so many are opened
           together.
  latency  what a hop adds to a request: 1,000 requests a second, keep-alive, each begun when its time has come whether
           or not the one before it is answered; client -> nginx -> hop -> nginx with TLS. Against the same nginx's own
           proxy_pass https, HAProxy and stunnel.
"""

import json
import os
import re
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "tests"), str(Path(__file__).resolve().parent)]

import chain  # noqa: E402
from lib.crowd import Crowd, Hall  # noqa: E402
from lib.paths import BUILD  # noqa: E402
from lib.process import placed, run  # noqa: E402
from lib.topology import GATEWAY4, backend4  # noqa: E402
from lib.waiting import until  # noqa: E402
from lib.world import Service, World  # noqa: E402

# An emulated machine shows what one connection costs with kernel TLS, not how many there can be.
SIZES = [int(size) for size in os.environ.get("POSTERN_BENCH_CONNECTIONS", "").split()
         or ["1000" if os.environ.get("POSTERN_GUEST") else "10000"]]
CONNECTIONS = max(SIZES)
RATE = int(os.environ.get("POSTERN_BENCH_RATE", "1000"))
SECONDS = int(os.environ.get("POSTERN_BENCH_SECONDS", "5"))
REPEATS = int(os.environ.get("POSTERN_BENCH_REPEATS", "3"))
PORT = 8740
GUEST = bool(os.environ.get("POSTERN_GUEST"))
AT_ONCE = int(os.environ.get("POSTERN_BENCH_AT_ONCE", "50" if GUEST else "500"))  # what is measured is what stays
SETTLED = 3  # seconds: no ticket is awaited any more, and the heap is trimmed
CACHES = 8  # of the kernel's slab caches, those that grew most


def row(name, value, unit, baseline=None, goal=None, spread=0.0):
    """baseline: (its name, its value)."""
    document = {"name": name, "kernel": os.environ.get("POSTERN_BENCH_LABEL") or os.uname().release, "value": value, "unit": unit, "spread": round(spread, 4)}
    if baseline:
        document |= {"baseline": baseline[0], "baseline_value": baseline[1]}
        if goal:
            document["goal"] = goal
    print(json.dumps(document), flush=True)


# ---- idle ----

class Idle(World):
    def _build(self):
        super()._build()
        self.agent_has_memory = self.account_memory()
        leaf = self.authority.leaf("idle", "DNS:idle.example")
        self.service = self.publish(Service("idle", 95, target=PORT, endpoints=(2, 3), hostname="idle.example"))
        self.hall = self.close_at_end(Hall(self.network["backend"], self.backend_cgroup,
                                           [(backend4(number), PORT) for number in (2, 3)], leaf))
        self.crowd = self.close_at_end(Crowd(self.network["gateway"], self.gateway_cgroup))
        self.start_agent(workers=2, max_handshakes=65536, max_connections=131072, handshake_timeout="300s")
        self.agent.until_policy("idle")
        self.hall.speak(True)

    def account_memory(self):
        """False: this machine's cgroup2 has no memory controller."""
        parent = self.agent_cgroup.parent
        if "memory" not in (parent.parent / "cgroup.controllers").read_text().split():
            return False
        for directory in (parent.parent, parent):
            (directory / "cgroup.subtree_control").write_text("+memory")
        return True

    def open(self, count):
        for begun in range(0, count, AT_ONCE):
            wanted = min(AT_ONCE, count - begun)
            self.crowd.start([(self.service.vip4, 80), *self.service.endpoints4], wanted)
            outcome = self.crowd.wait(300, keep=True)
            if outcome.get("ok") != wanted:
                raise RuntimeError(f"{wanted} connections were wanted, seen {outcome}")
        time.sleep(SETTLED)

    def anonymous_kilobytes(self):
        text = Path(f"/proc/{self.agent.pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s+(\d+)", text, re.M).group(1))

    def kernel_bytes(self):
        """What the kernel holds for the agent's cgroup beside its pages, by kind; {} without the memory controller."""
        if not self.agent_has_memory:
            return {}
        stat = dict(line.split() for line in (self.agent_cgroup / "memory.stat").read_text().splitlines())
        return {kind: int(stat[kind]) for kind in ("kernel", "slab", "sock")}


def slab_bytes():
    """Of the whole machine, in all, and by cache: of the objects that are in use."""
    text = Path("/proc/meminfo").read_text()
    caches = {}
    for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, in_use, _, size = line.split()[:4]
        caches[name] = int(in_use) * int(size)
    return int(re.search(r"^Slab:\s+(\d+)", text, re.M).group(1)) * 1024, caches


def tcp_memory_bytes():
    """Buffers of all TCP sockets of the machine, in pages that are theirs whether filled or not."""
    text = Path("/proc/net/sockstat").read_text()
    return int(re.search(r"^TCP:.* mem (\d+)", text, re.M).group(1)) * resource.getpagesize()


def connections_possible():
    """Two descriptors each, and room for what else the agent has; its limit is raised here, if that is allowed."""
    needed = 2 * CONNECTIONS + 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(needed, soft), max(needed, hard)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(CONNECTIONS, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 300) // 2)


def show_kernel(added, kernel, slab, sock):
    """Each: before and after."""
    for kind in kernel[0]:
        row(f"idle connection, kernel memory of the agent's cgroup, {kind}", (kernel[1][kind] - kernel[0][kind]) / added, "B")
    row("idle connection, slab of the whole machine, all four sockets and two processes beside",
        (slab[1][0] - slab[0][0]) / added, "B")
    row("idle connection, TCP buffers of the whole machine (sockstat)", (sock[1] - sock[0]) / added, "B")
    if not GUEST:
        return
    grown = {name: (size - slab[0][1].get(name, 0)) / added for name, size in slab[1][1].items()}
    for name in sorted(grown, key=grown.get, reverse=True)[:CACHES]:
        row(f"idle connection, of that slab: {name}", grown[name], "B")


def measured(world):
    """(live connections, the agent's anonymous KB, what the kernel holds)."""
    live = world.agent.status()["workers"]["connections_live"]
    return live, world.anonymous_kilobytes(), (world.kernel_bytes(), slab_bytes(), tcp_memory_bytes())


def idle():
    possible = connections_possible()
    with Idle() as world:
        first = 100  # caches and arenas have their first size after that
        world.open(1)  # the list of all would itself leave something in the agent's heap
        kind = "kernel TLS" if "ktls" in json.dumps(world.agent.connections()[0]["to_backend"]) else "TLS in user space"
        world.open(first - 1)
        points = [measured(world)]
        begun, rested = time.monotonic(), 0
        for size in sorted({min(size, possible) for size in SIZES}):
            world.open(size - points[-1][0])
            rested += SETTLED
            points.append(measured(world))
            (before, kilobytes, _), (live, now, _) = points[-2:]
            row(f"idle, {live} connections, the agent's own memory in all, {kind}", now, "KB")
            row(f"idle, {live} connections, each more than {before}, {kind}", (now - kilobytes) * 1024 / (live - before), "B")
        took = time.monotonic() - begun - rested
        (before, kilobytes, kernel), (live, now, kernel_now) = points[0], points[-1]
        row(f"idle connections open at once, 2 workers, {kind}", live, "count", ("10,000", 10000),
            ">= 1.00" if CONNECTIONS >= 10000 else None)
        row(f"idle connection, the agent's own memory, {kind}", (now - kilobytes) * 1024 / (live - before), "B",
            ("2 KiB", 2048), "<= 1.00")
        show_kernel(live - before, *zip(kernel, kernel_now))
        row("idle connections, opened and answered in a second", (live - before) / took, "1/s")
        world.crowd.drop()
        until(lambda: world.agent.status()["workers"]["connections_live"] == 0, 60, "no connection left", every=0.2)


# ---- latency ----

def load(world, hop):
    """p50 and p99 in microseconds, of one run."""
    port = chain.PORTS.get(hop, chain.OTHER_PORT)
    done = run(*placed([str(BUILD / "tools/bench/requests"), GATEWAY4, str(port), f"/{hop}/files/small", str(RATE),
                        str(SECONDS)], world.network["node"], world.client_cgroup), within=60 + 3 * SECONDS)
    return json.loads(done.stdout)


def latency():
    hops = ("proxy_ssl", "postern", *chain.SIDECARS)
    with chain.Chain() as world:
        seen = {hop: [] for hop in hops}
        for hop in hops:
            load(world, hop)  # opens the pooled connections
        for _ in range(REPEATS):
            for hop in hops:
                seen[hop].append(load(world, hop))
    for part in ("p50", "p99"):
        of = {hop: [each[part] for each in seen[hop]] for hop in hops}
        direct = statistics.median(of["proxy_ssl"])
        for hop in hops:
            row(f"request at {RATE}/s, {part}, {hop}", statistics.median(of[hop]), "us", ("proxy_ssl", direct),
                spread=(max(of[hop]) - min(of[hop])) / min(of[hop]))
        for hop in hops[1:]:
            # Turn by turn, so that what the machine does beside is in both.
            added = statistics.median(here - there for here, there in zip(of[hop], of["proxy_ssl"]))
            row(f"request at {RATE}/s, {part}, added by {hop}", added, "us")


if __name__ == "__main__":
    {"idle": idle, "latency": latency}[sys.argv[1]]()
