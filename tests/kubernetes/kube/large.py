# SPDX-License-Identifier: GPL-2.0-only
"""A cluster of 5,000 Services and 50,000 endpoints: its objects, put into etcd as the API server would keep them."""

import json
import os
import threading
import uuid

from kube.source_tool import policy

SERVICES = int(os.environ.get("POSTERN_SERVICES", "5000"))
PER_SERVICE = 10
PER_SLICE = 100
GATEWAY_API = "gateway.networking.k8s.io"
MANAGED = [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": "2026-11-27T00:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:team": {}}},
                                                         "f:spec": {"f:ports": {".": {}, "f:a": {}}, "f:type": {}}}}]


def stored(thing):
    """As etcd keeps it."""
    thing["metadata"].update(uid=str(uuid.uuid4()), creationTimestamp="2026-11-27T00:00:00Z", managedFields=MANAGED)
    thing["metadata"].setdefault("labels", {}).update(app=thing["metadata"]["name"], team="payments")
    return json.dumps(thing)


def address(index):
    return f"10.{64 + (index >> 16)}.{index >> 8 & 255}.{index & 255}"


def one_service(index):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s-{index}", "namespace": "default"}, "spec": {
        # Headless: the API server would write an Event for each ClusterIP that it has not given itself.
        "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "None",
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "a", "port": 443, "targetPort": 8443, "protocol": "TCP"}]}}


def one_slice(index, first, count):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"s-{index}-{first}", "namespace": "default", "labels": {
                "kubernetes.io/service-name": f"s-{index}",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
            "endpoints": [{"addresses": [address(first + each)], "conditions": {"ready": True}}
                          for each in range(count)], "ports": [{"name": "a", "port": 8443, "protocol": "TCP"}]}


def put_services(etcd):
    etcd.put((f"/registry/services/specs/default/s-{index}", stored(one_service(index))) for index in range(SERVICES))
    # A tenth of the Services has all the endpoints, a hundred in a slice, as kube-controller-manager fills them.
    etcd.put((f"/registry/endpointslices/default/s-{index}-{index * PER_SLICE}",
              stored(one_slice(index, index * PER_SLICE, PER_SLICE)))
             for index in range(SERVICES * PER_SERVICE // PER_SLICE))


def put_policies(etcd, first, count):
    """One for each of so many Services; their CA is the ConfigMap ca."""
    etcd.put((f"/registry/{GATEWAY_API}/backendtlspolicies/default/p-{index}",
              stored(policy(f"p-{index}", f"s-{index}", "ca") | {"apiVersion": f"{GATEWAY_API}/v1"}))
             for index in range(first, first + count))


class Churn:
    """Ten writes a second to an object that is none of the agent's business: nodes' leases."""

    def __init__(self, etcd):
        self._etcd = etcd
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        turn = 0
        while not self._stop.wait(0.1):
            turn += 1
            self._etcd.put([("/registry/leases/kube-node-lease/node-1", json.dumps({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": "node-1", "namespace": "kube-node-lease", "uid": str(uuid.uuid4())},
                "spec": {"leaseTransitions": turn}}))])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


class Burst:
    """Policies, one after the other by each of so many clients, as fast as the API server takes them; `made` grows."""

    def __init__(self, new_admin, clients):
        self._new_admin, self._clients = new_admin, clients
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._create, args=(first,)) for first in range(clients)]
        self.made = []

    def _create(self, index):
        with self._new_admin() as client:
            while not self._stop.is_set():
                client.create(policy(f"b-{index}", f"s-{index % SERVICES}", "ca"))
                self.made.append(index)
                index += self._clients

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
