#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
connections.py: what a new connection costs, everything included (hold, dial, handshake, verification, keys), by the time
that the hop's process ran, and by what gateway, hop and the kernel's own threads ran beyond what the same gateway needs
to reach a plain backend by itself. Against HAProxy as a plain-to-TLS sidecar, which resumes as it does by default, or
not at all (no-ssl-reuse). Each connection is one small request; nginx is the backend and says whether it resumed.

Natively one connection at a time, when every part wakes up with cold caches, and AT_ONCE of them, as under load; what is
counted is nanoseconds. In a guest, which has one CPU, one at a time: instructions, under `-icount shift=1`.
POSTERN_BENCH_ONLY="1.3-ecdsa" measures less.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from chain import COUNTED, kernel_threads_ns, ran_ns, row, scaled  # noqa: E402
from lib import nginx  # noqa: E402
from lib.certificates import Authority  # noqa: E402
from lib.paths import BUILD  # noqa: E402
from lib.process import Process, placed, run, run_in  # noqa: E402
from lib.topology import backend4  # noqa: E402
from lib.world import Service, World  # noqa: E402

CONNECTIONS = int(os.environ.get("POSTERN_BENCH_CONNECTIONS", "50" if COUNTED else "600"))
REPEATS = int(os.environ.get("POSTERN_BENCH_REPEATS", "3"))
PLAIN_PORT = 8000
BURST = 1000
AT_ONCE = 8
PARALLEL = (1,) if COUNTED else (1, AT_ONCE)
KINDS = ("full", "resumed")
# Name -> (the backend's TLS, RSA key)
BACKENDS = {"1.3-ecdsa": ("TLSv1.3", False), "1.3-rsa": ("TLSv1.3", True), "1.2-ecdsa": ("TLSv1.2", False)}
ONLY = os.environ.get("POSTERN_BENCH_ONLY", "").split() or tuple(BACKENDS)
CASES = [(backend, kind) for backend in BACKENDS if backend in ONLY for kind in KINDS]


class Connections(World):
    """Every backend and both hops at once; connections are made by one hop at a time."""

    def _build(self):
        super()._build()
        self.client_cgroup = {"postern": self.gateway_cgroup, "haproxy": self.cgroups.make("other"),
                              "direct": self.cgroups.make("direct")}
        self.haproxy_cgroup = self.cgroups.make("haproxy")
        authorities = {False: self.authority, True: Authority(self.directory / "rsa", "rsa-ca", rsa=True)}
        address = backend4(2)
        nginx_of = lambda directory, port, *more: self.close_at_end(nginx.backend(  # noqa: E731
            self.new_directory(directory), self.network["backend"], self.backend_cgroup, [(address, port)], *more))
        nginx_of("plain", PLAIN_PORT)
        self.to = {"direct": (address, PLAIN_PORT)}
        listeners = []
        for number, (backend, kind) in enumerate(CASES):
            protocol, rsa = BACKENDS[backend]
            port = 8400 + number
            leaf = authorities[rsa].leaf(f"{backend}-{kind}", "DNS:echo.example")
            nginx_of(f"{backend}-{kind}", port, leaf,
                     f"ssl_protocols {protocol}; ssl_ciphers ECDHE+AES128+AESGCM;"
                     "ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;")
            version = protocol.removeprefix("TLSv")
            service = self.publish(Service(
                f"s{number}", 10 + number, target=port, hostname="echo.example", authority=authorities[rsa],
                options={"postern.dev/min-tls-version": version, "postern.dev/max-tls-version": version,
                         "postern.dev/resumption": "on" if kind == "resumed" else "off"}))
            self.to["postern", backend, kind] = (service.vip4, 80)
            self.to["haproxy", backend, kind] = ("127.0.0.1", 9000 + number)
            listeners.append(f"""
            listen {backend}-{kind}
                bind 127.0.0.1:{9000 + number}
                server backend {address}:{port} ssl verify required ca-file {authorities[rsa].certificate} \
sni str(echo.example) verifyhost echo.example ssl-min-ver {protocol} ssl-max-ver {protocol} \
{"no-ssl-reuse" if kind == "full" else ""}""")
        self.start_haproxy("".join(listeners))
        self.start_agent(workers=1, max_handshakes=2 * BURST, handshake_timeout="60s")

    def start_haproxy(self, listeners):
        configuration = self.new_directory("haproxy") / "haproxy.cfg"
        configuration.write_text(f"""
            global
                nbthread 1
                ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
                ssl-default-server-ciphers ECDHE+AES128+AESGCM
            defaults
                mode tcp
                timeout connect 60s
                timeout client 60s
                timeout server 60s
            {listeners}
            """.rstrip() + "\n")
        run_in(self.network["gateway"], "haproxy", "-c", "-q", "-f", configuration)
        self._stack.callback(Process(["haproxy", "-db", "-f", configuration], self.network["gateway"],
                                     self.haproxy_cgroup).stop)

    def connect(self, hop, to, count=CONNECTIONS, parallel=1, check=True):
        """What connect_load says, and per connection: ns of the hop's process, ns of all but the backend."""
        hop_cgroup = {"postern": self.agent_cgroup, "haproxy": self.haproxy_cgroup}.get(hop)

        def spent():
            own = ran_ns(hop_cgroup) if hop_cgroup else 0
            # natively the kernel's threads work for the neighbours, too
            return own, own + ran_ns(self.client_cgroup[hop]) + (kernel_threads_ns() if COUNTED else 0)

        before = spent()
        said = run(*placed([BUILD / "tools/bench/connect_load", *to, count, parallel], self.network["gateway"],
                           self.client_cgroup[hop]), within=900, check=check)
        own, whole = ((now - then) / count for now, then in zip(spent(), before))
        return json.loads(said.stdout), own, whole


def spread(values):
    return (max(values) - min(values)) / min(values)


def compare(world, backend, kind, parallel, direct):
    """
    Rows of one case: both hops in turn, so that what a neighbour does hits both. direct: what the gateway itself needs for
    a plain backend.
    """
    case = f"{backend} {kind}" + (f", {parallel} at once" if parallel > 1 else "")
    own, added = {"postern": [], "haproxy": []}, {"postern": [], "haproxy": []}
    resumed = {"postern": 0, "haproxy": 0}
    for hop in own:
        world.connect(hop, world.to[hop, backend, kind], count=4)
    for _ in range(REPEATS):
        for hop in own:
            said, process, whole = world.connect(hop, world.to[hop, backend, kind], parallel=parallel)
            own[hop].append(process)
            added[hop].append(whole - direct)
            resumed[hop] += said["resumed"]
    for hop, count in resumed.items():
        if (kind == "full") != (count == 0):
            raise RuntimeError(f"{hop}, {case}: {count} were resumed")
    for what, seen in (("own process", own), ("all but the backend", added)):
        row(f"new connection {case}, {what}", scaled(statistics.median(seen["postern"])),
            ("HAProxy", scaled(statistics.median(seen["haproxy"]))), "<= 0.667", spread(seen["postern"]))
    if kind == "resumed":
        possible = CONNECTIONS * REPEATS
        row(f"new connection {case}, of those that could be", resumed["postern"], ("possible", possible), ">= 0.999",
            unit="count")
        row(f"new connection {case} by HAProxy, of those that could be", resumed["haproxy"], ("possible", possible),
            unit="count")


def ask_while(world, to, work):
    """The waits of requests on one connection while work() goes on."""
    with subprocess.Popen(placed([BUILD / "tools/bench/connect_load", *to], world.network["gateway"],
                                 world.client_cgroup["postern"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as asking:
        if asking.stdout.readline() != "begun\n":
            raise RuntimeError("the connection to be looked at could not be made")
        work()
        return json.loads(asking.communicate(timeout=60)[0])


def show_fairness(world):
    """As many connections at once as threads can be waiting: what do they cost a request that is relayed meanwhile?"""
    busy = world.to["postern", *CASES[0]]
    quiet = world.to["postern", *CASES[-1]]
    alone = ask_while(world, quiet, lambda: world.connect("direct", world.to["direct"], count=2000))
    # where the destination's own limit is below, the rest is refused
    burst = ask_while(world, quiet, lambda: world.connect("postern", busy, count=BURST, parallel=BURST, check=False))
    for what in ("median", "p99", "longest"):
        row(f"request relayed beside {BURST} handshakes at once, {what}", burst[f"{what}_ms"],
            ("beside none", alone[f"{what}_ms"]), unit="ms")


def main():
    with Connections() as world:
        world.connect("direct", world.to["direct"], count=4)
        for parallel in PARALLEL:
            direct = statistics.median(world.connect("direct", world.to["direct"], parallel=parallel)[2]
                                       for _ in range(REPEATS))
            row("new connection to a plain backend, the gateway's own" +
                (f", {parallel} at once" if parallel > 1 else ""), scaled(direct))
            for backend, kind in CASES:
                compare(world, backend, kind, parallel, direct)
        if not COUNTED:
            show_fairness(world)


if __name__ == "__main__":
    main()
