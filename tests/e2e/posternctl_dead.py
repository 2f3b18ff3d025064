#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
What posternctl prints by the kernel's word alone: page, complaint and exit status of every command that asks an agent,
plain and JSON, with the agent killed and its hooks on, against the files in tests/golden/dead (lib/golden.py); each
JSON against its schema, too.
"""

import json
import os
import re
import shutil
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main
from lib.golden import compare, expect_fits
from lib.paths import POSTERNCTL
from lib.process import run
from lib.stage import Stage
from lib.topology import backend4
from lib.waiting import until

LIMIT = 240  # each look at the kernel is a dozen runs of bpftool, which a busy machine makes seconds of
NOBODY = 65534
GATEWAY = "default/demo"
KERNEL_ONLY = ["status", "connections", "gateways", "destinations"]  # documents of their own, without an agent
AGENT_ONLY = ["failures", "policies", "certs", "metrics", "evidence", "trace", "plan", "probe", "log-level"]
EXPLAINED = {
    "explain-tls": (GATEWAY, "10.96.0.10:80"), "explain-endpoint": (GATEWAY, f"{backend4(2)}:8443"),
    "explain-hold": (GATEWAY, "10.96.0.99:80"), "explain-plain": (GATEWAY, "10.96.0.20:80"),
    "explain-elsewhere": (GATEWAY, "192.0.2.7:80"), "explain-nobody": ("nobody", "10.96.0.10:80"),
    "explain-try": (GATEWAY, "10.96.0.10:80", "--try"),
}


class DeadStage(Stage):
    def _build(self):
        super()._build()
        until(lambda: self.agent.status()["gateways"][0]["state"] == "ready", 20, "a gateway that is ready")
        self.agent.kill()


def settled(stage, text):
    """Without what is another one from run to run, from kernel to kernel, or from compiler to compiler."""
    for seen, name in ((stage.bpffs, "/BPFFS"), (stage.run_directory, "/RUN"), (stage.gateway_cgroup, "/GATEWAY"),
                       (stage.agent_cgroup, "/AGENT")):
        text = text.replace(str(seen), name)
    text = re.sub(r'("(?:cgroup_id|program_id|id|settings_id)": )\d+', r"\g<1>1", text)
    text = re.sub(r'"tag": "[0-9a-f]{16}"', '"tag": "0123456789abcdef"', text)
    text = re.sub(r"program \d+, tag [0-9a-f]{16}", "program 1, tag 0123456789abcdef", text)
    text = re.sub(r"settings \d+", "settings 1", text)
    text = re.sub(r'("ports": \[)[\d,\s]+\]', r"\1]", text)  # how many: the page
    text = re.sub(r"CGROUP +NETNS", "CGROUP  NETNS", text)  # as wide as the path is long
    # What is counted depends on what else happened; the lane, on the kernel.
    text = re.sub(r'("counters": )\{[^}]*\}', r"\1{}", text)
    return re.sub(r'("lane": )(?:true|false)', r"\1false", text)


def ask(stage, *words):
    """Exit status, page, and the complaint."""
    return run(POSTERNCTL, "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, *words, check=False)


def compare_both(stage, name, words, document):
    """The plain page with its complaint and status in one file; the document in another."""
    plain = ask(stage, *words)
    compare(f"dead/{name}.txt", settled(stage, f"{plain.stdout}--- standard error\n{plain.stderr}--- exit status "
                                               f"{plain.returncode}\n"))
    answer = ask(stage, "--json", *words)
    expect(f"{name}: exit status with --json", answer.returncode, plain.returncode)
    expect(f"{name}: complaint with --json", answer.stderr, plain.stderr)
    expect_fits(document, answer.stdout)
    compare(f"dead/{name}.json", settled(stage, answer.stdout))


@case("a dead agent: pages and documents by the kernel's word alone are what the golden files say, and fit", limit=LIMIT)
def kernel_only(stage):
    for name in KERNEL_ONLY:
        compare_both(stage, name, [name], name)


@case("a dead agent: explain says what becomes of a connect, whoever is asked for", limit=LIMIT)
def explained(stage):
    for name, words in EXPLAINED.items():
        compare_both(stage, name, ["explain", *words], "explain")


@case("a dead agent: commands that only it can answer say so, in one way, and with one status", limit=LIMIT)
def agent_only(stage):
    complaints = set()
    for name in AGENT_ONLY:
        compare_both(stage, name, [name], "error")
        complaints.add(ask(stage, name).stderr)
    expect("ways to say it", len(complaints), 1)


@case("a dead agent that left nothing in the kernel", limit=LIMIT)
def nothing_pinned(stage):
    for name in KERNEL_ONLY:
        answer = ask(stage, "--json", "--bpffs", "/nonexistent/postern", name)
        expect(f"{name}: exit status", answer.returncode, 3)
        expect_fits(name, answer.stdout)
        plain = ask(stage, "--bpffs", "/nonexistent/postern", name)
        compare(f"dead/nothing-{name}.txt", settled(stage, f"{plain.stdout}--- standard error\n{plain.stderr}"
                                                           f"--- exit status {plain.returncode}\n"))


@case("a dead agent, without the rights of root: what cannot be read is not said to be nothing", limit=LIMIT)
def no_rights(stage):
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    program = stage.directory / "posternctl"
    stage.directory.chmod(0o755)
    shutil.copy(POSTERNCTL, program)
    stage.bpffs.chmod(0o700)
    for name, words in [(name, [name]) for name in KERNEL_ONLY] + [("explain", ["explain", GATEWAY, "10.96.0.10:80"])]:
        done = run(*nobody, program, "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, *words, check=False)
        text = done.stdout + done.stderr
        expect(f"{name}: exit status", done.returncode, 3)
        expect_that(f"{name}: that it takes root", "Permission denied (it takes root)" in text, text)
        for lie in ("no gateway", "no live", "no destination", "0 tls", "does not need it", "connects pass", "8 of 8"):
            expect_that(f"{name}: not {lie!r}", lie not in text, text)
    pinned = sorted(str(path) for path in stage.bpffs.glob("v*/*"))
    for words in (["uninstall"], ["uninstall", "--force"]):
        done = run(*nobody, program, "--run-dir", stage.run_directory, "--bpffs", stage.bpffs, *words, check=False)
        text = done.stdout + done.stderr
        expect(f"{words}: exit status", done.returncode, 1)
        expect_that(f"{words}: that it takes root", "Permission denied (uninstall takes root): nothing was changed" in text, text)
        expect_that(f"{words}: nothing else", "No gateway is intercepted" not in text and "--force" not in text, text)
    expect("pinned, still", sorted(str(path) for path in stage.bpffs.glob("v*/*")), pinned)


@case("uninstall after a dead agent fits its schema, and leaves nothing")
def uninstalled(stage):
    answer = ask(stage, "--json", "uninstall")
    expect("exit status", answer.returncode, 0)
    expect_fits("uninstall", answer.stdout)
    expect("pinned", json.loads(ask(stage, "--json", "status").stdout)["kernel"]["pinned"], False)


if __name__ == "__main__":
    main(DeadStage)
