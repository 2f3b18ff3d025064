#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
A new agent takes over from the one that runs: no byte is lost, no connect fails; and if anything goes wrong before it
has, the old one goes on. Without kernel TLS, plain relays (a HOLD that was answered PLAIN) are what is handed over, and
TLS connections are what is drained.
"""

import os
import signal
import socket
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import kernel_tls
from lib import successor
from lib.backend import Backend
from lib.case import SLOWNESS, case, expect, expect_error, expect_that, main, skip, times
from lib.stage import ECHO_PORT
from lib.streaming import TlsEnd
from lib.topology import backend4
from lib.transfer import both_ways
from lib.upgrading import HANDED_OVER, MARKER, TLS_PORT, UpgradeStage, exchange_markers, expect_serves
from lib.waiting import until


@case("200 transfers, 10 upgrades, one of them to a higher version and back: no byte lost, no connect failed", limit=240)
def upgrades(stage):
    stage.revive()
    former, agents = stage.agent, [stage.agent]
    programs = [None] * times(10)
    programs[3 % len(programs)] = stage.version("v99.0.0")
    pairs = stage.plain_pairs(times(200))
    until(lambda: stage.relayed() >= len(pairs), 5 * SLOWNESS, "all transfers relayed")
    repeated = stage.repeated_syns()
    with stage.capture(MARKER) as wire:
        transfers = stage.streaming(pairs, stuffed=range(0, len(pairs), 10))
        connecting = stage.connecting()
        for program in programs:
            before = transfers.moved()
            agents.append(stage.upgrade(program))
            former.process.wait_for(HANDED_OVER, within=5 * SLOWNESS)
            until(lambda: stage.agent.status()["workers"]["taken_over"] >= len(pairs), 10 * SLOWNESS,
                  "every transfer with the new agent")
            until(lambda seen=before: transfers.moved() > seen, 10 * SLOWNESS, "transfers that go on")
            former = stage.agent
        count = connecting.stop()
        moved = transfers.finish()
        expect("statuses of the agents that were replaced", [each.process.wait(20 * SLOWNESS) for each in agents[:-1]],
               [0] * len(programs))
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(ECHO_PORT), [])
    expect("kernel helper errors", stage.agent.status()["helper_errors"], [])
    stage.expect_no_syn_again(repeated)
    print(f"     {count} connects, slowest {connecting.slowest * 1000:.0f} ms; {moved >> 20} MB in {len(pairs)} transfers")


@case("TLS connections: kernel TLS goes to the new agent, lane and all; user space stays with the old one until its end",
      limit=120)
def tls_connections(stage):
    stage.revive()
    former = stage.agent
    kernel, lane = kernel_tls.available(), stage.lane_is_safe()
    with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
        idle, *flowing = stage.tls_pairs(backend, times(15))
        expect("lanes", {row["lane"] for row in stage.tls_rows(former)}, {lane})
        # They are in their midst when the new agent takes over.
        transfers = stage.streaming([(g, TlsEnd(peer)) for g, peer in flowing])
        until(lambda: transfers.moved() > 0, 10 * SLOWNESS, "transfers that flow")
        new = stage.upgrade()
        if kernel:
            until(lambda: new.status()["workers"]["taken_over"] > len(flowing), 30 * SLOWNESS, "all with the new agent")
            rows = stage.tls_rows(new)
            expect("policies and names", {(row["policy"], row["sni"]) for row in rows}, {("default/held", "echo.example")})
            expect("lanes with the new agent", {row["lane"] for row in rows}, {lane})
            expect("how the old agent ended", former.process.wait(30 * SLOWNESS), 0)
        else:
            former.process.wait_for(HANDED_OVER, within=5 * SLOWNESS)
            expect("the old agent keeps them", former.process.running(), True)
        moved, redirected = transfers.moved(), new.counter("lane_redirected")
        until(lambda: transfers.moved() > moved + (1 << 16), 30 * SLOWNESS, "transfers that go on")
        if lane:
            until(lambda: new.counter("lane_redirected") > redirected, 10 * SLOWNESS, "messages that the lane takes")
        exchange_markers(*idle)
        both_ways(*idle, 1 << 20, 1 << 20)
        transfers.finish()
        expect("how the old agent ended", former.process.wait(30 * SLOWNESS), 0)
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(TLS_PORT), [])
    print(f"     kernel TLS {'handed over' if kernel else 'not here: drained'}, lane {'used' if lane else 'off'}")


@case("kernel TLS with a full path: what splice() had taken, and a backend did not, goes along, and every byte comes out",
      limit=120)
def full_path(stage):
    if not kernel_tls.available():
        skip("no kernel TLS here; tests/unit/test_relay_state.c plays it")
    stage.revive()
    former, seen = stage.agent, [None]

    def stuck():
        """Nothing moves any more, and it was splice() that was stopped."""
        rows = stage.tls_rows(former)
        last, seen[0] = seen[0], [(row["bytes_to_backend"], row["bytes_to_gateway"]) for row in rows]
        if last != seen[0]:
            return False
        if {row["to_backend"] for row in rows} == {"ktls_splice"}:
            return True
        transfers.sip()  # the last read before it was a short one: once more
        return False
    with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
        pairs = stage.tls_pairs(backend, times(5))
        for _, peer in pairs:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        transfers = stage.streaming([(g, TlsEnd(peer)) for g, peer in pairs], stuffed=range(len(pairs)))
        until(stuck, 60 * SLOWNESS, "everything on the way full", every=1)
        new = stage.upgrade()
        until(lambda: new.status()["workers"]["taken_over"] >= len(pairs), 30 * SLOWNESS, "all with the new agent")
        expect("how the old agent ended", former.process.wait(30 * SLOWNESS), 0)
        moved = transfers.finish()
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(TLS_PORT), [])
    print(f"     {moved >> 10} KB in {len(pairs)} connections")


@case("told to end while it drains, the old agent ends when it is done; told twice, at once with resets")
def told_to_end(stage):
    if kernel_tls.available():
        return  # nothing is drained there: all goes
    for signals in (1, 2):
        stage.revive()
        former = stage.agent
        with Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
            g = stage.gateway.connect(stage.service.vip4, 80)
            peer = backend.take()
            stage.upgrade()
            for said in ("agent ends when it is drained", "agent stops")[:signals]:
                former.process.signal(signal.SIGTERM)
                former.process.wait_for(said, within=5 * SLOWNESS)
            if signals == 2:
                expect_error("G", lambda: g.recv(1), ConnectionResetError)
            else:
                both_ways(g, peer, 1 << 16, 1 << 16)
            expect("its status", former.process.wait(10 * SLOWNESS), 0)


@case("drainTimeout: what the old agent could not hand over is reset then, with the reason")
def drain_timeout(stage):
    if kernel_tls.available():
        return
    stage.revive()
    stage.start_agent(drain_timeout="2500ms")
    former = stage.agent
    with Backend(stage.backend, backend4(2), TLS_PORT, stage.context) as backend:
        g = stage.gateway.connect(stage.service.vip4, 80)
        backend.take()
        stage.upgrade()
        g.settimeout(10 * SLOWNESS)
        expect_error("G", lambda: g.recv(1), ConnectionResetError)
        expect("its status", former.process.wait(10 * SLOWNESS), 0)
    expect_that("the limit in its log", any("drain limit" in line for line in former.process.lines),
                former.process.lines[-3:])


@case("a new agent that is not proved ends; the old one goes on as if nothing had been")
def unproved(stage):
    stage.revive()
    old = stage.agent
    pairs = stage.plain_pairs(times(20))
    transfers, connecting = stage.streaming(pairs), stage.connecting()
    limit = stage.cgroups.root / "cgroup.max.descendants"
    limit.write_text(str(len([path for path in stage.cgroups.root.iterdir() if path.is_dir()])))
    try:
        failed = stage.new_agent(ready=False)
        expect("its status", failed.process.wait(60 * SLOWNESS), 1)
    finally:
        limit.write_text("max")
    expect_that("the reason", any("not proved beside a running agent" in line for line in failed.process.lines),
                failed.process.lines[-4:])
    stage.serves_again(old)
    connecting.stop()
    transfers.finish()


@case("a new agent that is killed at any moment of its start: never a wrong byte, and one agent serves", limit=240)
def new_one_killed(stage):
    for step in range(times(20)):
        stage.revive()
        old = stage.agent
        pairs = stage.plain_pairs(4)
        transfers = stage.streaming(pairs)
        new = stage.new_agent(ready=False)
        threading.Event().wait(0.02 + 0.03 * step)  # an event that never comes: the moment is the test
        new.kill()
        if stage.has_handed_over(old):
            transfers.close()  # it was past the point of no return: what went with it is reset
            old.process.wait(20 * SLOWNESS)
            stage.start_agent()
        else:
            stage.serves_again(old)
            transfers.finish()
        expect("a request", stage.ask("vip4").status, 200)


@case("the old agent is killed while the new one starts: the new one serves alone")
def old_one_killed(stage):
    for moment in ("an agent runs", "proof done", "snapshot applied"):
        stage.revive()
        old = stage.agent
        new = stage.start_agent(ready=False)
        new.process.wait_for(moment, within=30 * SLOWNESS)
        old.kill()
        new.wait_ready()
        expect_serves(stage, new)


@case("a successor that talks nonsense, stops half way or writes before it dies costs the old agent nothing")
def bad_successors(stage):
    stage.revive()
    old = stage.agent
    pairs = stage.plain_pairs(4)
    transfers, connecting = stage.streaming(pairs), stage.connecting()
    for deed in (successor.nonsense, successor.closes_at_once, successor.greets_and_closes, successor.freezes_and_closes,
                 successor.switches_unasked, successor.sends_a_connection):
        deed(stage.run_directory)
        expect_serves(stage, old)
    connecting.stop()
    # It had the right to write maps when it died: all of it is put back.
    mark = old.process.mark()
    with successor.frozen(stage.run_directory):
        stage.empty_gateway_entry()
        expect_error("a connect without an entry", lambda: stage.gateway.connect(stage.echo.vip4, 80),
                     ConnectionRefusedError)
    old.process.wait_for("the successor failed", since=mark, within=5 * SLOWNESS)
    stage.gateway.connect(stage.echo.vip4, 80).close()
    expect_serves(stage, old)
    transfers.finish()


if __name__ == "__main__":
    main(UpgradeStage)
