#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Options of a policy (postern.dev/...) whose effect is the datapath's: kTLS, resumption, the three timeouts."""

import os
import sys
import time
from http.client import HTTPConnection

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import backend as scripts
from lib import http
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.stage import Stage
from lib.topology import backend4
from lib.waiting import LONG, until
from lib.world import Service

PORT = 8670
DEFAULT_LIMIT = 10  # seconds: the agent's own for a handshake, and less than for a dial


class OptionsStage(Stage):
    def with_options(self, name, number, target, **options):
        service = self.publish(Service(name, number, target=target, hostname="echo.example", options={
            f"postern.dev/{key.replace('_', '-')}": value for key, value in options.items()}))
        self.agent.until_policy(name)
        return service

    def row(self, service):
        return next((each for each in self.agent.connections() if each["destination"] == f"{service.vip4}:80"), None)


def seconds(action):
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


@case("ktls off: that policy's connections are in user space, with the reason, others as ever")
def ktls_off(stage):
    service = stage.with_options("ktls-off", 150, 8443, ktls="off")
    g = stage.gateway.connect(service.vip4, 80)
    row = until(lambda: stage.row(service), LONG, "the connection in the list")
    expect("modes", (row["to_backend"], row["to_gateway"]), ("user_tls", "user_tls"))
    expect_that("the reason", row["mode_reason"] in ("ktls_off", "ktls_unavailable"), row)
    g.close()
    expect("it carries requests", http.request(stage.gateway, service.vip4, 80, "/").status, 200)


@case("ktls require: in the kernel, or refused with the reason")
def ktls_require(stage):
    service = stage.with_options("ktls-require", 151, 8443, ktls="require")
    if stage.agent.status()["proof"]["kernel_tls"]:
        expect("it carries requests", http.request(stage.gateway, service.vip4, 80, "/").status, 200)
        g = stage.gateway.connect(service.vip4, 80)
        row = until(lambda: stage.row(service), LONG, "the connection in the list")
        expect_that("kernel TLS", row["to_backend"].startswith("ktls"), row)
        g.close()
    else:
        expect_error("a connect", lambda: stage.gateway.connect(service.vip4, 80), ConnectionRefusedError)
        expect("reason", stage.agent.failures()[0]["reason"], "ktls_unavailable")


@case("resumption off: every handshake of that policy is a full one")
def resumption_off(stage):
    service = stage.with_options("never-resumed", 152, 8443, resumption="off")
    for _ in range(3):
        expect("reused, as nginx says", http.request(stage.gateway, service.vip4, 80, "/").values["reused"], ".")
    service = stage.with_options("resumed", 153, 8443)
    for _ in range(2):
        answer = http.request(stage.gateway, service.vip4, 80, "/")
    expect("without the option", answer.values["reused"], "r")


@case("connect-timeout and handshake-timeout end an attempt at their time, with their reasons")
def attempt_timeouts(stage):
    stage.network.silence(backend4(2), PORT)
    silent = stage.with_options("silent", 154, PORT, connect_timeout="300ms")
    with Backend(stage.backend, backend4(2), PORT + 1, script=scripts.silent):
        mute = stage.with_options("mute", 155, PORT + 1, handshake_timeout="400ms")
        for service, least, reason, error in ((silent, 0.3, "backend_silent", OSError),
                                              (mute, 0.4, "handshake_timeout", ConnectionRefusedError)):
            took = seconds(lambda service=service, error=error: expect_error(
                service.name, lambda: stage.gateway.connect(service.vip4, 80, timeout=20), error))
            expect_that(f"{service.name}: refused at its time", least <= took < DEFAULT_LIMIT, took)
            expect(f"{service.name}: reason", stage.agent.failures()[0]["reason"], reason)


@case("idle-timeout resets a connection that says nothing, and not one that does")
def idle_timeout(stage):
    # Many times what is between two requests: a machine that does other things must not make an idle one of it.
    service = stage.with_options("idle", 156, 8443, idle_timeout="2500ms")
    idle, busy = (stage.gateway.connect(service.vip4, 80) for _ in range(2))
    connection = HTTPConnection(service.vip4, 80)
    connection.sock = busy
    begun = time.monotonic()

    def twice_the_time():
        expect("status", http.exchange(connection, "/").status, 200)
        return time.monotonic() >= begun + 5
    until(twice_the_time, 20, "twice the time", every=0.1)
    idle.settimeout(3)
    expect_error("the idle one", lambda: idle.recv(1), ConnectionResetError)
    expect("reason", stage.agent.failure_of(idle)["reason"], "idle_timeout")


if __name__ == "__main__":
    main(OptionsStage)
