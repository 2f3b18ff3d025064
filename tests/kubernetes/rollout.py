#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
A rollout of the DaemonSet (maxSurge 1, maxUnavailable 0) and its way back, played on one node with the API server as
source: the next agent starts while the one before serves, takes over, and is Ready; then the one before is told to end.
Requests and long connections all the while: none is lost, none is plain.
"""

import os
import re
import sys
import threading
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube import deployment, postern
from kube.pods import GATEWAY_NAME, PodWorld
from kube.ports import free_ports
from lib import cgroups, http, manifests, nginx
from lib.backend import Backend
from lib.case import Failure, case, expect, expect_that, main
from lib.paths import POSTERND
from lib.sockets import SocketMaker, receive_exactly
from lib.tls_peer import TlsPeer, server_context
from lib.waiting import NotInTime, until

MARKER = b"postern-rollout-marker-2f86"
LISTEN, PORT, TARGET, ECHO = 8080, 443, 8443, 9443
LONG, CLIENTS = 8, 2


class AgentPod:
    """One pod of the DaemonSet: its object, and posternd as the kubelet would run it; its readiness is /readyz."""

    def __init__(self, world, number, program=POSTERND):
        self.world, self.name = world, f"posternd-{number}"
        self._port, = free_ports(1)
        self.object = world.admin.create({
            "apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": self.name, "namespace": deployment.NAMESPACE, "labels": {"app.kubernetes.io/name": "posternd"}},
            "spec": {"nodeName": world.one.name, "containers": [{"name": "posternd", "image": "none"}]}})
        world.agent_cgroup = self.cgroup = world.cgroups.make(self.name)  # that of its pod
        self.agent = postern.start_agent(world, world.one, ready=False, how={"program": program, "name": self.name},
                                         afterHandover="wait", metricsAddress=f"127.0.0.1:{self._port}")

    def is_ready(self):
        return self.readiness() == "ready"

    def readiness(self):
        """What /readyz says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=10) as answer:
                return answer.read().decode().strip()
        except urllib.error.HTTPError as error:
            return error.read().decode().strip()
        except OSError as error:
            return repr(error)

    def until_ready(self):
        self.agent.wait_ready()
        try:
            until(self.is_ready, 60, "", every=0.2)
        except NotInTime as error:
            raise Failure(f"{self.name}: expected /readyz to be ready, seen {self.readiness()!r}") from error
        self._say(True)
        return self

    def probes(self):
        """How many connections on the whole path have passed."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            return int(re.search(r'^postern_path_probes_total\{result="passed"\} (\d+)', answer.read().decode(),
                                 re.M).group(1))

    def until_probed(self):
        """Ready by a connection that is made from now on: a good result is good for some seconds."""
        passed = self.probes()
        until(lambda: self.is_ready() and self.probes() > passed, 40, f"{self.name} ready, by a new probe", every=0.5)

    def _say(self, ready):
        self.world.admin.merge_status(self.object, {"phase": "Running", "conditions": [
            {"type": "Ready", "status": str(ready)}]})

    def delete(self):
        """As the DaemonSet's controller and then the kubelet do it; comes back when SIGTERM was sent."""
        expect(f"{self.name}, which was replaced: ready", self.is_ready(), False)
        self._say(False)
        self.agent.process.signal(15)
        self.agent.process.wait_for("agent ends when it is drained|agent stops", within=20)

    def gone(self):
        """Its exit status; cgroup and object go after the process, as a kubelet has it."""
        status = self.agent.process.wait(60)
        cgroups.remove_tree(self.cgroup)
        self.world.admin.delete(self.object)
        return status


class World(PodWorld):
    def _build(self):
        super()._build()
        self.one = self.node("node-1")
        postern.install(self)
        self.controller = postern.start_controller(self)
        self.admin.apply(manifests.gateway("demo"))
        self.count = 0
        self.current = self.new_pod().until_ready()
        self._workloads()

    def new_pod(self, program=POSTERND):
        self.count += 1
        return AgentPod(self, self.count, program)

    def _workloads(self):
        leaf = self.authority.leaf("web", "DNS:web.example")
        self.backend = self.one.pod("web-0")
        self.close_at_end(nginx.backend(self.new_directory("web"), self.backend.netns, self.backend.main,
                                        [(self.backend.address4, TARGET)], leaf))
        context = server_context(leaf)
        maker = self.close_at_end(SocketMaker(self.backend.netns, self.backend.main))
        self.close_at_end(Backend(maker, self.backend.address4, ECHO, script=lambda sock: echo_tls(sock, context)))
        self.addresses = {}
        for name, target in (("web", TARGET), ("echo", ECHO)):
            self.policy(name, name, "web.example")
            service = self.service(name, PORT, target, [self.backend])
            self.admin.apply(manifests.http_route(name, "demo", name, PORT))
            self.addresses[name] = service["spec"]["clusterIPs"][0]
        self.gateway = self.one.pod("gateway-0", labels={GATEWAY_NAME: "demo"})
        until(lambda: any(each["state"] == "ready" for each in self.current.agent.status()["gateways"]), 30,
              "the gateway ready")
        self.sockets = self.close_at_end(SocketMaker(self.gateway.netns, self.gateway.main))
        self.close_at_end(nginx.gateway(self.new_directory("gateway"), self.gateway.netns, self.gateway.main,
                                        self.gateway.address4, LISTEN, {"web": [(self.addresses["web"], PORT)]}))

    def unknown(self):
        """
        Addresses of a pod of no Service: each is held, asked for, and then relayed plain. Only the first connection to
        it: from then on it is known as plain, and not relayed.
        """
        pod = self.one.pod(f"unknown-{self.count}")
        maker = self.close_at_end(SocketMaker(pod.netns, pod.main))
        for address in (pod.address4, pod.address6):
            self.close_at_end(Backend(maker, address, ECHO, script=echo_plain))
        return pod.address4, pod.address6

    def request(self):
        answer = http.request(self.client, self.gateway.address4, LISTEN, "/web/", headers={"X-Marker": MARKER.decode()})
        return answer.status, answer.values.get("sni")

    def version(self, name):
        """The program with another version in it, as long as its own."""
        own = self.current.agent.status()["version"].encode()
        path = self.directory / name
        if path.exists():
            return path
        path.write_bytes(POSTERND.read_bytes().replace(own, name.encode().ljust(len(own), b"x")[:len(own)]))
        path.chmod(0o755)
        return path


def echo_tls(sock, context):
    peer = TlsPeer(sock, context).handshake()
    while data := peer.receive():
        peer.send(data)
    peer.close_notify()


def echo_plain(sock):
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.close()


class Beside:
    """Something again and again in a thread until stop(): how often, and what went wrong."""

    def __init__(self, turn):
        self.count, self.failures = 0, []
        self._turn, self._ended = turn, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ended.wait(0.01):  # the pace of the traffic
            try:
                self._turn()
            except Exception as error:  # pylint: disable=broad-except
                self.failures.append(repr(error))
                if len(self.failures) > 5:
                    return
            self.count += 1

    def until_more(self, count=5):
        wanted = self.count + count
        until(lambda: self.count >= wanted or self.failures, 60, f"{count} more turns")

    def stop(self):
        self._ended.set()
        self._thread.join(60)


def ask(world):
    seen = world.request()
    if seen != (200, "web.example"):
        raise OSError(f"answered {seen}")


def say(sock, text):
    sock.sendall(text)
    seen = receive_exactly(sock, len(text))
    if seen != text:
        raise OSError(f"echoed {seen[:60]!r}")


def roll(world, program):
    """One step of the rollout, under load."""
    before = world.current
    long = [world.sockets.connect(world.addresses["echo"], PORT, 60) for _ in range(LONG)]
    plain = [world.sockets.connect(address, ECHO, 60) for address in world.unknown()]
    traffic = {
        "request": [Beside(lambda: ask(world)) for _ in range(CLIENTS)],
        "long": [Beside(lambda sock=sock: say(sock, MARKER)) for sock in long],
        "plain": [Beside(lambda sock=sock: say(sock, b"x" * 900)) for sock in plain],
    }
    every = [each for kind in traffic.values() for each in kind]
    unprotected = []
    watcher = Beside(lambda: unprotected.extend(
        each["name"] for each in world.controller.status()["findings"] if each["reason"] == "UnprotectedGatewayPod"))
    try:
        for each in every:
            each.until_more()
        after = world.new_pod(program).until_ready()
        before.agent.process.wait_for('event="handed over"', within=30)
        before.delete()
        world.current = after
        for each in every:
            each.until_more()
    finally:
        for each in (*every, watcher):
            each.stop()
        for sock in (*long, *plain):
            sock.close()
    expect("failures", {kind: [failure for each in ones for failure in each.failures[:2]]
                        for kind, ones in traffic.items()}, {kind: [] for kind in traffic})
    expect("how the one before ended", before.gone(), 0)
    after.until_probed()  # with the one before gone
    until(lambda: after.agent.control("status")[0] == 0, 20, "posternctl status that finds nothing wrong")
    expect("gateway pods without a Ready agent on their node, meanwhile", (unprotected, watcher.failures), ([], []))
    expect_that("plain relays that were taken over", after.agent.status()["workers"]["taken_over"] >= len(plain),
                after.agent.status()["workers"])
    expect("a request, by the new one alone", world.request(), (200, "web.example"))
    print("     " + ", ".join(f"{sum(each.count for each in ones)} turns of {kind}" for kind, ones in traffic.items()))


def declare(says, steps):
    @case(says, limit=400)
    def rolled(world):
        programs = {"next": world.version("v99.0.0"), "own": POSTERND}
        with world.capture(world.gateway, MARKER) as wire:
            for step in steps:
                roll(world, programs[step])
                seen = world.current.agent.status()["version"]
                expect_that("the version that serves", seen.startswith("v99.0.0") == (step == "next"), seen)
            report = wire.report()
        expect("markers on the wire", report.markers - marked_requests(report), 0)
        clear = [each for each in report.in_the_clear(PORT, TARGET)]
        expect("in the clear", clear, [])
        expect_that("the capture sees what is TLS", len(report.towards(PORT)) > LONG, len(report.towards(PORT)))


def marked_requests(report):
    """Those of the client to the gateway, which are plain HTTP."""
    return sum(sum(each["markers"]) for each in report.to_ports(LISTEN))


declare("a new version: it takes over, the one before drains and ends; no request and no connection is lost", ("next",))
declare("rolled back, and rolled out again", ("own", "next", "own"))


if __name__ == "__main__":
    main(World)
