# SPDX-License-Identifier: GPL-2.0-only
"""deploy/, built by kustomize, as objects for the API server; and postern-controller, run as its pod would run it."""

import json
import os
import signal
import urllib.error
import urllib.request

import yaml

from kube import binaries
from kube.accounts import until_in_force
from kube.ports import free_ports
from lib.paths import BUILD, REPOSITORY
from lib.process import Process, run
from lib.waiting import until

DEPLOY = REPOSITORY / "deploy"
CONTROLLER = BUILD / "postern-controller"
NAMESPACE = "postern-system"


def build(directory):
    """What `kubectl apply -k` would send: a directory of deploy/, or any other path."""
    text = run(binaries.part("kustomize") / "kustomize", "build", DEPLOY / directory, within=120).stdout
    return [thing for thing in yaml.safe_load_all(text) if thing]


def first(things):
    """Namespaces and definitions before what needs them."""
    order = {"Namespace": 0, "CustomResourceDefinition": 0, "ServiceAccount": 1}
    return sorted(things, key=lambda thing: order.get(thing["kind"], 2))


def apply(cluster, directory, but=()):
    """The objects of a kustomization, put into the cluster; `but`: kinds that are left out."""
    things = [thing for thing in first(build(directory)) if thing["kind"] not in but]
    for thing in things:
        cluster.admin.apply(thing)
    _until_in_force(cluster, things)
    return things


def _until_in_force(cluster, things):
    """Nobody whom these bind is refused what they give from here on."""
    roles = {(thing["kind"], thing["metadata"]["name"], thing["metadata"].get("namespace")): thing["rules"]
             for thing in things if thing["kind"] in ("Role", "ClusterRole")}
    for thing in things:
        if thing["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            namespace = thing["metadata"].get("namespace")
            kind, name = thing["roleRef"]["kind"], thing["roleRef"]["name"]
            for subject in thing["subjects"]:
                if subject["kind"] == "ServiceAccount":
                    until_in_force(cluster.admin, f"system:serviceaccount:{subject['namespace']}:{subject['name']}",
                                   roles.get((kind, name, namespace if kind == "Role" else None), []), namespace)


class Controller:
    """One replica, with a service account's files. `account`: accounts.ServiceAccount."""

    def __init__(self, cluster, account, name, *arguments):
        self.name = name
        self.directory = account.directory(cluster.new_directory(f"account-of-{name}"))
        self.port, = free_ports(1)
        if "--listen=[::]:9906" in arguments:  # of the Deployment; several run on this machine
            arguments = [each for each in arguments if not each.startswith("--listen=")]
        environment = {**os.environ, "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                       "KUBERNETES_SERVICE_PORT": str(cluster.api.port), "POD_NAME": name, "POD_NAMESPACE": NAMESPACE}
        self.process = Process([CONTROLLER, f"--service-account={self.directory}", f"--listen=127.0.0.1:{self.port}",
                                "--grace=2", "--log-level=debug", *arguments], env=environment)

    def get(self, path):
        """(status, text)"""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def status(self):
        return json.loads(self.get("/status")[1])

    def leads(self):
        try:
            return self.status()["leads"]
        except (OSError, ValueError):
            return False

    def wait_ready(self):
        self.process.wait_for('event="?listening', within=30)
        until(lambda: self.get("/readyz")[0] == 200, 60, f"{self.name} ready")
        return self

    def wait_leading(self, within=20):
        until(self.leads, within, f"{self.name} leads")
        return self

    def wait_settled(self):
        """
        Nothing that it writes is under way. Who has the answer to a write has its row in the audit log, which the server
        writes first; a watch shows the write before either.
        """
        until(lambda: not any(self.status()["statuses"][each] for each in ("queued", "in_flight", "waiting")), 20,
              f"{self.name} has nothing to write")
        return self

    def pause(self):
        self.process.signal(signal.SIGSTOP)

    def resume(self):
        self.process.signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()

    def stop(self):
        return self.process.stop(20)

    def close(self):
        if self.process.running():
            self.process.kill()
