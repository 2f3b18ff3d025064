# SPDX-License-Identifier: GPL-2.0-only
"""
The usual scene: an echo Service that a policy covers, served by real nginx with TLS; a plain one that none covers; and
real nginx as the gateway of both.
"""

from lib import http, nginx
from lib.case import expect
from lib.sockets import receive_exactly
from lib.topology import GATEWAY4, backend4, backend6
from lib.world import GATEWAY_PORT, Service, World

ECHO_PORT = 8443
PLAIN_PORT = 8000


class Stage(World):
    KEEPALIVE = 0  # idle connections that the gateway may keep for each upstream

    def _build(self):
        super()._build()
        self.leaf = self.authority.leaf("echo", "DNS:echo.example")
        self.echo = self.publish(Service("echo", 10, target=ECHO_PORT, hostname="echo.example"))
        self.plain = self.publish(Service("plain", 20, target=PLAIN_PORT))
        self.tls_nginx = self.serve("tls", [(backend4(2), ECHO_PORT), (backend6(2), ECHO_PORT)], self.leaf)
        self.plain_nginx = self.serve("plain", [(backend4(2), PLAIN_PORT), (backend6(2), PLAIN_PORT)])
        self.routes = {
            "vip4": [(self.echo.vip4, 80)], "vip6": [(self.echo.vip6, 80)],
            "pod4": [self.echo.endpoint4], "pod6": [self.echo.endpoint6],
            "plain": [(self.plain.vip4, 80)],
        }
        self.start_agent()
        self.front = self.start_gateway(self.routes)

    def serve(self, name, listeners, leaf=None, extra=""):
        """A real nginx as backend."""
        return self.close_at_end(nginx.backend(self.new_directory(name), self.network["backend"],
                                               self.backend_cgroup, listeners, leaf, extra))

    def start_gateway(self, routes, port=GATEWAY_PORT, cgroup=None, **options):
        options.setdefault("keepalive", self.KEEPALIVE)
        return self.close_at_end(nginx.gateway(self.new_directory("gateway"), self.network["gateway"],
                                               cgroup or self.gateway_cgroup, GATEWAY4, port, routes, **options))

    def ask(self, route, path="", port=GATEWAY_PORT, **options):
        """One request of a client through the gateway."""
        return http.request(self.client, GATEWAY4, port, f"/{route}/{path}", **options)

    def exchange_word(self, g, peer, word):
        """There and back, by a G and a backend that are the test's own."""
        g.sendall(word)
        expect(f"{word!r} at the backend", peer.receive_exactly(len(word)), word)
        peer.send(word[::-1])
        expect(f"the answer to {word!r}", receive_exactly(g, len(word)), word[::-1])
