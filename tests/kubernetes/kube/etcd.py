# SPDX-License-Identifier: GPL-2.0-only
"""One etcd on loopback, in memory as far as a test can tell: its directory goes with the run."""

import base64
import http.client
import json

from kube import binaries
from kube.ports import free_ports
from lib.process import Process
from lib.waiting import until


class Etcd:
    def __init__(self, directory):
        self._directory = directory
        self.port, self._peer_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        peer = f"http://127.0.0.1:{self._peer_port}"
        self.process = Process([
            binaries.part("server") / "etcd", "--data-dir", self._directory,
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
            # As kubeadm sets it: a quiet resource's watch cache keeps up, and its watchers get bookmarks.
            "--watch-progress-notify-interval", "5s", "--unsafe-no-fsync", "--log-level", "warn"])
        until(self._healthy, 60, "etcd's /health")

    def _healthy(self):
        if not self.process.running():
            raise RuntimeError("etcd ended: " + " | ".join(self.process.lines[-5:]))
        try:
            return self._ask("GET", "/health")["health"] == "true"
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False

    def revision(self):
        answer = self._ask("POST", "/v3/kv/range", {"key": base64.b64encode(b"x").decode(), "count_only": True})
        return int(answer["header"]["revision"])

    def compact(self):
        """Forget every revision but the newest, on disk as well."""
        self._ask("POST", "/v3/kv/compaction", {"revision": str(self.revision()), "physical": True})

    def put(self, pairs):
        """Objects as the API server stores them, past it: thousands in seconds. Its caches see them come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            for key, value in pairs:
                connection.request("POST", "/v3/kv/put", json.dumps({
                    "key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value.encode()).decode()}))
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"etcd put {key}: status {answer.status}: {text[:300]!r}")
        finally:
            connection.close()

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"etcd {path}: status {answer.status}: {text[:300]!r}")
        return json.loads(text)

    def kill(self):
        self.process.kill()

    def close(self):
        if self.process:
            self.process.kill()  # nothing of it is kept
