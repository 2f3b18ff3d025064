# SPDX-License-Identifier: GPL-2.0-only
"""
A way to the API server on which watches and all other requests take different wires (kube.proxy), so that a test can
stall the one and not the other: HAProxy ends TLS and HTTP/2, and passes each request on by what it asks for.
"""

import os
import shutil

from kube.accounts import write_kubeconfig
from kube.ports import free_ports
from lib.case import skip
from lib.process import Process


class SplitWay:
    """`.watches` and `.others` are Proxies; .kubeconfig(path, token) leads here."""

    def __init__(self, cluster):
        if not shutil.which("haproxy"):
            skip("no haproxy here")
        self.watches, self.others = cluster.proxy(), cluster.proxy()
        self.port, = free_ports(1)
        self._authority = cluster.api.authority
        directory = cluster.new_directory("split")
        leaf = self._authority.leaf("split", "IP:127.0.0.1")
        both = directory / "both.pem"
        both.write_text(leaf.certificate.read_text() + leaf.key.read_text())
        os.chmod(both, 0o600)
        configuration = directory / "haproxy.cfg"
        to_server = f"ssl ca-file {self._authority.certificate} alpn http/1.1"
        configuration.write_text("\n".join([
            "global", "    maxconn 2000",
            "defaults", "    mode http", "    option abortonclose", "    http-reuse never", "    timeout connect 5m",
            "    timeout client 1h", "    timeout server 1h",
            "frontend api", f"    bind 127.0.0.1:{self.port} ssl crt {both} alpn h2",
            "    use_backend watches if { url_param(watch) -m found }", "    default_backend others",
            "backend watches", f"    server api 127.0.0.1:{self.watches.port} {to_server}",
            "backend others", f"    server api 127.0.0.1:{self.others.port} {to_server}", ""]))
        self.process = Process(["haproxy", "-db", "-V", "-f", configuration])

    def kubeconfig(self, path, token):
        return write_kubeconfig(path, f"https://127.0.0.1:{self.port}", self._authority.certificate, {"token": token})

    def close(self):
        self.process.kill()
