#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Policy that changes while a gateway works: added, removed, put back, endpoints that come, shared endpoints."""

import os
import queue
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import manifests
from lib.backend import Backend, tls_or_plain
from lib.case import case, expect, expect_error, expect_that, main
from lib.certificates import Authority
from lib.process import run_in
from lib.sockets import finish_connect, receive_exactly
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import LONG, until
from lib.world import Service

MARKER = b"postern-policy-marker-77ab"
PORT = 8900


class PolicyStage(Stage):
    KEEPALIVE = 4

    def _build(self):
        super()._build()
        self.context = server_context(self.leaf)

    def both(self, port, numbers=(2,)):
        """A backend that speaks TLS and plain on one port: (its kinds of connections in a queue)."""
        connections = queue.Queue()
        for number in numbers:
            self.close_at_end(Backend(self.backend, backend4(number), port,
                                      script=tls_or_plain(self.context, connections)))
        return connections

    def without_policy(self, service):
        self.manifests.write(f"{service.name}.yaml", *[
            each for each in self.objects(service) if each["kind"] not in ("BackendTLSPolicy", "ConfigMap")])


def kind_of(stage, address, port, connections):
    """Connect, exchange a word each way: "tls" or "plain", and both ends."""
    g = stage.gateway.connect(address, port)
    g.sendall(b"hello, " + MARKER)
    kind, peer = connections.get(timeout=10)
    received = peer.receive_exactly(7 + len(MARKER)) if kind == "tls" else receive_exactly(peer, 7 + len(MARKER))
    expect("what the backend got", received, b"hello, " + MARKER)
    return kind, g, peer


def until_plain(stage, address, port, connections):
    """
    A removal reaches the kernel's map 100 ms after the snapshot; until then a connect is refused (policy_changed).
    Both ends of the first connection that is made; it must be plain.
    """
    def connected():
        try:
            return kind_of(stage, address, port, connections)
        except ConnectionRefusedError:
            return None
    kind, g, peer = until(connected, LONG, "a connection once the policy is gone", every=0.05)
    expect(f"{address} without the policy", kind, "plain")
    return g, peer


@case("a policy is added while plaintext connections are pooled: they are destroyed, and carry nothing any more")
def added(stage):
    service = Service("added", 90, target=PORT, hostname="echo.example")
    stage.publish(service)
    stage.without_policy(service)
    stage.agent.until_no_policy("added")
    connections = stage.both(PORT)
    pooled = []
    for address, port in ((service.vip4, 80), service.endpoint4):
        pooled.append(until_plain(stage, address, port, connections))
    # A socket in FIN_WAIT2 that its process has closed is a mere memory of one: it must not stop the search for others.
    half_closed, _ = until_plain(stage, *service.endpoint4, connections)
    source = half_closed.getsockname()[1]
    half_closed.close()
    until(lambda: run_in(stage.network["gateway"], "ss", "-tanH", "state", "fin-wait-2", "sport", "=", f":{source}").stdout,
          5, "a socket in FIN_WAIT2")
    stage.write_manifests(service)
    stage.agent.until_policy("added")
    with stage.capture(MARKER) as wire:
        for g, _ in pooled:
            g.settimeout(3)

            def use(g=g):
                g.sendall(MARKER * 100)
                return g.recv(10)
            expect_error("the pooled connection", use, ConnectionAbortedError, ConnectionResetError, BrokenPipeError)
        for address, port in ((service.vip4, 80), service.endpoint4):
            kind, g, _ = kind_of(stage, address, port, connections)
            expect(f"{address} with the policy", kind, "tls")
            g.close()
        report = wire.report()
    expect("markers on the wire once the policy is served", report.markers, 0)


@case("removed: connections under TLS live on, new ones are plain; put back: TLS again, plain ones are destroyed")
def removed_and_put_back(stage):
    service = Service("removed", 91, target=PORT + 1, hostname="echo.example")
    stage.publish(service)
    stage.agent.until_policy("removed")
    connections = stage.both(PORT + 1)
    kind, old, old_peer = kind_of(stage, service.vip4, 80, connections)
    expect("with the policy", kind, "tls")

    stage.without_policy(service)
    stage.agent.until_no_policy("removed")

    g, _ = until_plain(stage, service.vip4, 80, connections)
    old.sendall(b"still here")
    expect("the connection from before", old_peer.receive_exactly(10), b"still here")

    stage.write_manifests(service)
    stage.agent.until_policy("removed")
    with stage.capture(MARKER) as wire:
        g.settimeout(3)
        expect_error("the plain connection", lambda: g.recv(10), ConnectionAbortedError, ConnectionResetError)
        kind, _, _ = kind_of(stage, service.vip4, 80, connections)
        expect("with the policy put back", kind, "tls")
        report = wire.report()
    expect("markers on the wire", report.markers, 0)


@case("an uncovered Service's ClusterIP that ends by DNAT on a covered endpoint stays plain; the endpoint itself is TLS")
def shared_endpoint(stage):
    port = PORT + 2
    for where, number in (("gateway", 92), ("node", 94)):
        covered = Service(f"covered-{where}", number, target=port, hostname="echo.example")
        sharing = Service(f"sharing-{where}", number + 1, target=port)
        stage.publish(covered, where)
        stage.publish(sharing, where)
        stage.agent.until_policy(covered.name)
        connections = stage.both(port)
        with stage.capture(MARKER) as wire:
            kind, g, peer = kind_of(stage, sharing.vip4, 80, connections)
            expect(f"DNAT by the {where}: the uncovered ClusterIP", kind, "plain")
            for _ in range(10):
                g.sendall(MARKER)
                expect("it keeps working", receive_exactly(peer, len(MARKER)), MARKER)
            expect(f"DNAT by the {where}: markers in plain on the wire", wire.report().markers, 11)
        with stage.capture(MARKER) as wire:
            for address, target in ((covered.vip4, 80), covered.endpoint4):
                kind, _, _ = kind_of(stage, address, target, connections)
                expect(f"DNAT by the {where}: {address}", kind, "tls")
            expect("markers on the wire", wire.report().markers, 0)
        port += 1


@case("an endpoint that the gateway learns of before the agent is never dialed in plaintext (HOLD), 10 times", limit=90)
def not_yet_known(stage):
    port = PORT + 10
    service = Service("growing", 96, target=port, hostname="echo.example")
    stage.publish(service)
    stage.agent.until_policy("growing")
    connections = stage.both(port, range(2, 10))
    before = stage.agent.counter("connect_hold")
    with stage.capture(MARKER) as wire:
        for round_number in range(10):
            # The agent sleeps while the slice gets a new address and the gateway dials it, so it cannot know it yet.
            number = 3 + round_number % 7
            service.endpoints = (2, number)
            stage.agent.suspend()
            stage.write_manifests(service)
            g = stage.gateway.start_connect(backend4(number), port)
            stage.agent.resume()
            finish_connect(g, 10)
            g.sendall(MARKER)
            kind, peer = connections.get(timeout=10)
            expect(f"round {round_number}: a new endpoint", kind, "tls")
            expect("bytes at the backend", peer.receive_exactly(len(MARKER)), MARKER)
            g.close()
            peer.close()
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(port), [])
    # 7 addresses; those of the last 3 rounds are known as removed ones, which stay TLS for a while.
    expect("connects that were held for an answer", stage.agent.counter("connect_hold") - before, 7)


@case("an address in the cluster that no object names, on a guarded port: held, found to be nobody's, relayed in plain")
def nobodys(stage):
    port = PORT + 20
    service = Service("somebody", 97, target=port, hostname="echo.example")
    stage.publish(service)
    stage.agent.until_policy("somebody")
    connections = stage.both(port, (2, 9))
    kind, _, _ = kind_of(stage, backend4(9), port, connections)
    expect("an unclaimed address", kind, "plain")
    kind, _, _ = kind_of(stage, backend4(2), port, connections)
    expect("the covered one beside it", kind, "tls")


@case("two policies that differ on one endpoint: its address is refused as ambiguous, each ClusterIP works")
def ambiguous(stage):
    port = PORT + 30
    other = Authority(stage.directory / "ambiguous-certificates", "ambiguous-ca")
    one = Service("one-of-two", 98, target=port, hostname="echo.example")
    two = Service("two-of-two", 99, target=port, hostname="echo.example", authority=other)
    stage.publish(one)
    stage.publish(two)
    stage.agent.until_policy("one-of-two")
    stage.agent.until_policy("two-of-two")
    connections = stage.both(port)
    expect_error("the shared endpoint", lambda: stage.gateway.connect(*one.endpoint4), ConnectionRefusedError,
                 PermissionError)
    kind, _, _ = kind_of(stage, one.vip4, 80, connections)
    expect("the ClusterIP whose CA signed the backend", kind, "tls")
    expect_error("the ClusterIP whose CA did not", lambda: stage.gateway.connect(two.vip4, 80),
                 ConnectionRefusedError)
    expect("reason", stage.agent.failures()[0]["reason"], "certificate_untrusted")


@case("the CA of a policy changes: the next connect is verified with the new one")
def authority_changes(stage):
    port = PORT + 31
    other = Authority(stage.directory / "next-certificates", "next-ca")
    service = Service("turning", 100, target=port, hostname="echo.example")
    stage.publish(service)
    stage.agent.until_policy("turning")
    connections = stage.both(port)
    kind, _, _ = kind_of(stage, service.vip4, 80, connections)
    expect("with the right CA", kind, "tls")
    service.authority = other
    stage.write_manifests(service)

    def refused():
        try:
            stage.gateway.connect(service.vip4, 80).close()
        except ConnectionRefusedError:
            return True
        return False
    until(refused, LONG, "a refusal by the new CA", every=0.05)
    expect("reason", stage.agent.failures()[0]["reason"], "certificate_untrusted")


@case("a policy whose CA is missing or broken is not Accepted: its Service is refused, never plain")
def invalid_policy(stage):
    port = PORT + 32
    service = Service("broken", 101, target=port, hostname="echo.example")
    connections = stage.both(port)
    objects = stage.objects(service)
    stage.network.cluster_ip(service.vip4, 80, service.endpoints4)
    variants = {
        "no ConfigMap": [each for each in objects if each["kind"] != "ConfigMap"],
        "not a certificate": [manifests.config_map("broken-ca", "not PEM\n") if each["kind"] == "ConfigMap" else each
                              for each in objects],
    }
    for what, chosen in variants.items():
        stage.manifests.write("broken.yaml", *chosen)
        policy = stage.agent.until_policy("broken", accepted=False)
        expect_that(f"{what}: a reason in the policy's status", policy["accepted"]["reason"] and
                    policy["resolvedRefs"]["message"], policy)
        for address, target in ((service.vip4, 80), service.endpoint4):
            expect_error(f"{what}: {address}", lambda address=address, target=target:
                         stage.gateway.connect(address, target), ConnectionRefusedError, PermissionError)
    expect("connections at the backend", connections.qsize(), 0)
    stage.write_manifests(service)
    stage.agent.until_policy("broken")
    kind, _, _ = kind_of(stage, service.vip4, 80, connections)
    expect("mended", kind, "tls")


if __name__ == "__main__":
    main(PolicyStage)
