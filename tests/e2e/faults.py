#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Faults while bytes move: the agent stopped for ten seconds, backends that reset or stall at each state, a gateway that
restarts, a network namespace that is taken away, a wire that loses, swaps and repeats packets. Every byte that arrives
is right, every end says what it is, and the wire is searched for plaintext in each.
"""

import errno
import os
import signal
import ssl
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import SLOWNESS, case, expect, expect_error, expect_that, main, skip, times
from lib.pattern import Checker, Pattern
from lib.process import run_in
from lib.sockets import SocketMaker, finish_connect, receive_exactly, reset
from lib.stage import ECHO_PORT, Stage
from lib.tls_peer import TlsPeer, server_context
from lib.topology import GATEWAY4, backend4
from lib.waiting import until
from lib.world import Service

MARKER = b"postern-faults-marker-3c"
PORT, IMPATIENT_PORT = 8650, 8651
TRANSFERS = 8
STOPPED_MEGABYTES = times(40)
SAMPLE = bytes(Pattern().piece(0, 48))  # of what the transfers carry
MEGABYTE = 1 << 20
RESETS = (ConnectionResetError, BrokenPipeError)


class FaultStage(Stage):
    KEEPALIVE = 4

    def _build(self):
        super()._build()
        self.service = self.publish(Service("faults", 45, target=PORT, hostname="echo.example"))
        # The same backend where its silence is waited for, and nowhere else: a second is not enough for a handshake
        # beside transfers that keep both CPUs busy.
        self.impatient = self.publish(Service("impatient", 46, target=IMPATIENT_PORT, hostname="echo.example",
                                              options={"postern.dev/handshake-timeout": f"{SLOWNESS}s",
                                                       "postern.dev/connect-timeout": f"{SLOWNESS}s"}))
        self.context = server_context(self.leaf)
        for service in (self.service, self.impatient):
            self.agent.until_policy(service.name)

    def backend_here(self, script=None, port=PORT):
        return Backend(self.backend, backend4(2), port, None if script else self.context, script)

    def counted(self):
        return {name: count for name, count in self.agent.status()["failures"].items() if count}

    def expect_serving(self):
        """After the fault: the next connection is as if nothing had been."""
        expect("a request afterwards", self.ask("vip4", headers={"X-Marker": MARKER.decode()}).status, 200)

    def until_no_connections(self):
        until(lambda: not [row for row in self.agent.connections()
                           if row["policy"] in ("default/faults", "default/impatient")],
              20 * SLOWNESS, "no connection left")

    def capture(self, *markers):
        """The last words of an earlier case's connection would be taken for the first ones of it, and for no TLS."""
        if self.agent.process.running():
            self.until_no_connections()
        return super().capture(*markers)


class Transfers:
    """Uploads and downloads at once, each with a pattern of its own that is checked byte by byte."""

    def __init__(self, stage, backend, total, count=TRANSFERS):
        self.errors, self.checkers, self._threads, self._sockets = [], [], [], []
        for number in range(count):
            g = stage.gateway.connect(stage.service.vip4, 80, timeout=120)
            peer = backend.take()
            self._sockets += [g, peer]
            pattern, checker = Pattern(), Checker(Pattern())
            self.checkers.append(checker)
            if number % 2:
                self._start(self._send, g.sendall, pattern, total)
                self._start(self._receive, peer.receive, checker, total)
            else:
                self._start(self._send, peer.send, pattern, total)
                self._start(self._receive, lambda g=g: g.recv(1 << 18), checker, total)

    def _start(self, *words):
        thread = threading.Thread(target=self._guarded, args=words, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _guarded(self, action, *arguments):
        try:
            action(*arguments)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(repr(error))

    @staticmethod
    def _send(send, pattern, total):
        for piece in pattern.pieces(total):
            send(piece)

    @staticmethod
    def _receive(receive, checker, total):
        while checker.received < total:
            piece = receive()
            if not piece:
                raise EOFError(f"an end after {checker.received} bytes")
            checker.feed(piece)

    def moved(self):
        return sum(checker.received for checker in self.checkers)

    def finish(self, within):
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        expect("transfers that failed", self.errors, [])
        expect("transfers that go on after their time", sum(thread.is_alive() for thread in self._threads), 0)
        expect("wrong bytes", [checker.wrong_at for checker in self.checkers if checker.wrong_at is not None], [])
        for sock in self._sockets:
            sock.close()


def expect_only_tls(wire):
    report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("sent and not TLS", report.sent_not_tls(PORT, IMPATIENT_PORT), [])


@case("SIGSTOP of the agent for 10 s with transfers running: all of them go on, not a byte is wrong", limit=120)
def stopped(stage):
    with stage.capture(MARKER, SAMPLE) as wire, stage.backend_here() as backend:
        transfers = Transfers(stage, backend, STOPPED_MEGABYTES * MEGABYTE)
        until(lambda: transfers.moved() > MEGABYTE, 30 * SLOWNESS, "bytes that move")
        stage.agent.process.signal(signal.SIGSTOP)
        before = transfers.moved()
        g = stage.gateway.start_connect(stage.service.vip4, 80)  # held, until the agent goes on
        until_then = time.monotonic() + 10
        until(lambda: time.monotonic() > until_then, 11, "ten seconds")
        expect_that("it stood still, but for what was in flight",
                    before <= transfers.moved() < TRANSFERS * STOPPED_MEGABYTES * MEGABYTE, (before, transfers.moved()))
        stage.agent.process.signal(signal.SIGCONT)
        finish_connect(g, 30 * SLOWNESS)
        backend.take().close()
        g.close()
        transfers.finish(90 * SLOWNESS)
        expect("the agent lives: its watchdog saw that all of it was stopped", stage.agent.process.running(), True)
        expect_only_tls(wire)
    stage.expect_serving()


# ---- backends that reset, or stall, at each state ----

def stall(sock):
    """Takes what comes and says nothing more."""
    while sock.recv(65536):
        pass


def receive_hello(sock):
    sock.recv(65536)


def half_a_flight(context):
    """The first half of the server's first flight, so that the client waits for the rest of a record."""
    def begin(sock):
        peer = TlsPeer(sock, context)
        out = peer.answer_to(sock.recv(65536))
        sock.sendall(out[:len(out) // 2])
    return begin


def whole_flight(context):
    def begin(sock):
        peer = TlsPeer(sock, context)
        sock.sendall(peer.answer_to(sock.recv(65536)))
    return begin


def first(*steps):
    def serve(sock):
        for step in steps:
            step(sock)
    return serve


HANDSHAKE_STATES = {
    "before the ClientHello": lambda context: (),
    "after the ClientHello": lambda context: (receive_hello,),
    "in the middle of its first flight": lambda context: (half_a_flight(context),),
}


def declare_handshake(state, version):
    versions = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}[version]

    @case(f"{version}: a backend that resets {state}, and one that stalls there: connect() is refused, nothing is sent")
    def table(stage):
        context = server_context(stage.leaf, (versions, versions))
        for name, service, end, reasons in (
                ("reset", stage.service, reset, ("backend_reset", "handshake_eof", "handshake_failed")),
                ("stall", stage.impatient, stall, ("handshake_timeout",))):
            with stage.capture(MARKER) as wire, \
                    stage.backend_here(first(*HANDSHAKE_STATES[state](context), end), service.target):
                before = stage.counted()
                g = stage.gateway.start_connect(service.vip4, 80)
                expect_error(f"{name}: connect()", lambda g=g: finish_connect(g, 10 * SLOWNESS), ConnectionRefusedError)
                g.close()
                after = stage.counted()
                grown = [reason for reason in after if after[reason] > before.get(reason, 0)]
                expect_that(f"{name}: counted as one of {reasons}", any(reason in reasons for reason in grown), grown)
                expect_only_tls(wire)


for each_state in HANDSHAKE_STATES:
    for each_version in ("TLS 1.2", "TLS 1.3"):
        declare_handshake(each_state, each_version)


@case("TLS 1.2: a backend that resets, and one that stalls, when it waits for the client's second flight")
def second_flight(stage):
    context = server_context(stage.leaf, (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2))
    for name, service, end in (("reset", stage.service, reset), ("stall", stage.impatient, stall)):
        with stage.capture(MARKER) as wire, \
                stage.backend_here(first(whole_flight(context), receive_hello, end), service.target):
            g = stage.gateway.start_connect(service.vip4, 80)
            expect_error(f"{name}: connect()", lambda g=g: finish_connect(g, 10 * SLOWNESS), ConnectionRefusedError)
            g.close()
            expect_only_tls(wire)


@case("SYN-RCVD: a backend whose SYN-ACK is lost, and one that resets before it: the gateway sees what it is")
def syn_received(stage):
    backend = stage.network["backend"]
    for verdict, service, error, reason in (
            ("reject with tcp reset", stage.service, ConnectionRefusedError, "backend_refused"),
            ("drop", stage.impatient, OSError, "backend_silent")):
        run_in(backend, "nft", "-f", "-", stdin=f"""
            add table inet fault
            add chain inet fault output {{ type filter hook output priority 0; }}
            add chain inet fault input {{ type filter hook input priority 0; }}
            add rule inet fault {"output tcp sport" if verdict == "drop" else "input tcp dport"} {service.target} {verdict}
        """)
        try:
            with stage.capture(MARKER) as wire, stage.backend_here(port=service.target):
                before = stage.counted().get(reason, 0)
                g = stage.gateway.start_connect(*service.endpoint4)
                seen = expect_error(f"{verdict}: connect()", lambda g=g: finish_connect(g, 20 * SLOWNESS), error)
                expect_that("an error of a backend that is not there",
                            seen.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH), seen)
                g.close()
                expect_that(f"{reason} is counted", stage.counted().get(reason, 0) > before, stage.counted())
                expect_only_tls(wire)
        finally:
            run_in(backend, "nft", "delete", "table", "inet", "fault")


@case("a backend that resets after the release, in mid-download, in mid-upload: the gateway sees a reset, never an end")
def reset_later(stage):
    for when in ("at once", "download", "upload"):
        with stage.capture(MARKER) as wire, stage.backend_here() as backend:
            g = stage.gateway.connect(stage.service.vip4, 80)
            peer = backend.take()
            if when == "download":
                peer.send(MARKER * 1000)
                receive_exactly(g, 1000)
            elif when == "upload":
                g.sendall(MARKER * 1000)
                peer.receive_exactly(1000)
            reset(peer.sock)
            expect_error(f"{when}: the gateway", lambda g=g: read_to_end(g), *RESETS)
            g.close()
            stage.until_no_connections()
            expect_only_tls(wire)
    stage.expect_serving()


def read_to_end(sock):
    while sock.recv(1 << 18):
        pass
    return "a clean end"


@case("a backend that stalls in mid-body: the upload waits, goes on when it reads, and others are not held", limit=120)
def stall_later(stage):
    with stage.capture(MARKER) as wire, stage.backend_here() as backend:
        g = stage.gateway.connect(stage.service.vip4, 80, timeout=60)
        peer = backend.take()
        pattern, total = Pattern(), 64 * MEGABYTE
        sent = threading.Event()

        def send():
            for piece in pattern.pieces(total):
                g.sendall(piece)
            sent.set()
        threading.Thread(target=send, daemon=True).start()
        expect("all of it sent while nobody reads", sent.wait(2), False)
        stage.expect_serving()
        checker = Checker(Pattern())
        while checker.received < total:
            checker.feed(peer.receive())
        expect("wrong bytes", checker.wrong_at, None)
        g.close()
        peer.close()
        expect_only_tls(wire)


# ---- the gateway's side ----

@case("the gateway restarts in mid-download: its connections are gone at the backend, the new one is served")
def gateway_restarts(stage):
    (stage.tls_nginx.directory / "files/large").write_bytes(MARKER + bytes(64 * MEGABYTE))

    def ports():
        return {each["gateway_port"] for each in stage.agent.connections()}

    others = ports()
    with stage.capture(MARKER) as wire:
        front = stage.start_gateway(stage.routes, port=8095, keepalive=8)
        expect("through the gateway", stage.ask("vip4", port=8095, headers={"X-Marker": MARKER.decode()}).status, 200)
        client = stage.client.connect(GATEWAY4, 8095, timeout=60)
        client.sendall(b"GET /vip4/files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        expect_that("a body that has begun", b"200 OK" in receive_exactly(client, 65536), None)
        until(lambda: ports() - others, 10, "connections of the gateway")
        front.close()
        until(lambda: not ports() - others, 10 * SLOWNESS, "no connection of it left")
        client.close()
        front = stage.start_gateway(stage.routes, port=8095, keepalive=8)
        expect("the restarted one", stage.ask("vip4", port=8095, headers={"X-Marker": MARKER.decode()}).status, 200)
        front.close()
        report = wire.report()
    # The first client's side of the gateway is not on this wire: every marker would be one of a covered connection.
    expect("markers on the wire", report.markers, 0)
    expect("sent and not TLS", report.sent_not_tls(ECHO_PORT), [])


@case("the network namespace's way to the backend is gone with connections open: resets, and back when it is back")
def link_gone(stage):
    with stage.capture(MARKER) as wire, stage.backend_here() as backend:
        g = stage.gateway.connect(stage.service.vip4, 80)
        peer = backend.take()
        g.sendall(MARKER)
        peer.receive_exactly(len(MARKER))
        stage.network.set_link("gateway", up=False)
        try:
            started = time.monotonic()
            other = stage.gateway.start_connect(*stage.service.endpoint4)
            error = expect_error("a connect without a route", lambda: finish_connect(other, 10 * SLOWNESS), OSError)
            expect("what it is told", error.errno, errno.EHOSTUNREACH)
            took = time.monotonic() - started
            expect_that("at once, not by the agent's limit for a dial (30 s)", took < 10 * SLOWNESS, took)
            other.close()
        finally:
            stage.network.set_link("gateway", up=True)
        # The connection outlives it: TCP sends again.
        g.sendall(b"after")
        expect("bytes after the link came back", peer.receive_exactly(5), b"after")
        g.close()
        peer.close()
        expect_only_tls(wire)
    stage.expect_serving()


@case("a gateway's network namespace is deleted with connections open: its own end, another gateway's go on", limit=90)
def namespace_gone(stage):
    stage.network.namespace("second")
    stage.network.join("second", "10.77.3.2", "fd77:0:0:3::2", "10.77.3.1", "fd77:0:0:3::1")
    cgroup = stage.cgroups.make("second-gateway")
    expect("the agent's exit status", stage.agent.stop(), 0)
    stage.start_agent([stage.gateway_flags(),
                       {"name": "default/second", "cgroup": cgroup, "netns": stage.network.path("second")}])
    maker = SocketMaker(stage.network["second"], cgroup)
    with stage.capture(MARKER) as wire, stage.backend_here() as backend:
        stays = stage.gateway.connect(stage.service.vip4, 80)
        stays_peer = backend.take()
        goes = maker.connect(*stage.service.endpoint4)
        goes_peer = backend.take()
        goes.sendall(MARKER)
        goes_peer.receive_exactly(len(MARKER))
        maker.close()
        stage.network.remove("second")
        expect_error("its backend", lambda: read_to_end_of(goes_peer), *RESETS)
        goes.close()
        stays.sendall(b"still here")
        expect("the other gateway's connection", stays_peer.receive_exactly(10), b"still here")
        stays.close()
        expect_only_tls(wire)
    stage.expect_serving()
    stage.agent.stop()
    stage.start_agent()


def read_to_end_of(peer):
    while peer.receive():
        pass
    if peer.ending == "truncated":
        raise ConnectionResetError("truncated")
    return peer.ending


# ---- the wire ----

@case("loss, reordering and duplication on the veth (netem): every byte right, all done", limit=240)
def bad_wire(stage):
    device = ["dev", "gateway"]
    for qdisc in ("loss 2%", "delay 2ms 1ms reorder 25% 50%", "duplicate 5%",
                  "loss 1% delay 1ms reorder 10% duplicate 2%"):
        done = run_in(stage.network["node"], "tc", "qdisc", "replace", *device, "root", "netem", *qdisc.split(),
                      check=False)
        if done.returncode != 0:
            skip(f"no netem: {done.stderr.strip()}")
        run_in(stage.network["gateway"], "tc", "qdisc", "replace", "dev", "eth0", "root", "netem", *qdisc.split())
        try:
            with stage.capture(MARKER, SAMPLE) as wire, stage.backend_here() as backend:
                transfers = Transfers(stage, backend, 2 * MEGABYTE, 4)
                transfers.finish(60 * SLOWNESS)
                for _ in range(3):
                    stage.expect_serving()
                report = wire.report()
            expect(f"{qdisc}: markers on the wire", report.markers, 0)
        finally:
            run_in(stage.network["node"], "tc", "qdisc", "del", *device, "root")
            run_in(stage.network["gateway"], "tc", "qdisc", "del", "dev", "eth0", "root")


if __name__ == "__main__":
    main(FaultStage)
