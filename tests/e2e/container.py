#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The agent in a cgroup namespace of its own, as a container runtime makes one: /proc/self/cgroup says "/" there. Process 1
of its PID namespace is outside of it, as with hostPID, or inside. It has the capabilities that deploy/ grants, and no
others.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import SLOWNESS, case, expect, expect_that, main
from lib.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
MARKER = b"postern-container-marker-7e10"

# Process 1 waits outside; the agent is born in the pod's cgroup, and in a namespace whose root that is.
WITH_NODE_IN_VIEW = """
cgroup=$1; capabilities=$2; shift 2
( echo 0 > "$cgroup/cgroup.procs"; exec unshare --cgroup -- setpriv --bounding-set "$capabilities" -- "$@" ) &
wait $!
"""

WITHOUT_NODE_IN_VIEW = """
cgroup=$1; shift
echo 0 > "$cgroup/cgroup.procs"
exec unshare --cgroup --pid --fork --kill-child --mount-proc -- "$@"
"""


def capabilities():
    """Those that deploy/ gives the agent and no others, in setpriv's words; of them those that there are here."""
    for document in yaml.safe_load_all((ROOT / "deploy/base/agent.yaml").read_text()):
        container = document["spec"]["template"]["spec"]["containers"][0]
        granted = container["securityContext"]["capabilities"]
    expect("what deploy/ takes from the agent", granted["drop"], ["ALL"])
    here = subprocess.run(["setpriv", "--dump"], check=True, capture_output=True, text=True).stdout
    bounding = re.search(r"bounding set: (.*)", here).group(1).split(",")
    return ",".join(["-all", *(f"+{name.lower()}" for name in granted["add"] if name.lower() in bounding)])


class ContainerStage(Stage):
    def start_agent(self, *arguments, **options):
        """None yet: each case has its own."""

    @property
    def container(self):
        return self.cgroups.make("pod/agent")


@case("with the node's processes in view and deploy/'s capabilities: it finds its cgroup on the node, and serves")
def found(stage):
    agent = stage.new_agent(agent_cgroup="", before=[
        "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", WITH_NODE_IN_VIEW, "sh",
        str(stage.container), capabilities()])
    try:
        agent.process.wait_for("cgroup namespace of process 1 entered")
        with stage.capture(MARKER) as wire:
            answer = stage.ask("vip4", headers={"X-Marker": MARKER.decode()})
            report = wire.report()
        expect("status of a request through it", answer.status, 200)
        expect("markers on the wire", report.markers, 0)
        expect_that("records on the wire", report.bytes > 0 and not report.not_tls(), report.streams)
    finally:
        agent.kill()  # unshare, which is the process here, takes no SIGTERM; it takes all the others with it


@case("without: it says what is missing, and does not take the node's root for its place")
def not_found(stage):
    agent = stage.new_agent(ready=False, agent_cgroup="", before=[
        "sh", "-c", WITHOUT_NODE_IN_VIEW, "sh", str(stage.container)])
    agent.process.wait_for(r"own cgroup is not where .*hostPID")
    status = agent.process.wait(20 * SLOWNESS)
    expect_that("it ended with an error", status not in (0, None), status)


if __name__ == "__main__":
    main(ContainerStage)
