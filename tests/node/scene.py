# SPDX-License-Identifier: GPL-2.0-only
"""
What is the same for all that runs in a guest: a backend in a network namespace, which takes TLS alone on one port and
plain HTTP on another; the ClusterIPs of both, as kube-proxy has them; the policy of the first; and the client's words.
"""

import tempfile
from pathlib import Path

from lib import http, manifests, nginx
from lib.capture import Capture
from lib.case import SLOWNESS, expect, expect_that, skip
from lib.certificates import Authority
from lib.paths import BUILD
from lib.process import run
from lib.sockets import SocketMaker
from lib.waiting import until

MARKER = "postern-guest-marker-3d0a"
HOST = "web.example"
GOOD = (200, HOST, MARKER)
COVERED, PLAIN, BACKEND, ROUTER = "10.96.0.7", "10.96.0.8", "10.78.0.2", "10.78.0.1"
CLUSTER_CIDRS = ["10.96.0.0/12", "10.78.0.0/24"]
TLS_PORT, PLAIN_PORT, LISTEN = 8443, 8081, 8080
NAMESPACE = "backend"
WITHIN = 60 * SLOWNESS
ANSWER = 'return 200 "sni=$ssl_server_name\\nconnection=$connection\\nmarker=$http_x_marker\\n";'
# `/` is a connection of its own each time; /kept/ is one that nginx keeps.
GATEWAY = f"""
upstream kept {{ server {COVERED}:443; keepalive 1; keepalive_timeout 1h; }}
server {{
  listen {LISTEN};
  proxy_http_version 1.1; proxy_connect_timeout {20 * SLOWNESS}s; proxy_read_timeout 1h;
  location / {{ proxy_pass http://{COVERED}:443; proxy_set_header Connection close; }}
  location /kept/ {{ proxy_pass http://kept; proxy_set_header Connection ""; }}
  location /plain/ {{ proxy_pass http://{PLAIN}:80; }}
}}
"""


class Scene:
    gateway_address = "127.0.0.1"

    def __enter__(self):
        if not Path("/ctl/system").exists():
            skip("this is no guest: tests/node/in-guest")
        self.directory = Path(tempfile.mkdtemp())
        self.package = max(BUILD.glob("postern_*.deb"), key=lambda path: path.stat().st_mtime)
        self._network()
        self.authority = Authority(self.directory / "ca")
        leaf = self.authority.leaf("web", f"DNS:{HOST}")
        self.backend = nginx.Nginx(self.directory, f"""
            server {{ listen {TLS_PORT} ssl; ssl_certificate {leaf.certificate}; ssl_certificate_key {leaf.key};
                      location / {{ {ANSWER} }} }}
            server {{ listen {PLAIN_PORT}; location / {{ {ANSWER} }} }}""", NAMESPACE, None)
        self.client = SocketMaker(None)
        return self

    def __exit__(self, *_):
        self.backend.close()

    @staticmethod
    def _network():
        run("ip", "netns", "add", NAMESPACE)
        run("ip", "link", "add", "backend0", "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        run("ip", "address", "add", f"{ROUTER}/24", "dev", "backend0")
        run("ip", "link", "set", "backend0", "up")
        for words in (["address", "add", f"{BACKEND}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                      ["link", "set", "lo", "up"], ["route", "add", "default", "via", ROUTER]):
            run("ip", "-n", NAMESPACE, *words)
        # A route to the ClusterIPs, as a machine's default route is one.
        run("ip", "route", "add", "10.96.0.0/12", "dev", "backend0")
        rules = [f"add rule ip services {chain} ip daddr {address} tcp dport {port} dnat to {BACKEND}:{target}"
                 for chain in ("output", "prerouting")
                 for address, port, target in ((COVERED, 443, TLS_PORT), (PLAIN, 80, PLAIN_PORT))]
        run("nft", "-f", "-", stdin="\n".join([
            "add table ip services", *(f"add chain ip services {hook} {{ type nat hook {hook} priority -100; }}"
                                       for hook in ("output", "prerouting")), *rules]) + "\n")

    def objects(self):
        """The Services of both, with their endpoints; the first one's policy."""
        return [manifests.config_map("web-ca", self.authority.pem),
                manifests.backend_tls_policy("web", "web", HOST, "web-ca"),
                manifests.service("web", [COVERED], [("main", 443, TLS_PORT)]),
                manifests.service("plain", [PLAIN], [("main", 80, PLAIN_PORT)])], \
            [manifests.endpoint_slice("web", [BACKEND], [("main", TLS_PORT)]),
             manifests.endpoint_slice("plain", [BACKEND], [("main", PLAIN_PORT)])]

    def ask(self, path="/"):
        """(status, the SNI that the backend saw, the marker that came back), and the backend's number of the connection."""
        answer = http.request(self.client, self.gateway_address, LISTEN, path, headers={"X-Marker": MARKER},
                              timeout=40 * SLOWNESS)
        return (answer.status, answer.values.get("sni"), answer.values.get("marker")), answer.values.get("connection")

    def until_served(self):
        until(lambda: self.ask()[0] == GOOD, WITHIN, "a request that is served", every=0.2)

    @staticmethod
    def wire():
        return Capture(NAMESPACE, MARKER.encode())

    @staticmethod
    def explain():
        lines = run("journalctl", "--no-pager", "--output=cat", "--lines=40", "--unit=posternd.service").stdout
        return lines.splitlines() + run("posternctl", check=False).stdout.splitlines()


def expect_covered(scene, wire):
    expect("status, SNI, marker", scene.ask()[0], GOOD)
    expect_clean(wire)


def expect_clean(wire):
    seen = wire.report()
    expect_that("connections to the backend on the wire", seen.towards(TLS_PORT), seen.raw)
    expect("of these in the clear", seen.in_the_clear(TLS_PORT), [])


def systemd_has(name, unit):
    """A property of a unit."""
    return run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()
