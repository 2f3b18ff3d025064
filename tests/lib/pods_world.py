# SPDX-License-Identifier: GPL-2.0-only
"""A world whose gateways are Pods: no gateway of the configuration, and one covered Service with a TLS backend."""

import re

from lib.agent import map_entries, pinned_maps
from lib.backend import Backend
from lib.case import expect
from lib.certificates import Authority
from lib.pods import NODE, kubelet_root
from lib.tls_peer import server_context
from lib.topology import backend4
from lib.waiting import until
from lib.world import Service, World

MARKER = b"postern-pods-marker-41c0"
PORT = 8970


class PodsWorld(World):
    def _build(self):
        super()._build()
        self.leaf = self.authority.leaf("echo", "DNS:echo.example")
        self.covered = self.publish(Service("covered", 130, target=PORT, hostname="echo.example"))
        self.clients = Authority(self.directory / "client-certificates", "client-ca")
        self.backends = [
            self.close_at_end(Backend(self.backend, backend4(2), PORT, server_context(self.leaf)))]
        self.begin()

    def begin(self, **switches):
        self.start_agent(gateways=[], node_name=NODE, kubelet_cgroup_root=kubelet_root(), **switches)
        self.agent.until_policy("covered")

    def gateways(self):
        return {each["name"]: each for each in self.agent.status()["gateways"]}

    def until_ready(self, name, within=30):
        return until(lambda: (self.gateways().get(name) or {}).get("state") == "ready" and self.gateways()[name], within,
                     f"gateway {name} ready")

    def until_gone(self, name, within=30):
        """Its hooks, too: a gateway whose cgroup has gone is in no list before its Pod is."""
        pin = re.sub(r"[^A-Za-z0-9-]", lambda found: f"_{ord(found[0]):02x}", name)  # agent/datapath/hooks_pins.c
        until(lambda: name not in self.gateways() and pin not in self.links(), within, f"no gateway {name}")

    def findings(self):
        return {(each["reason"], each["object"]): each["message"] for each in self.agent.status()["findings"]}

    def links(self):
        return sorted(path.name for path in self.bpffs.glob("v*/links/*"))

    def speak(self, sockets, address=None, port=80):
        """A marker to the covered Service and back. True if the backend got it through TLS."""
        with sockets.connect(address or self.covered.vip4, port) as g:
            g.sendall(MARKER)
            peer = self.backends[0].take()
            expect("what the backend got through TLS", peer.receive_exactly(len(MARKER)), MARKER)
            peer.close()

    def maps(self):
        pins = pinned_maps(self.bpffs)
        return {name: map_entries(pins[name]) for name in
                ("gateway_map", "listener_map", "would_map", "lane_slot_map")}
