#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Limits: past them new connects are refused and counted, what is there goes on, and when there is room again it is used.
Memory (200 slow readers), descriptors, connections in all and of one gateway, two agents on one set
of pins, and a thread that hangs.
"""

import ctypes
import os
import re
import resource
import signal
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.agent import Agent
from lib.backend import Backend
from lib.case import SLOWNESS, case, expect, expect_error, expect_that, main, skip
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import CLUSTER_CIDRS, backend4
from lib.waiting import until
from lib.world import Service

PORT = 8730
READERS = 200
MEGABYTE = 1 << 20
BUDGET = 96 * MEGABYTE
# For each slow reader: far more than the buffers of its connection may hold.
BODY = (2 if SLOWNESS > 1 else 8) * MEGABYTE
MARKER = b"postern-limits-marker-71"


class LimitsStage(Stage):
    def _build(self):
        super()._build()
        self.service = self.publish(Service("limits", 73, target=PORT, hostname="echo.example"))
        self.context = server_context(self.leaf)
        self.agent.until_policy("limits")

    def start_agent(self, *arguments, **options):
        """One at a time: the pins are locked."""
        if self._agent is not None and self._agent.process.running():
            expect("the agent's exit status", self._agent.stop(), 0)
        return super().start_agent(*arguments, **options)

    def backend_here(self):
        return Backend(self.backend, backend4(2), PORT, self.context)

    def refusals(self, reason):
        return self.agent.status()["failures"][reason]


def memory_cgroup(stage):
    """The agent's cgroup with a limit that the kernel keeps, if this machine's cgroup2 has the memory controller."""
    root = Path(stage.agent_cgroup)
    if "memory" not in (root.parent.parent / "cgroup.controllers").read_text().split():
        return None
    for directory in (root.parent.parent, root.parent):
        (directory / "cgroup.subtree_control").write_text("+memory")
    return root


def events(cgroup):
    return dict(line.split() for line in (cgroup / "memory.events").read_text().splitlines())


def use_memory(stage, limited):
    """
    200 gateways' connections that ask for a large body and do not read it; then what the issue asks for. limited: the
    cgroup whose limit must hold, or None.
    """
    readers, senders, refused = [], [], 0
    with stage.capture(MARKER) as wire, stage.backend_here() as backend:
        first = stage.gateway.connect(stage.service.vip4, 80)
        first_peer = backend.take()
        stage.exchange_word(first, first_peer, b"before")
        body = MARKER + bytes(BODY)
        for _ in range(READERS):
            try:
                g = stage.gateway.connect(stage.service.vip4, 80, timeout=10 * SLOWNESS)
            except ConnectionRefusedError:
                refused += 1
                continue
            peer = backend.take(30 * SLOWNESS)
            sender = threading.Thread(target=ignoring_errors, args=(peer.send, body), daemon=True)
            sender.start()
            readers.append(g)
            senders.append(peer)
        # The budget may be reached only now that the buffers fill.
        until(lambda: stage.agent.status()["limits"]["memory_full"], 30 * SLOWNESS, "a budget that is full")
        status = stage.agent.status()
        expect_error("one more connect", lambda: stage.gateway.connect(stage.service.vip4, 80), ConnectionRefusedError)
        expect_that("the refusal is counted", stage.refusals("memory_budget") > refused,
                    (stage.refusals("memory_budget"), refused))
        expect_that("readers that got in before the budget was full", len(readers) > 8, len(readers))
        print(f"     {len(readers)} slow readers, {refused} refused; used {status['limits']['memory_used'] >> 20} MB "
              f"of {status['limits']['memory_budget'] >> 20} MB", flush=True)
        # What is there goes on, idle and blocked ones alike.
        stage.exchange_word(first, first_peer, b"while full")
        taken = 0
        while taken < BODY // 2:
            piece = readers[0].recv(1 << 18)
            expect_that("bytes of a slow reader that reads again", len(piece) > 0, taken)
            taken += len(piece)
        if limited:
            expect("OOM kills", events(limited)["oom_kill"], "0")
        expect("the agent runs", stage.agent.process.running(), True)
        for g in readers:
            g.close()
        for peer in senders:
            peer.close()
        until(lambda: not stage.agent.status()["limits"]["memory_full"], 30 * SLOWNESS, "room in the budget again")
        g = stage.gateway.connect(stage.service.vip4, 80)
        peer = backend.take()
        stage.exchange_word(g, peer, b"afterwards")
        stage.exchange_word(first, first_peer, b"afterwards, too")
        g.close()
        first.close()
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(PORT), [])


def ignoring_errors(action, *arguments):
    try:
        action(*arguments)
    except (OSError, ValueError):
        pass


@case("200 slow readers, memoryBudget 96Mi: refused, old ones go on, room again when they leave", limit=150)
def own_budget(stage):
    stage.start_agent(memory_budget=str(BUDGET))
    use_memory(stage, None)


@case("200 slow readers in a cgroup of 128 MB: nothing is killed, refused before the limit", limit=240)
def cgroup_budget(stage):
    limited = memory_cgroup(stage)
    if not limited:
        skip("cgroup2 has no memory controller here")
    (limited / "memory.max").write_text(str(128 * MEGABYTE))
    try:
        agent = stage.start_agent(handshake_timeout=f"{10 * SLOWNESS}s")
        expect_that("the budget is three quarters of memory.max",
                    agent.status()["limits"]["memory_budget"] == BUDGET, agent.status()["limits"])
        use_memory(stage, limited)
    finally:
        (limited / "memory.max").write_text("max")


@case("maxConnections and maxConnectionsPerGateway: one more is refused with its reason, room again after one ends")
def connections(stage):
    # A worker has its part, and one more.
    for name, limit, detail in (("max_connections", 10, "of all gateways"),
                                ("max_connections_per_gateway", 10, "of this gateway")):
        stage.start_agent(workers=1, **{name: limit})
        with stage.backend_here() as backend:
            held = [stage.gateway.connect(stage.service.vip4, 80) for _ in range(limit + 1)]
            peers = [backend.take() for _ in held]
            expect_error(f"past {name}", lambda: stage.gateway.connect(stage.service.vip4, 80), ConnectionRefusedError)
            failure = stage.agent.failures()[0]
            expect("why", (failure["reason"], failure["detail"]), ("too_many_connections", detail))
            stage.exchange_word(held[0], peers[0], b"while full")
            held.pop().close()
            peers.pop().close()
            until(lambda: len(stage.agent.connections()) == limit, 10, "one that ended")
            stage.gateway.connect(stage.service.vip4, 80).close()
            for sock in held + peers:
                sock.close()


@case("EMFILE, RLIMIT_NOFILE of the living agent lowered: refused and counted, old ones go on; healed when raised")
def descriptors(stage):
    agent = stage.start_agent()
    with stage.backend_here() as backend:
        first = stage.gateway.connect(stage.service.vip4, 80)
        first_peer = backend.take()
        stage.exchange_word(first, first_peer, b"before")  # the agent has accepted it: it needs no descriptor any more
        before = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        expect_that("the agent raised its own limit to the hard one", before[0] == before[1], before)
        # None at all, then one: B is dialed, and accept() has none. The status socket has none either.
        highest = max(int(name) for name in os.listdir(f"/proc/{agent.pid}/fd")) + 1
        for room in (0, 1):
            refused = stage.refusals("no_descriptors")
            resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (highest + room, before[1]))
            for _ in range(20):
                outcome = try_to_connect(stage)
                expect_that(f"refused or reset with room for {room}", isinstance(outcome, OSError), outcome)
            stage.exchange_word(first, first_peer, b"with room for %d" % room)
            resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, before)
            counted = stage.refusals("no_descriptors") - refused
            expect_that("each of them counted", counted >= 20, counted)
            until(backend.settled, 10 * SLOWNESS, "an end of every handshake that was begun")
            while backend.waiting():
                backend.take().close()
        g = stage.gateway.connect(stage.service.vip4, 80)
        stage.exchange_word(g, backend.take(), b"healed")
        g.close()
        first.close()


def try_to_connect(stage):
    """The error that the gateway sees."""
    try:
        g = stage.gateway.connect(stage.service.vip4, 80, timeout=5)
        g.sendall(b"?")
        return g.recv(1)
    except OSError as error:
        return error


@case("two agents on one set of pins: the second one says so and ends; the first goes on")
def two_agents(stage):
    first = stage.start_agent()
    second = stage.directory / "second-run"
    second.mkdir(exist_ok=True)
    other = Agent(stage.manifests.path, second, stage.bpffs, stage.agent_cgroup, [stage.gateway_flags()],
                  CLUSTER_CIDRS, "28500-28600", ready=False)
    expect("its exit status", other.process.wait(), 1)
    expect_that("a line that names the pins", any("another agent lives" in line and str(stage.bpffs) in line
                                                  for line in other.process.lines), other.process.lines)
    expect("the first one runs", first.process.running(), True)
    expect("a request", stage.ask("vip4").status, 200)


PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


def ptrace(request, task):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ctypes.c_long(request), ctypes.c_long(task), None, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def waiting_worker(agent):
    """A worker waits in epoll_pwait2(), when it has nothing to do; the watchdog in futex()."""
    def thread():
        calls = {int(task): Path(f"/proc/{agent.pid}/task/{task}/syscall").read_text().split()[0]
                 for task in os.listdir(f"/proc/{agent.pid}/task")}
        return next((task for task, call in calls.items() if task != agent.pid and call == "441"), None)
    return until(thread, 10, "a worker that waits")


@case("a worker that is late with its word: the list of connections is an error, never a shorter list")
def late(stage):
    agent = stage.start_agent()
    worker = waiting_worker(agent)
    ptrace(PTRACE_SEIZE, worker)
    try:
        ptrace(PTRACE_INTERRUPT, worker)
        answer = agent.ask("connections")
        expect_that("an error that names the worker", "cannot say what connections it has" in answer["error"], answer)
    finally:
        ptrace(PTRACE_DETACH, worker)
    expect("once it is back", agent.connections(), [])


@case("watchdog: a worker that hangs ends the agent, with a line that names it; connects are refused at once", limit=90)
def hung(stage):
    agent = stage.start_agent(watchdog="2s")
    worker = waiting_worker(agent)
    ptrace(PTRACE_SEIZE, worker)
    ptrace(PTRACE_INTERRUPT, worker)
    started = datetime.now(timezone.utc)
    try:
        line = agent.process.wait_for("thread hangs", within=30)
        expect_that("the line names the thread", f"thread=worker tid={worker}" in line, line)
    finally:
        try:
            ptrace(PTRACE_DETACH, worker)
        except OSError:
            pass
    expect("it ended by SIGABRT", agent.process.wait(), -signal.SIGABRT)
    # By the agent's own word: how long the kernel takes to bury it is not the watchdog's.
    noticed = datetime.fromisoformat(re.search(r"time=(\S+)Z ", line)[1]).replace(tzinfo=timezone.utc) - started
    expect_that("soon", noticed.total_seconds() < 8, noticed)
    expect_error("a covered connect", lambda: stage.gateway.connect(stage.service.vip4, 80), ConnectionRefusedError)


if __name__ == "__main__":
    main(LimitsStage)
