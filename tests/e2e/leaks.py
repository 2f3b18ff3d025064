#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Thousands of short connections through a real gateway leave nothing behind: descriptors, memory, map entries, sockets.
5,000 of them here; POSTERN_LEAK_CONNECTIONS says how many (`make soak`: 100,000).
"""

import os
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import bpf_map
from lib import http
from lib.agent import map_entries, pinned_maps
from lib.case import SLOWNESS, case, expect, expect_that, main, times
from lib.process import run_in
from lib.stage import Stage
from lib.topology import GATEWAY4
from lib.waiting import until
from lib.world import GATEWAY_PORT, Service

CONNECTIONS = int(os.environ.get("POSTERN_LEAK_CONNECTIONS") or times(5000))
CLIENTS = 4
WARM_UP = times(1000)  # caches, pools and arenas have their size after that
REFUSED_OF = 10  # every tenth connect is to a port where nothing listens
MEMORY_KILOBYTES = 2048
# Maps that hold something for each connection; bpftool cannot dump the two sockhashes.
CONNECTION_MAPS = ("lane_slot_map",)
# As /proc/net/tcp has them; without those that never had a descriptor (SYN-RECV) or need none (TIME-WAIT).
ORPHAN_STATES = ("01", "04", "05", "07", "08", "09", "0B")
CONNECTION_SOCKHASHES = ("lane_gateway", "lane_agent")


class LeakStage(Stage):
    def _build(self):
        super()._build()
        refused = self.publish(Service("nothing-there", 91, target=8999, hostname="echo.example"))
        self.agent.until_policy("nothing-there")
        self.front.close()
        self.front = self.start_gateway({**self.routes, "refused": [(refused.vip4, 80)]})

    def use(self, count):
        """So many short connections, each a request of its own; what went wrong."""
        wrong = []

        def client(first):
            for number in range(first, count, CLIENTS):
                refused = number % REFUSED_OF == 0
                path, wanted = ("/refused/x", 502) if refused else ("/vip4/x", 200)
                try:
                    status = http.request(self.client, GATEWAY4, GATEWAY_PORT, path).status
                except OSError as error:
                    status = repr(error)
                if status != wanted:
                    wrong.append((number, status))
        threads = [threading.Thread(target=client, args=(first,)) for first in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return wrong

    def held(self):
        """What must be as before, by name."""
        namespace = self.network["gateway"]
        maps = pinned_maps(self.bpffs)
        sockets = run_in(namespace, "ss", "-Htan", "state", "all", "cgroup", self.agent_cgroup).stdout.splitlines()
        # What the kernel keeps for a minute by itself (TIME-WAIT) is no socket any more.
        kept = [line for line in sockets if not line.startswith("TIME-WAIT")]
        status = self.agent.status()["workers"]
        return {"descriptors": self.agent.descriptors(), "sockets of the agent's cgroup": len(kept),
                "orphaned sockets": orphans(namespace), "attempts": status["attempts_live"],
                "connections": status["connections_live"],
                **{name: map_entries(maps[name]) for name in CONNECTION_MAPS},
                **{name: len(bpf_map.keys(maps[name])) for name in CONNECTION_SOCKHASHES}}

    def lane_is_safe(self):
        return {row["hook"]: row["verdict"] for row in self.agent.status()["proof"]["hooks"]}["lane"] == "safe"


def orphans(namespace):
    """Sockets that no descriptor holds and TCP still keeps. (/proc/net/sockstat counts those of all namespaces.)"""
    rows = run_in(namespace, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.splitlines()
    columns = [row.split() for row in rows if "local_address" not in row]
    return sum(row[9] == "0" and row[3] in ORPHAN_STATES for row in columns)


@case(f"{CONNECTIONS} short connections: descriptors, sockets, map entries and memory are as before",
      limit=60 + CONNECTIONS // 50)
def short_connections(stage):
    expect("requests that went wrong while warming up", stage.use(WARM_UP)[:5], [])
    # The last answer is at its client before the agent has ended the connection.
    until(lambda: not any(stage.held()[name] for name in ("attempts", "connections")), 15 * SLOWNESS,
          "no attempt and no connection left")
    before, memory = stage.held(), stage.agent.resident_kilobytes()
    made, joined = stage.agent.status()["workers"]["connections"], stage.agent.counter("lane_joined")
    expect("requests that went wrong", stage.use(CONNECTIONS)[:5], [])
    made = stage.agent.status()["workers"]["connections"] - made
    expect("connections that the agent made", made, CONNECTIONS - (CONNECTIONS + REFUSED_OF - 1) // REFUSED_OF)
    joined = stage.agent.counter("lane_joined") - joined
    expect("connections in the lane, where it is safe", joined, made if stage.lane_is_safe() else 0)
    # Not equal: some of what was there before may have been about to go (a socket in LAST-ACK).
    until(lambda: all(count <= before[name] for name, count in stage.held().items()), 15 * SLOWNESS,
          f"all as before: {before}, not {stage.held()}")
    grown = stage.agent.resident_kilobytes() - memory
    print(f"     {before}; in the lane {joined} of {made}; resident memory {memory} kB, then {grown:+} kB", flush=True)
    if not os.environ.get("POSTERN_SANITIZED"):
        expect_that(f"at most {MEMORY_KILOBYTES} kB of memory more", grown <= MEMORY_KILOBYTES, grown)


if __name__ == "__main__":
    main(LeakStage)
