#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""posternctl trace: events as they happen; posternctl evidence: what an auditor is shown, also after a restart."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_error, expect_that, main, skip
from lib.paths import POSTERNCTL
from lib.process import Process, placed, run
from lib.stage import Stage
from lib.waiting import LONG, until
from lib.world import Service


SO_COOKIE = 57
TOTAL_RETRANS = 100  # offset of tcpi_total_retrans


class TraceStage(Stage):
    def _build(self):
        super()._build()
        self.closed = self.publish(Service("closed", 60, target=9060, hostname="echo.example"))
        self.agent.until_policy("closed")
        denied = Service("denied", 61, target=9061, hostname="echo.example")  # its policy has no CA
        self.manifests.write("denied.yaml", *[each for each in self.objects(denied) if each["kind"] != "ConfigMap"])
        self.agent.until_policy("denied", accepted=False)
        self.denied = denied.vip4

    def tracer(self, *words):
        process = Process([POSTERNCTL, "--run-dir", self.run_directory, "--bpffs", self.bpffs, "trace", *words])
        # It looks from its first question on: a connect of ours is in its answers once it has asked.
        return process

    def evidence(self, *words):
        code, text, said = self.agent.control("--json", "evidence", *words)
        expect_that("a document", text.strip(), said)
        return code, json.loads(text)


def until_traced(stage, process, pattern, connect):
    """Connects again until the tracer has shown it: it may not have asked for the first time yet."""
    def shown():
        connect()
        return any(pattern in line for line in process.lines)
    until(shown, 30, f"{pattern!r} in the trace")


def rows_of(process):
    return [json.loads(line) for line in list(process.lines) if line.startswith("{")]


def connect_at_once(stage):
    """A G whose SYN was sent once: held for a second it is sent again, and that is an event more."""
    def connected():
        g = stage.gateway.connect(stage.echo.vip4, 80)
        if struct.unpack_from("I", g.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), TOTAL_RETRANS)[0] == 0:
            return g
        g.close()
        return None
    return until(connected, 30, "a connect that takes less than a second")


def socket_cookie(sock):
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


@case("trace: a connection from the hook to its end, of kernel and agent, each in order and all with G's cookie")
def trace(stage):
    process = stage.tracer("--json", "--gateway", "default/demo")
    try:
        until_traced(stage, process, '"close"', lambda: stage.gateway.connect(stage.echo.vip4, 80).close())
        g = connect_at_once(stage)
        port = g.getsockname()[1]
        cookie = socket_cookie(g)
        g.close()

        def of_g():
            return [row for row in rows_of(process) if row["cookie"] == cookie]
        until(lambda: "close" in [row["event"] for row in of_g()], 20, "the end of the connection")
        rows = of_g()
        agent = [row for row in rows if row["source"] == "agent"]
        kernel = [row for row in rows if row["source"] == "kernel"]
        expect("the agent's", [row["event"] for row in agent], ["connect", "dial", "handshake", "open", "close"])
        expect("the kernel's", [(row["event"], row["reason"]) for row in kernel],
               [("intercept", "connect_tls"), ("syn", "connect_tls"), ("syn", "syn_held"), ("syn", "syn_released")])
        expect("destination", {row["destination"] for row in rows}, {f"{stage.echo.vip4}:80"})
        expect("gateway and verdict", {(row["gateway"], row["verdict"]) for row in rows}, {("default/demo", "tls")})
        expect("port", {row["gateway_port"] for row in rows}, {0, port})
        expect("the first is the hook's", rows[0]["event"], "intercept")
        times = [row["time"] for row in rows]
        expect("times rise", times, sorted(times))
        expect_that("who it was", "verified as echo.example" in agent[2]["detail"], agent[2])
    finally:
        process.kill()


@case("trace: what the hooks refuse and drop, with the reason and errno; --verdict chooses")
def kernel_side(stage):
    process = stage.tracer("--json", "--verdict", "tls,none")
    denied = stage.tracer("--verdict", "deny")
    g = stage.gateway.socket()
    g.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")

    def connect():
        expect_error("its own loopback", lambda: stage.gateway.connect("127.0.0.1", 9), ConnectionRefusedError)
        expect_error("bound to a device", lambda: g.connect((stage.echo.vip4, 80)), ConnectionRefusedError)
    try:
        until_traced(stage, process, "refused_bound_device", connect)
        row = next(row for row in rows_of(process) if row["reason"] == "refused_bound_device")
        expect("the refusal", (row["source"], row["event"], row["verdict"], row["error"], row["destination"],
                               row["cookie"]),
               ("kernel", "intercept", "tls", "ECONNREFUSED", f"{stage.echo.vip4}:80", socket_cookie(g)))
        until_traced(stage, process, "connect_miss", connect)
        expect("what is none of these", {row["verdict"] for row in rows_of(process)} - {"tls", "none"}, set())
        expect("lines of DENY", denied.lines, [])
    finally:
        process.kill()
        denied.kill()
        g.close()
    for words in (("--verdict", "maybe"), ("--destination", "nowhere"), ("--gateway", "a b"),
                  ("--destination", "10.0.0.1:70000")):
        expect(f"{words}: exit status", stage.agent.control("trace", *words)[0], 2)


def asked_until(stage):
    """trace_filter.until_ns of the guard that is attached, read from the kernel."""
    links = max(stage.bpffs.glob("v*"), key=lambda path: int(path.name[1:])) / "links/default_2fdemo"
    link = json.loads(run("bpftool", "--json", "link", "show", "pinned", links / "guard").stdout)
    program = json.loads(run("bpftool", "--json", "prog", "show", "id", link["prog_id"]).stdout)
    for map_id in program["map_ids"]:
        if json.loads(run("bpftool", "--json", "map", "show", "id", map_id).stdout)["name"].endswith(".bss"):
            entry = json.loads(run("bpftool", "--json", "map", "dump", "id", map_id).stdout)[0]
            return int.from_bytes(bytes(int(byte, 16) for byte in entry["value"][:8]), sys.byteorder)
    return None


@case("trace: the programs are asked while somebody looks, not before, not after, and not for an agent that died", limit=90)
def asked(stage):
    until(lambda: asked_until(stage) == 0, 30, "nobody who looks")
    process = stage.tracer()
    try:
        until(lambda: asked_until(stage), 20, "a filter in the kernel")
    finally:
        process.kill()
    until(lambda: asked_until(stage) == 0, 30, "the filter's end after the last one has gone")
    process = stage.tracer()
    until(lambda: asked_until(stage), 20, "a filter in the kernel")
    stage.agent.kill()
    process.kill()
    expect_that("the dead agent's filter is still there, with an end of its own", asked_until(stage), 0)
    stage.start_agent()
    expect("the new agent's", asked_until(stage), 0)


REFUSED = """
import socket, sys
for _ in range(int(sys.argv[2])):
    s = socket.socket()
    if s.connect_ex((sys.argv[1], 80)) != 111:
        sys.exit("not refused")
    s.close()
"""


def refuse(stage, count):
    """So many connects of the gateway that the hook refuses."""
    run(*placed([sys.executable, "-c", REFUSED, stage.denied, count], stage.network["gateway"], stage.gateway_cgroup))


def lost_by(stage, cause):
    """postern_trace_lost_events of a cause."""
    text = stage.agent.ask("metrics")["text"]
    return int(re.search(rf'^postern_trace_lost_events_total{{cause="{cause}"}} (\d+)', text, re.M).group(1))


@case("trace: a reader that was stopped for longer than it is waited for: how long, and up to how many it missed", limit=90)
def away(stage):
    tracers = [stage.tracer("--json", "--verdict", "deny"), stage.tracer("--verdict", "deny")]
    counted = lost_by(stage, "away")
    try:
        for process in tracers:
            until_traced(stage, process, "connect_deny", lambda: refuse(stage, 1))
            process.signal(signal.SIGSTOP)
        until(lambda: asked_until(stage) == 0, 30, "the end of what was asked of the programs")
        refuse(stage, 50)
        expect("counted before anybody is back", lost_by(stage, "away"), counted)
        for process in tracers:
            process.signal(signal.SIGCONT)
        row = until(lambda: next((row for row in rows_of(tracers[0]) if row.get("seconds")), None), 20, "the gap")
        expect_that("what was missed, at least", row["event"] == "lost" and row["lost"] >= 50, row)
        expect_that("it is not said of before and after", row["seconds"] < 60, row)
        line = tracers[1].wait_for("events lost: nobody read them")
        expect_that("up to how many, and how long", re.search(r"^up to \d{2,} events lost: .* for \d+\.\d s none was kept",
                                                              line), line)
        expect_that("counted, for both", lost_by(stage, "away") >= counted + 100, lost_by(stage, "away"))
        mark = len(rows_of(tracers[0]))
        until(lambda: refuse(stage, 1) or rows_of(tracers[0])[mark:], 20, "events again")
    finally:
        for process in tracers:
            process.kill()


@case("trace and --watch end when nobody reads them any more, though nothing happens")
def nobody_reads(stage):
    for words in (["trace"], ["failures", "--watch", "3600"], ["status", "--watch", "3600"]):
        reading, writing = os.pipe()
        process = subprocess.Popen([POSTERNCTL, "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, *words],
                                   stdout=writing, stderr=subprocess.DEVNULL)
        os.close(writing)
        try:
            if words[0] == "status":
                expect_that("a page, before it waits", os.read(reading, 1), None)
            os.close(reading)
            process.wait(timeout=LONG)
        finally:
            process.kill()
            process.wait()


@case("trace: more events than are read: how many were lost is said in the stream")
def lost(stage):
    process = stage.tracer("--json", "--destination", f"{stage.denied}:80")

    def connect():
        expect_error("connect", lambda: stage.gateway.connect(stage.denied, 80), ConnectionRefusedError)
    try:
        until_traced(stage, process, "connect_deny", connect)
        process.signal(signal.SIGSTOP)
        before = stage.agent.counter("connect_deny")
        seen = len(rows_of(process))
        refuse(stage, 12000)
        made = stage.agent.counter("connect_deny") - before
        process.signal(signal.SIGCONT)
        until(lambda: any(row["event"] == "lost" for row in rows_of(process)), 20, "a word of what was lost")
        connect()
        until(lambda: sum(row.get("lost", 1) for row in rows_of(process)[seen:]) >= made, 20,
              "read and lost to be what was made")
    finally:
        process.kill()


@case("trace: a refused connect with its reason; --destination and --gateway keep others out")
def failures(stage):
    process = stage.tracer("--destination", f"{stage.closed.vip4}:80")
    other = stage.tracer("--gateway", "default/other")

    def connect():
        stage.gateway.connect(stage.echo.vip4, 80).close()
        expect_error("connect", lambda: stage.gateway.connect(stage.closed.vip4, 80), ConnectionRefusedError)
    try:
        until_traced(stage, process, "fail", connect)
        line = next(line for line in process.lines if "fail" in line)
        for word in ("default/demo:", f"-> {stage.closed.vip4}:80", "backend_refused"):
            expect_that(f"{word!r} in the line", word in line, line)
        expect("lines of another destination", [each for each in process.lines if stage.echo.vip4 + ":80" in each], [])
        expect("lines of another gateway", other.lines, [])
    finally:
        process.kill()
        other.kill()


@case("evidence: enforced since when, connections by version, cipher and peer, nothing that must not be; after a kill, too")
def evidence(stage):
    for _ in range(3):
        stage.gateway.connect(stage.echo.vip4, 80).close()

    def rows_of(document):
        return [(row["gateway"], row["policy"], row["version"], row["peer"]) for row in document["connections"]]
    wanted = ("default/demo", "default/echo", "TLSv1.3", "echo.example")
    code, document = until(lambda: next((each for each in [stage.evidence("--since", "1h")]
                                         if wanted in rows_of(each[1]) and each[1]["intervals"]), None), 10, "evidence")
    expect("exit status", code, 0)
    expect("interval", [(each["gateway"], each["mode"], each["open"]) for each in document["intervals"]][-1:],
           [("default/demo", "enforce", True)])
    expect("never", (document["wire_not_tls"], document["escaped"]), (0, 0))
    expect("digests", (len(document["policy_digest"]), len(document["configuration_digest"])), (64, 64))
    expect("settings in force", {key: document["configuration"][key] for key in ("coverage", "ktls", "maxDestinations")},
           {"coverage": "standard", "ktls": "auto", "maxDestinations": "131072"})
    counted = sum(row["connections"] for row in document["connections"])
    _, page, _ = stage.agent.control("evidence")
    for word in ("enforce", "(still)", "echo.example", "wire_not_tls", "policy in force, SHA-256", "configuration in force, SHA-256"):
        expect_that(f"{word!r} on the page", word in page, page)
    expect("nonsense for --since", stage.agent.control("evidence", "--since", "yesterday")[0], 2)
    stage.agent.stop()
    stage.start_agent()
    _, document = stage.evidence()
    digests = {key: document[key] for key in ("policy_digest", "configuration_digest")}
    stage.agent.stop()
    stage.start_agent(max_destinations=1000)
    after = stage.evidence()[1]
    expect("the policy's digest stays", after["policy_digest"], digests["policy_digest"])
    expect_that("another configuration, another digest", after["configuration_digest"] !=
                digests["configuration_digest"], after)
    expect("what is another", after["configuration"]["maxDestinations"], "1000")
    expect_that("what was counted before the restart", sum(row["connections"] for row in document["connections"])
                >= counted, document["connections"])


@case("a disk that is full: evidence says that it is not saved, and what to do; the agent goes on")
def full_disk(stage):
    stage.agent.stop()
    if run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", stage.run_directory, check=False).returncode:
        skip("no tmpfs can be mounted")
    try:
        with open(stage.run_directory / "filler", "wb") as filler:
            try:
                filler.write(bytes(1 << 20))
            except OSError:
                pass
        stage.start_agent()
        until(lambda: stage.evidence()[1]["problem"], 20, "the problem")
        code, page, _ = stage.agent.control("evidence")
        expect("exit status", code, 1)
        for word in ("it is not saved: evidence.json: No space left on device", "remedy: make room"):
            expect_that(f"{word!r} on the page", word in page, page)
        g = stage.gateway.connect(stage.echo.vip4, 80)
        g.close()
    finally:
        stage.agent.stop()
        run("umount", stage.run_directory)
    stage.start_agent()


if __name__ == "__main__":
    main(TraceStage)
