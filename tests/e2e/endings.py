#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""How connections end: half-closes, resets and cuts from each side are passed on as what they are, and told apart."""

import os
import socket
import ssl
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import backend as scripts
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.sockets import finish_connect, receive_all, receive_exactly, reset
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.transfer import PATTERN
from lib.waiting import until
from lib.world import Service

PORT13, PORT12, PORT_BAD = 8710, 8711, 8712


class EndingsStage(Stage):
    def _build(self):
        super()._build()
        self.services, self.backends = {}, {}
        for version, number, port, tls in (("1.3", 60, PORT13, ssl.TLSVersion.TLSv1_3),
                                           ("1.2", 61, PORT12, ssl.TLSVersion.TLSv1_2)):
            name = f"endings-{version.replace('.', '-')}"
            self.services[version] = self.publish(Service(name, number, target=port, hostname="echo.example"))
            self.backends[version] = self.close_at_end(
                Backend(self.backend, backend4(2), port, server_context(self.leaf, (tls, tls))))
        self.bad = self.publish(Service("endings-bad", 62, target=PORT_BAD, hostname="echo.example"))
        self.agent.until_policy("endings-bad")

    def pair(self, version="1.3"):
        g = self.gateway.connect(self.services[version].vip4, 80, timeout=40)
        peer = self.backends[version].take()
        # Bytes both ways first: then the session tickets are through and kernel receive is on, where there is any.
        g.sendall(b"ping")
        expect("first bytes to the backend", peer.receive_exactly(4), b"ping")
        peer.send(b"pong")
        expect("first bytes to the gateway", receive_exactly(g, 4), b"pong")
        return g, peer

    def until_failure(self, reason, since):
        """The newest failures must have one with this reason that is newer than `since`."""
        return until(lambda: any(each["reason"] == reason for each in self.new_failures(since)), 30,
                     f"a failure {reason}, seen {[each['reason'] for each in self.new_failures(since)]}")

    def new_failures(self, since):
        failures = self.agent.failures()
        return failures[:max(0, self.total_failures() - since)]

    def last_failure(self, destination):
        """The newest one of connects to it, which is written down before G is refused; others may still be on their way."""
        return next(each for each in self.agent.failures() if each["destination"] == destination)

    def total_failures(self):
        return sum(self.agent.status()["failures"].values())


@case("the gateway half-closes, the backend goes on: TLS 1.3 close_notify and FIN, 2 MB come back, both end clean")
def gateway_half_close(stage):
    g, peer = stage.pair()
    g.sendall(PATTERN.whole(100_000))
    g.shutdown(socket.SHUT_WR)
    expect("bytes at the backend", peer.receive_all() == PATTERN.whole(100_000), True)
    expect("how G's direction ended", peer.ending, "close_notify")
    expect("FIN after it", peer.sock.recv(1), b"")
    peer.send(PATTERN.whole(2 << 20))
    peer.close_notify()
    expect("bytes at the gateway", receive_all(g) == PATTERN.whole(2 << 20), True)
    g.close()


@case("TLS 1.2: the gateway's half-close is told to the backend only when the backend has ended, so no tail is lost")
def gateway_half_close_12(stage):
    g, peer = stage.pair("1.2")
    g.sendall(b"request")
    g.shutdown(socket.SHUT_WR)
    expect("request", peer.receive_exactly(7), b"request")
    peer.sock.settimeout(1)
    expect_error("close_notify before the backend has ended", lambda: peer.receive(1), TimeoutError)
    peer.sock.settimeout(40)
    peer.send(PATTERN.whole(300_000))
    peer.close_notify()
    expect("answer", receive_all(g) == PATTERN.whole(300_000), True)
    expect("the end at the backend", (peer.receive_all(), peer.ending), (b"", "close_notify"))
    g.close()


@case("the backend half-closes, the gateway goes on: FIN to the gateway, 2 MB still reach the backend")
def backend_half_close(stage):
    for version in ("1.3", "1.2"):
        g, peer = stage.pair(version)
        peer.send(b"last words")
        peer.close_notify()
        expect(f"TLS {version}: end at the gateway", receive_all(g), b"last words")
        g.sendall(PATTERN.whole(2 << 20))
        g.shutdown(socket.SHUT_WR)
        expect(f"TLS {version}: bytes at the backend", peer.receive_all() == PATTERN.whole(2 << 20), True)
        expect(f"TLS {version}: how it ended", peer.ending, "close_notify")
        g.close()
        peer.close()


@case("the gateway resets: the backend sees a reset, at once")
def gateway_reset(stage):
    for version in ("1.3", "1.2"):
        before = stage.total_failures()
        g, peer = stage.pair(version)
        reset(g)
        expect_error(f"TLS {version}: the backend", peer.receive, ConnectionResetError)
        stage.until_failure("gateway_reset", before)


@case("the gateway resets in mid-transfer with the backend sending")
def gateway_reset_busy(stage):
    for version in ("1.3", "1.2"):
        g, peer = stage.pair(version)
        peer.sock.settimeout(10)
        peer.send(PATTERN.whole(200_000))
        receive_exactly(g, 100_000)
        reset(g)

        def push(peer=peer):
            while True:
                peer.send(PATTERN.piece(0, 100_000))
        expect_error(f"TLS {version}: the backend's send", push, ConnectionResetError, BrokenPipeError)


@case("the backend resets: the gateway sees a reset, not an end")
def backend_reset(stage):
    for version in ("1.3", "1.2"):
        before = stage.total_failures()
        g, peer = stage.pair(version)
        reset(peer.sock)
        expect_error(f"TLS {version}: the gateway", lambda g=g: g.recv(1), ConnectionResetError)
        stage.until_failure("backend_reset", before)
        g.close()


@case("the backend ends TCP without close_notify: a reset towards the gateway, reason truncated")
def truncated(stage):
    for version in ("1.3", "1.2"):
        before = stage.total_failures()
        g, peer = stage.pair(version)
        peer.send(b"half an answ")
        peer.sock.shutdown(socket.SHUT_WR)
        received = []

        def read(g=g, received=received):
            while piece := g.recv(4096):
                received.append(piece)
        expect_error(f"TLS {version}: the gateway", read, ConnectionResetError)
        expect_that(f"TLS {version}: no wrong byte", b"half an answ".startswith(b"".join(received)), received)
        stage.until_failure("truncated", before)
        g.close()


@case("the backend sends a record that does not authenticate: a reset, reason decrypt_error")
def bad_record(stage):
    for version in ("1.3", "1.2"):
        before = stage.total_failures()
        g, peer = stage.pair(version)
        peer.sock.sendall(b"\x17\x03\x03\x00\x40" + os.urandom(64))
        expect_error(f"TLS {version}: the gateway", lambda g=g: g.recv(1), ConnectionResetError)
        stage.until_failure("decrypt_error", before)
        g.close()


@case("the backend stops speaking TLS after the handshake: a reset, never its bytes")
def plain_after_handshake(stage):
    for version in ("1.3", "1.2"):
        g, peer = stage.pair(version)
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nthis is not TLS")
        expect_error(f"TLS {version}: the gateway", lambda g=g: g.recv(100), ConnectionResetError)
        g.close()


@case("bad endings during the handshake: refused at connect(), each with its reason")
def during_handshake(stage):
    for script, reasons in ((scripts.close_at_once, ("handshake_eof", "backend_reset")),
                            (scripts.reset_at_once, ("backend_reset",)),
                            (scripts.close_after_hello, ("handshake_eof", "backend_reset")),
                            (scripts.reset_after_hello, ("backend_reset",)),
                            (scripts.garbage, ("not_tls",))):
        with Backend(stage.backend, backend4(2), PORT_BAD, script=script):
            expect_error(script.__name__, lambda: stage.gateway.connect(stage.bad.vip4, 80), ConnectionRefusedError)
            failure = stage.last_failure(f"{stage.bad.vip4}:80")
            expect_that(f"{script.__name__}: reason in {reasons}", failure["reason"] in reasons, failure)


@case("what the kernel may end B for: silence (keepalive), never a closed window (TCP_USER_TIMEOUT would)")
def limits_of_b(stage):
    g, peer = stage.pair()
    with stage.agent.backend_socket(stage.services["1.3"].vip4, 80) as b:
        options = {name: b.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                   for name in ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")}
        expect("keepalive", b.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
    expect("its options", options, {"TCP_USER_TIMEOUT": 0, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6})
    g.close()
    peer.close()


@case("nothing listens, no route: ECONNREFUSED and EHOSTUNREACH, as without postern")
def refused_and_unreachable(stage):
    expect_error("nothing listens", lambda: stage.gateway.connect(stage.bad.vip4, 80), ConnectionRefusedError)
    expect("reason", stage.last_failure(f"{stage.bad.vip4}:80")["reason"], "backend_refused")
    missing = Service("nowhere", 63, target=PORT_BAD, endpoints=(77,), hostname="echo.example")
    stage.publish(missing)
    stage.agent.until_policy("nowhere")
    address, port = missing.endpoint4
    error = expect_error("no such neighbour", lambda: stage.gateway.connect(address, port, timeout=20), OSError)
    expect("errno", error.errno, 113)  # EHOSTUNREACH
    expect("reason", stage.last_failure(f"{address}:{port}")["reason"], "backend_unreachable")


@case("a silent backend is left to the gateway's own timer, and B goes away with it")
def silent(stage):
    before = stage.total_failures()
    with Backend(stage.backend, backend4(2), PORT_BAD, script=scripts.silent) as backend:
        g = stage.gateway.start_connect(stage.bad.vip4, 80)
        until(lambda: backend.accepted, 30, "B at the backend")
        expect_error("connect within 1.5 s", lambda: finish_connect(g, 1.5), TimeoutError)
        g.close()
        until(lambda: stage.agent.status()["workers"]["attempts_live"] == 0, 30, "no attempt left")
        stage.until_failure("handshake_timeout", before)
        failure = stage.last_failure(f"{stage.bad.vip4}:80")
        expect_that("a detail that names the gateway's own timer", "gateway gave up" in failure["detail"], failure)


if __name__ == "__main__":
    main(EndingsStage)
