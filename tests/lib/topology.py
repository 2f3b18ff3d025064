# SPDX-License-Identifier: GPL-2.0-only
"""
The network of a run: a gateway, a node and a backend, as pods on a Kubernetes node have it.

    gateway 10.77.1.2 --veth-- 10.77.1.1 node 10.77.2.1 --veth-- 10.77.2.2 .. 10.77.2.9 backend
    fd77:0:0:1::2                                                fd77:0:0:2::2 .. fd77:0:0:2::9

A ClusterIP is turned into an endpoint by DNAT, as kube-proxy does it: in the node's prerouting hook for a pod of its
own, or in the gateway's own output hook, which is what a gateway in the host's network sees.
"""

import json
import os

from lib.process import run, run_in
from lib.paths import PREFIX

GATEWAY4, GATEWAY6 = "10.77.1.2", "fd77:0:0:1::2"
NODE_GATEWAY4, NODE_GATEWAY6 = "10.77.1.1", "fd77:0:0:1::1"
NODE_BACKEND4, NODE_BACKEND6 = "10.77.2.1", "fd77:0:0:2::1"
CLUSTER_CIDRS = ("10.77.0.0/16", "10.96.0.0/16", "fd77::/48", "fd96::/112")


def backend4(number):
    """The backend's IPv4 address number 2..9."""
    return f"10.77.2.{number}"


def backend6(number):
    return f"fd77:0:0:2::{number}"


def bracketed(address):
    return f"[{address}]" if ":" in address else address


class Topology:
    def __init__(self):
        self._names = {}
        self._joined = {}  # name -> addresses of both ends
        self._dnat = {}  # (where, address, port) -> endpoints
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self):
        for name in ("gateway", "node", "backend"):
            self.namespace(name)
        self.join("gateway", GATEWAY4, GATEWAY6, NODE_GATEWAY4, NODE_GATEWAY6)
        self.join("backend", backend4(2), backend6(2), NODE_BACKEND4, NODE_BACKEND6)
        for number in range(3, 10):
            self.add_backend_address(f"{backend4(number)}/24")
            self.add_backend_address(f"{backend6(number)}/64")
        run_in(self["node"], "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def __getitem__(self, name):
        """The name that `ip netns` knows."""
        return self._names[name]

    def path(self, name):
        return f"/run/netns/{self[name]}"

    def namespace(self, name):
        full = f"{PREFIX}{os.getpid()}-{name}"
        run("ip", "netns", "add", full)
        self._names[name] = full
        # An address must be usable as soon as it is there.
        run_in(full, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
        run("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def join(self, name, address4, address6, node4, node6):
        """A veth pair from a namespace (eth0) to the node (named like the namespace), with addresses and routes."""
        inner, node = self[name], self["node"]
        self._joined[name] = (address4, address6, node4, node6)
        run("ip", "-n", inner, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", node)
        for netns, device, v4, v6 in ((inner, "eth0", address4, address6), (node, name, node4, node6)):
            run("ip", "-n", netns, "link", "set", device, "up")
            run("ip", "-n", netns, "address", "add", f"{v4}/24", "dev", device)
            run("ip", "-n", netns, "address", "add", f"{v6}/64", "dev", device, "nodad")
        run("ip", "-n", inner, "route", "add", "default", "via", node4)
        run("ip", "-n", inner, "-6", "route", "add", "default", "via", node6)

    def add_pods(self, addresses):
        """
        {name: (address4, address6, node4, node6)}: a namespace for each, joined like the gateway's. Many at once, in few
        programs: a program for each step would take longer than what a test does with them.
        """
        self._names.update({name: f"{PREFIX}{os.getpid()}-{name}" for name in addresses})
        run("ip", "-batch", "-", stdin=_lines(f"netns add {self[name]}" for name in addresses))
        for name, (address4, address6, node4, node6) in addresses.items():
            self._joined[name] = (address4, address6, node4, node6)
            run("ip", "-n", self[name], "-batch", "-", stdin=_lines([
                "link set lo up", f"link add eth0 type veth peer name {name} netns {self['node']}", "link set eth0 up",
                f"address add {address4}/24 dev eth0", f"address add {address6}/64 dev eth0 nodad",
                f"route add default via {node4}", f"route add default via {node6}"]))
        run("ip", "-n", self["node"], "-batch", "-", stdin=_lines(
            line for name, (_, _, node4, node6) in addresses.items()
            for line in (f"link set {name} up", f"address add {node4}/24 dev {name}",
                         f"address add {node6}/64 dev {name} nodad")))

    def set_link(self, name, up):
        """A namespace's eth0 up or down; what the kernel forgot meanwhile (IPv6 addresses, routes) is made again."""
        netns = self[name]
        run("ip", "-n", netns, "link", "set", "eth0", "up" if up else "down")
        if not up:
            return
        v4, v6, node4, node6 = self._joined[name]
        run("ip", "-n", netns, "address", "replace", f"{v6}/64", "dev", "eth0", "nodad")
        run("ip", "-n", netns, "address", "replace", f"{v4}/24", "dev", "eth0")
        run("ip", "-n", netns, "route", "replace", "default", "via", node4)
        run("ip", "-n", netns, "-6", "route", "replace", "default", "via", node6)

    def remove(self, name):
        """The namespace's name goes; the kernel keeps the rest while a socket or a process is in there."""
        run("ip", "netns", "delete", self._names.pop(name))

    def add_backend_address(self, address):
        nodad = ["nodad"] if ":" in address else []
        run("ip", "-n", self["backend"], "address", "add", address, "dev", "eth0", *nodad)

    def cluster_ip(self, address, port, endpoints, where="node"):
        """
        DNAT (address, port) to the endpoints in turn: [(address, port)...]; none takes the rule away. `where` is
        "node" (a pod's packets, on their way) or "gateway" (the gateway's own output, as with hostNetwork).
        """
        key = (where, address, port)
        if endpoints:
            self._dnat[key] = list(endpoints)
        else:
            self._dnat.pop(key, None)
        self._load_rules(where)

    def silence(self, address, port):
        """Packets to this address and port of the backend vanish: a backend that never answers."""
        run_in(self["backend"], "nft", "-f", "-", stdin=f"""
            add table inet silent
            add chain inet silent input {{ type filter hook input priority 0; }}
            add rule inet silent input {"ip6" if ":" in address else "ip"} daddr {address} tcp dport {port} drop
        """)

    def _load_rules(self, where):
        hook = {"node": "type nat hook prerouting priority -100;", "gateway": "type nat hook output priority -100;"}
        rules = []
        for family in ("ip", "ip6"):
            rules.append(f"add table {family} services")
            rules.append(f"add chain {family} services cluster_ips {{ {hook[where]} }}")
            rules.append(f"flush chain {family} services cluster_ips")
            for (place, address, port), endpoints in self._dnat.items():
                if place != where or (":" in address) != (family == "ip6"):
                    continue
                rules.append(f"add rule {family} services cluster_ips {family} daddr {address} tcp dport {port} "
                             f"dnat to {self.target(endpoints)}")
        run_in(self[where], "nft", "-f", "-", stdin="\n".join(rules) + "\n")

    @staticmethod
    def target(endpoints):
        """What stands behind "dnat to"."""
        if len(endpoints) == 1:
            address, port = endpoints[0]
            return f"{bracketed(address)}:{port}"
        choices = ", ".join(f"{index} : {address} . {port}" for index, (address, port) in enumerate(endpoints))
        return f"numgen inc mod {len(endpoints)} map {{ {choices} }}"

    def device(self, name):
        """`ip -json address` of a namespace's eth0."""
        return json.loads(run("ip", "-n", self[name], "-json", "address", "show", "dev", "eth0").stdout)[0]

    def close(self):
        for full in self._names.values():
            run("ip", "netns", "delete", full, check=False)
        self._names.clear()


def _lines(lines):
    return "".join(f"{line}\n" for line in lines)


def remove_leftovers():
    for line in run("ip", "netns", "list").stdout.splitlines():
        full = line.split()[0] if line.strip() else ""
        owner = full[len(PREFIX):].split("-")[0] if full.startswith(PREFIX) else ""
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            run("ip", "netns", "delete", full, check=False)
