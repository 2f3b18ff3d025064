# SPDX-License-Identifier: GPL-2.0-only
"""
A world with a control plane (kube.cluster), nodes and pods whose network is real, Services with ClusterIPs that work,
and posternd told to watch it all. For lib.case.main(), like its base.
"""

import json
import os

from kube import node
from kube.cluster import Cluster
from kube.network import PodNetwork
from lib import cgroups, manifests, topology
from lib.agent import Agent
from lib.capture import Capture
from lib.certificates import Authority
from lib.paths import POSTERND
from lib.process import Process, run
from lib.sockets import SocketMaker
from lib.world import AGENT_PORTS

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


class PodWorld(Cluster):
    def _build(self):
        node.remove_leftovers()
        cgroups.remove_leftovers()
        topology.remove_leftovers()
        super()._build()
        self.cgroups = self.close_at_end(cgroups.Cgroups())
        self.network = self.close_at_end(PodNetwork())
        self.authority = Authority(self.directory / "certificates")
        self.client = self.close_at_end(SocketMaker(self.network["node"], self.cgroups.make("client")))
        self.agent_cgroup = self.cgroups.make("agent")
        bpf = self.new_directory("bpf")
        run("mount", "-t", "bpf", "bpf", bpf)
        self._stack.callback(run, "umount", "--lazy", bpf)
        self.bpffs = bpf / "postern"
        self.run_directory = self.new_directory("run")

    def node(self, name="node-1", **options):
        """A node; options as of kube.node.Node."""
        return self.close_at_end(node.Node(self, name, **options))

    # Services

    def service(self, name, port, target, pods=(), namespace="default", headless=False, **spec):
        """
        A Service of one port named "main", its EndpointSlices as the endpoint slice controller writes them, its
        ClusterIPs in the network. The Service, with spec.clusterIPs. spec: more of the Service's.
        """
        self.namespace(namespace)
        made = self.admin.apply({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": {
                "ipFamilyPolicy": "RequireDualStack", **({"clusterIP": "None"} if headless else {}),
                "ports": [{"name": "main", "port": port, "targetPort": target, "protocol": "TCP"}], **spec}})
        self.endpoints(made, target, pods)
        return made

    def endpoints(self, service, target, pods):
        """EndpointSlices and ClusterIPs of a Service: these pods, from now on."""
        metadata = service["metadata"]
        for family in ("IPv4", "IPv6"):
            addresses = [pod.address6 if family == "IPv6" else pod.address4 for pod in pods]
            each = manifests.endpoint_slice(metadata["name"], addresses or ["::" if family == "IPv6" else ""],
                                            [("main", target)], metadata["namespace"])
            each["endpoints"] = each["endpoints"][:len(pods)]
            for endpoint, pod in zip(each["endpoints"], pods):
                endpoint["nodeName"] = pod.node.name
                endpoint["targetRef"].update(name=pod.name, namespace=pod.namespace, uid=pod.uid)
            self.admin.apply(each, manager="endpoint-slice-controller")
            for address in service["spec"].get("clusterIPs", []):
                if address != "None" and (":" in address) == (family == "IPv6"):
                    self.network.cluster_ip(address, service["spec"]["ports"][0]["port"],
                                            [(endpoint, target) for endpoint in addresses])

    def policy(self, name, service_name, hostname, authority=None, namespace="default", **options):
        """A BackendTLSPolicy and the ConfigMap of its CA (default: the world's own)."""
        return self.admin.apply_all(
            manifests.config_map(f"{name}-ca", (authority or self.authority).pem, namespace),
            manifests.backend_tls_policy(name, service_name, hostname, f"{name}-ca", namespace=namespace, **options))[1]

    # posternd

    def start_posternd(self, settings, ready=True, env=None, program=POSTERND, name="postern"):
        """
        posternd --config FILE with these settings (its keys: `posternd --help`) beside what each test needs; in a
        cgroup of its own, in the machine's network. A lib.agent.Agent. name: of the file; two that run at a time have
        one each.
        """
        if not POSTERND.exists():
            raise RuntimeError(f"{POSTERND} is not built: make")
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps({
            "runDir": str(self.run_directory), "bpffs": str(self.bpffs), "agentCgroup": str(self.agent_cgroup),
            "workers": 2, "ports": AGENT_PORTS, **settings}, indent=2))
        agent = ConfiguredAgent(path, self, ready, env, program)
        self._stack.callback(agent.stop)
        return agent

    def start_again(self, agent, ready=True):
        """posternd once more with the files of one that has ended; the test asks the API server nothing for it."""
        again = ConfiguredAgent(agent.path, self, ready, agent.env, agent.program)
        self._stack.callback(again.stop)
        return again

    # Programs that talk to the API server from a pod

    def proxy_in(self, netns, cgroup=None):
        """A wire to the API server whose end is 127.0.0.1:port of that namespace."""
        maker = self.close_at_end(SocketMaker(netns, cgroup))
        return self.proxy(maker.listen("127.0.0.1", 0))

    def capture(self, pod, *markers):
        """Eyes on a pod's end of the wire."""
        return Capture(pod.netns, *markers)


class ConfiguredAgent(Agent):
    """posternd by its configuration file alone."""

    def __init__(self, path, world, ready, env, program):  # pylint: disable=super-init-not-called
        self.run_directory, self.bpffs = world.run_directory, world.bpffs
        self.path, self.env, self.program = path, env, program
        self.argv = [str(program), "--config", str(path), "--log-level", os.environ.get("POSTERN_LOG_LEVEL", "info"),
                     *os.environ.get("POSTERN_FLAGS", "").split()]
        self.process = Process(self.argv, cgroup=world.agent_cgroup, env=env)
        if ready:
            self.wait_ready()
