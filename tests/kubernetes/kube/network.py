# SPDX-License-Identifier: GPL-2.0-only
"""
The network of the pods: each has a namespace of its own behind one router, the namespace of the node(s).

    pod N  10.77.N.2 --veth-- 10.77.N.1  node  10.77.0.1 on its loopback: the node's own address
           fd77:0:0:N::2      fd77:0:0:N::1

ClusterIPs are DNAT in the node's namespace, for pods (prerouting) and for what runs in the node's network (output).
"""

from lib.process import run, run_in
from lib.topology import Topology

PODS = range(10, 250)


class PodNetwork(Topology):
    node_address, node_address6 = "10.77.0.1", "fd77::1"
    pod_cidrs = ["10.77.0.0/16", "fd77::/48"]

    def _build(self):
        self._free = list(PODS)
        node = self.namespace("node")
        run("ip", "-n", node, "address", "add", f"{self.node_address}/32", "dev", "lo")
        run("ip", "-n", node, "address", "add", f"{self.node_address6}/128", "dev", "lo", "nodad")
        # Somewhere to send packets for a ClusterIP, as a real node's default route is; DNAT turns them elsewhere.
        run("ip", "-n", node, "route", "add", "10.96.0.0/16", "dev", "lo", "src", self.node_address)
        run("ip", "-n", node, "-6", "route", "add", "fd96::/112", "dev", "lo", "src", self.node_address6)
        run_in(node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def add_pod(self, address=None):
        """(its name here, namespace, IPv4 address, IPv6 address); address: one that a pod had before."""
        number = int(address.split(".")[2]) if address else self._free[0]
        self._free.remove(number)
        name = f"pod{number}"
        self.namespace(name)
        address4, address6 = f"10.77.{number}.2", f"fd77:0:0:{number:x}::2"
        self.join(name, address4, address6, f"10.77.{number}.1", f"fd77:0:0:{number:x}::1")
        return name, self[name], address4, address6

    def remove_pod(self, name):
        """The addresses may be given to another pod at once: the router's end of the pair goes with it."""
        if name in self._names:
            run("ip", "-n", self["node"], "link", "delete", name, check=False)
            self.remove(name)
            self._free.append(int(name[3:]))  # the last of those that are free: addresses are not used again soon

    def _load_rules(self, where):
        """Both hooks at once: there is one node."""
        rules = []
        for family in ("ip", "ip6"):
            rules += [f"{verb} table {family} services" for verb in ("add", "delete", "add")]
            for chain, hook in (("pods", "prerouting"), ("node", "output")):
                rules.append(f"add chain {family} services {chain} {{ type nat hook {hook} priority -100; }}")
                rules += [f"add rule {family} services {chain} {family} daddr {address} tcp dport {port} "
                          f"dnat to {self.target(endpoints)}"
                          for (_, address, port), endpoints in self._dnat.items()
                          if (":" in address) == (family == "ip6")]
        run_in(self["node"], "nft", "-f", "-", stdin="\n".join(rules) + "\n")
