#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""
What the API server's own validation refuses, `posternctl check` refuses too, and with upstream's words: every
BackendTLSPolicy of tests/policy/cases is fed to both (the server by a dry run).
"""

import json
import os
import re
import sys
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [HERE, TESTS, f"{TESTS}/policy"]

from pathlib import Path

import yaml

from case_files import read_cases
from certificates import Certificates
from check import Checker
from kube import binaries
from kube.client import YAML, ApiError
from kube.cluster import Cluster
from lib.case import Failure, case, expect, expect_that, main
from lib.paths import POSTERNCTL
from lib.process import run

VERSION = "gateway.networking.k8s.io/v1"
# What these cases feed is no YAML, or no object, on purpose.
NO_OBJECTS = {"robustness"}


@dataclass
class Verdict:
    title: str
    name: str
    server: str  # its message; "": it takes the policy
    postern: str  # the message of Accepted=False Invalid; "": not that


class World(Cluster):
    audit_level = "None"

    def _build(self):
        super()._build()
        self.rules = _rules_of(binaries.part("crds") / "gateway.networking.k8s.io_backendtlspolicies.yaml")
        self.verdicts = []
        with Certificates() as certificates:
            checker = Checker(certificates)
            for each in read_cases(Path(TESTS) / "policy"):
                if each.file not in NO_OBJECTS:
                    self.verdicts += self._judge(each, checker.fill(each.manifests))

    def _judge(self, policy_case, manifests):
        answer = run(POSTERNCTL, "check", "--json", "-", stdin=manifests, check=False)
        told = {(each["namespace"], each["name"]): _refusal(each) for each in json.loads(answer.stdout)["policies"]}
        for text in re.split(r"^---\s*$", manifests, flags=re.M):
            thing = yaml.safe_load(text)
            if not isinstance(thing, dict) or \
                    (thing.get("apiVersion"), thing.get("kind")) != (VERSION, "BackendTLSPolicy"):
                continue
            namespace, name = thing["metadata"].get("namespace", "default"), thing["metadata"]["name"]
            yield Verdict(policy_case.title, f"{namespace}/{name}", self._server_says(text, namespace),
                          told.get((namespace, name), ""))

    def _server_says(self, text, namespace):
        try:
            self.namespace(namespace)
            self.admin.request("POST", self.admin.path(VERSION, "BackendTLSPolicy", namespace), text, YAML,
                               dryRun="All", fieldValidation="Strict")
            return ""
        except ApiError as error:
            if error.code != 422:
                raise Failure(f"{text}: expected 201 or 422, seen {error}") from error
            return error.message


def _rules_of(path):
    """The messages of the definition's CEL rules for v1."""
    messages, todo = set(), [version for version in yaml.safe_load(path.read_text())["spec"]["versions"]
                             if version["name"] == "v1"]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            messages.update(rule["message"] for rule in node.get("x-kubernetes-validations", ()) if "message" in rule)
            todo += node.values()
        elif isinstance(node, list):
            todo += node
    return messages


def _refusal(policy):
    accepted = next(each for each in policy["conditions"] if each["type"] == "Accepted")
    return accepted["message"] if (accepted["status"], accepted["reason"]) == ("False", "Invalid") else ""


@case("what the server refuses, postern refuses as Invalid")
def refused(world):
    lenient = [each for each in world.verdicts if each.server and not each.postern]
    expect("policies that only the server refuses", lenient, [])
    both = [each for each in world.verdicts if each.server and each.postern]
    print(f"     {len(world.verdicts)} policies: {len(both)} refused by both, "
          f"{sum(1 for each in world.verdicts if each.postern and not each.server)} by postern alone")
    expect_that("some are refused and most are not", 40 < len(both) < len(world.verdicts) / 2, len(both))


@case("where one of the definition's own rules refused it, postern says it in the same words")
def words(world):
    wrong = [(each.title, rule, each.postern) for each in world.verdicts for rule in world.rules
             if rule in each.server and rule not in each.postern]
    expect("policies that are told something else", wrong, [])


@case("every rule of the definition has a case that breaks it")
def complete(world):
    expect_that("rules in the definition", len(world.rules) >= 8, world.rules)
    broken = {rule for rule in world.rules for each in world.verdicts if rule in each.server}
    expect("rules that no case breaks", world.rules - broken, set())


if __name__ == "__main__":
    main(World)
