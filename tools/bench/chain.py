#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
chain.py: what a hop costs the whole chain, client -> nginx -> hop -> nginx with TLS 1.3 AES-128-GCM, by the time that all
of its processes and the kernel's own threads ran (cgroup cpu.stat, schedstat). Made for a guest under `-icount shift=1`, where a nanosecond of run time
is half an instruction; run natively it counts nanoseconds of a machine without kernel TLS.

The hops: none but nginx's own proxy_pass https (= 1.00), none and no TLS, postern, HAProxy and stunnel as plain-to-TLS
sidecars. The gateway is the same nginx with its defaults in each case.

POSTERN_BENCH_ONLY="download upload small" and POSTERN_BENCH_CHAINS="proxy_ssl postern" measure less; rows that compare with
what was left out are left out, too.
"""

import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from lib import nginx  # noqa: E402
from lib.process import Process, placed, run, run_in  # noqa: E402
from lib.topology import GATEWAY4, backend4  # noqa: E402
from lib.world import Service, World  # noqa: E402

MEGABYTES = int(os.environ.get("POSTERN_BENCH_MEGABYTES", "32"))
REQUESTS = int(os.environ.get("POSTERN_BENCH_REQUESTS", "500"))
REPEATS = int(os.environ.get("POSTERN_BENCH_REPEATS", "3"))
LABEL = os.environ.get("POSTERN_BENCH_LABEL", "native")
COUNTED = LABEL != "native"
TLS_PORT, PLAIN_PORT, HAPROXY_PORT, STUNNEL_PORT = 8443, 8000, 9001, 9002
SIDECARS = ("haproxy", "stunnel")
ALL_CHAINS = ("proxy_ssl", "plain", "postern", *SIDECARS)
CHAINS = tuple(os.environ.get("POSTERN_BENCH_CHAINS", "").split()) or ALL_CHAINS
ONLY = os.environ.get("POSTERN_BENCH_ONLY", "").split() or ("download", "upload", "small")
PORTS = {"postern": 8080}  # the gateway that is enrolled; the others share one that is not
OTHER_PORT = 8081


def ran_ns(cgroup):
    """What everything in a cgroup has run so far, threads that ended included."""
    for line in (cgroup / "cpu.stat").read_text().splitlines():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) * 1000
    raise RuntimeError(f"{cgroup} does not tell its usage")


def kernel_threads_ns():
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "stat").read_text().rsplit(")", 1)[1].split()[1] in ("0", "2"):
                total += int((entry / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def wakeups(pid):
    """How often a process's threads slept and were woken so far."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += int(status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


class Chain(World):
    """Every chain at once; only one of them works at a time."""

    def _build(self):
        super()._build()
        self.leaf = self.authority.leaf("echo", "DNS:echo.example")
        self.echo = self.publish(Service("echo", 10, target=TLS_PORT, hostname="echo.example",
                                         options={"postern.dev/min-tls-version": "1.3"}))
        only = "ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"
        self.client_cgroup = self.cgroups.make("curl")
        self.cgroup = {name: self.cgroups.make(name) for name in ("other", *SIDECARS)}
        address = backend4(2)
        server = nginx.backend(self.new_directory("tls"), self.network["backend"], self.backend_cgroup,
                               [(address, TLS_PORT)], self.leaf, only)
        plain = nginx.backend(self.new_directory("plain"), self.network["backend"], self.backend_cgroup,
                              [(address, PLAIN_PORT)])
        for each in (server, plain):
            self.close_at_end(each)
            (each.directory / "files/bulk").write_bytes(os.urandom(1 << 20) * MEGABYTES)
            (each.directory / "files/small").write_bytes(b"x" * 1024)
        self.upload = self.directory / "upload"
        self.upload.write_bytes(os.urandom(1 << 20) * MEGABYTES)
        self.start_sidecars(address)
        self.start_agent(workers=1)
        self.gateway_for(self.gateway_cgroup, PORTS["postern"], {"postern": f"http://{self.echo.vip4}:80"})
        self.gateway_for(self.cgroup["other"], OTHER_PORT, {
            "proxy_ssl": f"https://{address}:{TLS_PORT}", "plain": f"http://{address}:{PLAIN_PORT}",
            "haproxy": f"http://127.0.0.1:{HAPROXY_PORT}", "stunnel": f"http://127.0.0.1:{STUNNEL_PORT}"})

    def start_sidecars(self, address):
        directory = self.new_directory("sidecars")
        netns = self.network["gateway"]
        (directory / "haproxy.cfg").write_text(f"""
            global
                nbthread 1
                ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
            defaults
                mode tcp
                timeout connect 10s
                timeout client 60s
                timeout server 60s
            listen hop
                bind 127.0.0.1:{HAPROXY_PORT}
                server backend {address}:{TLS_PORT} ssl verify required ca-file {self.authority.certificate} sni str(echo.example) verifyhost echo.example ssl-min-ver TLSv1.3
            """.rstrip() + "\n")
        run_in(netns, "haproxy", "-c", "-q", "-f", directory / "haproxy.cfg")
        haproxy = Process(["haproxy", "-db", "-f", directory / "haproxy.cfg"], netns, self.cgroup["haproxy"])
        (directory / "stunnel.conf").write_text(f"""
            foreground = yes
            pid =
            syslog = no
            [hop]
            client = yes
            accept = 127.0.0.1:{STUNNEL_PORT}
            connect = {address}:{TLS_PORT}
            CAfile = {self.authority.certificate}
            verifyChain = yes
            checkHost = echo.example
            sni = echo.example
            sslVersionMin = TLSv1.3
            ciphersuites = TLS_AES_128_GCM_SHA256
            """)
        stunnel = Process(["stunnel4", directory / "stunnel.conf"], netns, self.cgroup["stunnel"])
        stunnel.wait_for("Configuration successful")
        for process in (haproxy, stunnel):
            self._stack.callback(process.stop)

    def gateway_for(self, cgroup, port, targets):
        directory = self.new_directory("gateway")
        locations = "".join(f"location /{name}/ {{ proxy_pass {target.split('//')[0]}//{name}/; }}\n"
                            for name, target in targets.items())
        upstreams = "".join(f"upstream {name} {{ server {target.split('//')[1]}; keepalive 4; }}\n"
                            for name, target in targets.items())
        self.close_at_end(nginx.Nginx(directory, f"""
            {upstreams}
            server {{
                listen {GATEWAY4}:{port};
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_ssl_protocols TLSv1.3;
                proxy_ssl_verify on;
                proxy_ssl_trusted_certificate {self.authority.certificate};
                proxy_ssl_name echo.example;
                proxy_ssl_server_name on;
                {locations}
            }}
            """, self.network["gateway"], cgroup))

    # One measured run

    def spent(self, chain):
        """So far: ns of the whole chain, ns of the hop's own process, wake-ups of the agent."""
        hops = {"postern": self.agent_cgroup, **self.cgroup}
        hop = ran_ns(hops[chain]) if chain in hops else 0
        gateway = self.gateway_cgroup if chain == "postern" else self.cgroup["other"]
        whole = hop + kernel_threads_ns() + sum(map(ran_ns, (gateway, self.backend_cgroup, self.client_cgroup)))
        return whole, hop, wakeups(self.agent.pid)

    def measure(self, chain, words):
        before = self.spent(chain)
        run(*placed(["curl", "--silent", "--show-error", "--fail", *words], self.network["node"], self.client_cgroup),
            within=300)
        after = self.spent(chain)
        return tuple(now - then for now, then in zip(after, before))

    def url(self, chain, path):
        return f"http://{GATEWAY4}:{PORTS.get(chain, OTHER_PORT)}/{chain}/{path}"

    def work(self, chain, what):
        if what == "download":
            return ["--output", "/dev/null", self.url(chain, "files/bulk")]
        if what == "upload":
            return ["--output", "/dev/null", "--upload-file", str(self.upload), self.url(chain, "upload/bulk")]
        config = self.directory / f"small-{chain}"
        config.write_text(f'url = "{self.url(chain, "files/small")}"\noutput = "/dev/null"\n' * REQUESTS)
        return ["--config", str(config)]


def repeated(world, chain, what):
    """Medians of (chain, hop, wake-ups) and the first one's spread; the first run opens the pooled connection and is not counted."""
    words = world.work(chain, what)
    world.measure(chain, words)
    whole, hop, woken = zip(*(world.measure(chain, words) for _ in range(REPEATS)))
    return statistics.median(whole), statistics.median(hop), statistics.median(woken), (max(whole) - min(whole)) / min(whole)


def scaled(ns, per=1):
    """Instructions where they are counted (2 ns each), else microseconds."""
    return ns / 2 / per / 1e6 if COUNTED else ns / per / 1e3


def row(name, value, baseline=None, goal=None, spread=0.0, unit=None):
    """baseline: (its name, its value); without a value there is no row."""
    if value is None:
        return
    document = {"name": name, "kernel": LABEL if COUNTED else os.uname().release, "value": value,
                "unit": unit or ("M instr" if COUNTED else "us"), "spread": round(spread, 4)}
    if baseline and baseline[1] is not None:
        document |= {"baseline": baseline[0], "baseline_value": baseline[1]}
        if goal:
            document["goal"] = goal
    print(json.dumps(document), flush=True)


def show_bulk(world, what, goal):
    seen = {chain: repeated(world, chain, what) for chain in CHAINS}
    base = scaled(seen["proxy_ssl"][0]) if "proxy_ssl" in seen else None
    for chain in CHAINS:
        row(f"{what}, chain with {chain}", scaled(seen[chain][0]), ("proxy_ssl", base), goal if chain == "postern" else None,
            seen[chain][3])
    own = {chain: scaled(seen[chain][1]) if chain in seen else None for chain in ("postern", *SIDECARS)}
    row(f"{what}, postern's own process", own["postern"], ("HAProxy's", own["haproxy"]),
        "<= 0.70" if what == "download" else None)
    row(f"{what}, stunnel's own process", own["stunnel"], ("HAProxy's", own["haproxy"]))
    if "postern" in seen:
        # As a ratio of KB, so that more is better there, too.
        row(f"{what}, moved by a wake-up of postern", MEGABYTES * 1024 / max(seen["postern"][2], 1), ("64 KB", 64), ">= 1.00",
            unit="KB")


def show_small(world):
    seen = {chain: repeated(world, chain, "small") for chain in CHAINS}
    unit = "k instr" if COUNTED else "ns"
    base = seen.get("proxy_ssl")
    if not base:
        return
    added = {chain: scaled(seen[chain][0] - base[0], REQUESTS) * 1000 if chain in seen else None for chain in ALL_CHAINS}
    spread = {chain: seen[chain][3] if chain in seen else 0 for chain in ALL_CHAINS}
    row("1 KB request, proxy_ssl", scaled(base[0], REQUESTS) * 1000, unit=unit, spread=spread["proxy_ssl"])
    for chain in SIDECARS:
        row(f"1 KB request, added by {chain}", added[chain], unit=unit, spread=spread[chain])
    row("1 KB request, added by postern", added["postern"], ("added by HAProxy", added["haproxy"]), "<= 0.50",
        spread["postern"], unit)
    if COUNTED:
        row("1 KB request, added by postern, absolute", added["postern"], ("30 k instr", 30.0), "<= 1.00", unit=unit)
    if "postern" in seen:
        row("1 KB request, wake-ups of postern", seen["postern"][2] / REQUESTS, unit="count")


def main():
    with Chain() as world:
        if "download" in ONLY:
            show_bulk(world, "download", "<= 1.00")
        if "upload" in ONLY:
            show_bulk(world, "upload", "<= 0.95")
        if "small" in ONLY:
            show_small(world)


if __name__ == "__main__":
    main()
