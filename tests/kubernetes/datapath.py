#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
The whole of it: posternd with `source: kubernetes` and the rights of deploy/, a pod of a Gateway with real nginx in it,
backends in pods, and a real API server that is changed, slow, killed and started again. What is covered is never plain.
"""

import os
import ssl
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube import postern
from kube.speaking import MARKER, PORT, TARGET, Gateway, Speaker, SpeakingWorld
from kube.split import SplitWay
from lib import manifests
from lib.case import case, expect, expect_error, expect_that, main
from lib.process import run
from lib.sockets import SocketMaker
from lib.waiting import until

OUTSIDE, AFAR, OWN = "198.51.100.1", "198.51.100.2", "198.51.100.3"  # of none of the cluster's networks
OUTAGE = int(os.environ.get("POSTERN_OUTAGE", "0"))  # seconds that the API server is away at least


class Traffic:
    """Requests one after another until the end of `with`; answers: [(when it began, kind)...]"""

    def __init__(self, gateway, address, port):
        self._ask = lambda: gateway.kind(address, port)
        self.answers = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._ended:
            began = time.monotonic()
            self.answers.append((began, self._ask()))

    def more(self, count, within=30):
        """Wait for so many requests that begin from now on; what became of them."""
        now = time.monotonic()
        until(lambda: len(self.since(now)) >= count, within, f"{count} more answers")
        return self.since(now)

    def since(self, when):
        return [kind for began, kind in self.answers if began >= when]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self._thread.join(30)


class World(SpeakingWorld):
    def _build(self):
        super()._build()
        self.controller = postern.start_controller(self)
        # Standard coverage holds what is not known yet on the ports of covered Services: this one guards them for all.
        self.service("guarding", PORT, TARGET, [])
        self.cover("guarding")
        self.node_sockets = self.close_at_end(SocketMaker(self.network["node"], self.cgroups.make("outside")))

    def restart_agent(self, **settings):
        self.agent.stop()
        self.agent = postern.start_agent(self, self.one, **settings)
        self.until_enrolled(self.gateway.name)

    def backend(self, name, service_name=None, address=None, plain=False):
        """A pod with a Speaker, which has a certificate of its Service unless it is plain."""
        pod = self.one.pod(name, publish=False).publish().run(address)
        return pod, self.speaker(pod, name, None if plain else service_name or name)

    def routed(self, name, pods):
        """A Service of the Gateway default/demo."""
        service = self.service(name, PORT, TARGET, pods)
        self.admin.apply(manifests.http_route(name, "demo", name, PORT))
        return service

    def cover(self, name):
        """A policy, when it is in force: a destination that is known to be plain is so until the agent has read it."""
        made = self.policy(name, name, f"{name}.example")
        self.agent.until_policy(name, within=30) # a watch may be in back-off after an API server that went
        return made


@case("policy, Service and EndpointSlice made by the API: the next request is TLS, by ClusterIP and by pod, both families")
def made(world):
    with world.capture(world.gateway.pod, MARKER.encode()) as wire:
        pod, speaker = world.backend("made")
        world.policy("made", "made", "made.example")
        vip4, vip6 = world.routed("made", [pod])["spec"]["clusterIPs"]
        # Nobody waits for the agent here: what it does not know yet is held until it does, because its ports are guarded.
        for address, port in ((vip4, PORT), (vip6, PORT), (pod.address4, TARGET), (pod.address6, TARGET)):
            status, seen = world.gateway.ask(address, port)
            expect(f"{address}", (status, seen), (200, {"kind": "tls", "sni": "made.example", "at": "made",
                                                        "marker": "yes"}))
        expect("in the clear", wire.report().in_the_clear(PORT, TARGET), [])
    expect("what the backend saw", set(speaker.kinds), {"tls"})
    policy = manifests.backend_tls_policy("made", "made", "made.example", "made-ca")
    world.admin.until(policy, lambda seen: accepted(seen) == ["True"], "Accepted, by the controller")
    expect("refused by RBAC", [str(row) for row in world.audit.refused(world.agent.account.user)], [])
    expect("the agent's verbs", {verb for verb, _, _ in world.audit.used(world.agent.account.user)}, {"list", "watch"})


def accepted(policy):
    return [each["status"] for ancestor in policy.get("status", {}).get("ancestors", [])
            for each in ancestor["conditions"] if each["type"] == "Accepted"]


@case("a policy made while traffic runs: nothing plain begins after it is in force, and what was plain is reset")
def covered_meanwhile(world):
    pod, speaker = world.backend("later")
    vip = world.routed("later", [pod])["spec"]["clusterIPs"][0]
    until(lambda: world.gateway.kind(vip, PORT) == "plain", 20, "a plain answer")
    with Traffic(world.gateway, vip, PORT) as traffic, world.gateway.sockets.connect(vip, PORT) as long_plain:
        expect("before", set(traffic.more(3)), {"plain"})
        policy = world.cover("later")
        in_force = time.monotonic()
        world.admin.until(policy, lambda seen: accepted(seen) == ["True"], "Accepted, by the controller")
        traffic.more(10)
        expect("after", set(traffic.since(in_force)), {"tls"})
        expect_error("a connection from before", lambda: long_plain.recv(1), ConnectionError)
    first_tls = speaker.kinds.index("tls")
    expect("plain after the first TLS", speaker.kinds[first_tls:].count("plain"), 0)


@case("watches that stall while lists pass: an endpoint that is dialed before its slice came is TLS or refused, never "
      "plain; and TLS when they go on", limit=120)
def delayed(world):
    way = world.close_at_end(SplitWay(world))
    account = world.agent.account
    pod, _ = world.backend("slow-0", "slow")
    service = world.routed("slow", [pod])
    world.cover("slow")
    world.restart_agent(kubeconfig=str(way.kubeconfig(world.directory / "split.kubeconfig", account.token())))
    world.agent.until_policy("slow", within=20)
    with world.capture(world.gateway.pod, MARKER.encode()) as wire:
        expect("as long as watches pass", world.gateway.kind(pod.address4), "tls")
        way.watches.stall()
        late, speaker = world.backend("slow-1", "slow")
        world.endpoints(service, TARGET, [pod, late])
        expect("while they stall: the new endpoint", world.gateway.kind(late.address4), 502)
        expect("the old one", world.gateway.kind(pod.address4), "tls")
        with Traffic(world.gateway, late.address4, TARGET) as traffic:
            expect("more of it", set(traffic.more(1)), {502})
            way.watches.pass_on()
            until(lambda: traffic.answers[-1][1] == "tls", 60, "TLS to the new endpoint")
        expect_that("TLS and refusals alone", {kind for _, kind in traffic.answers} <= {"tls", 502}, traffic.answers)
        expect("in the clear", wire.report().in_the_clear(TARGET), [])
    expect("what the backend saw", set(speaker.kinds), {"tls"})
    world.restart_agent()


@case("a covered pod's address goes to a pod of another Service: plain as soon as its slice says so, and the covered one "
      "at its new address never", limit=120)
def used_again(world):
    before, first = world.backend("moves-0", "moves")
    service = world.routed("moves", [before])
    world.cover("moves")
    address = before.address4
    expect("covered", world.gateway.kind(address), "tls")
    with Traffic(world.gateway, address, TARGET) as traffic:
        world.endpoints(service, TARGET, [])
        first.close()
        before.delete()
        pod, stranger = world.backend("stranger", address=address, plain=True)
        expect("without a word of whose the address is: as it was", set(traffic.more(3)), {502})
        world.routed("stranger", [pod])
        until(lambda: traffic.answers[-1][1] == "plain", 30, "plain again at the address")
        after, second = world.backend("moves-1", "moves")
        with world.capture(after) as wire:
            world.endpoints(service, TARGET, [after])
            expect("at its new address", [world.gateway.kind(after.address4) for _ in range(5)], ["tls"] * 5)
            expect("in the clear", wire.report().in_the_clear(TARGET), [])
        expect("the stranger, still", set(traffic.more(5)), {"plain"})
    expect("what the covered pod saw, before and after", (set(first.kinds), set(second.kinds)), ({"tls"}, {"tls"}))
    expect("what the stranger saw", set(stranger.kinds), {"plain"})


@case("the API server killed: what is covered is TLS, what is outside is plain, what nobody knows is refused; started "
      "again, it is asked for again", limit=240 + OUTAGE)
def killed(world):
    pod, speaker = world.backend("steady")
    service = world.routed("steady", [pod])
    world.cover("steady")
    run("ip", "-n", world.network["node"], "address", "add", f"{OUTSIDE}/32", "dev", "lo")
    outside = world.close_at_end(Speaker("outside", world.node_sockets, [OUTSIDE]))
    run("ip", "-n", world.network["node"], "address", "add", f"{OWN}/32", "dev", "lo")
    elsewhere = world.close_at_end(Speaker("elsewhere", world.node_sockets, [OWN], world.context("elsewhere")))
    known, _ = world.backend("known", plain=True)
    world.routed("known", [known])
    unknown, _ = world.backend("unknown", plain=True)
    expect("covered", world.gateway.kind(pod.address4), "tls")
    expect("plain, of a Service", world.gateway.kind(known.address4), "plain")
    with Traffic(world.gateway, pod.address4, TARGET) as covered, Traffic(world.gateway, OUTSIDE, TARGET) as plain:
        world.api.kill()
        died = time.monotonic()

        def all_the_while():
            expect("covered, all the while", set(covered.since(died)), {"tls"})
            expect("outside, all the while", set(plain.since(died)), {"plain"})
        expect("what nobody knows", world.gateway.kind(unknown.address4), 502)
        while True:
            expect("plain, of a Service", world.gateway.kind(known.address4), "plain")
            covered.more(20)
            plain.more(20)
            expect("the gateway's own HTTPS", own_https(world, OWN, "elsewhere.example"),
                   {"kind": "tls", "sni": "elsewhere.example", "at": "elsewhere", "marker": "yes"})
            if time.monotonic() > died + OUTAGE:
                break
        print(f"     without the API server for {time.monotonic() - died:.0f} s: {len(covered.since(died))} covered "
              f"requests, {len(plain.since(died))} to the outside, {len(elsewhere.kinds)} in the gateway's own TLS",
              flush=True)
        all_the_while()
        world.api.start()
        started = time.monotonic()
        until(lambda: world.gateway.kind(unknown.address4) == "plain", 90, "the unknown, known again")
        print(f"     asked again {time.monotonic() - started:.1f} s after the API server was ready", flush=True)
        late, other = world.backend("steady-1", "steady")
        world.endpoints(service, TARGET, [pod, late])
        # Refused until a server that has just started answers in time.
        until(lambda: world.gateway.kind(late.address4) == "tls", 90, "a new endpoint, TLS")
        all_the_while()
    expect("what the covered saw", set(speaker.kinds) | set(other.kinds), {"tls"})
    expect("what was outside saw", set(outside.kinds), {"plain"})
    expect("what the gateway's own HTTPS was", set(elsewhere.kinds), {"tls"})


def own_https(world, address, name):
    """What the server saw of a request in TLS that is the gateway's own, verified by it to the end."""
    context = ssl.create_default_context(cafile=world.authority.certificate)
    with world.gateway.sockets.connect(address, TARGET) as sock, context.wrap_socket(sock, server_hostname=name) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nX-Marker: {MARKER}\r\n\r\n".encode())
        answer = b""
        while data := tls.recv(65536):
            answer += data
    return dict(line.split("=", 1) for line in answer.partition(b"\r\n\r\n")[2].decode().splitlines())


@case("the agent killed and started while the API server is away: nothing covered is plain, what is outside goes on; all as "
      "before when the server is back", limit=240)
def restarted_alone(world):
    pod, speaker = world.backend("kept")
    world.routed("kept", [pod])
    world.cover("kept")
    known, _ = world.backend("seen", plain=True)
    world.routed("seen", [known])
    unknown, stranger = world.backend("unseen", plain=True)
    run("ip", "-n", world.network["node"], "address", "add", f"{AFAR}/32", "dev", "lo")
    world.close_at_end(Speaker("afar", world.node_sockets, [AFAR]))
    expect("covered", world.gateway.kind(pod.address4), "tls")
    expect("plain, of a Service", world.gateway.kind(known.address4), "plain")
    world.api.kill()
    world.agent.kill()

    def refused_and_plain(when):
        expect(f"{when}: covered, by pod", world.gateway.kind(pod.address4), 502)
        expect(f"{when}: covered, by the other family", world.gateway.kind(pod.address6), 502)
        expect(f"{when}: what nobody knows", world.gateway.kind(unknown.address4), 502)
        expect(f"{when}: plain, of a Service", world.gateway.kind(known.address4), "plain")
        expect(f"{when}: outside", world.gateway.kind(AFAR), "plain")
    refused_and_plain("without an agent")
    world.agent = world.start_again(world.agent, ready=False)
    world.agent.process.wait_for("watch fails.*resource=backendtlspolicies", within=60)
    refused_and_plain("an agent that has seen no cluster")
    expect("its policies", world.agent.status()["policies"], [])
    expect_that("it says why", "NOT READY: the source was not read yet" in world.agent.control("status")[1],
                world.agent.control("status")[1])
    # Once more, as a node would that starts it again and again.
    world.agent.kill()
    world.agent = world.start_again(world.agent, ready=False)
    world.agent.process.wait_for("watch fails.*resource=backendtlspolicies", within=60)
    refused_and_plain("the second of them")
    world.api.start()
    world.agent.wait_ready()
    world.until_enrolled(world.gateway.name, 90)
    until(lambda: world.gateway.kind(pod.address4) == "tls", 90, "the covered one, TLS again")
    until(lambda: world.gateway.kind(unknown.address4) == "plain", 90, "the unknown, known again")
    expect("afterwards, plain of a Service", world.gateway.kind(known.address4), "plain")
    expect("what the covered saw, all the while", set(speaker.kinds), {"tls"})
    expect("what the unknown saw", set(stranger.kinds), {"plain"})


@case("the gateway's pod goes, and one of its name comes: the old one's hooks are gone, the new one's traffic is TLS")
def comes_again(world):
    pod, speaker = world.backend("again")
    world.routed("again", [pod])
    world.cover("again")
    expect("before", world.gateway.kind(pod.address4), "tls")
    name = world.gateway.name
    world.gateway.delete()
    until(lambda: not world.agent.status()["gateways"], 20, "no gateway")
    expect("pinned links", list(world.bpffs.glob("v*/links/*")), [])
    world.gateway = Gateway(world, name).serve()
    with world.capture(world.gateway.pod, MARKER.encode()) as wire:
        expect("afterwards", [world.gateway.kind(pod.address4) for _ in range(5)], ["tls"] * 5)
        expect("in the clear", wire.report().in_the_clear(TARGET), [])
    expect("what the backend saw", set(speaker.kinds), {"tls"})


if __name__ == "__main__":
    main(World)
