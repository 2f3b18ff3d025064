#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
A real Prometheus scrapes a live agent: every query of the dashboard has an answer, asked as Grafana's data source asks
(variables filled in, over a range of time or for its end), and the alerts say what is so. The dashboard's form is checked
by tests/monitoring/check-dashboard.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import manifests
from lib.case import case, expect, expect_that, main, skip
from lib.prometheus import Prometheus, free_port
from lib.stage import Stage
from lib.waiting import until

MONITORING = Path(__file__).resolve().parent.parent.parent / "deploy/monitoring"
BUILT_IN = {"__rate_interval": "1m", "__range": "1h"}
LABEL_VALUES = re.compile(r"label_values\((\w+), (\w+)\)$")
# How a query ends that shows what is not in order only.
ONLY_IF_ANY = " > 0"


class DashboardWorld(Stage):
    def _build(self):
        if os.environ.get("POSTERN_GUEST"):
            skip("what it shows does not depend on the kernel")
        if not shutil.which("prometheus"):
            skip("prometheus is not installed (make deps)")
        super()._build()
        self.prometheus = self.close_at_end(Prometheus(self.new_directory("prometheus"), self.port,
                                                       rules=[MONITORING / "alerts.yaml"]))
        for _ in range(3):
            self.ask("vip4")
        self.prometheus.scraped(count=3)

    def gateway_objects(self):
        """The Gateway shows a client certificate, so that there is one that can expire."""
        leaf = self.authority.leaf("client", "DNS:gateway.example", usage="clientAuth")
        return [manifests.gateway("demo", client_certificate="client"), manifests.tls_secret("client", leaf)]

    def gateway_flags(self, **more):
        return super().gateway_flags(gatewayRef="default/demo", **more)

    def start_agent(self, gateways=None, ready=True, workers=2, **switches):
        self.port = free_port()
        return super().start_agent(gateways, ready, workers, metrics_address=f"127.0.0.1:{self.port}", **switches)


def document():
    return json.loads((MONITORING / "dashboard.json").read_text())


def queries():
    """(title, target) of each target of each panel."""
    return [(panel["title"], target) for panel in document()["panels"] for target in panel.get("targets", [])]


def choices(world):
    """Of each variable that is a query: what it offers, by the request that Grafana makes for label_values()."""
    offered = {}
    for variable in document()["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = LABEL_VALUES.match(variable["query"]).groups()
            offered[variable["name"]] = world.prometheus.api(f"label/{label}/values", **{"match[]": metric})["data"]
    return offered


def filled_in(expression, values):
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


def answer(world, target, values):
    """The series, as Grafana's data source asks for them."""
    expression = filled_in(target["expr"], values)
    if expression.endswith(ONLY_IF_ANY):  # in this scene all is in order
        expression = expression[:-len(ONLY_IF_ANY)]
    if target["instant"]:
        return world.prometheus.query(expression)
    return world.prometheus.query_range(expression, minutes=5, step=15)


def faults(world, values):
    """What is wrong with the answers: [] if nothing."""
    found = []
    for title, target in queries():
        series = answer(world, target, values)
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        lacking = sorted({label for each in series for label in shown - set(each["metric"])})
        # A legend that does not tell two series apart; a table has a column for each label.
        legends = [tuple(each["metric"].get(label) for label in sorted(shown)) for each in series]
        if not series:
            found.append(f"{title}: no answer to {target['expr']}")
        elif lacking:
            found.append(f"{title}: the legend has labels that the series lack: {lacking}")
        elif target.get("format") != "table" and len(set(legends)) != len(legends):
            found.append(f"{title}: series of the same name: {sorted(legends)}")
    return found


@case("every query of the dashboard has an answer, in series that its legend tells apart")
def dashboard(world):
    expect_that("a dashboard with panels", len(queries()) > 30, len(queries()))
    offered = until(lambda: (lambda found: found if all(found.values()) else None)(choices(world)), 30,
                    "a choice for each variable")
    expect("what the variables offer", offered, {"instance": [f"127.0.0.1:{world.port}"], "gateway": ["default/demo"]})
    one = {name: "(" + "|".join(map(re.escape, values)) + ")" for name, values in offered.items()}
    for what, chosen in (("all", {name: ".*" for name in offered}), ("one", one)):
        # In PromQL a backslash of the regular expression is written twice.
        values = {**BUILT_IN, **{name: value.replace("\\", "\\\\") for name, value in chosen.items()}}
        # A rate needs two scrapes of its series, and the first requests were between two.
        until(lambda: not faults(world, values), 60, lambda: f"{what} chosen, answers: {faults(world, values)}")


@case("no panel lies on another, and none is there twice")
def laid_out(_):
    panels = document()["panels"]
    expect("panels of the same id", len({panel["id"] for panel in panels}), len(panels))
    taken = {}
    for panel in panels:
        place = panel["gridPos"]
        expect_that(f"{panel['title']}: it is within the 24 columns", place["x"] + place["w"] <= 24, place)
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])):
            expect(f"{panel['title']}: who has {cell}", taken.setdefault(cell, panel["title"]), panel["title"])


@case("every metric that a query or an alert names is there")
def names(world):
    known = set(world.prometheus.api("label/__name__/values")["data"])
    used = {name for _, target in queries() for name in re.findall(r"\bpostern_[a-z_]+", target["expr"])}
    used |= set(re.findall(r"\bpostern_[a-z_]+\b(?!-)", " ".join(
        line for line in (MONITORING / "alerts.yaml").read_text().splitlines() if "expr:" in line)))
    others = {"postern_leader", "postern_unprotected_gateway_pods"}  # the controller's own
    expect("unknown metrics", sorted(used - known - others), [])


@case("Prometheus took the samples as OpenMetrics, and found nothing wrong with them")
def scraped(world):
    until(lambda: world.prometheus.targets() == [("up", "")], 30, "a scrape within its second, without an error")
    units = world.prometheus.api("metadata", metric="postern_relayed_bytes")["data"]
    expect("type and unit, which the older format does not have", [(each["type"], each["unit"])
           for each in units.get("postern_relayed_bytes", [])], [("counter", "bytes")])


@case("an agent in order raises no alert; one that is down pages")
def alerts(world):
    rules = [rule for group in world.prometheus.api("rules")["data"]["groups"] for rule in group["rules"]]
    expect("rules with errors", [rule["name"] for rule in rules if rule["health"] == "err"], [])
    # The scene's certificates live for some days only: that is what these alerts are for. A scrape that took too long
    # pends for one.
    expected = ["PosternCAExpiresSoon", "PosternClientCertificateExpiresSoon"]
    until(lambda: sorted(_alerts(world)) == expected, 30, lambda: f"{expected}, there is {_alerts(world)}")
    world.agent.kill()
    until(lambda: "PosternAgentDown" in _alerts(world), 30, "the alert PosternAgentDown, pending")


def _alerts(world):
    """Those that fire or are pending."""
    return [alert["labels"]["alertname"] for alert in world.prometheus.api("alerts")["data"]["alerts"]]


if __name__ == "__main__":
    main(DashboardWorld)
