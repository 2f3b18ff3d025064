#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Every TLS version and cipher against real nginx, and the mode of each connection: in the kernel where the proof at
start said so, in user space elsewhere, with a reason; as posternctl, inet_diag and `ss` tell it.
"""

import http.client
import os
import re
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import http as client
from lib.case import case, expect, expect_that, main, skip
from lib.pattern import Pattern
from lib.process import run_in
from lib.stage import Stage
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

# (version, cipher as OpenSSL names it, cipher as the proof names it, nginx's words to get it)
SUITES = (
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "AES-128-GCM",
     "ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"),
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "AES-256-GCM",
     "ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;"),
    ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305",
     "ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_CHACHA20_POLY1305_SHA256;"),
    ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "AES-128-GCM",
     "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;"),
    ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", "AES-256-GCM",
     "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384;"),
    ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", "CHACHA20-POLY1305",
     "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-CHACHA20-POLY1305;"),
)
FIRST_PORT = 8730
SIZE = 4 << 20


class ModesStage(Stage):
    def _build(self):
        super()._build()
        self.suites = []
        for index, (version, cipher, proved, words) in enumerate(SUITES):
            port = FIRST_PORT + index
            service = self.publish(Service(f"suite-{index}", 120 + index, target=port, hostname="echo.example"))
            server = self.serve(f"suite-{index}", [(backend4(2), port)], self.leaf, words)
            (server.directory / "files/some").write_bytes(Pattern().whole(SIZE))
            self.suites.append((version, cipher, proved, service, server))
            self.agent.until_policy(service.name)

    def connection(self, service):
        """What posternctl says of the one connection to a Service."""
        found = [each for each in self.agent.connections() if each["destination"] == f"{service.vip4}:80"]
        expect("connections to the Service", len(found), 1)
        return found[0]


def proved(status, direction, version, cipher):
    """The modes that the proof found safe."""
    return {row["mode"] for row in status["proof"]["crypto"]
            if (row["direction"], row["version"], row["cipher"]) == (direction, version, cipher)
            and row["verdict"] == "safe"}


def declare(index, version, cipher):
    @case(f"{version} {cipher}: bytes, and the mode that the proof allows", limit=90)
    def suite(stage):
        _, _, proof_name, service, server = stage.suites[index]
        connection = http.client.HTTPConnection(service.vip4, 80, timeout=60)
        connection.sock = stage.gateway.connect(service.vip4, 80, timeout=60)
        answer = client.exchange(connection, "/")
        expect("what nginx saw", (answer.values["protocol"], answer.values["cipher"]), (version, cipher))
        expect("download", client.exchange(connection, "/files/some", keep=SIZE).body == Pattern().whole(SIZE), True)
        expect("upload", client.exchange(connection, "/upload/some", "PUT", Pattern().whole(SIZE)).status, 201)
        expect("uploaded", (server.directory / "upload/some").read_bytes() == Pattern().whole(SIZE), True)
        status = stage.agent.status()
        row = stage.connection(service)
        expect("version and SNI in posternctl", (row["tls_version"], row["sni"]), (version, "echo.example"))
        transmit = proved(status, "transmit", version, proof_name)
        receive = proved(status, "receive", version, proof_name)
        expect("to the backend in the kernel, as proved", row["to_backend"].startswith("ktls"), bool(transmit))
        expect("to the gateway in the kernel, as proved", row["to_gateway"].startswith("ktls"), bool(receive))
        if transmit and receive:
            expect_that("the kernel's own word", re.search(r"txconf: ?sw.*|rxconf: ?sw", row["ulp"]) and
                        row["ulp"].count("sw") >= 2, row["ulp"])
            said = run_in(stage.network["gateway"], "ss", "-tieH", "dst", service.vip4).stdout
            expect_that("ss: tcp-ulp-tls, rxconf and txconf sw", re.search(
                rf"tcp-ulp-tls version: {version[-3:]}.* rxconf: sw txconf: sw", said), said)
        else:
            expect_that("a reason for user space", row["mode_reason"] not in ("", "none"), row)
        # With TLS 1.2 the end of the gateway is told to a backend only when that one has ended, too: so it ends first.
        client.exchange(connection, "/", headers={"Connection": "close"})
        connection.close()
        until(lambda: all(each["destination"] != f"{service.vip4}:80" for each in stage.agent.connections()), 5,
              "no connection left")


for each_index, (each_version, each_cipher, _, _) in enumerate(SUITES):
    declare(each_index, each_version, each_cipher)


@case("sessions are resumed, with TLS 1.2 and 1.3, in the kernel or not: nginx says so, and so does posternctl")
def resumed(stage):
    for version, cipher, _, service, _ in stage.suites:
        before = stage.agent.status()["workers"]["handshakes_resumed"]
        rounds = []
        for _ in range(3):
            connection = http.client.HTTPConnection(service.vip4, 80, timeout=60)
            connection.sock = stage.gateway.connect(service.vip4, 80, timeout=60)
            answer = client.exchange(connection, "/")
            rounds.append((answer.values["reused"], stage.connection(service)["resumed"]))
            expect(f"{cipher}: bytes", client.exchange(connection, "/files/some", keep=SIZE).body ==
                   Pattern().whole(SIZE), True)
            client.exchange(connection, "/", headers={"Connection": "close"})
            connection.close()
            until(lambda: all(each["destination"] != f"{service.vip4}:80" for each in stage.agent.connections()), 5,
                  "no connection left")
        expect(f"{version} {cipher}: reused, as nginx and posternctl say of the last two", rounds[1:], [("r", True)] * 2)
        expect(f"{cipher}: resumptions counted",
               stage.agent.status()["workers"]["handshakes_resumed"] - before >= 2, True)


@case("with kTLS switched off everything works in user space, and the status says why", limit=120)
def switched_off(stage):
    stage.agent.stop()
    agent = stage.start_agent(ktls="off")
    _, _, _, service, _ = stage.suites[0]
    connection = http.client.HTTPConnection(service.vip4, 80, timeout=60)
    connection.sock = stage.gateway.connect(service.vip4, 80, timeout=60)
    expect("status", client.exchange(connection, "/").status, 200)
    row = stage.connection(service)
    expect("modes", (row["to_backend"], row["to_gateway"]), ("user_tls", "user_tls"))
    expect_that("a reason", row["mode_reason"] in ("ktls_off", "ktls_unavailable"), row["mode_reason"])
    expect("the switch in the status", agent.status()["switches"]["ktls"], "off")
    connection.close()


@case("with splice switched off the kernel's TLS is fed by copies", limit=120)
def no_splice(stage):
    if not stage.agent.status()["proof"]["kernel_tls"]:
        skip("this kernel has no TLS")
    stage.agent.stop()
    stage.start_agent(splice="off")
    _, _, _, service, _ = stage.suites[0]
    connection = http.client.HTTPConnection(service.vip4, 80, timeout=60)
    connection.sock = stage.gateway.connect(service.vip4, 80, timeout=60)
    expect("upload", client.exchange(connection, "/upload/copied", "PUT", Pattern().whole(SIZE)).status, 201)
    row = stage.connection(service)
    expect("modes", (row["to_backend"], row["to_gateway"]), ("ktls_copy", "ktls_copy"))
    connection.close()


if __name__ == "__main__":
    main(ModesStage)
