#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The same traffic through each real gateway: nginx, HAProxy, Envoy; small and large, one after another and pooled."""

import hashlib
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import envoy, haproxy, http, nginx
from lib.case import SLOWNESS, case, expect, expect_that, main
from lib.pattern import Pattern
from lib.stage import ECHO_PORT, Stage
from lib.topology import GATEWAY4
from lib.transfer import Job
from lib.waiting import until

MARKER = b"postern-gateways-marker-5d1e"
LARGE = 5_000_000
GATEWAYS = (("nginx", 8401, nginx.gateway), ("HAProxy", 8402, haproxy.HAProxy), ("Envoy", 8403, envoy.Envoy))


def declare(name, port, make):
    @case(f"{name}: answers with the policy's SNI, {LARGE} bytes each way, 40 requests by 8 clients; no plaintext",
          limit=90)
    def traffic(stage):
        front = make(stage.new_directory("gateway"), stage.network["gateway"], stage.gateway_cgroup, GATEWAY4, port,
                     {route: stage.routes[route] for route in ("vip4", "vip6", "pod4", "pod6")})
        body = Pattern().whole(LARGE)
        digest = hashlib.sha256(body).hexdigest()
        (stage.tls_nginx.directory / "files/large").write_bytes(body)
        try:
            with stage.capture(MARKER) as wire:
                for route in ("vip4", "vip6", "pod4", "pod6"):
                    answer = stage.ask(route, port=port, headers={"X-Marker": MARKER.decode()})
                    expect(f"{route}: status, SNI, marker", (answer.status, answer.values.get("sni"),
                           answer.values.get("marker")), (200, "echo.example", MARKER.decode()))
                answer = stage.ask("vip4", "files/large", port=port)
                expect("download", (answer.status, answer.size, answer.sha256), (200, LARGE, digest))
                status = stage.ask("vip6", f"upload/{name}", method="PUT", body=body, port=port).status
                expect_that("an upload that was taken", status in (201, 204), status)
                uploaded = stage.tls_nginx.directory / "upload" / name
                expect("uploaded bytes", uploaded.read_bytes() == body, True)
                clients = [Job(five_requests, stage, port) for _ in range(8)]
                for client in clients:
                    expect("statuses of one client", client.result(), [200] * 5)
                report = wire.report()
            expect("markers on the wire", report.markers, 0)
            expect("streams that are not TLS", report.not_tls(ECHO_PORT), [])
        finally:
            front.close()
            # What TLS says at the end of a pooled connection would be the first that the next case's capture sees of it.
            until(lambda: not stage.agent.connections(), 10 * SLOWNESS, "no connection left")


def five_requests(stage, port):
    return [http.request(stage.client, GATEWAY4, port, "/pod4/").status for _ in range(5)]


for each in GATEWAYS:
    declare(*each)


if __name__ == "__main__":
    main(Stage)
