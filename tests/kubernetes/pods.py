#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The nodes, pods and Services of the tests, without postern: they look and work as those of a cluster."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube.node import CGROUPFS, CONTAINERD, CRIO, SYSTEMD
from kube.pods import GATEWAY_NAME, PodWorld
from lib import http, nginx
from lib.case import case, expect, expect_that, main
from lib.paths import cgroup2_mount

GATEWAY_PORT = 8080


class World(PodWorld):
    def _build(self):
        super()._build()
        self.one = self.node("node-1")

    def tls_backend(self, name, port=8443):
        """A pod with a TLS server that tells what it saw."""
        pod = self.one.pod(name)
        leaf = self.authority.leaf(name, f"DNS:{name}.example")
        server = nginx.backend(self.new_directory(name), pod.netns, pod.main,
                               [(pod.address4, port), (pod.address6, port)], leaf)
        return pod, server


@case("a pod's cgroup is where kubelet and runtime make it, for each driver, runtime and class")
def layouts(world):
    table = [
        (SYSTEMD, CONTAINERD, "Burstable",
         "{0}.slice/{0}-kubepods.slice/{0}-kubepods-burstable.slice/{0}-kubepods-burstable-pod{1}.slice/"
         "cri-containerd-{2}.scope"),
        (SYSTEMD, CRIO, "Guaranteed", "{0}.slice/{0}-kubepods.slice/{0}-kubepods-pod{1}.slice/crio-{2}.scope"),
        (CGROUPFS, CONTAINERD, "BestEffort", "{0}/kubepods/besteffort/pod{3}/{2}"),
        (CGROUPFS, CRIO, "Guaranteed", "{0}/kubepods/pod{3}/crio-{2}"),
    ]
    for index, (driver, runtime, qos, wanted) in enumerate(table):
        node = world.node(f"layout-{index}", driver=driver, runtime=runtime)
        pod = node.pod(f"layout-{index}", qos=qos)
        container = pod.containers["main"]
        path = wanted.format(node.cgroup_root, pod.uid.replace("-", "_"), container.id, pod.uid)
        expect(f"{driver} {runtime} {qos}", str(container.cgroup.relative_to(cgroup2_mount())), path)
        expect("class, by the API server", pod.object["status"]["qosClass"], qos)
        expect("containerID", pod.object["status"]["containerStatuses"][0]["containerID"],
               f"{runtime}://{container.id}")
        pod.delete()


@case("a container restarts under another id in the same pod; a deleted pod leaves nothing")
def lives(world):
    pod = world.one.pod("lives", labels={GATEWAY_NAME: "demo"})
    before = pod.containers["main"].id
    running = pod.start(["sleep", "infinity"])
    pod.containers["main"].restart()
    running.wait()
    status = world.admin.read(pod.object)["status"]["containerStatuses"][0]
    expect("restarts", status["restartCount"], 1)
    expect_that("another id", before not in status["containerID"], status)
    cgroup, netns = pod.cgroup, pod.netns
    pod.delete()
    expect("cgroup", cgroup.exists(), False)
    expect("namespace", os.path.exists(f"/run/netns/{netns}"), False)
    expect("object", world.admin.list("v1", "Pod", "default", labelSelector=f"{GATEWAY_NAME}=demo"), [])
    again = world.one.pod("lives-again", publish=False).publish().run(pod.address4)
    expect("the address again", again.address4, pod.address4)
    again.delete()


@case("a gateway pod reaches a backend pod by ClusterIP and by endpoint, of both families; so does the node's network")
def services(world):
    backend, server = world.tls_backend("echo")
    service = world.service("echo", 443, 8443, [backend])
    vip4, vip6 = service["spec"]["clusterIPs"]
    for gateway in (world.one.pod("gateway", labels={GATEWAY_NAME: "demo"}),
                    world.one.pod("gateway-host", host_network=True)):
        routes = {"vip4": [(vip4, 443)], "vip6": [(vip6, 443)], "pod4": [(backend.address4, 8443)],
                  "pod6": [(backend.address6, 8443)]}
        proxy = nginx.gateway(world.new_directory(gateway.name), gateway.netns, gateway.main, gateway.address4,
                              GATEWAY_PORT, routes)
        for route in routes:
            answer = http.request(world.client, gateway.address4, GATEWAY_PORT, f"/{route}/")
            # nginx says so of plain HTTP that comes to a TLS port: without postern that is what comes.
            expect(f"{gateway.name} {route}", (answer.status, b"plain HTTP request was sent to HTTPS" in answer.body),
                   (400, True))
        proxy.close()
    slices = world.admin.list("discovery.k8s.io/v1", "EndpointSlice", "default",
                              labelSelector="kubernetes.io/service-name=echo")
    expect("endpoints", sorted(each["endpoints"][0]["addresses"][0] for each in slices),
           sorted([backend.address4, backend.address6]))
    world.endpoints(service, 8443, [])
    expect("endpoints afterwards", [each["endpoints"] or [] for each in world.admin.list(
        "discovery.k8s.io/v1", "EndpointSlice", "default", labelSelector="kubernetes.io/service-name=echo")], [[], []])
    server.close()


if __name__ == "__main__":
    main(World)
