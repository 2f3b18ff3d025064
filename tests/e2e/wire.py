#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What a wire tap between gateway and backend sees: TLS and no byte of plaintext, whatever the backend is."""

import hashlib
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import backend as scripts
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.certificates import Authority, self_signed
from lib.stage import ECHO_PORT, Stage
from lib.tls_peer import TlsPeer, server_context
from lib.topology import backend4, backend6
from lib.world import Service

MARKER = b"postern-wire-marker-41c7"
STRANGER_PORT = 8090


class WireStage(Stage):
    KEEPALIVE = 4

    def _build(self):
        super()._build()
        other = Authority(self.directory / "other-certificates", "other-ca")
        # name, the leaf that the backend shows, what it does instead, the reason in posternctl
        self.bad = [
            ("wrong-ca", other.leaf("wrong-ca", "DNS:bad.example"), None, "certificate_untrusted"),
            ("wrong-san", self.authority.leaf("wrong-san", "DNS:other.example"), None, "identity_mismatch"),
            ("expired", self.authority.leaf("expired", "DNS:bad.example", expired=True), None, "certificate_expired"),
            ("self-signed", self_signed(self.directory, "self-signed", "DNS:bad.example"), None,
             "certificate_self_signed"),
            ("client-only", self.authority.leaf("client-only", "DNS:bad.example", usage="clientAuth"), None,
             "certificate_invalid"),
            ("not-tls", None, scripts.garbage, "not_tls"),
            ("closing", None, scripts.close_after_hello, "handshake_eof"),
            ("resetting", None, scripts.reset_after_hello, "backend_reset"),
        ]
        self.bad_routes = {}
        for index, (name, _, _, _) in enumerate(self.bad):
            service = Service(name, 30 + index, target=8500 + index, hostname="bad.example")
            self.publish(service)
            self.bad_routes[f"{name}-vip4"] = [(service.vip4, 80)]
            self.bad_routes[f"{name}-vip6"] = [(service.vip6, 80)]
            self.bad_routes[f"{name}-pod4"] = [service.endpoint4]
        self.bad_front = self.start_gateway(self.bad_routes, port=8081, keepalive=0)
        for name, *_ in self.bad:
            self.agent.until_policy(name)


@case("without postern the same request is in plain on the wire: the tap sees what it has to see")
def control(stage):
    stage.start_gateway(stage.routes, port=STRANGER_PORT, cgroup=stage.cgroups.make("not-enrolled"))
    with stage.capture(MARKER) as wire:
        answer = stage.ask("vip4", port=STRANGER_PORT, headers={"X-Marker": MARKER.decode()})
        report = wire.report()
    expect("status of a plain request to a TLS port", answer.status, 400)
    expect_that("markers on the wire", report.markers > 0, report.markers)
    expect_that("a stream that is not TLS", report.sent_not_tls(ECHO_PORT), report.streams)


@case("requests and answers through ClusterIP and endpoint, IPv4 and IPv6: TLS, the policy's SNI, no plaintext")
def normal(stage):
    with stage.capture(MARKER) as wire:
        for route in ("vip4", "vip6", "pod4", "pod6"):
            answer = stage.ask(route, headers={"X-Marker": MARKER.decode()})
            expect(f"{route}: status", answer.status, 200)
            expect(f"{route}: SNI that the backend saw", answer.values["sni"], "echo.example")
            expect(f"{route}: protocol", answer.values["protocol"], "TLSv1.3")
            expect(f"{route}: the answer came back in plain to the gateway", answer.values["marker"], MARKER.decode())
        body = MARKER * 50_000
        expect("upload", stage.ask("vip4", "upload/marker", method="PUT", body=body).status, 201)
        expect("uploaded bytes are whole", (stage.tls_nginx.directory / "upload/marker").read_bytes() == body, True)
        (stage.tls_nginx.directory / "files/marker").write_bytes(body)
        expect("sha256 of a download", stage.ask("vip6", "files/marker").sha256, hashlib.sha256(body).hexdigest())
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(ECHO_PORT), [])
    expect_that("more than 2 MB in TLS records", sum(stream["bytes"] for stream in report.to_ports(ECHO_PORT)) >
                2 * len(body), report.streams)


@case("a Service without a policy is left alone: plain, and the tap sees it")
def uncovered(stage):
    with stage.capture(MARKER) as wire:
        answer = stage.ask("plain", headers={"X-Marker": MARKER.decode()})
        expect("status", answer.status, 200)
        expect("markers on the wire", wire.report().markers, 2)


@case("wrong CA, wrong SAN, expired, self-signed, client-only, no TLS, close, reset: 502, the reason, no plaintext",
      limit=120)
def bad_backends(stage):
    for index, (name, leaf, script, reason) in enumerate(stage.bad):
        port = 8500 + index
        received = []

        def keep(peer_script, leaf=leaf, received=received):
            def serve(sock):
                if peer_script:
                    return peer_script(sock)
                received.append(TlsPeer(sock, server_context(leaf)).handshake().receive_all())
                return None
            return serve

        with stage.capture(MARKER) as wire, Backend(stage.backend, backend4(2), port, script=keep(script)), \
                Backend(stage.backend, backend6(2), port, script=keep(script)):
            for route in (f"{name}-vip4", f"{name}-vip6", f"{name}-pod4"):
                answer = stage.ask(route, port=8081, method="POST", body=MARKER * 100,
                                   headers={"X-Marker": MARKER.decode()})
                expect(f"{route}: status", answer.status, 502)
                failure = stage.agent.failures()[0]
                expect(f"{route}: reason", (failure["reason"], failure["policy"]), (reason, f"default/{name}"))
                expect_that(f"{route}: a remedy", failure["remedy"], failure)
            report = wire.report()
        expect(f"{name}: bytes that reached the backend's application", b"".join(received), b"")
        expect(f"{name}: markers on the wire", report.markers, 0)
        expect(f"{name}: sent to the backend and not TLS", report.sent_not_tls(port), [])
        expect_that(f"{name}: connections seen", len(report.towards(port)) >= 3, report.streams)


@case("a covered connection exists only after the backend is verified: a G of its own sees ECONNREFUSED from connect()")
def connect_tells_the_truth(stage):
    context = server_context(next(leaf for name, leaf, _, _ in stage.bad if name == "wrong-san"))
    port = 8500 + [name for name, *_ in stage.bad].index("wrong-san")
    with Backend(stage.backend, backend4(2), port, context) as backend:
        for blocking in (True, False):
            expect_error(f"connect (blocking={blocking})",
                         lambda blocking=blocking: stage.gateway.connect(backend4(2), port, blocking=blocking),
                         ConnectionRefusedError)
        expect("connections that the backend took for good", backend.waiting(), 0)


@case("the gateway sees the address that it dialed as its peer, not the agent")
def peer_name(stage):
    for address, port in ((stage.echo.vip4, 80), stage.echo.endpoint4, (stage.echo.vip6, 80), stage.echo.endpoint6):
        sock = stage.gateway.connect(address, port)
        expect(f"getpeername after connecting to {address}", sock.getpeername()[:2], (address, port))
        sock.close()


@case("an IPv6 socket that dials a v4-mapped address is covered like the IPv4 address")
def v4_mapped(stage):
    with stage.capture(MARKER) as wire:
        sock = stage.gateway.socket(10)  # AF_INET6
        sock.settimeout(10)
        address, port = stage.echo.endpoint4
        sock.connect((f"::ffff:{address}", port))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Marker: " + MARKER + b"\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
        report = wire.report()
    expect_that("an answer with the SNI", b"sni=echo.example" in answer, answer)
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(ECHO_PORT), [])


if __name__ == "__main__":
    main(WireStage)
