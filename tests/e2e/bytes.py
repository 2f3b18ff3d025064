#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Every byte of both directions arrives, in its place: odd sizes, slow readers, slow writers, TLS 1.2 and 1.3."""

import os
import ssl
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import case, expect, expect_that, main, times
from lib.sockets import receive_all
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.transfer import PATTERN, both_ways
from lib.world import Service

SIZES = (0, 1, 2, 1447, 16383, 16384, 16385, 65537, 1 << 20)
LARGE = 100 << 20
PORTS = {"1.3": 8700, "1.2": 8701}
VERSIONS = {"1.3": ssl.TLSVersion.TLSv1_3, "1.2": ssl.TLSVersion.TLSv1_2}


class BytesStage(Stage):
    def _build(self):
        super()._build()
        self.services, self.backends = {}, {}
        for index, (version, port) in enumerate(PORTS.items()):
            name = f"bytes-{version.replace('.', '-')}"
            self.services[version] = self.publish(Service(name, 50 + index, target=port, hostname="echo.example"))
            context = server_context(self.leaf, (VERSIONS[version], VERSIONS[version]))
            self.backends[version] = self.close_at_end(Backend(self.backend, backend4(2), port, context))
            self.agent.until_policy(name)

    def pair(self, version="1.3", blocking=False, buffer=None):
        """(G, the backend's end) of one new connection."""
        service = self.services[version]
        g = self.gateway.connect(service.vip4, service.port, timeout=120, blocking=blocking)
        if buffer:
            g.setsockopt(1, 8, buffer)  # SO_RCVBUF
        peer = self.backends[version].take()
        expect("version that the backend sees", peer.tls.version(), f"TLSv{version}")
        return g, peer


def each_way(stage):
    for version in PORTS:
        for blocking in (False, True):
            yield version, blocking, f"TLS {version}, {'blocking' if blocking else 'non-blocking'} gateway"


@case("sizes 0, 1, 2, 1447, 16383, 16384, 16385, 65537, 1 MB to the backend", limit=120)
def sizes_to_backend(stage):
    for version, blocking, what in each_way(stage):
        for size in SIZES:
            g, peer = stage.pair(version, blocking)
            g.sendall(PATTERN.whole(size))
            g.shutdown(1)
            if version == "1.2":
                expect(f"{what}: {size} bytes", peer.receive_exactly(size) == PATTERN.whole(size), True)
                peer.close_notify()
            expect(f"{what}: {size} bytes and the end", peer.receive_all() ==
                   (b"" if version == "1.2" else PATTERN.whole(size)), True)
            expect(f"{what}: {size} bytes: how it ended", peer.ending, "close_notify")
            if version == "1.3":
                peer.close_notify()
            expect(f"{what}: {size} bytes: what came back", receive_all(g), b"")
            g.close()
            peer.close()


@case("the same sizes to the gateway", limit=120)
def sizes_to_gateway(stage):
    for version, blocking, what in each_way(stage):
        for size in SIZES:
            g, peer = stage.pair(version, blocking)
            peer.send(PATTERN.whole(size))
            peer.close_notify()
            expect(f"{what}: {size} bytes", receive_all(g) == PATTERN.whole(size), True)
            g.close()
            expect(f"{what}: {size} bytes: how G's end came", (peer.receive_all(), peer.ending), (b"", "close_notify"))
            peer.close()


@case("pieces of 1 byte in turn, up to 5,000 each way: none waits for another", limit=240)
def ping_pong(stage):
    for version, blocking, what in each_way(stage):
        g, peer = stage.pair(version, blocking)
        for index in range(times(1250)):
            byte = bytes([index & 255])
            g.sendall(byte)
            expect(f"{what}: byte {index} at the backend", peer.receive(10), byte)
            peer.send(byte)
            expect(f"{what}: byte {index} at the gateway", g.recv(10), byte)
        g.close()
        peer.close()


@case("100 MB each way at the same time", limit=240)
def large(stage):
    for version in PORTS:
        size = LARGE if version == "1.3" else times(LARGE)
        g, peer = stage.pair(version)
        both_ways(g, peer, size, size)
        g.close()
        peer.close()


@case("a slow gateway: 8 MB read in small pieces, with pauses", limit=120)
def slow_gateway(stage):
    for version, blocking, what in each_way(stage):
        g, peer = stage.pair(version, blocking, buffer=65536)
        both_ways(g, peer, 1 << 20, 8 << 20, g_size=20011, g_pause=0.0005)
        g.close()
        peer.close()


@case("a slow backend: 8 MB read in small pieces, with pauses", limit=120)
def slow_backend(stage):
    for version, blocking, what in each_way(stage):
        g, peer = stage.pair(version, blocking)
        both_ways(g, peer, 8 << 20, 1 << 20, peer_size=9001, peer_pause=0.0005)
        g.close()
        peer.close()


@case("a gateway that does not read holds the backend back: what is in between stays bounded", limit=120)
def back_pressure_to_gateway(stage):
    g, peer = stage.pair(buffer=65536)
    peer.sock.settimeout(2)
    sent = 0
    try:
        while sent < 256 << 20:
            peer.send(PATTERN.piece(sent, 1 << 18))
            sent += 1 << 18
    except TimeoutError:
        pass
    expect_that("the backend blocked before 64 MB", sent < 64 << 20, sent)
    g.close()
    peer.close()


@case("a backend that does not read holds the gateway back: the lane's credit window and TCP's bound it", limit=240)
def back_pressure_to_backend(stage):
    for blocking in (False, True):
        for piece in (4096, 1 << 18):
            g, peer = stage.pair(blocking=blocking)
            if blocking:
                g.setsockopt(1, 21, b"\2" + b"\0" * 15)  # SO_SNDTIMEO, 2 s
            else:
                g.settimeout(2)
            sent = 0
            try:
                while sent < 256 << 20:
                    sent += g.send(PATTERN.piece(sent, piece))
            except (TimeoutError, BlockingIOError):
                pass
            expect_that(f"pieces of {piece} (blocking={blocking}): the gateway blocked before 64 MB", sent < 64 << 20,
                        sent)
            peer.sock.settimeout(30)
            received = peer.receive_exactly(sent)
            expect("every byte is there once the backend reads", received == PATTERN.whole(sent), True)
            g.close()
            peer.close()


if __name__ == "__main__":
    main(BytesStage)
