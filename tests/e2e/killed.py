#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The agent dies by SIGKILL: idle, in a handshake, in mid-transfer. Never plaintext, never a clean end in mid-body."""

import os
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import backend as scripts
from lib.backend import Backend
from lib.case import SLOWNESS, case, expect, expect_error, expect_that, main
from lib.pattern import Checker, Pattern
from lib.process import run_in
from lib.sockets import finish_connect
from lib.stage import ECHO_PORT, Stage
from lib.tls_peer import server_context
from lib.topology import GATEWAY4, backend4
from lib.waiting import until
from lib.world import GATEWAY_PORT, Service

MARKER = b"postern-killed-marker-9e02"
PORT = 8600


class KilledStage(Stage):
    KEEPALIVE = 4

    def _build(self):
        super()._build()
        self.service = self.publish(Service("held", 40, target=PORT, hostname="echo.example"))
        self.context = server_context(self.leaf)
        self.agent.until_policy("held")

    def revive(self):
        """A new agent for the next case, if the last one is dead."""
        if not self.agent.process.running():
            self.start_agent()


def expect_refused_when_dead(stage):
    covered = [(stage.echo.vip4, 80), stage.echo.endpoint4, (stage.echo.vip6, 80), stage.echo.endpoint6]
    for address, port in covered:
        expect_error(f"connect to covered {address} without an agent",
                     lambda address=address, port=port: stage.gateway.connect(address, port, timeout=3),
                     ConnectionRefusedError)
    expect("a request to the covered Service", stage.ask("vip4", headers={"X-Marker": MARKER.decode()}).status, 502)
    for address, port in ((stage.plain.vip4, 80), stage.plain.endpoint4, (stage.plain.vip6, 80)):
        stage.gateway.connect(address, port, timeout=3).close()
    expect("a request to the plain Service", stage.ask("plain").status, 200)


def expect_not_clean(what, sock, already=b""):
    """The rest of sock must be a reset, not an end."""
    received = len(already)
    try:
        while piece := sock.recv(1 << 18):
            received += len(piece)
    except ConnectionResetError:
        return
    expect_that(f"{what}: a reset after {received} bytes", False, "a clean end")


@case("idle: pooled connections are reset, covered connects refused, others untouched; a new agent serves again")
def idle(stage):
    stage.revive()
    with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
        expect("request before", stage.ask("vip4", headers={"X-Marker": MARKER.decode()}).status, 200)
        g = stage.gateway.connect(stage.service.vip4, 80)
        peer = backend.take()
        stage.agent.kill()
        expect_error("the gateway's idle connection", lambda: g.recv(1), ConnectionResetError)
        expect_error("the backend's end of it", peer.receive, ConnectionResetError)
        expect_refused_when_dead(stage)
        stage.start_agent()
        answer = stage.ask("vip4", headers={"X-Marker": MARKER.decode()})
        expect("request after the restart", (answer.status, answer.values.get("sni")), (200, "echo.example"))
        stage.gateway.connect(stage.service.vip4, 80).close()
        report = wire.report()
    # Requests to the plain Service carry no marker, so every marker would be one of a covered connection.
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(ECHO_PORT, PORT), [])


@case("in the handshake: the held connect is refused at its next SYN, nothing but TLS was sent")
def handshake(stage):
    stage.revive()
    with stage.capture(MARKER) as wire, \
            Backend(stage.backend, backend4(2), PORT, script=scripts.silent) as backend:
        g = stage.gateway.start_connect(stage.service.vip4, 80)
        until(lambda: backend.accepted, 10, "B at the backend")
        stage.agent.kill()
        expect_error("the held connect", lambda: finish_connect(g, 10), ConnectionRefusedError)
        expect_refused_when_dead(stage)
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("sent and not TLS", report.sent_not_tls(PORT), [])


@case("killed and restarted while a connect is held: the SYN that G repeats is held and completed by the new agent")
def held_over_restart(stage):
    stage.revive()
    silent = Backend(stage.backend, backend4(2), PORT, script=scripts.silent)
    g = stage.gateway.start_connect(*stage.service.endpoint4)
    until(lambda: silent.accepted, 10, "B at the backend")
    # A SYN that finds no listener is refused. How long the new agent takes to start must not decide this case, so the
    # SYNs that G repeats (1, 3, 7... s after the first) are lost until it is there.
    lost_syns(stage, stage.agent.ports())
    stage.agent.kill()
    silent.close()
    with Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
        stage.start_agent()
        run_in(stage.network["gateway"], "nft", "delete", "table", "inet", "lost")
        finish_connect(g, 40)
        peer = backend.take()
        g.sendall(b"after the restart")
        expect("bytes through the new agent", peer.receive_exactly(17), b"after the restart")


def lost_syns(stage, ports):
    run_in(stage.network["gateway"], "nft", "-f", "-", stdin=f"""
        add table inet lost
        add chain inet lost input {{ type filter hook input priority 0; }}
        add rule inet lost input iifname lo tcp dport {{ {", ".join(map(str, ports))} }} drop
    """)


@case("killed and started again at once: how long until a connect works, and until then each is refused", limit=120)
def first_connect(stage):
    stage.revive()
    with Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
        def connects():
            try:
                return stage.gateway.connect(stage.service.vip4, 80)
            except ConnectionRefusedError:
                return None
        begun = time.monotonic()
        stage.agent.kill()
        new = stage.start_agent(ready=False)
        with until(connects, 90 * SLOWNESS, "a connect that works") as g:
            lasted = time.monotonic() - begun
            g.sendall(b"after the kill")
            expect("bytes through the new agent", backend.take().receive_exactly(14), b"after the kill")
        new.wait_ready()
        proof = new.status()["proof"]["milliseconds"]
    print(f"     {lasted * 1000:.0f} ms from SIGKILL to the first new connection, {proof} ms of them the start-up proof")


@case("in mid-download: the gateway sees a reset, never a clean end", limit=90)
def download(stage):
    stage.revive()
    pattern, total = Pattern(), 200 << 20
    with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
        for blocking in (False, True):
            stage.revive()
            g = stage.gateway.connect(stage.service.vip4, 80, blocking=blocking)
            peer = backend.take()
            sender = threading.Thread(target=send_until_error, args=(peer.send, pattern, total))
            sender.start()
            checker = Checker(pattern)
            while checker.received < 4 << 20:
                checker.feed(g.recv(1 << 18))
            stage.agent.kill()
            expect_not_clean(f"the gateway (blocking={blocking})", g)
            expect("bytes up to the end are right", checker.wrong_at, None)
            sender.join()
        report = wire.report()
    expect("streams that are not TLS", report.not_tls(PORT), [])


@case("in mid-upload: the backend sees a reset or a cut without close_notify, never a proper end", limit=90)
def upload(stage):
    with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), PORT, stage.context) as backend:
        for blocking in (False, True):
            stage.revive()
            g = stage.gateway.connect(stage.service.vip4, 80, blocking=blocking)
            peer = backend.take()
            data = MARKER * 10_000
            sender = threading.Thread(target=send_until_error, args=(g.sendall, None, 0, data))
            sender.start()
            seen = 0
            while seen < 4 << 20:
                seen += len(peer.receive())
            stage.agent.kill()
            ending = "reset"
            try:
                while peer.receive():
                    pass
                ending = peer.ending
            except ConnectionResetError:
                pass
            expect_that("a reset or a truncated stream", ending in ("reset", "truncated"), ending)
            sender.join()
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(PORT), [])


def send_until_error(send, pattern, total, again=None):
    try:
        if again:
            while True:
                send(again)
        for piece in pattern.pieces(total):
            send(piece)
    except OSError:
        pass


@case("a request of a real gateway in mid-body: nginx's client gets a broken answer, not a short one that looks whole")
def real_gateway(stage):
    stage.revive()
    (stage.tls_nginx.directory / "files/large").write_bytes(Pattern().whole(64 << 20))
    client = stage.client.connect(GATEWAY4, GATEWAY_PORT, timeout=60)
    client.sendall(b"GET /vip4/files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = client.recv(65536)
    expect_that("200 and a length", b"200 OK" in head and b"Content-Length: 67108864" in head, head[:200])
    stage.agent.kill()
    received = len(head)
    try:
        while piece := client.recv(1 << 20):
            received += len(piece)
    except ConnectionResetError:
        pass
    expect_that("less than the whole", received < 64 << 20, received)
    until(lambda: stage.front.errors("reset by peer") or stage.front.errors("prematurely closed"), 10,
          "nginx's own word: the upstream reset")


if __name__ == "__main__":
    main(KilledStage)
