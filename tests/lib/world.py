# SPDX-License-Identifier: GPL-2.0-only
"""
What a test file lives in: namespaces, cgroups, a CA, a directory of manifests, and the agent, all of one run and all
gone at its end, whatever happens.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from lib import cgroups, manifests, topology
from lib.agent import Agent
from lib.built import Built
from lib.capture import Capture
from lib.certificates import Authority
from lib.paths import POSTERND, PREFIX, POSTERNCTL, run_directory
from lib.process import run, run_in
from lib.sockets import SocketMaker
from lib.topology import CLUSTER_CIDRS, Topology, backend4, backend6

# Outside ip_local_port_range and the NodePort range.
AGENT_PORTS = "28100-28400"
GATEWAY_PORT = 8080


@dataclass
class Service:
    """A Service with one port; its ClusterIPs are 10.96.0.NUMBER and fd96::NUMBER."""
    name: str
    number: int
    target: int  # port of the endpoints
    endpoints: tuple = (2,)  # numbers of the backend's addresses
    port: int = 80
    hostname: str = ""  # of the policy; "" = not covered
    authority: Authority = None  # default: the world's own
    options: dict = field(default_factory=dict)
    sans: tuple = ()
    system_ca: bool = False  # wellKnownCACertificates: System
    crl: str = ""  # PEM, into a ConfigMap NAME-crl

    @property
    def vip4(self):
        return f"10.96.0.{self.number}"

    @property
    def vip6(self):
        return f"fd96::{self.number}"

    @property
    def endpoints4(self):
        return [(backend4(number), self.target) for number in self.endpoints]

    @property
    def endpoints6(self):
        return [(backend6(number), self.target) for number in self.endpoints]

    @property
    def endpoint4(self):
        return self.endpoints4[0]

    @property
    def endpoint6(self):
        return self.endpoints6[0]


class World(Built):
    agent_environment = None  # of the agent; None: the test's own

    def __init__(self):
        super().__init__()
        self._agent = None
        self._directories = 0

    def _build(self):
        remove_leftovers()
        self.directory = run_directory()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.cgroups = cgroups.Cgroups()
        self._stack.callback(self.cgroups.close)
        self.agent_cgroup = self.cgroups.make("agent")
        self.gateway_cgroup = self.cgroups.make("gateway")
        self.backend_cgroup = self.cgroups.make("backend")
        self.network = Topology()
        self._stack.callback(self.network.close)
        self.authority = Authority(self.directory / "certificates")
        self.manifests = manifests.Directory(self.directory / "manifests")
        bpf = self.directory / "bpf"
        bpf.mkdir()
        run("mount", "-t", "bpf", "bpf", bpf)
        self._stack.callback(run, "umount", "--lazy", bpf)
        self.bpffs = bpf / "postern"
        self.run_directory = self.directory / "run"
        self.run_directory.mkdir()
        self.gateway = self.close_at_end(SocketMaker(self.network["gateway"], self.gateway_cgroup))
        self.stranger = self.close_at_end(SocketMaker(self.network["gateway"], self.cgroups.make("stranger")))
        self.backend = self.close_at_end(SocketMaker(self.network["backend"], self.backend_cgroup))
        self.client = self.close_at_end(SocketMaker(self.network["node"], self.cgroups.make("client")))

    def new_directory(self, name):
        """One for each server of a test."""
        self._directories += 1
        path = self.directory / f"{name}-{self._directories}"
        path.mkdir()
        return path

    # Manifests and services

    def publish(self, service, where="node"):
        """The Service's objects into the manifests, its ClusterIPs into the network."""
        self.write_manifests(service)
        self.network.cluster_ip(service.vip4, service.port, service.endpoints4, where)
        self.network.cluster_ip(service.vip6, service.port, service.endpoints6, where)
        return service

    def write_manifests(self, service):
        self.manifests.write(f"{service.name}.yaml", *self.objects(service))

    def objects(self, service):
        objects = [
            manifests.service(service.name, [service.vip4, service.vip6], [("main", service.port, service.target)]),
            manifests.endpoint_slice(service.name, [each for each, _ in service.endpoints4],
                                     [("main", service.target)]),
            manifests.endpoint_slice(service.name, [each for each, _ in service.endpoints6],
                                     [("main", service.target)]),
            manifests.http_route(service.name, "demo", service.name, service.port),
        ]
        if service.hostname:
            authority = service.authority or self.authority
            ca = None if service.system_ca else f"{service.name}-ca"
            objects.append(manifests.backend_tls_policy(service.name, service.name, service.hostname, ca,
                                                        options=service.options, sans=service.sans))
            if ca:
                objects.append(manifests.config_map(ca, authority.pem))
            if service.crl:
                objects.append(manifests.config_map(f"{service.name}-crl", service.crl, key="ca.crl"))
        return objects

    # The agent

    def gateway_flags(self, **more):
        return {"name": "default/demo", "cgroup": self.gateway_cgroup, "netns": self.network.path("gateway"), **more}

    def gateway_objects(self):
        """The Gateway object of the data plane; a test that wants others overrides this."""
        return [manifests.gateway("demo")]

    def start_agent(self, gateways=None, ready=True, workers=2, **switches):
        """The agent in its cgroup; comes back when it is ready."""
        self._agent = self.new_agent(gateways, ready, workers, **switches)
        self._stack.callback(_stop_cleanly, self._agent)
        return self._agent

    def new_agent(self, gateways=None, ready=True, workers=2, before=(), **switches):
        """One that is not the world's own: it may fail."""
        if not POSTERND.exists():
            raise RuntimeError(f"{POSTERND} is not built: make")
        self.manifests.write("gateway.yaml", *self.gateway_objects())
        return Agent(self.manifests.path, self.run_directory, self.bpffs, self.agent_cgroup,
                     [self.gateway_flags()] if gateways is None else gateways, CLUSTER_CIDRS, AGENT_PORTS, workers,
                     {name.replace("_", "-"): value for name, value in switches.items()}, ready, self.agent_environment,
                     before)

    @property
    def agent(self):
        if self._agent is None:
            self.start_agent()
        return self._agent

    def uninstall(self, check=True):
        return run(POSTERNCTL, "--run-dir", self.run_directory, "--bpffs", self.bpffs, "uninstall", check=check)

    def capture(self, *markers):
        """Eyes on the backend's end of the wire."""
        return Capture(self.network["backend"], *markers)

    def explain(self):
        """For the runner, after a failed case: what the agent said last, and where bytes wait."""
        if self._agent is None:
            return []
        return [f"posternd: {line}" for line in self._agent.process.lines[-12:]] + self._full_queues()

    def _full_queues(self):
        lines = []
        for name in ("gateway", "backend"):
            for line in run_in(self.network[name], "ss", "-HtinO", "state", "connected", check=False).stdout.splitlines():
                words = line.split()
                if words[1:3] != ["0", "0"]:
                    lines.append(f"{name}: {' '.join(words)}")
        return lines[:12]


def _stop_cleanly(agent):
    """A sanitizer that found a leak at the end, or an agent that failed to stop, is a failure of the whole file."""
    status = agent.stop()
    if status and status > 0:
        raise RuntimeError(f"posternd ended with status {status}:\n" + "\n".join(agent.process.lines[-60:]))


def remove_leftovers():
    """Of runs that ended without a chance to clean up."""
    cgroups.remove_leftovers()
    topology.remove_leftovers()
    for mount in Path("/proc/self/mountinfo").read_text().splitlines():
        path = Path(mount.split()[4])
        owner = _owner(path.parent.name)
        if path.name == "bpf" and owner and not Path(f"/proc/{owner}").exists():
            run("umount", "--lazy", path, check=False)
            shutil.rmtree(path.parent, ignore_errors=True)


def _owner(name):
    words = name[len(PREFIX):].split("-") if name.startswith(PREFIX) else [""]
    return words[0] if words[0].isdigit() else ""
