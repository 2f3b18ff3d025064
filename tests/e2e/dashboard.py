#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""A real Prometheus scrapes a live agent: every query of the dashboard has an answer, and the alerts say what is so."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib.case import case, expect, expect_that, main, skip
from lib.prometheus import Prometheus, free_port
from lib.stage import Stage
from lib.waiting import until

MONITORING = Path(__file__).resolve().parent.parent.parent / "deploy/monitoring"
VARIABLES = {"$instance": ".*", "$gateway": ".*", "$__rate_interval": "1m", "$__range": "1h"}


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

    def start_agent(self, gateways=None, ready=True, workers=2, **switches):
        self.port = free_port()
        return super().start_agent(gateways, ready, workers, metrics_address=f"127.0.0.1:{self.port}", **switches)


def expressions():
    """(title, expression) of each target of each panel."""
    document = json.loads((MONITORING / "dashboard.json").read_text())
    return [(panel["title"], target["expr"]) for panel in document["panels"] for target in panel.get("targets", [])]


def filled_in(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


@case("every query of the dashboard has an answer")
def dashboard(world):
    found = expressions()
    expect_that("a dashboard with panels", len(found) > 30, len(found))
    expect("variables that are not known", [expression for _, expression in found if "$" in filled_in(expression)], [])
    # A rate needs two scrapes of its series, and the first requests were between two.
    empty = until(lambda: not _empty(world, found) or None, 30, f"an answer to {_empty(world, found)}")
    expect("queries without an answer", empty, True)


def _empty(world, found):
    return [(title, expression) for title, expression in found if not world.prometheus.query(filled_in(expression))]


@case("every metric that a query or an alert names is there")
def names(world):
    known = set(world.prometheus.api("label/__name__/values")["data"])
    used = {name for _, expression in expressions() for name in re.findall(r"\bpostern_[a-z_]+", expression)}
    used |= set(re.findall(r"\bpostern_[a-z_]+\b(?!-)", " ".join(
        line for line in (MONITORING / "alerts.yaml").read_text().splitlines() if "expr:" in line)))
    # The controller's own; and what this scene has none of.
    others = {"postern_leader", "postern_unprotected_gateway_pods", "postern_client_certificate_expiry_timestamp_seconds"}
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
    # The scene's CA lives for some days only: that is what this alert is for. A scrape that took too long pends for one.
    until(lambda: _alerts(world) == ["PosternCAExpiresSoon"], 30, "this alert alone")
    world.agent.kill()
    until(lambda: "PosternAgentDown" in _alerts(world), 30, "the alert PosternAgentDown, pending")


def _alerts(world):
    """Those that fire or are pending."""
    return [alert["labels"]["alertname"] for alert in world.prometheus.api("alerts")["data"]["alerts"]]


if __name__ == "__main__":
    main(DashboardWorld)
