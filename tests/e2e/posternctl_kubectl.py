#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""kubectl-postern: finds the agent of a Pod's node and runs posternctl there. kubectl is played; posternctl is not."""

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main
from lib.paths import POSTERNCTL, REPOSITORY
from lib.process import run
from lib.stage import Stage

PLUGIN = REPOSITORY / "tools/kubectl/kubectl-postern"

# What kubectl would say of a cluster with two nodes, of which one has an agent.
KUBECTL = """#!/bin/sh
echo "$*" >>{log}
case "$*" in
*"config view"*) echo shop ;;
*"get pod --namespace default demo"*) echo node-a ;;
*"get pod --namespace default lonely"*) echo node-b ;;
*"get pod --namespace default waiting"*) ;;
*"get pod --namespace"*) echo "Error from server (NotFound): pods not found" >&2; exit 1 ;;
*"get pods"*"spec.nodeName=node-a,"*) echo "postern posternd-x7k2p" ;;
*"get pods"*) ;;
exec*" -- "*)
\tshift 8 # exec --namespace NAMESPACE POD --container posternd -- posternctl
\texec {posternctl} --run-dir {run} --bpffs {bpffs} "$@" ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


def plugin(stage, *words):
    log = stage.directory / "kubectl.log"
    log.write_text("")
    kubectl = stage.directory / "kubectl"
    kubectl.write_text(KUBECTL.format(log=log, posternctl=POSTERNCTL, run=stage.run_directory, bpffs=stage.bpffs))
    kubectl.chmod(0o755)
    done = run(PLUGIN, *words, check=False, env={**os.environ, "KUBECTL": str(kubectl)})
    return done.returncode, done.stdout + done.stderr, log.read_text()


@case("explain of a Pod: the agent on its node is asked, and the exit status is posternctl's")
def explain(stage):
    code, text, log = plugin(stage, "-n", "default", "explain", "demo", f"{stage.echo.vip4}:80", "--try")
    expect_that("it works", "it works, with TLS" in text, text)
    expect("exit status", code, 0)
    expect_that("the agent's Pod was asked", "exec --namespace postern posternd-x7k2p --container posternd -- posternctl "
                f"explain default/demo {stage.echo.vip4}:80 --try" in log, log)
    code, text, _ = plugin(stage, "-n", "default", "explain", "demo", "nonsense")
    expect("posternctl's own status", code, 2)


@case("failures and connections of a Pod, and any command on a node")
def lists(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    stage.agent.connection_of(g)
    code, text, _ = plugin(stage, "-n", "default", "connections", "demo")
    expect("exit status", code, 0)
    expect_that("its connection", str(g.getsockname()[1]) in text, text)
    expect("failures: exit status", plugin(stage, "-n", "default", "failures", "demo")[0], 0)
    code, text, _ = plugin(stage, "on", "node-a", "status")
    expect_that("status", "ready" in text, text)
    expect("status: exit status", code, 0)
    g.close()


@case("what cannot be: no agent on the node, no node, no Pod, no such name; each is said, and kubectl gets no options")
def cannot(stage):
    rows = [(("-n", "default", "explain", "lonely", "1.2.3.4:5"), 1, "no agent runs on node node-b"),
            (("-n", "default", "failures", "waiting"), 1, "Pod default/waiting is on no node yet"),
            (("failures", "missing"), 1, "Pod shop/missing cannot be read"),
            (("-n", "default", "failures", "--as=root"), 1, 'is no name of a Pod'),
            (("-n", "a b", "failures", "demo"), 1, 'is no value of -n'),
            (("-n", "default", "failures", "demo;id"), 1, 'is no name of a Pod'),
            (("on", "--all"), 1, "is no name of a node"),
            (("fly",), 2, "kubectl postern explain POD"),
            ((), 2, "kubectl postern explain POD"),
            (("--help",), 0, "kubectl postern on NODE")]
    for words, wanted, says in rows:
        code, text, _ = plugin(stage, *words)
        expect(f"{words}: exit status ({text})", code, wanted)
        expect_that(f"{words}: {says!r}", says in text, text)


if __name__ == "__main__":
    main(Stage)
