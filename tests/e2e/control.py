#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""posternctl against a live agent and a dead one: what it prints, and its exit status."""

import json
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_error, expect_that, main
from lib.stage import Stage
from lib.world import Service

PORT = 8990  # nothing listens there


class ControlStage(Stage):
    def _build(self):
        super()._build()
        self.missing = self.publish(Service("missing", 160, target=PORT, hostname="echo.example"))
        self.agent.until_policy("missing")


@case("status: 0 for a ready agent, with its gateways, policies and proof, as text and as JSON")
def status(stage):
    code, text, _ = stage.agent.control("status")
    expect("exit status", code, 0)
    for word in ("default/demo", "default/echo", "ready", "hold", "guard", "witness", "lane"):
        expect_that(f"{word!r} in the text", word in text, text)
    code, text, _ = stage.agent.control("--json", "status")
    document = json.loads(text)
    expect("exit status with --json", code, 0)
    expect("ready", document["ready"], True)
    expect("pid", document["pid"], stage.agent.pid)
    expect("policies", [(each["namespace"], each["name"], each["accepted"]["status"]) for each in document["policies"]],
           [("default", "echo", True), ("default", "missing", True)])
    expect("gateway", (document["gateways"][0]["name"], document["gateways"][0]["mode"]), ("default/demo", "enforce"))


@case("connections: one line for a live connection, with policy, SNI, version and modes")
def connections(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    code, text, _ = stage.agent.control("connections")
    expect("exit status", code, 0)
    for word in (f"{stage.echo.vip4}:80", "default/echo", "echo.example", "TLSv1.3", str(g.getsockname()[1])):
        expect_that(f"{word!r} in the text", word in text, text)
    rows = json.loads(stage.agent.control("--json", "connections")[1])
    expect("rows, by gateway port", [row["gateway_port"] for row in rows], [g.getsockname()[1]])
    g.close()


@case("failures: the newest first, with destination, policy, reason and remedy")
def failures(stage):
    expect_error("connect", lambda: stage.gateway.connect(stage.missing.vip4, 80), ConnectionRefusedError)
    code, text, _ = stage.agent.control("failures")
    expect("exit status", code, 0)
    for word in (f"{stage.missing.vip4}:80", "default/missing", "backend_refused", "nothing listens"):
        expect_that(f"{word!r} in the text", word in text, text)
    rows = json.loads(stage.agent.control("--json", "failures")[1])
    expect_that("a row for it", (f"{stage.missing.vip4}:80", "default/missing", "backend_refused") in
                [(row["destination"], row["policy"], row["reason"]) for row in rows], rows)
    times = [row["time"] for row in rows]
    expect("newest first", times, sorted(times, reverse=True))


@case("wrong usage: 2 and a message; version and help: 0")
def usage(stage):
    for words in (["no-such-command"], ["--no-such-flag", "status"], ["status", "too", "many"]):
        code, text, said = stage.agent.control(*words)
        expect(f"exit status of {words}", code, 2)
        expect_that(f"{words}: a message", (text + said).strip(), None)
    for words in (["version"], ["--help"]):
        expect(f"exit status of {words}", stage.agent.control(*words)[0], 0)


@case("an agent that was killed: status 3, and it says so")
def killed(stage):
    stage.agent.kill()
    code, text, said = stage.agent.control("status")
    expect("exit status", code, 3)
    expect_that("words that say so", (text + said).strip(), None)
    code, text, _ = stage.agent.control("--json", "status")
    expect("exit status with --json", code, 3)
    if text.strip():
        expect_that("not ready", not json.loads(text).get("ready"), text)


if __name__ == "__main__":
    main(ControlStage)
