#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Prepared faults, each as an operator meets it at 3 a.m.: one command names the cause and the remedy. Every case asserts
the words. Those that need more than this machine (an API server) are played: tests/lib/played_agent.py. The twentieth, a
lost Lease, is postern-controller's to tell: tests/kubernetes/controller.py, its cases "fault: the Lease is lost".
"""

import json
import os
import ssl
import sys
import warnings

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import backend as scripts
from lib import kernel_tls, manifests
from lib.backend import Backend
from lib.case import case, expect, expect_that, main, skip
from lib.certificates import Authority
from lib.played_agent import PlayedAgent
from lib.process import run
from lib.stage import Stage
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service

FINE, WRONG, _, DEAD, DISAGREE = range(5)
NAME = "faulty.example"


class FaultStage(Stage):
    def _build(self):
        super()._build()
        self.numbers = iter(range(200, 250))

    def service(self, name, **fields):
        """A covered Service with a port of its own, published and known to the agent."""
        number = next(self.numbers)
        service = self.publish(Service(name, number, target=9400 + number, hostname=fields.pop("hostname", NAME),
                                       **fields))
        return service

    def explained(self, service, *words, address=None, gateway="default/demo"):
        address = address or f"{service.vip4}:80"
        code, text, said = self.agent.control("explain", gateway, address, *words)
        return code, text + said


def pinned(stage):
    """<bpffs>/vN of the agent that runs, or ran last."""
    return max(stage.bpffs.glob("v*"), key=lambda path: int(path.name[1:]))


def expect_words(code, wanted, text, *words):
    for word in words:
        expect_that(f"{word!r} in the page", word in text, text)
    expect("exit status", code, wanted)


@case("no CA: the ConfigMap that the policy names is not there")
def no_ca(stage):
    service = Service("no-ca", next(stage.numbers), target=9001, hostname=NAME)
    objects = [each for each in stage.objects(service) if each["kind"] != "ConfigMap"]
    stage.manifests.write("no-ca.yaml", *objects)
    stage.network.cluster_ip(service.vip4, 80, service.endpoints4)
    stage.agent.until_policy("no-ca", accepted=False)
    code, text = stage.explained(service)
    expect_words(code, WRONG, text, "DENY by policy default/no-ca: no_valid_ca",
                 "remedy: no usable CA certificate: see the policy's ResolvedRefs condition",
                 "ResolvedRefs: False (InvalidCACertificateRef)", "no-ca-ca")


@case("an expired CA: the only CA certificate of the policy is not valid any more")
def expired_ca(stage):
    authority = Authority(stage.directory / "expired-ca", "expired-ca", expired=True)
    leaf = authority.leaf("under-expired", f"DNS:{NAME}")
    service = stage.service("expired-ca", authority=authority)
    stage.agent.until_policy("expired-ca")
    with Backend(stage.backend, backend4(2), service.target, server_context(leaf)):
        code, text = stage.explained(service, "--try")
    expect_words(code, WRONG, text, "CA: no CA certificate of 1 is valid now; the last one ends or ended 20",
                 "remedy: put the CA that signs the backend's certificate now into the ConfigMap")
    code, text, _ = stage.agent.control("certs")
    expect_words(code, WRONG, text, "CN=expired-ca", "expired", "used by policy default/expired-ca", "remedy: ")


@case("a wrong SAN: the backend's certificate is somebody else's")
def wrong_san(stage):
    leaf = stage.authority.leaf("wrong-san", "DNS:elsewhere.example")
    service = stage.service("wrong-san")
    stage.agent.until_policy("wrong-san")
    with Backend(stage.backend, backend4(2), service.target, server_context(leaf)):
        code, text = stage.explained(service, "--try")
    expect_words(code, WRONG, text, "dial and handshake: identity_mismatch", "DNS:elsewhere.example",
                 "connect as the gateway: Connection refused", "cause:  dial and handshake: identity_mismatch",
                 "remedy: no subject alternative name of the certificate matches the policy's hostname")


@case("a backend that speaks plain HTTP")
def plain_http(stage):
    service = stage.service("plain-http")
    stage.agent.until_policy("plain-http")
    with Backend(stage.backend, backend4(2), service.target, script=scripts.garbage):
        code, text = stage.explained(service, "--try")
    expect_words(code, WRONG, text, "cause:  dial and handshake: not_tls",
                 "remedy: the backend does not speak TLS on this port")


@case("a backend that has only TLS 1.1")
def tls_1_1(stage):
    leaf = stage.authority.leaf("old", f"DNS:{NAME}")
    context = server_context(leaf, ciphers="ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
    service = stage.service("old-tls")
    stage.agent.until_policy("old-tls")
    with Backend(stage.backend, backend4(2), service.target, context):
        code, text = stage.explained(service, "--try")
    expect_words(code, WRONG, text, "cause:  dial and handshake: protocol_version", "the backend speaks TLSv1.1",
                 "remedy: no common TLS version")


@case("a closed port: nothing listens where the Service points")
def closed(stage):
    service = stage.service("closed")
    stage.agent.until_policy("closed")
    code, text = stage.explained(service, "--try")
    expect_words(code, WRONG, text, "dial and handshake: backend_refused: TCP: Connection refused",
                 "connect as the gateway: Connection refused", "backend_refused",
                 "remedy: nothing listens on the backend's port")
    code, text = stage.explained(service)
    expect_words(code, FINE, text, "lately: ", "of the last 1,000 failures were here", "backend_refused")


@case("hooks detached by hand")
def detached(stage):
    believed = {command: stage.agent.ask(command) for command in ("status", "destinations", "policies", "failures")}
    stage.agent.kill()
    run("bpftool", "link", "detach", "pinned", pinned(stage) / "links/default_2fdemo/connect4")
    with PlayedAgent(stage.run_directory, believed):
        code, text, _ = stage.agent.control("status")
        expect_words(code, DISAGREE, text, "KERNEL AND AGENT DISAGREE",
                     "these hooks are not attached: connect4", "remedy: somebody detached or replaced hooks")
        code, text = stage.explained(stage.echo)
        expect_words(code, WRONG, text, "hooks: not attached: connect4", "remedy: somebody detached them by hand")
    stage.start_agent()


@case("the map emptied by hand")
def emptied(stage):
    path = pinned(stage) / "destination_map"
    for entry in json.loads(run("bpftool", "--json", "map", "dump", "pinned", path).stdout):
        run("bpftool", "map", "delete", "pinned", path, "key", *entry["key"])
    code, text = stage.explained(stage.echo)
    expect_words(code, DISAGREE, text, "KERNEL AND AGENT DISAGREE: the agent says tls by policy default/echo",
                 "remedy: somebody changed the maps by hand: restart posternd")
    stage.agent.stop()
    stage.start_agent()


@case("a dead agent")
def dead(stage):
    stage.agent.kill()
    code, text = stage.explained(stage.echo)
    expect_words(code, DEAD, text, "agent: ", "this connect is refused at once (111: Connection refused)",
                 "remedy: start posternd", "kernel's map: 10.96.0.10:80: TLS")
    code, text, _ = stage.agent.control("status")
    expect_words(code, DEAD, text, "posternd is not running", "covered and guarded connects are refused")
    stage.start_agent()


@case("a kernel without TLS")
def no_kernel_tls(stage):
    if kernel_tls.available():
        skip("this kernel has TLS")
    _, text, _ = stage.agent.control("probe")
    expect_words(0, 0, text, "the kernel has no TLS: all of it runs in user space", "modprobe tls")


@case("a gateway that is not enrolled")
def not_found(stage):
    code, text = stage.explained(stage.echo, gateway="default/nobody")
    expect_words(code, WRONG, text, "no gateway default/nobody is enrolled", "remedy: is the name right")


@case("a wrong clock: the backend's certificate is not valid yet")
def wrong_clock(stage):
    leaf = stage.authority.leaf("tomorrow", f"DNS:{NAME}", future=True)
    service = stage.service("tomorrow")
    stage.agent.until_policy("tomorrow")
    with Backend(stage.backend, backend4(2), service.target, server_context(leaf)):
        code, text = stage.explained(service, "--try")
    expect_words(code, WRONG, text, "cause:  dial and handshake: certificate_not_yet_valid", "2099-01-01",
                 "remedy: check the clocks")


@case("an API server that is gone: the watches fail, the last state counts")
def no_api_server(stage):
    document = stage.agent.status()
    document["source_watches"] = [{"resource": "services", "namespace": "", "state": "failing", "objects": 12,
                                   "lists": 1, "events": 7, "failures": 9, "last_event_seconds": 93.5,
                                   "failing_seconds": 61.0, "error": "connect: Connection refused"}]
    stage.agent.kill()
    with PlayedAgent(stage.run_directory, {"status": document}):
        code, text, _ = stage.agent.control("status")
    expect_words(code, WRONG, text, "services: failing for 1m 1s: connect: Connection refused",
                 "the last state counts", "remedy: is the API server reachable from this node")
    stage.start_agent()


@case("a policy in the shadow of another one")
def shadowed(stage):
    service = stage.service("shadow")
    stage.agent.until_policy("shadow")
    younger = manifests.backend_tls_policy("younger", "shadow", NAME, "shadow-ca")
    stage.manifests.write("younger.yaml", younger)
    stage.agent.until_policy("younger", accepted=False)
    code, text, _ = stage.agent.control("policies", "--policy", "younger")
    expect_words(code, WRONG, text, "not accepted: Conflicted", "default/shadow")
    code, text, _ = stage.agent.control("status")
    expect_words(code, WRONG, text, "default/younger", "Conflicted")
    stage.manifests.remove("younger.yaml")
    stage.agent.until_no_policy("younger")


@case("a gateway that speaks TLS itself")
def already_tls(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    g.settimeout(10)
    try:
        g.sendall(b"\x16\x03\x01\x00\xc4\x01\x00\x00\xc0\x03\x03" + bytes(190))
        g.recv(100)
    except OSError:
        pass
    stage.agent.failure_of(g)
    code, text, _ = stage.agent.control("failures", "--reason", "gateway_already_tls")
    expect_words(code, 0, text, "gateway_already_tls", "remedy: the gateway speaks TLS itself: do not enrol it",
                 str(g.getsockname()[1]))
    code, text = stage.explained(stage.echo)
    expect_words(code, FINE, text, "lately: ", "gateway_already_tls")
    g.close()


@case("an endpoint that two policies share")
def shared(stage):
    number = next(stage.numbers)
    other = Authority(stage.directory / "sharing-ca", "sharing-ca")
    first = Service("sharing-a", number, target=9300, hostname="a.example")
    second = Service("sharing-b", next(stage.numbers), target=9300, hostname="b.example", authority=other)
    for service in (first, second):
        stage.publish(service)
        stage.agent.until_policy(service.name)
    code, text = stage.explained(first, address=f"{backend4(2)}:9300")
    expect_words(code, WRONG, text, "DENY", "ambiguous_endpoint",
                 "remedy: several policies claim this endpoint: dial the ClusterIP")


@case("resumption refused: a backend without tickets; every handshake is a full one")
def no_resumption(stage):
    leaf = stage.authority.leaf("no-tickets", f"DNS:{NAME}")
    context = server_context(leaf)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    service = stage.service("no-tickets")
    stage.agent.until_policy("no-tickets")
    with Backend(stage.backend, backend4(2), service.target, context) as backend:
        for _ in range(2):
            g = stage.gateway.connect(service.vip4, 80)
            backend.take()
            stage.agent.connection_of(g)
            row = [each for each in json.loads(stage.agent.control("--json", "connections", "--policy", "no-tickets")[1])
                   if each["gateway_port"] == g.getsockname()[1]][0]
            expect("resumed", row["resumed"], False)
            _, text, _ = stage.agent.control("connections", "--policy", "no-tickets")
            expect_that("it says so", "full handshake" in text, text)
            g.close()


@case("B that is not in kernel TLS: the mode of each direction, and why")
def not_in_kernel(stage):
    g = stage.gateway.connect(stage.echo.vip4, 80)
    stage.agent.connection_of(g)
    code, text, _ = stage.agent.control("connections", "--gateway", "demo", "--destination", ":80")
    if kernel_tls.available():
        expect_words(code, 0, text, "tcp-ulp-tls")
    else:
        expect_words(code, 0, text, "user_tls", "ktls_unavailable: the kernel has no TLS (CONFIG_TLS)")
    g.close()


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1 is asked for on purpose
    main(FaultStage)
