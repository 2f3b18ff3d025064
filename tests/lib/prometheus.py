# SPDX-License-Identifier: GPL-2.0-only
"""
promtool, and a real Prometheus that scrapes on loopback: what the metrics, alerts and dashboards are judged by.
"""

import errno
import http.client
import json
import random
import re
import socket
import time
import urllib.parse
import urllib.request

from lib.process import Process, run
from lib.waiting import until

SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def free_port():
    """
    Outside ip_local_port_range: until the one that is meant to have it listens, no connection of anybody's and no
    bind() to port 0 takes it.
    """
    while True:
        port = random.SystemRandom().randrange(10240, 28000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise


def get(port, path, accept=None, within=30, source="127.0.0.1"):
    """(status, headers, body) of a GET on loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within, source_address=(source, 0))
    try:
        connection.request("GET", path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def check_metrics(text):
    """What `promtool check metrics` says: "" if nothing."""
    done = run("promtool", "check", "metrics", stdin=text, check=False)
    return (done.stdout + done.stderr).strip()


def samples(text):
    """[(name, {label: value}, value)...] of either format."""
    found = []
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        name, labels, value = SAMPLE.match(line).groups()
        found.append((name, dict(LABEL.findall(labels or "")), float(value)))
    return found


def sample(text, name, **labels):
    """The sum of the samples of this name with these labels; None: there is none."""
    values = [value for found, have, value in samples(text)
              if found == name and all(have.get(key) == wanted for key, wanted in labels.items())]
    return sum(values) if values else None


class Prometheus:
    """One that scrapes an agent each second, with the alert rules of deploy/monitoring."""

    def __init__(self, directory, target_port, rules=(), job="postern-agent"):
        self.port = free_port()
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}]}],
        }
        path = directory / "prometheus.json"
        path.write_text(json.dumps(configuration))  # JSON is YAML
        self._process = Process(["prometheus", f"--config.file={path}",
                                 f"--storage.tsdb.path={directory / 'prometheus-data'}",
                                 f"--web.listen-address=127.0.0.1:{self.port}"])
        until(lambda: self._ready(), 60, "a Prometheus that is ready")

    def _ready(self):
        try:
            return get(self.port, "/-/ready")[0] == 200
        except OSError:
            return False

    def api(self, path, **parameters):
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            document = json.load(error)
        return document

    def query(self, expression):
        """The result's vector: [{"metric":, "value": [time, text]}...]."""
        return self._result("query", query=expression)

    def query_range(self, expression, minutes, step):
        """The last minutes, a point each step seconds: [{"metric":, "values": [[time, text]...]}...]."""
        now = time.time()
        return self._result("query_range", query=expression, start=now - 60 * minutes, end=now, step=step)

    def _result(self, path, **parameters):
        document = self.api(path, **parameters)
        if document["status"] != "success":
            raise AssertionError(f"{parameters['query']}: {document.get('error')}")
        return document["data"]["result"]

    def scraped(self, count=2, within=60):
        """Wait until the target was scraped so often without an error."""
        def enough():
            return [each for each in self.query("count_over_time(up[1h])")
                    if float(each["value"][1]) >= count and self.query("up == 1")]
        until(enough, within, f"{count} good scrapes, {self.targets()}")

    def targets(self):
        return [(each["health"], each["lastError"]) for each in self.api("targets")["data"]["activeTargets"]]

    def close(self):
        self._process.stop()
