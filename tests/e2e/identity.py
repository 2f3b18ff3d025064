#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Who a gateway is to its backends: the client certificate of its Gateways, or of a policy; shown, refused, rotated."""

import json
import os
import ssl
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import http, manifests
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main
from lib.certificates import Authority
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import LONG, until
from lib.world import Service, World
from lib import nginx

ONLY_1_2 = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
ONLY_1_3 = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)
VERSIONS = {"1.2": (8601, "TLSv1.2"), "1.3": (8602, "TLSv1.3")}


class IdentityStage(World):
    """
    Backends of either TLS version that want a client certificate of a CA of its own, each with a Service; two Gateways,
    of which the data plane serves the first.
    """

    def _build(self):
        super()._build()
        self.clients = Authority(self.directory / "client-certificates", "client-ca")
        self.one = self.clients.leaf("one", usage="clientAuth")
        self.two = self.clients.leaf("two", usage="clientAuth")
        self.stranger_leaf = Authority(self.directory / "stranger-certificates", "stranger-ca").leaf(
            "stranger", usage="clientAuth")
        self.leaf = self.authority.leaf("echo", "DNS:echo.example")
        self.shown = {"demo": "identity", "other": None}  # Gateway -> Secret
        self.secrets = {"identity": self.one}
        self.write_gateways()
        self.services = {}
        for index, (version, (port, word)) in enumerate(VERSIONS.items()):
            self.services[version] = self.publish(
                Service(f"wants-{index}", 60 + index, target=port, hostname="echo.example"))
            self.close_at_end(nginx.backend(
                self.new_directory(f"tls-{version}"), self.network["backend"], self.backend_cgroup,
                [(backend4(2), port)], self.leaf,
                f"ssl_protocols {word}; ssl_verify_client on; ssl_client_certificate {self.clients.certificate};"))
        self.start_agent([self.gateway_flags(gatewayRef=("default/demo",))])
        for service in self.services.values():
            self.agent.until_policy(service.name)

    def gateway_objects(self):
        return [*(manifests.gateway(name, client_certificate=secret) for name, secret in self.shown.items()),
                *(manifests.tls_secret(name, leaf) for name, leaf in self.secrets.items())]

    def write_gateways(self):
        self.manifests.write("gateway.yaml", *self.gateway_objects())

    def show(self, state, **shown):
        """The Gateways name these Secrets; comes back when the data plane is in this state."""
        before = self.data_plane()["digest"] if self._agent else ""
        self.shown.update(shown)
        self.write_gateways()
        until(lambda: self.data_plane()["state"] == state, LONG, f"the state {state}")
        return before

    def rotate(self, leaf, name="identity"):
        before = self.data_plane()["digest"]
        self.secrets[name] = leaf
        self.write_gateways()
        until(lambda: self.data_plane()["digest"] != before, LONG, "another digest")

    def data_plane(self):
        return self.agent.status()["gateways"][0]["client_certificate"]

    def reset(self):
        self.secrets = {"identity": self.one}
        self.show("shown", demo="identity", other=None)

    def failures_to(self, service):
        """Newest first. Connections of earlier cases that still drain may fail in between."""
        return [each for each in self.agent.failures() if each["destination"] == f"{service.vip4}:80"]

    def ask(self, version):
        return http.request(self.gateway, self.services[version].vip4, 80, "/")


def expect_client(stage, leaf_name):
    for version in VERSIONS:
        answer = stage.ask(version)
        expect(f"TLS {version}: the backend's answer, which verifies clients", answer.status, 200)
        expect(f"TLS {version}: who came", (answer.values["client"], answer.values["verified"]),
               (f"CN={leaf_name}", "SUCCESS"))


@case("a backend that verifies its clients sees the certificate that the Gateway names, with TLS 1.2 and 1.3")
def shown(stage):
    expect_client(stage, "one")
    expect("the data plane's state", stage.data_plane()["state"], "shown")
    gateways = {each["name"]: each for each in stage.agent.status()["gateway_objects"]}
    expect("the Gateways' states", {name: each["client_certificate"]["state"] for name, each in gateways.items()},
           {"demo": "usable", "other": "none"})


def row_of(stage, sock):
    """What posternctl says of the connection of this G; {} if there is none."""
    port = sock.getsockname()[1]
    return next((each for each in stage.agent.connections() if each["gateway_port"] == port), {})


@case("the Secret is rotated: new connections show the new one, never by a session of the old one; idle ones end soon")
def rotated(stage):
    stage.reset()
    expect_client(stage, "one")
    expect_client(stage, "one")
    service = stage.services["1.3"]
    live = stage.gateway.connect(service.vip4, 80)
    until(lambda: row_of(stage, live), LONG, "the connection in the list")
    live.sendall(b"GET / HTTP/1.1\r\nHost: echo.example\r\n\r\n")
    expect_that("an answer", live.recv(1 << 16).startswith(b"HTTP/1.1 200"), "none")
    stage.rotate(stage.two)
    until(lambda: row_of(stage, live).get("draining"), LONG, "the old connection to drain")
    # Before anything else: it is reset when it has been idle for five seconds.
    live.sendall(b"GET / HTTP/1.1\r\nHost: echo.example\r\n\r\n")
    answer = live.recv(1 << 16)
    expect_that("the old connection still serves, as who it was", b"client=CN=one" in answer, answer)
    expect_client(stage, "two")
    live.settimeout(30)
    expect_error("the old connection, once it is idle", lambda: live.recv(10), ConnectionResetError)
    failure = stage.agent.failure_of(live)
    expect("reason", failure["reason"], "policy_changed")
    expect_that("the client certificate in the detail", failure["detail"].startswith("client certificate"), failure)
    until(lambda: stage.agent.status()["workers"]["draining"] == 0, 15, "no connection that shows the old one")
    expect_that("new connections do not drain", not any(each["draining"] for each in stage.agent.connections()),
                stage.agent.connections())
    stage.rotate(stage.one)
    expect_client(stage, "one")


@case("a certificate that cannot be used: covered connects are refused and nothing is dialed; mended, they work")
def unusable(stage):
    stage.reset()
    with Backend(stage.backend, backend4(2), 8603, server_context(stage.leaf)) as backend:
        service = stage.publish(Service("watches", 63, target=8603, hostname="echo.example"))
        stage.agent.until_policy("watches")
        stage.show("unusable", demo="missing")
        for each in (service, *stage.services.values()):
            expect_error("a covered connect", lambda each=each: stage.gateway.connect(each.vip4, 80),
                         ConnectionRefusedError)
        failure = stage.failures_to(service)[0]
        expect("reason", failure["reason"], "client_certificate_unusable")
        expect_that("the Gateway and the Secret in the detail",
                    "default/demo" in failure["detail"] and "missing" in failure["detail"], failure["detail"])
        _, page, _ = stage.agent.control("status")
        expect_that("the Gateway on the status page", "client certificate cannot be used" in page, page)
        expect("connections at the backend", backend.accepted, 0)
        stage.reset()
        expect_client(stage, "one")
        stage.gateway.connect(service.vip4, 80).close()
        expect("connections at the backend", backend.accepted, 1)


def refusing_backend(stage, port, versions):
    context = server_context(stage.leaf, versions)
    context.load_verify_locations(stage.clients.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return Backend(stage.backend, backend4(2), port, context)


@case("a backend that wants a certificate and gets none, or a stranger's: refused (1.2) or reset (1.3), with a reason")
def refused(stage):
    stage.reset()
    with refusing_backend(stage, 8604, ONLY_1_2), refusing_backend(stage, 8605, ONLY_1_3):
        strict = stage.publish(Service("strict-12", 64, target=8604, hostname="echo.example"))
        late = stage.publish(Service("strict-13", 65, target=8605, hostname="echo.example"))
        for service in (strict, late):
            stage.agent.until_policy(service.name)
        stage.secrets["stranger"] = stage.stranger_leaf
        for what, state, secret, reasons in (
                ("none", "none", None, {"client_certificate_refused"}),
                ("a stranger's", "shown", "stranger", {"client_certificate_refused", "peer_alert"})):
            stage.show(state, demo=secret)
            expect_error(f"TLS 1.2, {what}", lambda: stage.gateway.connect(strict.vip4, 80), ConnectionRefusedError)
            failure = stage.failures_to(strict)[0]
            expect_that(f"TLS 1.2, {what}: one of {reasons}", failure["reason"] in reasons, failure)

            def late_refusal():
                # TLS 1.3: the backend judges the client when the handshake is over for the agent.
                stage.gateway.connect(late.vip4, 80).recv(10)
            before = len(stage.failures_to(late))
            expect_error(f"TLS 1.3, {what}", late_refusal, ConnectionResetError, ConnectionRefusedError)
            until(lambda: len(stage.failures_to(late)) > before, LONG, "the failure in the list")
            failure = stage.failures_to(late)[0]
            expect_that(f"TLS 1.3, {what}: one of {reasons}", failure["reason"] in reasons, failure)
        stage.reset()
        for service in (strict, late):
            stage.gateway.connect(service.vip4, 80).close()


@case("explain --try is made by the agent, with the client certificate, and says when the backend refuses it")
def tried(stage):
    stage.reset()
    with refusing_backend(stage, 8606, ONLY_1_2), refusing_backend(stage, 8607, ONLY_1_3):
        services = [stage.publish(Service(f"tried-{port}", port - 8606 + 70, target=port, hostname="echo.example"))
                    for port in (8606, 8607)]
        for service in services:
            stage.agent.until_policy(service.name)
        for secret, state, works in (("identity", "shown", True), (None, "none", False)):
            stage.show(state, demo=secret)
            for service in services:
                code, text, _ = stage.agent.control("--json", "explain", "default/demo", f"{service.vip4}:80", "--try")
                document = json.loads(text)
                step = next(each for each in document["steps"] if each["step"] == "dial and handshake")
                what = f"{service.name}, {state}"
                expect(f"{what}: the step's state ({step})", step["state"], "ok" if works else "wrong")
                expect(f"{what}: the leaf in the chain", [each["names"] for each in document["chain"]][:1],
                       ["DNS:echo.example"])
                if works:
                    expect(f"{what}: exit status", code, 0)
                    expect_that(f"{what}: who was shown", "the gateway's client certificate is shown" in step["says"], step)
                else:
                    expect_that(f"{what}: the reason and its remedy", "client_certificate_refused" in step["says"] and
                                "the backend wants a client certificate" in step["remedy"], step)
                expect_that(f"{what}: no key leaves the agent", "PRIVATE KEY" not in text, text)
    stage.reset()
    for command, says in (("try default/demo 10.0.0.1", "try GATEWAY ADDRESS PORT"), ("try nobody 10.96.0.70 80", "no such"),
                          ("try default/demo 10.99.99.99 80", "no TLS destination"), ("tried 999", "no such ticket"),
                          ("tried x", "no such ticket")):
        expect_that(f"{command}: {says!r}", says in str(stage.agent.ask(command)), stage.agent.ask(command))


@case("explain --try asks for the backend's certificate each time: its handshake resumes no session")
def tried_anew(stage):
    stage.reset()
    context = server_context(stage.leaf)
    with Backend(stage.backend, backend4(2), 8608, context):
        service = stage.publish(Service("tried-anew", 72, target=8608, hostname="echo.example"))
        stage.agent.until_policy(service.name)

        for turn in range(3):  # the step "dial and handshake" alone: the last one is the gateway's, which may resume
            ticket = stage.agent.ask(f"try default/demo {service.vip4} 80")["ticket"]
            answer = until(lambda: (lambda each: None if each["pending"] else each)(stage.agent.ask(f"tried {ticket}")), 30,
                           "an answer")
            expect(f"try {turn}: verified ({answer})", answer["verified"], True)

        def settled():
            return context.session_stats()["accept_good"] == context.session_stats()["accept"]
        until(settled, 30, "the end of each handshake at the backend")
        expect("sessions resumed by the tries", context.session_stats()["hits"], 0)

        def gateway_resumes():
            stage.gateway.connect(service.vip4, 80).close()
            return context.session_stats()["hits"] > 0
        until(gateway_resumes, 30, "a session that the gateway resumes: the backend lets it, and counts it")


@case("option client-certificate of a policy comes before the Gateway's")
def of_the_policy(stage):
    stage.reset()
    service = stage.services["1.3"]
    stage.secrets["own"] = stage.two
    stage.write_gateways()
    service.options = {"postern.dev/client-certificate": "own"}
    stage.write_manifests(service)
    until(lambda: stage.ask("1.3").values["client"] == "CN=two", LONG, "the policy's own certificate")
    expect("the other Service", stage.ask("1.2").values["client"], "CN=one")
    service.options = {}
    stage.write_manifests(service)
    until(lambda: stage.ask("1.3").values["client"] == "CN=one", LONG, "the Gateway's certificate again")


@case("one data plane of two Gateways shows a certificate only if both name the same one", limit=90)
def two_gateways(stage):
    stage.reset()
    stage.agent.stop()
    stage.start_agent([stage.gateway_flags(gatewayRef=("default/demo", "default/other"))])
    for service in stage.services.values():
        stage.agent.until_policy(service.name)
    expect("one of two names one", stage.data_plane()["state"], "disagreement")
    expect("the backend's answer to nobody", stage.ask("1.3").status, 400)
    stage.secrets["copy"] = stage.one
    stage.show("shown", other="copy")
    expect_client(stage, "one")
    stage.secrets["copy"] = stage.two
    stage.show("disagreement", other="copy")
    expect("the backend's answer to nobody", stage.ask("1.3").status, 400)
    stage.show("unusable", other="missing")
    expect_error("one of two cannot be used", lambda: stage.ask("1.3"), ConnectionRefusedError)


if __name__ == "__main__":
    main(IdentityStage)
