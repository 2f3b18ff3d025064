# SPDX-License-Identifier: GPL-2.0-only
"""One case: its manifests through `posternctl check`, what it answers against what the case expects."""

import json
import re
from dataclasses import dataclass, field

from lib.golden import schema
from lib.paths import POSTERNCTL
from lib.process import run
from lib.schema import faults

PLACE = re.compile(r"\$\{([a-z0-9+-]+)(:base64)?\}")
LETTERS = re.compile(r"^(\d+)([a-z])$")


@dataclass
class Result:
    manifests: str
    output: str
    faults: list = field(default_factory=list)

    def expect(self, what, seen, wanted):
        if seen != wanted:
            self.faults.append(f"{what}: expected {wanted!r}, seen {seen!r}")

    def expect_text(self, what, text, wanted):
        """Whatever the case of letters."""
        if wanted.lower() not in text.lower():
            self.faults.append(f"{what}: expected the text {wanted!r}, seen {text!r}")

    def expect_no_text(self, what, text, unwanted):
        if unwanted.lower() in text.lower():
            self.faults.append(f"{what}: expected no {unwanted!r}, seen {text!r}")


class Checker:
    def __init__(self, certificates):
        self._certificates = certificates
        self._schema = schema("check")

    def run(self, case):
        manifests = self.fill(case.manifests)
        answer = run(POSTERNCTL, "check", "--json", "-", stdin=manifests, check=False)
        page = run(POSTERNCTL, "check", "-", stdin=manifests, check=False)
        result = Result(manifests, page.stdout + page.stderr + answer.stdout + answer.stderr)
        result.expect("exit status", answer.returncode, case.status)
        result.expect("exit status without --json", page.returncode, answer.returncode)
        try:
            seen = json.loads(answer.stdout) if answer.stdout.strip() or case.status != 2 else {}
        except ValueError:
            result.faults.append(f"expected JSON, seen {answer.stdout + answer.stderr!r}")
            return result
        if seen:
            result.expect("what does not fit tests/schema/check.json", faults(self._schema, seen), [])
        try:
            _judge(case, seen, result)
        except KeyError as error:
            result.faults.append(f"expected {error} in the answer, seen {seen!r}")
        for text in case.says:
            result.expect_text("what it says", page.stdout + page.stderr, text)
        for text in case.silent:
            result.expect_no_text("what it says", page.stdout + page.stderr, text)
        return result

    def fill(self, manifests):
        """The manifests with PEM in place of its names."""
        return PLACE.sub(self._fill_place, manifests)

    def _fill_place(self, match):
        """${ca+other-ca}, with :base64 as a Secret's data has it, or ${254n}: one JSON string, which is YAML, too."""
        if letters := LETTERS.match(match[1]):
            return json.dumps(int(letters[1]) * letters[2])
        return json.dumps(self._certificates.value(match[1], bool(match[2])))


def _judge(case, seen, result):
    policies = {_name(policy): policy for policy in seen.get("policies", [])}
    gateways = {_name(gateway): gateway for gateway in seen.get("gateways", [])}
    for name, policy in policies.items():
        for ancestor in policy["ancestors"]:
            result.expect(f"policy {name}: what ancestor {_name(ancestor)} is told", ancestor["conditions"],
                          policy["conditions"])
    for condition in case.conditions:
        _judge_condition(condition, policies.get(condition.of), f"policy {condition.of}", result)
    for condition in case.gateways:
        _judge_condition(condition, gateways.get(condition.of), f"gateway {condition.of}", result)
    for name, ancestors in case.ancestors.items():
        result.expect(f"policy {name}: ancestors", [_name(each) for each in policies[name]["ancestors"]], ancestors)
    for name, generation in case.generations.items():
        result.expect(f"policy {name}: observedGeneration of each condition",
                      {condition["observedGeneration"] for condition in policies[name]["conditions"]}, {generation})
    for name, protocol in case.alpn.items():
        result.expect(f"policy {name}: ALPN of the ports that it covers",
                      {port["alpn"] for service in policies[name]["services"] for port in service["ports"]}, {protocol})
    for name in case.absent:
        result.expect(f"policy {name}", policies.get(name), None)
    _judge_destinations(case, seen, result)


def _judge_condition(wanted, holder, what, result):
    what = f"{what}: {wanted.type}"
    if not holder:
        result.faults.append(f"{what}: expected it, seen nothing of its object")
        return
    found = [condition for condition in holder["conditions"] if condition["type"] == wanted.type]
    if len(found) != 1:
        result.faults.append(f"{what}: expected it once, seen {holder['conditions']!r}")
        return
    reason = "*" if wanted.reason == "*" else found[0]["reason"]
    result.expect(what, f"{found[0]['status']} {reason}", f"{wanted.status} {wanted.reason}")
    for text in wanted.texts:
        result.expect_text(f"{what}: message", found[0]["message"], text)
    for text in wanted.forbidden:
        result.expect_no_text(f"{what}: message", found[0]["message"], text)


def _judge_destinations(case, seen, result):
    destinations = {_key(each): each for each in seen.get("destinations", [])}
    result.expect("destinations that are named twice", len(seen.get("destinations", [])) - len(destinations), 0)
    for wanted in case.destinations:
        found = destinations.get(wanted.key)
        result.expect(wanted.key, found["verdict"] if found else "unknown", wanted.verdict)
        if not found:
            continue
        if wanted.policy:
            result.expect(f"{wanted.key}: policy", found.get("policy"), wanted.policy)
        if wanted.reason:
            result.expect(f"{wanted.key}: reason", found.get("reason"), wanted.reason)
        if wanted.verdict == "PLAIN":
            result.expect(f"{wanted.key}: policy", found.get("policy") or "", "")
        if wanted.destination_class:
            result.expect(f"{wanted.key}: class", found["class"], wanted.destination_class)


def _name(thing):
    """namespace/name; "-" for the one ancestor that stands for whoever dials."""
    return f"{thing.get('namespace') or ''}/{thing['name']}" if thing.get("name") else "-"


def _key(destination):
    address = destination["address"]
    return f"[{address}]:{destination['port']}" if ":" in address else f"{address}:{destination['port']}"
