#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The watchdog of B: keys that appear in the kernel behind the agent's back are an incident; a connection in order is none.
Needs kernel TLS: in a guest.
"""

import os
import socket
import struct
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main, skip
from lib.prometheus import free_port, get, sample
from lib.sockets import receive_exactly
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service, World

PORT = 8960
TCP_ULP, SOL_TLS, TLS_TX = 31, 282, 1
TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128 = 0x0304, 51


def kernel_has_tls():
    with socket.socket() as listener, socket.socket() as one:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one.connect(listener.getsockname())
        try:
            one.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            return True
        except OSError:
            return False


class WatchWorld(World):
    def _build(self):
        if not kernel_has_tls():
            skip("the running kernel has no TLS")
        super()._build()
        self.leaf = self.authority.leaf("echo", "DNS:echo.example")
        self.covered = self.publish(Service("covered", 110, target=PORT, hostname="echo.example"))

    def serve(self, **switches):
        self.port = free_port()
        self.start_agent(metrics_address=f"127.0.0.1:{self.port}", **switches)

    def metric(self, name):
        return sample(get(self.port, "/metrics")[2], name)


@case("connections in order are looked at, and none is an incident", limit=120)
def in_order(world):
    world.serve()
    with Backend(world.backend, backend4(2), PORT, server_context(world.leaf)) as backend:
        with world.gateway.connect(world.covered.vip4, 80) as g:
            g.sendall(b"question")
            peer = backend.take()
            expect("what the backend got", peer.receive_exactly(8), b"question")
            peer.send(b"answer")
            expect("what the gateway got", receive_exactly(g, 6), b"answer")
            until(lambda: world.metric("postern_ulp_checks_total") >= 2, 60, "two looks at B", every=0.5)
            expect("incidents", world.metric("postern_ulp_mismatches_total"), 0)
            g.sendall(b"more")
            expect("and it lives", peer.receive_exactly(4), b"more")


@case("a record that does not authenticate: the connection is reset, and the kernel's own count of it is told", limit=180)
def forged_record(world):
    before = world.metric("postern_ulp_checks_total")
    with Backend(world.backend, backend4(2), PORT, server_context(world.leaf)) as backend:
        with world.gateway.connect(world.covered.vip4, 80) as g:
            g.sendall(b"question")
            peer = backend.take()
            expect("what the backend got", peer.receive_exactly(8), b"question")
            until(lambda: world.metric("postern_ulp_checks_total") > before, 60, "a look at B", every=0.5)
            expect("such records before it", world.metric("postern_tls_decrypt_errors_total"), 0)
            peer.sock.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            expect("reason", world.agent.failure_of(g, within=90)["reason"], "decrypt_error")
            g.settimeout(30)
            expect_error("what the gateway gets", lambda: g.recv(1), ConnectionResetError)
    until(lambda: world.metric("postern_tls_decrypt_errors_total") == 1, 60, "the kernel's count", every=0.5)
    world.agent.process.wait_for('event="records did not authenticate".* count=1 source=TlsDecryptError')


@case("keys in the kernel that the agent did not put there end the connection", limit=120)
def foreign_keys(world):
    world.agent.stop()
    world.serve(ktls="off")
    with Backend(world.backend, backend4(2), PORT, server_context(world.leaf)) as backend:
        with world.gateway.connect(world.covered.vip4, 80) as g:
            g.sendall(b"question")
            peer = backend.take()
            expect("what the backend got", peer.receive_exactly(8), b"question")
            with world.agent.backend_socket(world.covered.vip4, 80) as b:
                b.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
                b.setsockopt(SOL_TLS, TLS_TX, struct.pack("=HH8s16s4s8s", TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128,
                                                          bytes(8), bytes(16), bytes(4), bytes(8)))
            failure = world.agent.failure_of(g, within=90)
            expect("reason", failure["reason"], "kernel_tls_mismatch")
            expect_that("the detail says what the kernel says", "txconf: sw" in failure["detail"], failure["detail"])
            g.settimeout(30)
            try:
                expect("the end of G", g.recv(1), "a reset")
            except ConnectionResetError:
                pass
    expect("incidents", world.metric("postern_ulp_mismatches_total"), 1)
    expect_that("the log has it", any('event="the kernel disagrees about B"' in line
                                      for line in world.agent.process.lines), world.agent.process.lines[-5:])


if __name__ == "__main__":
    main(WatchWorld)
