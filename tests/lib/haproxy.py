# SPDX-License-Identifier: GPL-2.0-only
"""Real HAProxy as a gateway."""

import os
import socket

from lib.process import Process, run_in
from lib.topology import bracketed


class HAProxy:
    def __init__(self, directory, netns, cgroup, address, port, routes, connect_timeout="5s", read_timeout="60s"):
        """/NAME/... goes in plain HTTP to the addresses of routes[NAME]. Comes back when HAProxy says it is ready."""
        directory.mkdir(parents=True, exist_ok=True)
        rules, backends = [], []
        for name, addresses in routes.items():
            rules.append(f"    use_backend {name} if {{ path_beg /{name}/ }}")
            backends.append(f"backend {name}\n    balance roundrobin\n    http-request replace-path /{name}/(.*) /\\1")
            backends += [f"    server {name}{index} {bracketed(each)}:{number}"
                         for index, (each, number) in enumerate(addresses)]
        configuration = directory / "haproxy.cfg"
        configuration.write_text("\n".join([
            "global", "    maxconn 2000", "    log stdout format raw local0",
            "defaults", "    mode http", "    log global", "    option httplog",
            # A connection that was never made may be tried elsewhere; a request that was sent never is.
            "    option redispatch 1", "    retry-on conn-failure",
            f"    timeout connect {connect_timeout}", f"    timeout server {read_timeout}", "    timeout client 60s",
            "frontend gateway", f"    bind {bracketed(address)}:{port}", *rules, *backends, ""]))
        run_in(netns, "haproxy", "-c", "-q", "-f", configuration)
        notify = directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notify))
            ready.settimeout(30)
            self.process = Process(["haproxy", "-Ws", "-f", configuration], netns, cgroup,
                                   env={**os.environ, "NOTIFY_SOCKET": str(notify)})
            while b"READY=1" not in ready.recv(4096):
                pass
        notify.unlink()

    def close(self):
        self.process.stop()
