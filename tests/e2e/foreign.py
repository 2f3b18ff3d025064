#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""What others do: strangers at the agent's port, hooks detached by hand, maps that are full."""

import json
import os
import re
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.agent import pinned_maps
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main, skip
from lib.process import CommandFailed, run
from lib.stage import ECHO_PORT, Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

MARKER = b"postern-foreign-marker-c0de"
PORT = 8960


class ForeignStage(Stage):
    def _build(self):
        super()._build()
        self.service = self.publish(Service("target", 130, target=PORT, hostname="echo.example"))
        self.target = self.close_at_end(Backend(self.backend, backend4(2), PORT, server_context(self.leaf)))
        self.agent.until_policy("target")


@case("a foreign process that dials the agent's port gets nothing, and nothing is dialed for it", limit=120)
def stranger(stage):
    accepted = stage.target.accepted
    ports = stage.agent.ports()
    expect_that("two or more ports", len(ports) >= 2, ports)
    for port in ports[:2]:
        for address in ("127.0.0.1", "::1"):
            expect_error(f"a stranger's connect to {address}:{port}",
                         lambda address=address, port=port: stage.stranger.connect(address, port, timeout=5),
                         ConnectionRefusedError, ConnectionResetError, TimeoutError)
    expect("connections dialed to the backend", stage.target.accepted, accepted)


@case("the gateway itself gets nothing there, either: the agent's port is no destination")
def gateway_at_port(stage):
    accepted = stage.target.accepted
    expect_error("the gateway's own connect to the agent's port",
                 lambda: stage.gateway.connect("127.0.0.1", stage.agent.ports()[0], timeout=5), OSError)
    expect("connections dialed to the backend", stage.target.accepted, accepted)


@case("processes outside the gateway's cgroup are not touched: plain to a covered endpoint, as before")
def others(stage):
    with stage.capture(MARKER) as wire:
        g = stage.stranger.connect(*stage.echo.endpoint4)
        g.sendall(b"GET / HTTP/1.1\r\nX-Marker: " + MARKER + b"\r\n\r\n")
        expect_that("nginx's word for plain HTTP on a TLS port", b"400" in g.recv(4096), None)
        expect("markers on the wire", wire.report().markers, 1)


@case("whoever takes the agent's port after its death gets nothing from the gateway")
def port_thief(stage):
    ports = stage.agent.ports()
    stage.agent.kill()
    thieves = []
    try:
        for port in ports:
            thieves.append(stage.stranger.listen("127.0.0.1", port))
        for _ in range(4 * len(ports)):
            expect_error("a covered connect", lambda: stage.gateway.connect(stage.echo.vip4, 80, timeout=3),
                         ConnectionRefusedError)
        for thief in thieves:
            thief.setblocking(False)
            expect_error("a thief's accept", thief.accept, BlockingIOError)
    finally:
        for thief in thieves:
            thief.close()
        stage.start_agent()
    expect("a request after the restart", stage.ask("vip4").status, 200)


def links(stage):
    """id -> attach type of every link on the gateway's cgroup."""
    cgroup_id = os.stat(stage.gateway_cgroup).st_ino
    found = {}
    for link in json.loads(run("bpftool", "--json", "link", "list").stdout):
        if link.get("cgroup_id") == cgroup_id:
            found[link["id"]] = link.get("attach_type", "?")
    return found


def detach(stage, pattern):
    """Detach the gateway's links of these attach types; how many there were."""
    chosen = [number for number, kind in links(stage).items() if re.search(pattern, str(kind))]
    for number in chosen:
        run("bpftool", "link", "detach", "id", number)
    return len(chosen)


def try_in_plain(stage):
    """What comes of a covered connect of the gateway when hooks are gone."""
    try:
        g = stage.gateway.connect(*stage.echo.endpoint4, timeout=2)
    except OSError as error:
        return type(error).__name__
    try:
        g.sendall(b"GET / HTTP/1.1\r\nX-Marker: " + MARKER + b"\r\nConnection: close\r\n\r\n")
        g.settimeout(2)
        return g.recv(4096)
    except OSError as error:
        return type(error).__name__
    finally:
        g.close()


@case("intercept detached by hand: the guard drops what would be plain; the status tells, or the agent mends it", limit=90)
def intercept_detached(stage):
    with stage.capture(MARKER) as wire:
        expect_that("links of connect4 and connect6", detach(stage, r"connect[46]$|inet[46]_connect$") >= 2, links(stage))
        try_in_plain(stage)
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("sent and not TLS", report.sent_not_tls(ECHO_PORT), [])
    until(lambda: serves(stage) or says_why(stage), 40, "a mended gateway, or a status that says what is wrong")
    mend(stage)


@case("the guard detached by hand: intercept still redirects; the status tells, or the agent mends it", limit=90)
def guard_detached(stage):
    with stage.capture(MARKER) as wire:
        expect_that("a link of cgroup egress", detach(stage, "egress") >= 1, links(stage))
        answer = stage.ask("vip4", headers={"X-Marker": MARKER.decode()})
        report = wire.report()
    expect("status", answer.status, 200)
    expect("markers on the wire", report.markers, 0)
    until(lambda: links_whole(stage) or says_why(stage), 40, "a mended guard, or a status that says what is wrong")
    mend(stage)


@case("sock_ops detached by hand: covered connects are refused or held, never plain", limit=90)
def sock_ops_detached(stage):
    with stage.capture(MARKER) as wire:
        expect_that("a link of sock_ops", detach(stage, "sock_ops") >= 1, links(stage))
        try_in_plain(stage)
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("sent and not TLS", report.sent_not_tls(ECHO_PORT), [])
    mend(stage)


def serves(stage):
    try:
        stage.gateway.connect(*stage.echo.endpoint4, timeout=2).close()
        return links_whole(stage)
    except OSError:
        return False


def links_whole(stage):
    kinds = " ".join(str(kind) for kind in links(stage).values())
    return all(re.search(word, kinds) for word in ("inet4_connect|connect4", "inet6_connect|connect6", "egress",
                                                   "sock_ops"))


def says_why(stage):
    gateway = stage.agent.status()["gateways"][0]
    return gateway["state"].lower() != "ready" and gateway["reason"]


def mend(stage):
    """A restart must put every hook back."""
    stage.agent.stop()
    stage.start_agent()
    expect_that("all hooks after a restart", links_whole(stage), links(stage))
    expect("a request after a restart", stage.ask("vip4").status, 200)


@case("the destination map is full: what does not fit is held and decided by the agent, never plain", limit=240)
def map_full(stage):
    path = pinned_maps(stage.bpffs).get("destination_map")
    expect_that("the pinned map", path, pinned_maps(stage.bpffs))
    most = json.loads(run("bpftool", "--json", "map", "show", "pinned", path).stdout)["max_entries"]
    batch = stage.directory / "fill"
    with batch.open("w") as lines:
        for index in range(most):
            address = [0x20, 1, 0x0d, 0xb8] + [0] * 9 + list(index.to_bytes(3, "big"))
            key = " ".join(map(str, address + [0, 80, 0, 0]))
            lines.write(f"map update pinned {path} key {key} value 2 0 0 0 0 0 0 0\n")
    try:
        run("bpftool", "batch", "file", batch, within=600)
        skip(f"the map took {most} entries more than it has room for")
    except CommandFailed:
        pass  # the last ones do not fit: the map is full
    late = Service("late", 131, target=PORT, endpoints=(4,), hostname="echo.example")
    with stage.capture(MARKER) as wire, \
            Backend(stage.backend, backend4(4), PORT, server_context(stage.leaf)) as backend:
        stage.publish(late)
        stage.agent.until_policy("late", within=20)
        for address, port in ((late.vip4, 80), late.endpoint4):
            g = stage.gateway.connect(address, port)
            peer = backend.take()
            g.sendall(MARKER)
            expect(f"{address}: bytes at the backend", peer.receive_exactly(len(MARKER)), MARKER)
            g.close()
        report = wire.report()
    expect("markers on the wire", report.markers, 0)
    expect("streams that are not TLS", report.not_tls(PORT), [])
    expect("what was there before still works", stage.ask("vip4").status, 200)
    expect("an uncovered Service, too", stage.ask("plain").status, 200)


@case("a plain connection from before the enrolment, to a covered destination, is destroyed and carries nothing")
def before_enrolment(stage):
    stage.agent.stop()
    stage.uninstall()
    g = stage.gateway.connect(*stage.echo.endpoint4)
    stage.start_agent()
    with stage.capture(MARKER) as wire:
        g.settimeout(3)
        expect_error("the connection", lambda: g.recv(100), ConnectionAbortedError, ConnectionResetError)
        expect_error("what it sends", lambda: g.sendall(b"GET / HTTP/1.1\r\nX-Marker: " + MARKER + b"\r\n\r\n"),
                     BrokenPipeError)
        expect("markers on the wire", wire.report().markers, 0)


@case("UDP of the gateway is not touched")
def udp(stage):
    server = stage.backend.socket(2, 2)
    server.bind((backend4(2), ECHO_PORT))
    server.settimeout(3)
    sock = stage.gateway.socket(2, 2)
    sock.connect((backend4(2), ECHO_PORT))
    sock.send(MARKER)
    expect("datagram", server.recv(100), MARKER)


if __name__ == "__main__":
    main(ForeignStage)
