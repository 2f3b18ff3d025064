# SPDX-License-Identifier: GPL-2.0-only
"""haproxy-ingress in a pod: a gateway controller that knows nothing of BackendTLSPolicy, with Debian's HAProxy."""

import os
import shutil

from kube import binaries
from lib.waiting import until

CLASS, CONTROLLER = "haproxy", "haproxy-ingress.github.io/controller"
NAMESPACE = "ingress-controller"
POD_GATEWAYS = "postern.dev/gateway"


class HaproxyIngress:
    def __init__(self, world, node, gateways=()):
        """gateways: "namespace/name" of those that the data plane is said to serve, for postern."""
        program = binaries.part("haproxy-ingress")
        world.namespace(NAMESPACE)
        self.pod = node.pod("haproxy-ingress-0", NAMESPACE, labels={"app.kubernetes.io/name": "haproxy-ingress"},
                            annotations={POD_GATEWAYS: ",".join(gateways)} if gateways else {})
        directory = world.new_directory("haproxy-ingress")
        shutil.copytree(program / "rootfs/etc/lua", directory / "etc/haproxy/lua")
        kubeconfig = world.kubeconfig(directory / "kubeconfig", world.proxy_in(self.pod.netns, self.pod.main).port)
        world.admin.apply_all(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "haproxy-ingress", "namespace": NAMESPACE},
             "data": {"max-connections": "2000", "syslog-endpoint": "stdout", "syslog-format": "raw",
                      # HAProxy would answer 503 for a whole minute after a backend was down once.
                      "backend-check-interval": "1s"}},
            {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": CLASS},
             "spec": {"controllerName": CONTROLLER}})
        # Its templates are found from the working directory.
        self.process = self.pod.start(
            ["env", "-C", program, program / "haproxy-ingress", f"--kubeconfig={kubeconfig}",
             f"--local-filesystem-prefix={directory}", "--master-worker", "--ip-mode=v4", "--watch-ingress=false",
             f"--configmap={NAMESPACE}/haproxy-ingress", f"--publish-address={self.pod.address4}",
             "--rate-limit-update=10", "--wait-before-update=100ms"],
            env={**os.environ, "POD_NAMESPACE": NAMESPACE, "POD_NAME": self.pod.name})
        until(self._serves, 90, "GatewayClass haproxy Accepted")

    def _serves(self):
        if not self.process.running():
            raise RuntimeError("haproxy-ingress ended: " + " | ".join(self.process.lines[-8:]))
        world_class = self.pod.node.world.admin.get("gateway.networking.k8s.io/v1", "GatewayClass", CLASS)
        return any(each["type"] == "Accepted" and each["status"] == "True"
                   for each in world_class.get("status", {}).get("conditions", ()))
