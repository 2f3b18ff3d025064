# SPDX-License-Identifier: GPL-2.0-only
"""The Kubernetes source and the compiler without a datapath (test_source_tool.c), and the objects that it is fed."""

import json
import os
import queue
import subprocess
import threading
import time

from lib.case import Failure
from lib.paths import BUILD

TOOL = BUILD / "tests/kubernetes/test_source_tool"


class SourceTool:
    def __init__(self, credentials, node="node-1", **environment):
        """credentials: a kubeconfig, or the directory of a service account."""
        # pylint: disable-next=consider-using-with
        self._process = subprocess.Popen([TOOL, str(credentials), node], stdin=subprocess.PIPE, text=True,
                                         stdout=subprocess.PIPE, env={**os.environ, **environment})
        self._events = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self):
        return self._process.pid

    def _read(self):
        for line in self._process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status:
            raise Failure(f"test_source_tool: expected status 0, seen {status}")

    def command(self, text):
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def next_event(self, within):
        """None: nothing happened in that time."""
        try:
            event = self._events.get(timeout=max(within, 0.001))
        except queue.Empty:
            return None
        if event is None:
            raise Failure(f"test_source_tool ended with status {self._process.wait()}")
        return event

    def until(self, holds, what, within=30):
        """The first event, or the status as of now, for which it holds."""
        deadline = time.monotonic() + within
        self.command("status")
        last = None
        while time.monotonic() < deadline:
            event = self.next_event(deadline - time.monotonic())
            last = event or last
            if event and holds(event):
                return event
        raise Failure(f"expected {what} within {within} s, last seen {json.dumps(last)[:1500]}")

    def until_synced(self):
        return self.until(lambda event: event.get("synced"), "the cluster read", 60)

    def status(self):
        self.command("status")
        while True:
            event = self.next_event(10)
            if event and event["event"] == "status":
                return event

    def current(self, within=10):
        """What there is as of now; None: no answer in time."""
        self.command("current")
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            event = self.next_event(deadline - time.monotonic())
            if event and event["event"] == "current":
                return event
        return None


def verdicts(event):
    return {each["at"]: each["verdict"] for each in event.get("destinations", [])}


def service(name, port=443):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "a", "port": port, "targetPort": 8443}]}}


def slice_of(name, addresses, suffix="1", pods=()):
    """Kubernetes' own: its label says so. pods: name the Pod of each address."""
    endpoints = [{"addresses": [address], **({"targetRef": {"kind": "Pod", "namespace": "default", "name": pods[index]}}
                                             if index < len(pods) else {})}
                 for index, address in enumerate(addresses)]
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"{name}-{suffix}", "namespace": "default", "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
            "endpoints": endpoints, "ports": [{"name": "a", "port": 8443, "protocol": "TCP"}]}


def policy(name, target, ca, kind="ConfigMap", hostname="echo.example"):
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
            "metadata": {"name": name, "namespace": "default"}, "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": target}],
                "validation": {"hostname": hostname,
                               "caCertificateRefs": [{"group": "", "kind": kind, "name": ca}]}}}


def ca_map(name, pem):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
            "data": {"ca.crt": pem}}


def ca_secret(name, pem):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
            "type": "Opaque", "stringData": {"ca.crt": pem}}
