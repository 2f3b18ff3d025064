#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The harness itself, without the agent: what the other tests see and count can be seen and counted."""

import os
import ssl
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import haproxy, http, nginx
from lib.backend import Backend
from lib.case import case, expect, expect_that, main
from lib.manifests import to_yaml
from lib.process import run
from lib.sockets import receive_exactly
from lib.tls_peer import server_context
from lib.topology import GATEWAY4, backend4, backend6
from lib.world import GATEWAY_PORT, Service, World

MARKER = b"postern-harness-marker"


def plain_backend(world, port):
    return nginx.backend(world.new_directory("backend"), world.network["backend"], world.backend_cgroup,
                         [(backend4(2), port), (f"{backend6(2)}", port)])


@case("nginx as gateway reaches a plain backend by ClusterIP and endpoint, IPv4 and IPv6, and the wire shows it")
def plain_nginx(world):
    service = world.publish(Service("plain", 10, target=8000))
    backend = plain_backend(world, 8000)
    gateway = nginx.gateway(world.new_directory("gateway"), world.network["gateway"], world.gateway_cgroup,
                            GATEWAY4, GATEWAY_PORT, {"vip4": [(service.vip4, 80)], "vip6": [(service.vip6, 80)],
                                                     "pod4": [service.endpoint4], "pod6": [service.endpoint6]})
    with world.capture(MARKER) as wire:
        for route in ("vip4", "vip6", "pod4", "pod6"):
            answer = http.request(world.client, GATEWAY4, GATEWAY_PORT, f"/{route}/",
                                  headers={"X-Marker": MARKER.decode()})
            expect(f"{route}: status", answer.status, 200)
            expect(f"{route}: what the backend saw", answer.values["marker"], MARKER.decode())
        report = wire.report()
    expect("markers on the wire (4 requests, 4 answers)", report.markers, 8)
    expect("streams that are not TLS", len(report.not_tls(8000)), 8)
    gateway.close()
    backend.close()


@case("HAProxy as gateway reaches it, too")
def plain_haproxy(world):
    service = world.publish(Service("plain", 10, target=8000))
    backend = plain_backend(world, 8000)
    gateway = haproxy.HAProxy(world.new_directory("gateway"), world.network["gateway"], world.gateway_cgroup,
                              GATEWAY4, GATEWAY_PORT, {"vip": [(service.vip4, 80)]})
    answer = http.request(world.client, GATEWAY4, GATEWAY_PORT, "/vip/x")
    expect("status", answer.status, 200)
    gateway.close()
    backend.close()


@case("ClusterIPs: DNAT on the node and in the gateway's own output hook, one endpoint and several in turn")
def dnat(world):
    for where in ("node", "gateway"):
        for vip, address in (("10.96.0.11", backend4), ("fd96::11", backend6)):
            endpoints = [(address(4), 8001), (address(5), 8002)]
            world.network.cluster_ip(vip, 81, endpoints, where)
            with Backend(world.backend, *endpoints[0]) as one, Backend(world.backend, *endpoints[1]) as other:
                for _ in range(4):
                    world.gateway.connect(vip, 81).close()
                for backend in (one, other):
                    backend.take()
                    backend.take()
                expect(f"{vip} by the {where}: connections of each endpoint", (one.accepted, other.accepted), (2, 2))
            world.network.cluster_ip(vip, 81, [], where)


@case("a marker split over segments is found once, in both directions")
def split_marker(world):
    with world.capture(MARKER) as wire, Backend(world.backend, backend4(3), 8003) as backend:
        sock = world.gateway.connect(backend4(3), 8003)
        peer = backend.take()
        sock.setsockopt(6, 1, 1)
        for byte in MARKER:
            sock.sendall(bytes([byte]))
        peer.sendall(b"x" * 100_000 + MARKER + b"y" * 100_000)
        expect("bytes", len(receive_exactly(sock, 200_000 + len(MARKER))), 200_000 + len(MARKER))
        report = wire.report()
    expect("markers", report.markers, 2)
    expect("markers of each stream", sorted(sum(stream["markers"]) for stream in report.to_ports(8003)), [1, 1])


@case("TLS is told from what is not: a real handshake with data, and the same with a plain byte before it")
def tls_or_not(world):
    leaf = world.authority.leaf("harness", "DNS:harness.example")
    client = ssl.create_default_context(cafile=world.authority.certificate)
    with world.capture(MARKER) as wire, \
            Backend(world.backend, backend4(3), 8004, server_context(leaf)) as backend:
        with client.wrap_socket(world.gateway.connect(backend4(3), 8004), server_hostname="harness.example") as tls:
            peer = backend.take()
            data = MARKER * 10_000
            sender = threading.Thread(target=tls.sendall, args=(data,))
            sender.start()
            expect("bytes through TLS", peer.receive_exactly(len(data)) == data, True)
            sender.join()
        report = wire.report()
        expect("markers", report.markers, 0)
        expect("streams that are not TLS", report.not_tls(8004), [])
        expect_that("records in both directions", all(stream["records"] > 2 for stream in report.to_ports(8004)),
                    report.streams)
        world.gateway.connect(backend4(3), 8004).sendall(b"\x00")
        plain = world.gateway.connect(backend4(3), 8004)
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        expect_that("the backend's alert or end", plain.recv(100) is not None, None)
        expect_that("streams that are not TLS", len(wire.report().not_tls(8004)) >= 1, wire.report().streams)


@case("a backend that drops SYNs is silent, one without a listener refuses")
def silent_and_refusing(world):
    world.network.silence(backend4(2), 8005)
    for port, timeout, error in ((8005, 0.3, TimeoutError), (8006, 10, ConnectionRefusedError)):
        try:
            world.gateway.connect(backend4(2), port, timeout=timeout)
            seen = "connected"
        except OSError as failure:
            seen = type(failure).__name__
        expect(f"port {port}", seen, error.__name__)


@case("manifests read as YAML by an independent reader")
def yaml(world):
    service = Service("echo", 12, target=8443, hostname="echo.example", options={"postern.dev/alpn": "none"})
    text = "---\n".join(to_yaml(each) for each in world.objects(service))
    expect_that("the CA as a literal block", "ca.crt: |\n    -----BEGIN CERTIFICATE-----\n" in text, text)
    # Debian's python3-yaml need not be there: Ruby, Perl or yq might be. libyaml by way of the agent is another test.
    done = run("/usr/bin/python3", "-c", "import sys, yaml; print(len(list(yaml.safe_load_all(sys.stdin))))", stdin=text,
               check=False)
    if done.returncode == 0:
        expect("documents", done.stdout.strip(), "6")


if __name__ == "__main__":
    main(World)
