#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""posternctl uninstall leaves nothing: no program, no link, no pin; the gateway's connections are its own again."""

import json
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_error, expect_that, main
from lib.paths import POSTERNCTL
from lib.process import run
from lib.stage import Stage
from lib.waiting import LONG, until


def program_ids():
    return {each["id"] for each in json.loads(run("bpftool", "--json", "prog", "list").stdout or "[]")}


def links_of(*cgroups):
    wanted = {os.stat(cgroup).st_ino for cgroup in cgroups}
    return [each for each in json.loads(run("bpftool", "--json", "link", "list").stdout or "[]")
            if each.get("cgroup_id") in wanted]


@case("a stopped agent leaves hooks that refuse; uninstall takes every one of them away")
def uninstall(stage):
    expect("a request", stage.ask("vip4").status, 200)
    programs = {each["prog_id"] for each in links_of(stage.gateway_cgroup, stage.agent_cgroup)}
    expect_that("several programs while it runs", len(programs) > 5, programs)
    expect("exit status of the agent", stage.agent.stop(), 0)
    expect_error("a covered connect without the agent", lambda: stage.gateway.connect(stage.echo.vip4, 80, timeout=3),
                 ConnectionRefusedError)
    stage.uninstall()
    expect("links", links_of(stage.gateway_cgroup, stage.agent_cgroup), [])
    pins = [str(path) for path in stage.bpffs.rglob("*")] if stage.bpffs.exists() else []
    expect("pins", pins, [])
    until(lambda: not programs & program_ids(), LONG, f"none of the programs {programs}")
    expect("a plain request to the TLS port is nginx's own answer again", stage.ask("vip4").status, 400)
    expect("the status socket", (stage.run_directory / "posternd.sock").exists(), False)


@case("uninstall twice, and where nothing ever was, is no error")
def again(stage):
    stage.uninstall()
    run(POSTERNCTL, "--run-dir", stage.run_directory, "--bpffs", stage.directory / "bpf/never", "uninstall")


@case("after it a new agent installs everything anew")
def reinstall(stage):
    stage.start_agent()
    answer = stage.ask("vip4")
    expect("status and SNI", (answer.status, answer.values.get("sni")), (200, "echo.example"))
    expect("exit status of the agent", stage.agent.stop(), 0)
    stage.uninstall()


if __name__ == "__main__":
    main(Stage)
