#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's maps when they are too small, when an earlier life filled them, and while a policy leaves them."""

import os
import queue
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.backend import Backend, tls_or_plain
from lib.case import case, expect, expect_error, expect_that, main
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

MARKER = b"postern-maps-marker-51c8"
PORT = 9100


class MapsStage(Stage):
    def connects(self, address, port):
        try:
            self.gateway.connect(address, port, timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True


@case("a destination map with room for one: all that is covered is held and served under TLS, nothing is plain")
def too_small(stage):
    stage.agent.stop()
    stage.uninstall()
    stage.start_agent(max_destinations=1)
    with stage.capture(MARKER) as wire:
        for route in ("vip4", "vip6", "pod4", "pod6"):
            answer = stage.ask(route, headers={"X-Marker": MARKER.decode()})
            expect(f"{route}: status", answer.status, 200)
            expect(f"{route}: the SNI that the backend saw", answer.values["sni"], "echo.example")
        # Nobody could witness a plain B without its key in the map: refused, with the reason.
        expect("an uncovered Service on a guarded port", stage.ask("plain").status, 502)
        expect("markers on the wire", wire.report().markers, 0)
    failure = stage.agent.failures()[0]
    expect("reason", failure["reason"], "no_memory")
    expect_that("detail", "no room" in failure["detail"], failure)
    stage.agent.stop()
    stage.uninstall()
    stage.start_agent()
    expect("with room again: the uncovered Service", stage.ask("plain").status, 200)


@case("the map keeps its size over a restart that asks for another")
def keeps_size(stage):
    stage.agent.stop()
    stage.start_agent(max_destinations=7)
    expect("covered", stage.ask("vip4").status, 200)
    expect("uncovered", stage.ask("plain").status, 200)


@case("objects that went while no agent ran: their covered destinations are refused for a tombstone's time, then free")
def went_meanwhile(stage):
    stage.agent.kill()
    stage.manifests.remove("echo.yaml")
    # It begins with the agent's first look at the objects: long enough for the rest of the start and these connects.
    stage.start_agent(tombstone="6s")
    began = time.monotonic()
    for address, port in ((stage.echo.vip4, 80), stage.echo.endpoint4, (stage.echo.vip6, 80), stage.echo.endpoint6):
        expect(f"{address} connects", stage.connects(address, port), False)
    expect("an uncovered Service", stage.ask("plain").status, 200)
    until(lambda: stage.connects(*stage.echo.endpoint4), 15, "the endpoint, when its time is over")
    expect_that("that took the time of a tombstone", time.monotonic() - began > 1, time.monotonic() - began)
    stage.write_manifests(stage.echo)
    stage.agent.until_policy("echo")
    expect("named again", stage.ask("vip4").status, 200)


@case("a manifest that was broken while no agent ran: its destinations are refused until it is mended")
def broken_meanwhile(stage):
    good = (stage.manifests.path / "echo.yaml").read_text()
    stage.agent.kill()
    (stage.manifests.path / "echo.yaml").write_text("kind: [\n")
    stage.start_agent(tombstone="1ms")
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        for address, port in ((stage.echo.vip4, 80), stage.echo.endpoint4):
            expect(f"{address} connects", stage.connects(address, port), False)
    (stage.manifests.path / "echo.yaml").write_text(good)
    stage.agent.until_policy("echo")
    expect("mended", stage.ask("vip4").status, 200)


@case("a policy goes while a gateway connects again and again: TLS, then plain, and not one connect is refused")
def no_refusal(stage):
    service = Service("leaving", 140, target=PORT, hostname="echo.example")
    stage.publish(service)
    stage.agent.until_policy("leaving")
    connections = queue.Queue()
    kinds = []
    with Backend(stage.backend, backend4(2), PORT, script=tls_or_plain(server_context(stage.leaf), connections)):
        stage.manifests.write("leaving.yaml", *[each for each in stage.objects(service)
                                                if each["kind"] not in ("BackendTLSPolicy", "ConfigMap")])
        deadline = time.monotonic() + 10
        while kinds[-3:] != ["plain"] * 3:
            expect_that("plain in time", time.monotonic() < deadline, kinds)
            g = stage.gateway.connect(service.vip4, 80)
            g.sendall(b"word")
            kinds.append(connections.get(timeout=10)[0])
            g.close()
        expect("TLS first, plain ever after", kinds, sorted(kinds, reverse=True))


@case("the CA of a policy is replaced while a gateway connects again and again: each connect is verified by one of them")
def rotation(stage):
    before = {name: stage.agent.counter(name) for name in ("internal", "policy_changed")}
    service = Service("rotating", 141, target=PORT + 1, hostname="echo.example")
    stage.publish(service)
    stage.agent.until_policy("rotating")
    with Backend(stage.backend, backend4(2), PORT + 1, server_context(stage.leaf)) as backend:
        for minimum in ("1.2", "1.3") * 10:  # another setting, another context; the CA stays right
            service.options = {"postern.dev/min-tls-version": minimum}
            stage.write_manifests(service)
            for _ in range(5):
                g = stage.gateway.connect(service.vip4, 80)
                peer = backend.take()
                g.sendall(MARKER)
                expect("bytes", peer.receive_exactly(len(MARKER)), MARKER)
                g.close()
                peer.close()
    for name, count in before.items():
        expect(f"refused as {name}", stage.agent.counter(name), count)


if __name__ == "__main__":
    main(MapsStage)
