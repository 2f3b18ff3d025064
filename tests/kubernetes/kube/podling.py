# SPDX-License-Identifier: GPL-2.0-only
"""
The least of a kubelet, a deployment controller and an endpoint slice controller that the upstream conformance suite can
live on, with processes for containers: for each Deployment its pods (kube.node), in each of them what the container's
image stands for, for each Service with a selector its EndpointSlices and ClusterIPs.

    images: {"echo-basic": path of the program}; any other image is a process that does nothing

It has a thread of its own, which makes one full pass after each event. Volumes are of Secrets and ConfigMaps; as there
is one file system for all, a path below a mountPath in the environment or arguments is replaced by that of the files.
"""

import base64
import threading

from kube.client import ApiError
from kube.node import Pod

WATCHED = (("apps/v1", "Deployment"), ("v1", "Service"), ("v1", "Secret"), ("v1", "ConfigMap"))
MANAGER = "endpointslice-controller.k8s.io"


class Podling:
    def __init__(self, world, node, images, by_cluster_ip=False):
        """
        by_cluster_ip: the EndpointSlices of a Service name its own ClusterIP and port instead of the pods, so that a
        gateway that dials endpoints dials the ClusterIP, as gateways do that are set so (haproxy-ingress's
        service-upstream, which it has for Ingress alone).
        """
        self._world, self._node, self._images, self._by_cluster_ip = world, node, images, by_cluster_ip
        self._admin = world.new_admin()
        self._pods = {}  # (namespace, deployment) -> [pod]
        self._slices = {}  # (namespace, service) -> what was written
        self._event = threading.Event()
        self._closing = False
        self.problems = []  # what a pass could not do; the next one tries again
        self._threads = [threading.Thread(target=self._watch, args=each, daemon=True) for each in WATCHED]
        self._threads.append(threading.Thread(target=self._work, daemon=True))
        for thread in self._threads:
            thread.start()

    def close(self):
        """The pods are closed by their node."""
        self._closing = True
        self._event.set()
        self._threads[-1].join(30)
        self._admin.close()

    def _watch(self, api_version, kind):
        with self._world.new_admin() as client:
            while not self._closing:
                try:
                    for _ in client.watch(api_version, kind, within=300):
                        self._event.set()
                        if self._closing:
                            return
                except (OSError, ApiError, ValueError):
                    if not self._closing:
                        self._world.api.ready()

    def _work(self):
        # What it starts ends with this thread (lib.process).
        while not self._closing:
            self._event.wait(2)  # a Secret that was missing may be there
            self._event.clear()
            if self._closing:
                return
            try:
                self._pass()
            except (OSError, ApiError, RuntimeError) as error:
                self.problems.append(str(error))

    def _pass(self):
        deployments = {_key(each): each for each in self._admin.list("apps/v1", "Deployment")}
        for key in [key for key in self._pods if key not in deployments]:
            for pod in self._pods.pop(key):
                self._node.pods.remove(pod)
                pod.delete()
        for key, deployment in deployments.items():
            if key not in self._pods:
                self._start(key, deployment)
        services = {_key(each): each for each in self._admin.list("v1", "Service") if each["spec"].get("selector")}
        for key in [key for key in self._slices if key not in services]:
            self._forget(key)
        for key, service in services.items():
            self._publish(key, service)

    # Pods

    def _start(self, key, deployment):
        namespace, name = key
        spec = deployment["spec"]["template"]["spec"]
        volumes = self._volumes(namespace, spec)
        if volumes is None:
            return  # a Secret is not there yet: kubelet waits, too
        pods = []
        for index in range(deployment["spec"].get("replicas", 1)):
            pod = Pod(self._node, f"{name}-{index}", namespace,
                      labels=deployment["spec"]["template"]["metadata"]["labels"],
                      containers=[each["name"] for each in spec["containers"]])
            self._node.pods.append(pod)
            pods.append(pod)
            for container in spec["containers"]:
                self._run(pod, container, volumes)
        self._pods[key] = pods

    def _run(self, pod, container, volumes):
        program = next((path for name, path in self._images.items() if f"/{name}:" in container["image"]), None)
        paths = {mount["mountPath"]: str(volumes[mount["name"]]) for mount in container.get("volumeMounts", ())}
        environment = {"PATH": "/usr/bin:/bin"}
        for variable in container.get("env", ()):
            environment[variable["name"]] = _mapped(variable.get("value", ""), paths) if "valueFrom" not in variable \
                else _field(pod, variable["valueFrom"]["fieldRef"]["fieldPath"])
        argv = [program, *(_mapped(word, paths) for word in container.get("args", ()))] if program \
            else ["sleep", "infinity"]
        pod.start(argv, container["name"], env=environment)

    def _volumes(self, namespace, spec):
        """name -> directory with the volume's files, or None if one is not there yet."""
        made = {}
        for volume in spec.get("volumes", ()):
            source = volume.get("secret") or volume.get("configMap")
            if not source:
                continue
            kind, name = ("Secret", source["secretName"]) if "secret" in volume else ("ConfigMap", source["name"])
            try:
                data = self._admin.get("v1", kind, name, namespace).get("data", {})
            except ApiError as error:
                if error.code == 404:
                    return None
                raise
            directory = self._world.directory / "volumes" / namespace / f"{kind}-{name}"
            directory.mkdir(parents=True, exist_ok=True)
            for item in source.get("items") or [{"key": key, "path": key} for key in data]:
                text = data[item["key"]]
                (directory / item["path"]).write_bytes(base64.b64decode(text) if kind == "Secret" else text.encode())
            made[volume["name"]] = directory
        return made

    # Services

    def _publish(self, key, service):
        namespace, name = key
        selector = service["spec"]["selector"].items()
        pods = [pod for (where, _), pods in self._pods.items() if where == namespace for pod in pods
                if selector <= pod.object["metadata"].get("labels", {}).items()]
        ports = service["spec"].get("ports", [])
        cluster_ips = [each for each in service["spec"].get("clusterIPs", []) if each != "None"]
        wanted = (service["metadata"]["uid"], ports, cluster_ips, [pod.uid for pod in pods])
        if self._slices.get(key) == wanted:
            return
        for address in cluster_ips:
            for port in ports:
                target = port.get("targetPort", port["port"])
                self._world.network.cluster_ip(address, port["port"], [
                    (pod.address6 if ":" in address else pod.address4, target) for pod in pods])
        indirect = self._by_cluster_ip and cluster_ips and pods
        for family in service["spec"]["ipFamilies"]:
            six = family == "IPv6"
            if indirect:
                endpoints = [{"addresses": [each], "conditions": {"ready": True}} for each in cluster_ips
                             if (":" in each) == six]
            else:
                endpoints = [{"addresses": [pod.address6 if six else pod.address4], "conditions": {"ready": True},
                              "nodeName": pod.node.name,
                              "targetRef": {"kind": "Pod", "name": pod.name, "namespace": namespace, "uid": pod.uid}}
                             for pod in pods]
            self._admin.apply({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
                "metadata": {"name": f"{name}-{family.lower()}", "namespace": namespace, "labels": {
                    "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": MANAGER}},
                "endpoints": endpoints,
                "ports": [{"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"),
                           "port": port["port"] if indirect else port.get("targetPort", port["port"]),
                           **({"appProtocol": port["appProtocol"]} if "appProtocol" in port else {})}
                          for port in ports]})
        self._slices[key] = wanted

    def _forget(self, key):
        namespace, name = key
        _, ports, cluster_ips, _ = self._slices.pop(key)
        for address in cluster_ips:
            for port in ports:
                self._world.network.cluster_ip(address, port["port"], [])
        for each in self._admin.list("discovery.k8s.io/v1", "EndpointSlice", namespace,
                                     labelSelector=f"kubernetes.io/service-name={name}"):
            self._admin.delete({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **each})


def _key(thing):
    return thing["metadata"]["namespace"], thing["metadata"]["name"]


def _mapped(text, paths):
    for inside, outside in paths.items():
        text = text.replace(inside, outside)
    return text


def _field(pod, path):
    return {"metadata.name": pod.name, "metadata.namespace": pod.namespace, "metadata.uid": pod.uid,
            "spec.nodeName": pod.node.name, "status.podIP": pod.address4, "status.hostIP": ""}[path]
