#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
Upstream's BackendTLSPolicy scenarios (conformance/tests of Gateway API 1.6) by real gateways: nginx, HAProxy and Envoy
in pods, with the conditions that postern-controller writes, and what is on each gateway's wire. All Services share one
pod and port, as upstream's do, so the gateways dial ClusterIPs. Each policy is there before its Service: nothing is
ever plain.
"""

import os
import sys
import time
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube import postern
from kube.client import condition
from kube.pods import GATEWAY_NAME, PodWorld
from lib import envoy, haproxy, http, manifests, nginx
from lib.capture import Capture
from lib.case import SLOWNESS, Failure, case, expect, expect_that, main, skip
from lib.certificates import Authority
from lib.waiting import until

MARKER = "postern-kubernetes-gateways-9c41"
OURS = "postern.dev/backend-tls"
GATEWAY_API = "gateway.networking.k8s.io/v1"
EDGE, SHOP = "edge", "shop"  # the gateways' namespace, and the backends'
LISTEN, TARGET = 8080, 8443
HTTP, HTTPS = 443, 8443  # ports of Services; both lead to TARGET
CONDITIONS_WITHIN, CONSISTENT_WITHIN = 60, 30  # upstream's limits, in seconds
GOOD, OTHER, SPIFFE = "abc.example.com", "other.example.com", "spiffe://abc.example.com/test-identity"
REFUSED = (500, 502, 503)
GATEWAYS = {
    "nginx": nginx.gateway,
    "haproxy": haproxy.HAProxy,
    "envoy": envoy.Envoy,
}
ACCEPTED = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
NO_CA = {"Accepted": ("False", "NoValidCACertificate"), "ResolvedRefs": ("False", "InvalidCACertificateRef")}
WRONG_KIND = {"Accepted": ("False", "NoValidCACertificate"), "ResolvedRefs": ("False", "InvalidKind")}
CONFLICTED = {"Accepted": ("False", "Conflicted")}


@dataclass
class Policy:
    """One for the Service of its scenario; conditions: what it must have for each Gateway."""
    hostname: str = GOOD
    ca: str = "ca"
    section: str = None
    sans: tuple = ()  # (type, value)...
    kind: tuple = ("", "ConfigMap")
    conditions: dict = field(default_factory=lambda: ACCEPTED)

    def manifest(self, name, service):
        made = manifests.backend_tls_policy(name, service, self.hostname, self.ca, section=self.section, namespace=SHOP)
        group, kind = self.kind
        made["spec"]["validation"]["caCertificateRefs"][0].update(group=group, kind=kind)
        if self.sans:
            made["spec"]["validation"]["subjectAltNames"] = [
                {"type": each, {"Hostname": "hostname", "URI": "uri"}[each]: value} for each, value in self.sans]
        return made


@dataclass
class Scenario:
    """A Service with its policies. answers: by port of the Service the SNI that the backend sees; None: refused."""
    name: str
    says: str
    policies: tuple
    answers: dict
    pods: bool = True


def one(name, says, sni=GOOD, **fields):
    return Scenario(name, says, (Policy(**fields),), {HTTP: sni})


SCENARIOS = (
    one("valid", "a valid policy: 200, and the backend sees the policy's hostname as SNI"),
    one("host-mismatch", "a hostname that the certificate has not: Accepted, and refused", sni=None,
        hostname="mismatch.example.com"),
    one("ca-mismatch", "a CA of the right name with another key: Accepted, and refused", sni=None, ca="mismatch-ca"),
    one("ca-missing", "a ConfigMap that is not there", sni=None, ca="nowhere", conditions=NO_CA),
    one("ca-empty", "a ConfigMap without a certificate", sni=None, ca="empty-ca", conditions=NO_CA),
    one("ca-kind", "a CA reference of an unknown kind", sni=None, kind=("invalid.io", "InvalidKind"),
        conditions=WRONG_KIND),
    one("san-dns", "a DNS SAN that the certificate has", sans=(("Hostname", GOOD),)),
    one("san-dns-mismatch", "a DNS SAN that it has not, though the hostname would match", sni=None,
        sans=(("Hostname", "dce.example.com"),)),
    one("san-uri", "a URI SAN that the certificate has", sans=(("URI", SPIFFE),)),
    one("san-uri-mismatch", "a URI SAN that it has not", sni=None, sans=(("URI", "spiffe://dce.example.com/other"),)),
    one("san-several", "a URI and a DNS SAN, both right", sans=(("URI", SPIFFE), ("Hostname", GOOD))),
    one("san-several-mismatch", "a URI and a DNS SAN, both wrong", sni=None,
        sans=(("URI", "spiffe://dce.example.com/other"), ("Hostname", "dce.example.com"))),
    Scenario("conflict", "two policies for one Service: the older one counts, the other is Conflicted",
             (Policy(hostname=OTHER), Policy(conditions=CONFLICTED)), {HTTP: OTHER}),
    Scenario("conflict-section", "two policies for one port: the older one counts, the other is Conflicted",
             (Policy(hostname=OTHER, section="https-1"), Policy(section="https-1", conditions=CONFLICTED)),
             {HTTP: OTHER}),
    Scenario("section", "one policy for the Service and one for a port of it: both Accepted, each for its own ports",
             (Policy(), Policy(hostname=OTHER, section="https-1")), {HTTP: OTHER, HTTPS: GOOD}),
)
RECONCILED = one("reconciled", "", ca="reconciled-ca")
BUMPED = Scenario("bumped", "", (Policy(),), {}, pods=False)
PORTS = (("https-1", HTTP), ("https-2", HTTPS))


class World(PodWorld):
    def _build(self):
        super()._build()
        self.one = self.node("node-1")
        postern.install(self)
        self.agent = postern.start_agent(self, self.one)
        self.controller = postern.start_controller(self)
        # Given by the test: the gateways' configurations are there before the Services.
        self.numbers = {each.name: 20 + index for index, each in enumerate((*SCENARIOS, RECONCILED, BUMPED))}
        self._published, self._gateways, self._refusals = {}, {}, {}
        for name in (EDGE, SHOP):
            self.namespace(name)
        self.admin.apply({"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "other"},
                          "spec": {"controllerName": "example.com/other"}})
        self.admin.apply(manifests_grant())
        wrong = Authority(self.new_directory("wrong"), self.authority.name)
        empty = manifests.config_map("empty-ca", "", SHOP)
        empty["data"] = {}
        self.admin.apply_all(manifests.config_map("ca", self.authority.pem, SHOP), empty,
                             manifests.config_map("mismatch-ca", wrong.pem, SHOP))
        self._backend()
        self._guard_ports()
        self._pods = {name: self._gateway_pod(name) for name in GATEWAYS}

    def _backend(self):
        self.backend = self.one.pod("backend", namespace=SHOP)
        leaf = self.authority.leaf("backend", f"DNS:{GOOD}", f"DNS:{OTHER}", f"URI:{SPIFFE}")
        self.close_at_end(nginx.backend(self.new_directory("backend"), self.backend.netns, self.backend.main,
                                        [(self.backend.address4, TARGET), (self.backend.address6, TARGET)], leaf))

    def _guard_ports(self):
        """
        Conditions are the controller's, and the agent may hear of a Service later than it: what it does not know yet is
        held on the ports of covered Services, and these are all the ports that there are.
        """
        self.numbers["guarding"] = 19
        self._service("guarding", [])
        made = self.admin.apply(Policy().manifest("guarding", "guarding"))
        self.agent.until_policy(made["metadata"]["name"], within=30)

    def _gateway_pod(self, name):
        made = manifests.gateway(name, EDGE)
        made["spec"]["gatewayClassName"] = "other"
        self.admin.apply(made)
        return self.one.pod(f"{name}-0", namespace=EDGE, labels={GATEWAY_NAME: name})

    def gateway(self, name):
        """The pod of a gateway that serves, from its first use on. Skips where there is no such program."""
        if name not in self._gateways and name not in self._refusals:
            pod = self._pods[name]
            until(lambda: any(each["name"] == f"{EDGE}/{pod.name}" and each["state"] == "ready"
                              for each in self.agent.status()["gateways"]), 30, f"gateway {pod.name} ready")
            routes = {route_of(service, port): [(self.addresses(service)[0], port)]
                      for service in self.numbers for _, port in PORTS}
            try:
                self._gateways[name] = self.close_at_end(GATEWAYS[name](
                    self.new_directory(f"gateway-{name}"), pod.netns, pod.main, pod.address4, LISTEN, routes,
                    connect_timeout=f"{20 * SLOWNESS}s"))
            except Exception as error:  # pylint: disable=broad-except
                self._refusals[name] = error
        if name in self._refusals:
            raise self._refusals[name]
        return self._pods[name]

    def addresses(self, service):
        number = self.numbers[service]
        return f"10.96.0.{number}", f"fd96::{number:x}"

    def publish(self, scenario):
        """{name: policy} of a scenario, made once: first the policies, so that no connect can be earlier, then the rest."""
        if scenario.name not in self._published:
            self._published[scenario.name] = {
                name: self.admin.apply(each.manifest(name, scenario.name))
                for name, each in ((f"{scenario.name}-{index}", each) for index, each in enumerate(scenario.policies, 1))}
            self._service(scenario.name, [self.backend] if scenario.pods else [])
            self.admin.apply(route(scenario.name))
        return self._published[scenario.name]

    def _service(self, name, pods):
        ports = [{"name": word, "port": port, "targetPort": TARGET, "protocol": "TCP", "appProtocol": "HTTPS"}
                 for word, port in PORTS]
        addresses = self.addresses(name)
        self.service(name, HTTP, TARGET, namespace=SHOP, ports=ports, clusterIP=addresses[0], clusterIPs=list(addresses))
        for pod in pods:
            for address, endpoint in zip(addresses, (pod.address4, pod.address6)):
                each = manifests.endpoint_slice(name, [endpoint], [(word, TARGET) for word, _ in PORTS], SHOP)
                each["endpoints"][0]["targetRef"].update(name=pod.name, uid=pod.uid)
                self.admin.apply(each, manager="endpoint-slice-controller")
                for _, port in PORTS:
                    self.network.cluster_ip(address, port, [(endpoint, TARGET)])

    def until_conditions(self, policy, wanted, generation=None):
        """Written by the controller, for each Gateway, of this generation of the policy."""
        def written(seen):
            return all(conditions(seen, gateway, generation, wanted) == wanted for gateway in GATEWAYS)
        began = time.monotonic()
        self.admin.until(policy, written, f"{wanted} for each of {list(GATEWAYS)}", CONDITIONS_WITHIN * SLOWNESS)
        return time.monotonic() - began

    def ask(self, gateway, service, port=HTTP):
        """(status, SNI that the backend saw)"""
        pod = self.gateway(gateway)
        answer = http.request(self.client, pod.address4, LISTEN, f"/{route_of(service, port)}/",
                              headers={"X-Marker": MARKER}, timeout=60 * SLOWNESS)
        if answer.status == 200:
            expect("what the backend got", answer.values.get("marker"), MARKER)
        return answer.status, answer.values.get("sni")

    def until_answers(self, gateway, service, port, sni):
        """As upstream asks: three times in a row, within its limit."""
        seen = []

        def three():
            seen.append(self.ask(gateway, service, port))
            return seen[-3:] == [(200, sni)] * 3
        try:
            until(three, CONSISTENT_WITHIN * SLOWNESS, "")
        except Exception as error:
            raise Failure(f"{gateway}, port {port}: expected 200 and {sni} three times, seen {seen[-5:]}") from error

    def expect_refused(self, gateway, service, port=HTTP):
        """Three answers of the gateway's own; one of the backend's would be one too many."""
        seen = [self.ask(gateway, service, port)[0] for _ in range(3)]
        expect_that(f"{gateway}: three of {REFUSED}", all(status in REFUSED for status in seen), seen)

    def available(self):
        """The gateways that can be had here."""
        found = []
        for name in GATEWAYS:
            try:
                self.gateway(name)
                found.append(name)
            except Exception as error:  # pylint: disable=broad-except
                print(f"     without {name}: {error}", flush=True)
        return found or skip("no gateway here")


def manifests_grant():
    return {"apiVersion": GATEWAY_API, "kind": "ReferenceGrant", "metadata": {"name": "edge", "namespace": SHOP},
            "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": EDGE}],
                     "to": [{"group": "", "kind": "Service"}]}}


def route_of(service, port):
    return f"{service}-{port}"


def route(service):
    """Of all gateways, to a Service in another namespace."""
    made = manifests.http_route(service, "", service, HTTP, EDGE)
    made["spec"] = {"parentRefs": [{"name": gateway} for gateway in GATEWAYS], "rules": [
        {"matches": [{"path": {"type": "PathPrefix", "value": f"/{route_of(service, port)}"}}],
         "backendRefs": [{"name": service, "namespace": SHOP, "port": port}]} for _, port in PORTS]}
    return made


def conditions(policy, gateway, generation, wanted):
    """type -> (status, reason) of our entry for a Gateway, of the types that are wanted; {} of another generation."""
    entry = next((each for each in policy.get("status", {}).get("ancestors", [])
                  if each["controllerName"] == OURS and each["ancestorRef"]["name"] == gateway), {})
    generations = {each["observedGeneration"] for each in entry.get("conditions", [])}
    if generations != {generation or policy["metadata"]["generation"]}:
        return {}
    return {kind: (found["status"], found["reason"]) for kind in wanted
            for found in [condition({"status": entry}, kind)] if found}


def declare(scenario, gateway):
    @case(f"{gateway}: {scenario.says}", limit=200)
    def reached(world):
        pod = world.gateway(gateway)
        with Capture(pod.netns, MARKER.encode()) as wire:
            policies = world.publish(scenario)
            took = max(world.until_conditions(policy, wanted.conditions)
                       for policy, wanted in zip(policies.values(), scenario.policies))
            for port, sni in scenario.answers.items():
                if sni:
                    world.until_answers(gateway, scenario.name, port, sni)
                else:
                    world.expect_refused(gateway, scenario.name, port)
            report = wire.report()
        expect("in the clear", report.in_the_clear(HTTP, HTTPS), [])
        if any(scenario.answers.values()):
            expect_that("TLS on the wire: the capture sees", report.towards(*scenario.answers), report.raw)
        print(f"     conditions within {took:.1f} s")


for each in GATEWAYS:
    for row in SCENARIOS:
        declare(row, each)


@case("a CA that goes, comes, is emptied and comes back: conditions and traffic follow, by each gateway", limit=400)
def reconciled(world):
    gateways = world.available()
    policy = next(iter(world.publish(RECONCILED).values()))
    bundle = manifests.config_map("reconciled-ca", world.authority.pem, SHOP)
    captures = [Capture(world.gateway(name).netns, MARKER.encode()) for name in gateways]
    try:
        for state in ("missing", "right", "emptied", "right"):
            if state != "missing":
                world.admin.apply({**bundle, "data": {"ca.crt": world.authority.pem if state == "right" else ""}})
            took = world.until_conditions(policy, ACCEPTED if state == "right" else NO_CA)
            print(f"     {state}: conditions within {took:.1f} s", flush=True)
            for name in gateways:
                if state == "right":
                    world.until_answers(name, RECONCILED.name, HTTP, GOOD)
                else:
                    # The agent compiles for itself, and may be a moment later than the controller.
                    world.agent.until_policy(policy["metadata"]["name"], accepted=False, within=20)
                    world.expect_refused(name, RECONCILED.name)
        for name, wire in zip(gateways, captures):
            expect(f"{name}: in the clear", wire.report().in_the_clear(HTTP, HTTPS), [])
    finally:
        for wire in captures:
            wire.close()


@case("observedGeneration: another hostname is another generation in all conditions of all entries, without endpoints",
      limit=150)
def bumped(world):
    policy = next(iter(world.publish(BUMPED).values()))
    world.until_conditions(policy, ACCEPTED, generation=1)
    changed = world.admin.merge(policy, {"spec": {"validation": {"hostname": OTHER}}})
    expect("generation", changed["metadata"]["generation"], 2)
    world.until_conditions(policy, ACCEPTED, generation=2)


@case("who wrote it: the statuses by the controller's account alone, and nothing by the agent's")
def writers(world):
    policy = next(iter(world.publish(BUMPED).values()))
    world.until_conditions(policy, ACCEPTED)
    rows = [row for row in world.audit.rows(resource="backendtlspolicies", subresource="status")
            if row.verb in ("update", "patch") and row.code < 300]
    expect("accounts", {row.user for row in rows}, {world.controller.account.user})
    expect("the agent's verbs", {verb for verb, _, _ in world.audit.used(world.agent.account.user)}, {"list", "watch"})


if __name__ == "__main__":
    main(World)
