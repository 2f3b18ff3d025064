#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""posternctl reads the kernel first, by bpftool: what it says with an agent, against one, and without one."""

import json
import os
import re
import shutil
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_error, expect_that, main, skip
from lib.paths import POSTERNCTL
from lib.played_agent import PlayedAgent
from lib.process import Process, run
from lib.sockets import finish_connect
from lib.stage import Stage
from lib.waiting import until
from lib.world import Service

FINE, WRONG, USAGE, DEAD, DISAGREE = range(5)


def status(stage, *words):
    code, text, _ = stage.agent.control("--json", *words, "status")
    return code, json.loads(text)


def pinned(stage):
    """<bpffs>/vN of the agent that runs, or ran last."""
    return max(stage.bpffs.glob("v*"), key=lambda path: int(path.name[1:]))


def in_order(stage):
    until(lambda: status(stage)[0] == FINE, 20, "kernel and agent that agree")


def one_program(directory, name, text):
    """A program of the test's own, to be run in the place of another."""
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path


@case("the kernel by bpftool: hooks with their programs and tags, destinations, guards, the cgroup by its id")
def by_bpftool(stage):
    code, document = status(stage)
    expect("exit status", code, FINE)
    kernel = document["kernel"]
    expect("reader", kernel["reader"], "bpftool")
    gateway = kernel["gateways"][0]
    expect("gateway", (gateway["name"], gateway["mode"], gateway["hooks"], gateway["attached"], gateway["missing"],
                       gateway["foreign"], gateway["cgroup"]),
           ("default/demo", "enforce", 8, 8, [], [], str(stage.gateway_cgroup)))
    programs = {each["name"]: each for each in document["programs"]}
    for link in gateway["links"]:
        wanted = programs[link["hook"]]
        expect(f"{link['hook']}: id and tag", (link["program_id"], link["tag"]), (wanted["id"], wanted["tag"]))
    expect("ports", sorted(gateway["ports"]), sorted(document["gateways"][0]["listeners"]))
    expect("destinations", (kernel["destinations"]["tls"], kernel["destinations"]["deny"]),
           (document["expected"]["tls"], document["expected"]["deny"]))
    expect("witness", (kernel["witness"]["attached"], kernel["witness"]["cgroup"]), (True, str(stage.agent_cgroup)))
    expect("counters", kernel["counters"]["connect_tls"], stage.agent.counter("connect_tls"))


@case("the same without bpftool, and it says so")
def by_libbpf(stage):
    code, document = status(stage, "--bpftool", "/nonexistent/bpftool")
    expect("exit status", code, FINE)
    expect("reader", document["kernel"].pop("reader"), "libbpf: bpftool was not found")
    whole = status(stage)[1]
    whole["kernel"].pop("reader")
    expect("the rest is the same", document["kernel"], whole["kernel"])


@case("a bpftool that lies, hangs on or dies: said, and no crash")
def hostile_bpftool(stage):
    # One script: what it answers, what is said.
    rows = [("exit 7", "bpftool says nothing"),
            ("echo '['", "not JSON"),
            ("echo '{'", "not JSON"),
            ("echo '[]'; exit 3", "ended with status 3"),
            ("echo '[] surprise'", "goes on after its end"),
            ("echo '{\"error\":\"no \\u001b[31m rights\"}'; exit 1", "bpftool says: no \\x1b[31m rights"),
            ("echo '[{\"key\":[\"0x00\"],\"value\":[\"0x00\"]}]'", "Bad message"),
            ("echo '[{\"key\":7}]'", "Bad message"),
            ("echo '[[[['", "not JSON"),
            ("printf '[\"'; head -c 3000000 /dev/zero | tr '\\0' x", "too large")]
    for script, says in rows:
        path = one_program(stage.directory, "bpftool-hostile", f"#!/bin/sh\n{script}\n")
        code, text, _ = stage.agent.control("--bpftool", path, "status")
        expect(f"{script}: exit status", code, WRONG)
        expect_that(f"{script}: {says!r}", says in text, text)


@case("hooks that were detached by hand: kernel and agent disagree, status 4; the agent puts them back")
def detached(stage):
    links = pinned(stage) / "links/default_2fdemo"
    believed = stage.agent.status()
    stage.agent.kill()  # it would heal this within a second
    for name in ("connect4", "guard"):
        run("bpftool", "link", "detach", "pinned", links / name)
    with PlayedAgent(stage.run_directory, {"status": believed}):
        code, text, _ = stage.agent.control("status")
        expect("exit status", code, DISAGREE)
        for words in ("KERNEL AND AGENT DISAGREE", "gateway default/demo: the agent says: ready",
                      "these hooks are not attached: guard, connect4", "remedy: "):
            expect_that(f"{words!r} in the text", words in text, text)
        difference = json.loads(stage.agent.control("--json", "status")[1])["disagreements"]
        expect("in the JSON", [each["what"] for each in difference], ["gateway default/demo"])
    stage.start_agent()
    in_order(stage)


@case("an agent that believes another mode, other ports, another program, another cgroup: each is named")
def believes(stage):
    rows = [("its mode is enforce", lambda it: it["gateways"][0].update(mode="observe")),
            ("gateway_map names other ports", lambda it: it["gateways"][0].update(listeners=[1, 2])),
            ("its hooks are on ", lambda it: it["gateways"][0].update(cgroup="/sys/fs/cgroup/elsewhere")),
            ("no hook of it is pinned", lambda it: it["gateways"][0].update(name="default/other")),
            ("8 hooks are attached: its covered connects are refused", lambda it: it.update(gateways=[])),
            ("hook guard of gateway default/demo", lambda it: [each.update(id=1) for each in it["programs"]]),
            ("4 are in the map", lambda it: it["expected"].update(deny=3)),
            ("are in the map", lambda it: it["expected"].update(guarded_ports=99))]
    believed = stage.agent.status()
    stage.agent.kill()
    for says, change in rows:
        document = json.loads(json.dumps(believed))
        change(document)
        with PlayedAgent(stage.run_directory, {"status": document}):
            code, text, _ = stage.agent.control("status")
            expect(f"{says!r}: exit status", code, DISAGREE)
            expect_that(f"{says!r} in the text", says in text, text)
    with PlayedAgent(stage.run_directory, {"status": believed}):
        expect("what it believed is true: exit status", stage.agent.control("status")[0], FINE)
    stage.start_agent()
    in_order(stage)


@case("destination_map emptied by hand: status 4, with the numbers of both")
def emptied(stage):
    path = pinned(stage) / "destination_map"
    for entry in json.loads(run("bpftool", "--json", "map", "dump", "pinned", path).stdout):
        if entry["formatted"]["value"]["verdict"] == 1:
            run("bpftool", "map", "delete", "pinned", path, "key", *entry["key"])
    code, text, _ = stage.agent.control("status")
    expect("exit status", code, DISAGREE)
    for words in ("destination_map: the agent says: 4 covered destinations; the kernel says: 0 are in the map",
                  "restart posternd"):
        expect_that(f"{words!r} in the text", words in text, text)
    stage.agent.stop()
    stage.start_agent()
    in_order(stage)


@case("connections: G and B are found in the kernel by their storage; keys that are not there are a disagreement")
def sockets(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    stage.agent.connection_of(g)
    code, text, _ = stage.agent.control("--json", "connections")
    row = [each for each in json.loads(text) if each["gateway_port"] == g.getsockname()[1]][0]
    expect("exit status, and what the kernel shows", (code, row["kernel"], row["differs"]), (FINE, "both", False))
    if not row["ulp"]:
        row.update(to_backend="ktls_copy", to_gateway="ktls_copy")
        directory = stage.directory / "played"
        directory.mkdir(exist_ok=True)
        with PlayedAgent(directory, {"status": stage.agent.status(), "connections": [row]}):
            done = run(POSTERNCTL, "--run-dir", directory, "--bpffs", stage.bpffs, "connections", check=False)
        expect("exit status", done.returncode, DISAGREE)
        expect_that("it is said", "KERNEL AND AGENT DISAGREE: B has no keys" in done.stdout, done.stdout)
    g.close()


@case("an agent that hangs: the kernel's sockets are the list")
def hung(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    stage.agent.connection_of(g)
    stage.agent.suspend()
    try:
        code, text, said = stage.agent.control("connections")
        status_code, page, _ = stage.agent.control("status")
    finally:
        stage.agent.resume()
    expect("exit status", (code, status_code), (DEAD, DEAD))
    expect_that("why, and what to do", "the agent does not answer within" in said and "remedy: it hangs" in said, said)
    for word in (str(g.getsockname()[1]), f"{stage.echo.vip4}:80", "default/demo", "unknown"):
        expect_that(f"{word!r} in the text", word in text, text)
    expect_that("no numbers that nobody has read", "0 B" not in text and "0.0s" not in text, text)
    # A dead agent's covered connects are refused; those of one that hangs wait.
    for words in ("posternd cannot be asked: the agent does not answer", "remedy: it hangs",
                  "connects wait if its workers hang, too"):
        expect_that(f"{words!r} in the status", words in page, page)
    expect_that("not as if it were dead", "are refused" not in page, page)
    g.close()


@case("--watch: page after page, one line of JSON each")
def watched(stage):
    process = Process([POSTERNCTL, "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, "--json", "status",
                       "--watch", "0.1"])
    try:
        until(lambda: process.mark() >= 3, 20, "three lines")
    finally:
        process.kill()
    expect("each is a whole document", [json.loads(line)["ready"] for line in process.lines[:3]], [True] * 3)


@case("failures --watch: each new one once, in its order, as a line with the gateway's port and the remedy")
def followed(stage):
    closed = stage.publish(Service("closed", 60, target=9060, hostname="echo.example"))
    stage.agent.until_policy("closed")

    def refused():
        with stage.gateway.start_connect(closed.vip4, 80) as g:
            port = g.getsockname()[1]
            expect_error("connect", lambda: finish_connect(g, 10), ConnectionRefusedError)
            return port
    refused()  # before: not shown
    process = Process([POSTERNCTL, "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, "failures", "--watch", "0.1"])
    try:
        until(lambda: refused() and process.mark(), 20, "a line")  # from when it watches on
        ports = [refused() for _ in range(3)]
        process.wait_for(f":{ports[-1]} ")
    finally:
        process.kill()
    seen = [int(re.fullmatch(r"\S+ default/demo:(\d+) -> \S+ default/closed backend_refused.* \(.+\)", line)[1])
            for line in process.lines]
    rows = [row["gateway_port"] for row in reversed(stage.agent.failures())]
    expect("ports, in the order of the list", seen, rows[-len(seen):])
    expect_that("not what was before it", len(seen) < len(rows), rows)


@case("a dead agent: status 3, and the kernel's truth: every hook, what happens to connects, what is in the map")
def dead(stage):
    covered = stage.agent.status()["expected"]["tls"]
    stage.agent.kill()
    code, text, _ = stage.agent.control("status")
    expect("exit status", code, DEAD)
    for words in ("posternd is not running", "read by bpftool", "default/demo", "8 of 8 hooks attached",
                  "covered and guarded connects are refused", f"{covered} tls"):
        expect_that(f"{words!r} in the text", words in text, text)
    for words in (["connections"], ["failures"], ["--json", "failures"]):
        expect(f"exit status of {words}", stage.agent.control(*words)[0], DEAD)
    run("bpftool", "link", "detach", "pinned", pinned(stage) / "links/default_2fdemo/connect4")
    code, text, _ = stage.agent.control("status")
    expect_that("connects are not intercepted", "connects are NOT intercepted" in text, text)


if __name__ == "__main__":
    if not shutil.which("bpftool"):
        skip("bpftool is not installed")
    main(Stage)
