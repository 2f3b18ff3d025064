#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Live connections when the policy changes, and when time passes: verified once more, then kept or reset."""

import os
import queue
import signal
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend
from lib.case import SLOWNESS, case, expect, expect_error, expect_that, main, times
from lib.certificates import Authority
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import LONG, until
from lib.world import Service

PORT = 8650
RESETS = (ConnectionResetError, ConnectionAbortedError)


class LiveStage(Stage):
    def _build(self):
        super()._build()
        self.other = Authority(self.directory / "other-certificates", "other-ca")

    def served(self, name, number, leaf=None, **policy):
        """A Service whose backend is in the test's own hands."""
        service = Service(name, number, target=PORT + number, hostname="echo.example", **policy)
        backend = self.close_at_end(Backend(self.backend, backend4(2), service.target,
                                            server_context(leaf or self.leaf)))
        self.publish(service)
        self.agent.until_policy(name)
        return service, backend

    def change(self, service, **fields):
        """Other values of the policy; comes back when a snapshot has them."""
        before = self.agent.generation()
        for name, value in fields.items():
            setattr(service, name, value)
        self.write_manifests(service)
        until(lambda: self.agent.generation() > before, LONG, "another snapshot", every=0.01)

    def verified_again(self):
        return self.agent.status()["workers"]["verified_again"]


def connect(stage, service, backend):
    g = stage.gateway.connect(service.vip4, 80)
    peer = backend.take()
    expect_alive("a new connection", g, peer)
    return g, peer


def expect_alive(what, g, peer):
    g.sendall(b"to the backend")
    expect(f"{what}: at the backend", peer.receive_exactly(14), b"to the backend")
    peer.send(b"to the gateway")
    expect(f"{what}: at the gateway", g.recv(14), b"to the gateway")


def alive_until(end, what, g, peer):
    def one_more():
        expect_alive(what, g, peer)
        return time.monotonic() >= end
    until(one_more, max(0, end - time.monotonic()) + 1, "the end of the time", every=0.1)


def expect_reset(stage, what, g, within, reason, detail):
    g.settimeout(within)
    expect_error(what, lambda: g.recv(1), *RESETS)
    failure = stage.agent.failure_of(g)
    expect(f"{what}: reason", failure["reason"], reason)
    expect_that(f"{what}: {detail!r} in the detail", detail in failure["detail"], failure)


@case("the CA is rotated: with old and new together live connections go on, with the new one alone they are reset")
def authority_rotated(stage):
    service, backend = stage.served("rotated", 130)
    g, peer = connect(stage, service, backend)
    before = stage.verified_again()

    class Both:
        pem = stage.authority.pem + stage.other.pem
    stage.change(service, authority=Both)
    until(lambda: stage.verified_again() > before, LONG, "another look at the connection")
    expect_alive("with both CAs", g, peer)
    stage.change(service, authority=stage.other)
    expect_reset(stage, "with the other CA", g, 1, "certificate_untrusted",
                 "verified again after a change of policy default/rotated: ")
    expect("who was reset is not connected anew", backend.waiting(), 0)


@case("hostname, subjectAltNames, pins: what the peer still satisfies is kept, what not is reset within a second")
def identity_changed(stage):
    leaf = stage.authority.leaf("two-names", "DNS:echo.example", "DNS:second.example")
    service, backend = stage.served("named", 131, leaf)
    g, peer = connect(stage, service, backend)
    stage.change(service, hostname="second.example")
    expect_alive("by its other name", g, peer)
    stage.change(service, sans=("echo.example", "third.example"))
    expect_alive("by subjectAltNames", g, peer)
    stage.change(service, sans=("third.example",))
    expect_reset(stage, "by no name", g, 1, "identity_mismatch", "verified again")
    stage.change(service, hostname="echo.example", sans=())
    g, peer = connect(stage, service, backend)
    stage.change(service, hostname="nobody.example")
    expect_reset(stage, "by another hostname", g, 1, "identity_mismatch", "verified again")
    stage.change(service, hostname="echo.example")
    g, peer = connect(stage, service, backend)
    stage.change(service, options={"postern.dev/pin-sha256": "A" * 43 + "="})
    expect_reset(stage, "by a pin", g, 1, "pin_mismatch", "verified again")


@case("options that say nothing of the peer leave live connections as they are; a deleted policy does, too")
def kept(stage):
    service, backend = stage.served("kept", 132)
    g, peer = connect(stage, service, backend)
    for options in ({"postern.dev/alpn": "none"}, {"postern.dev/min-tls-version": "1.3"},
                    {"postern.dev/resumption": "off"}, {"postern.dev/ktls": "off"}):
        stage.change(service, options=options)
        expect_alive(str(options), g, peer)
    stage.manifests.write(f"{service.name}.yaml", *[each for each in stage.objects(service)
                                                    if each["kind"] != "BackendTLSPolicy"])
    stage.agent.until_no_policy("kept")
    # The removal reaches the kernel's map after 100 ms.
    alive_until(time.monotonic() + 0.3, "without a policy", g, peer)


@case("a policy that becomes invalid resets its live connections within a second")
def invalid(stage):
    service, backend = stage.served("invalid", 133)
    g, _ = connect(stage, service, backend)
    stage.change(service, options={"postern.dev/no-such-option": "on"})
    expect_reset(stage, "with an invalid policy", g, 1, "policy_invalid", "unusable")


@case("a peer's certificate expires: the live connection is reset within a minute, not before; a new one is refused",
      limit=120)
def expired(stage):
    other, other_peer = connect(stage, *stage.served("lasting", 135))
    service = stage.publish(Service("expiring", 134, target=PORT + 134, hostname="echo.example"))
    stage.agent.until_policy("expiring")
    # Last: it lives for six seconds, however long the rest takes on a machine with much to do.
    begun = time.monotonic()
    leaf = stage.authority.leaf("short-lived", "DNS:echo.example", seconds=6)
    backend = stage.close_at_end(Backend(stage.backend, backend4(2), service.target, server_context(leaf)))
    g, peer = connect(stage, service, backend)
    alive_until(begun + 4, "before it expires", g, peer)
    expect_reset(stage, "after it expired", g, 60, "certificate_expired", "verified again after a certificate expired")
    expect_that("it was let live until then", time.monotonic() - begun >= 5, time.monotonic() - begun)
    expect_error("a new connection", lambda: stage.gateway.connect(service.vip4, 80), ConnectionRefusedError)
    expect_alive("another one", other, other_peer)


@case("hundreds of live connections under traffic: those that hold are kept without an error, the others go in a second",
      limit=300)
def many(stage):
    count = times(300)
    service, backend = stage.served("many", 136)
    doomed, doomed_backend = stage.served("doomed", 137)
    connections = [connect(stage, service, backend) for _ in range(count)]
    to_go = [connect(stage, doomed, doomed_backend)[0] for _ in range(count)]
    stop, errors, turns = threading.Event(), queue.Queue(), [0]

    def talk():
        try:
            while not stop.is_set():
                for g, peer in connections:
                    expect_alive("a kept connection", g, peer)
                    turns[0] += 1
        except Exception as error:  # pylint: disable=broad-except
            errors.put(error)
    talker = threading.Thread(target=talk)
    talker.start()
    before = stage.verified_again()
    try:
        class Both:
            pem = stage.authority.pem + stage.other.pem
        stage.change(service, authority=Both)
        begun = time.monotonic()
        stage.change(doomed, authority=stage.other)
        for g in to_go:
            g.settimeout(5 * SLOWNESS)
            expect_error("a connection of the other policy", lambda g=g: g.recv(1), *RESETS)
        took = time.monotonic() - begun
        until(lambda: stage.verified_again() - before >= 2 * count, 30, "a look at each of them")
        seen = turns[0]
        until(lambda: turns[0] >= seen + count or not errors.empty(), 30, "a turn of all that were kept")
    finally:
        stop.set()
        talker.join()
    expect("errors of kept connections", errors.qsize(), 0)
    expect("each was judged once", stage.verified_again() - before, 2 * count)
    print(f"     {count} connections reset within {took:.2f} s")
    expect_that("all resets by the change, not by the look every 5 s", took < 5 * SLOWNESS, took)


@case("the system's CA bundle is another file: policies with wellKnownCACertificates follow without a restart", limit=90)
def system_ca(stage):
    bundle = stage.directory / "system-ca.pem"

    def replace(pem):
        fresh = stage.directory / "system-ca.new"
        fresh.write_text(pem)
        os.replace(fresh, bundle)
        stage.agent.process.signal(signal.SIGHUP)  # or within a minute

    replace(stage.authority.pem)
    stage.agent.stop()
    stage.start_agent(system_ca=bundle)
    service, backend = stage.served("system", 138, system_ca=True)
    g, peer = connect(stage, service, backend)
    replace(stage.authority.pem + stage.other.pem)
    expect_alive("with one more", g, peer)
    replace(stage.other.pem)
    expect_reset(stage, "without its CA", g, 2, "certificate_untrusted", "verified again")
    expect_error("a new connection", lambda: stage.gateway.connect(service.vip4, 80), ConnectionRefusedError)
    bundle.unlink()
    stage.agent.process.signal(signal.SIGHUP)
    until(lambda: stage.agent.status()["system_ca"]["problem"], LONG, "the missing file in the status")
    expect("the last good one is in force", stage.agent.status()["system_ca"]["in_force"], True)
    replace(stage.authority.pem)
    until(lambda: not stage.agent.status()["system_ca"]["problem"], LONG, "the file again")
    connect(stage, service, backend)


@case("a CRL that lists the peer's certificate comes: its live connections are reset, those of others are kept")
def revoked(stage):
    bad, good = (stage.authority.leaf(name, "DNS:echo.example") for name in ("revoked", "unrevoked"))
    service, backend = stage.served("revoked", 139, bad)
    other, other_backend = stage.served("unrevoked", 140, good)
    g, _ = connect(stage, service, backend)
    kept_g, kept_peer = connect(stage, other, other_backend)
    crl = stage.authority.crl(bad)
    for each in (service, other):
        each.crl = crl
        stage.change(each, options={"postern.dev/crl": f"configmap/{each.name}-crl"})
    expect_reset(stage, "the revoked one", g, 1, "certificate_revoked", "verified again")
    expect_alive("the other one", kept_g, kept_peer)


if __name__ == "__main__":
    main(LiveStage)
