# SPDX-License-Identifier: GPL-2.0-only
"""
Rights and admission of a real cluster (Node authorizer, ServiceAccount) around the API server of tests/kubernetes/kube;
and, played by the test, what kube-controller-manager and kube-scheduler would do for one node: a workload's pods are made
of its template, bound, and replaced in a rollout, and a namespace has its default account and the cluster's CA.
"""

import copy
import threading

from kube import binaries
from kube.client import condition
from kube.pods import PodWorld
from lib.case import SLOWNESS
from lib.waiting import until

WITHIN = 180 * SLOWNESS
NAME = "node-1"


class ControlPlane(PodWorld):
    audit_level = "Metadata"
    api_flags = {"disable_admission_plugins": "", "authorization_mode": "Node,RBAC"}

    def _build(self):
        self.programs = binaries.part("node")
        super()._build()
        self._turns = 0
        self._lock = threading.Lock()
        self.namespace("kube-system")
        self.furnish("default")

    def furnish(self, namespace):
        """What two controllers put into a new namespace."""
        self.namespace(namespace)
        self.admin.apply_all(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
             "data": {"ca.crt": self.api.authority.pem}})

    def pod_of(self, workload):
        """A pod of a DaemonSet's or Deployment's template, as it stands now, bound to the node: the object."""
        workload = self.admin.read(workload)
        template = copy.deepcopy(workload["spec"]["template"])
        metadata = workload["metadata"]
        self._turns += 1
        return self.admin.create({
            "apiVersion": "v1", "kind": "Pod", "spec": {**template["spec"], "nodeName": NAME}, "metadata": {
                **template["metadata"], "name": f"{metadata['name']}-{self._turns}", "namespace": metadata["namespace"],
                "ownerReferences": [{"apiVersion": workload["apiVersion"], "kind": workload["kind"], "controller": True,
                                     "name": metadata["name"], "uid": metadata["uid"]}]}})

    def until_ready(self, pod, within=WITHIN):
        """The Pod object with the kubelet's word that it is Ready."""
        return self.admin.until(pod, lambda seen: condition(seen, "Ready").get("status") == "True",
                                f"pod {pod['metadata']['name']} Ready", within=within)

    def delete_pod(self, pod, within=WITHIN):
        """With its own grace period; comes back when the kubelet says that it is gone."""
        self.admin.request("DELETE", self.admin.path_of(pod))
        self.until_gone(pod, within)

    def until_gone(self, pod, within=WITHIN):
        metadata = pod["metadata"]
        until(lambda: all(each["metadata"]["uid"] != metadata["uid"] for each in
                          self.admin.list("v1", "Pod", metadata["namespace"])), within, f"pod {metadata['name']} gone",
              every=0.5)
