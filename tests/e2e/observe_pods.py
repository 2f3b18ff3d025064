#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Gateways that are observed: a handshake beside each destination, what enforcing would change, and the switch."""

import json
import os
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import manifests
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.certificates import Authority
from lib.paths import REPOSITORY
from lib.pods import Pod
from lib.pods_world import MARKER, PORT, PodsWorld
from lib.schema import faults
from lib.sockets import receive_exactly
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import LONG, until
from lib.world import Service

DISTRUSTED, DEAD, SHARED = 8973, 8974, 8975


def plan(world, *words):
    status, output, _ = world.agent.control("--json", "plan", *words)
    return status, json.loads(output)


def outcomes(world):
    return {each["destination"]: (each["outcome"], (each["shadow"] or {}).get("reason") or each["reason"])
            for each in plan(world)[1]["destinations"]}


@case("each destination is tried beside the gateway: verified, distrusted, dead, ambiguous; and the plan says so")
def tried(world):
    other = Authority(world.directory / "other-certificates", "other-ca")
    distrusted = world.publish(Service("distrusted", 140, target=DISTRUSTED, hostname="echo.example", authority=other))
    dead = world.publish(Service("dead", 141, target=DEAD, hostname="echo.example"))
    one = world.publish(Service("one", 142, target=SHARED, hostname="one.example"))
    two = world.publish(Service("two", 143, target=SHARED, hostname="two.example"))
    for name in ("distrusted", "dead", "one", "two"):
        world.agent.until_policy(name)
    with Pod(world, "seen", annotations={"postern.dev/mode": "observe"}) as pod, \
            Backend(world.backend, backend4(2), DISTRUSTED, server_context(world.leaf)), \
            Backend(world.backend, backend4(2), SHARED):
        sockets = pod.sockets()
        expect("a plan without an observed gateway", plan(world)[1]["observed_gateways"], 0)
        pod.publish()
        world.until_ready("default/seen")
        for address, port in ((world.covered.vip4, 80), (distrusted.vip4, 80), (one.endpoint4)):
            sockets.connect(address, port).close()
        expect_error("the dead one", lambda: sockets.connect(dead.vip4, 80), ConnectionRefusedError)
        wanted = {
            f"{world.covered.vip4}:80": ("works", ""),
            f"{distrusted.vip4}:80": ("refused", "certificate_untrusted"),
            f"{dead.vip4}:80": ("refused", "backend_refused"),
            f"{backend4(2)}:{SHARED}": ("refused", "ambiguous_endpoint"),
        }
        until(lambda: outcomes(world) == wanted, 15, f"the plan {wanted}")
        status, document = plan(world)
        expect("exit status", status, 1)
        for name, seen in (("plan", document), ("status", json.loads(world.agent.control("--json", "status")[1]))):
            schema = json.loads((REPOSITORY / f"tests/schema/{name}.json").read_text())
            expect(f"{name}: what does not fit its schema", faults(schema, seen), [])
        expect("ambiguous", document["ambiguous"], 1)
        expect("works", document["outcomes"]["works"], {"destinations": 1, "connects": 1})
        page = world.agent.control("plan")[1]
        for words in ("TLS, verified as echo.example", "refused: certificate_untrusted", "refused: ambiguous_endpoint",
                      "1 destinations would be TLS and verified, 3 refused (1 of them ambiguous)"):
            expect_that(f"\"{words}\" on the page", words in page, page)
        # What was wrong is mended: it is tried again, since its settings are others.
        world.manifests.write("distrusted.yaml", *world.objects(Service("distrusted", 140, target=DISTRUSTED,
                                                                        hostname="echo.example")))
        wanted[f"{distrusted.vip4}:80"] = ("works", "")
        until(lambda: outcomes(world) == wanted, 15, "the mended destination works")
        sockets.close()
    world.until_gone("default/seen")
    expect("what is left of it", [each for each in world.agent.status()["would"] if each["gateway"]], [])
    for service in (distrusted, dead, one, two):
        world.manifests.remove(f"{service.name}.yaml")


@case("observe to enforce and back while the gateway dials all the time: from the switch on nothing plain leaves")
def switched(world):
    stop = threading.Event()

    with Pod(world, "seen", annotations={"postern.dev/mode": "observe"}) as pod:
        sockets, pooled_sockets = pod.sockets(), pod.sockets()
        pod.publish()
        world.until_ready("default/seen")
        sent = []

        def dial():
            while not stop.is_set():
                try:
                    with sockets.connect(*world.covered.endpoint4, timeout=2) as g:
                        g.sendall(MARKER)
                        sent.append(1)
                except OSError:
                    pass
        thread = threading.Thread(target=dial)
        with Backend(world.backend, backend4(2), PORT + 20) as plain:
            # A pooled connection to what becomes covered with the mode.
            world.write_manifests(Service("covered", 130, target=PORT, endpoints=(2,), hostname="echo.example"))
            world.publish(Service("pooled", 144, target=PORT + 20, hostname="echo.example"))
            world.agent.until_policy("pooled")
            pooled = pooled_sockets.connect(backend4(2), PORT + 20)
            pooled.sendall(MARKER)
            expect("observed: what the backend got", receive_exactly(plain.take(), len(MARKER)), MARKER)
            thread.start()
            try:
                for _ in range(3):
                    with world.capture(MARKER) as wire:
                        until(lambda wire=wire: wire.report().markers > 0, 10, "plain markers while it is observed")
                    pod.annotate(mode="enforce")
                    until(lambda: world.gateways()["default/seen"]["mode"] == "enforce", LONG, "enforce")
                    with world.capture(MARKER) as wire:
                        before = len(sent)
                        until(lambda: len(sent) > before + 20, 10, "20 connects")
                        report = wire.report()
                    expect("markers on the wire once it is enforced", report.markers, 0)
                    # What began before the capture did cannot be told.
                    expect("streams that are not TLS", [each for each in report.not_tls(PORT) if each["whole"]], [])
                    expect("its listeners", world.gateways()["default/seen"]["state"], "ready")
                    pod.annotate(mode="observe")
                    until(lambda: world.gateways()["default/seen"]["mode"] == "observe", LONG, "observe")
                expect_error("the pooled connection", lambda: pooled.recv(1), ConnectionAbortedError,
                             ConnectionResetError)
            finally:
                stop.set()
                thread.join()
        for each in (sockets, pooled_sockets):
            each.close()
    world.until_gone("default/seen")
    world.manifests.remove("pooled.yaml")


@case("a gateway of the configuration that is observed has a plan, too; one that is enforced has none")
def configured(world):
    world.agent.stop()
    world.start_agent([{"name": "default/seen", "cgroup": world.gateway_cgroup, "netns": world.network.path("gateway"),
                        "mode": "observe"}])
    world.agent.until_policy("covered")
    world.gateway.connect(world.covered.vip4, 80).close()
    until(lambda: outcomes(world) == {f"{world.covered.vip4}:80": ("works", "")}, 10, "a plan that works")
    expect("exit status", plan(world)[0], 0)
    world.agent.stop()
    world.start_agent([world.gateway_flags()])
    expect("observed", plan(world)[1]["observed_gateways"], 0)


if __name__ == "__main__":
    main(PodsWorld)
