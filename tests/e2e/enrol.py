#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Gateways that are Pods of this node: they come, restart, change and go, and leave nothing behind."""

import os
import sys
from pathlib import Path

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lib import manifests, nginx
from lib.backend import Backend
from lib.case import case, expect, expect_error, expect_that, main, times
from lib.cgroups import remove_tree
from lib.pods import LABEL, NODE, Pod, kubelet_root, pod_object
from lib.process import run
from lib.sockets import SocketMaker, receive_exactly
from lib.topology import backend4
from lib.waiting import LONG, until
from lib.pods_world import MARKER, PORT, PodsWorld
from lib.world import Service

PLAIN, WANTS = 8971, 8972
CLASS = "gateway.networking.k8s.io/v1"


@case("a Pod with the gateway's label is enrolled; its connections are TLS; another Pod's are its own")
def enrolled(world):
    with Pod(world, "web") as pod, world.capture(MARKER) as wire:
        sockets = pod.sockets()
        pod.publish()
        gateway = world.until_ready("default/web")
        expect("its Gateways", gateway["gatewayRefs"], [{"namespace": "default", "name": "demo"}])
        world.speak(sockets)
        world.speak(sockets, *world.covered.endpoint4)
        report = wire.report()
        expect("markers on the wire", report.markers, 0)
        expect("streams that are not TLS", report.not_tls(PORT), [])
        # A container that restarts: its cgroup is another one, the Pod's is not.
        sockets.close()
        again = pod.sockets()
        world.speak(again)
        expect("still the same hooks", world.gateways()["default/web"]["state"], "ready")
        again.close()
    world.until_gone("default/web")
    expect("pins of links", world.links(), [])


@case("every part of a Pod that the kubelet names otherwise: systemd's slices, a static Pod's hash, another class")
def drivers(world):
    name = f"postern{os.getpid()}"
    static = "0123456789abcdef0123456789abcdef"
    mount = world.cgroups.root.parent
    world.agent.stop()
    agent = world.start_agent(gateways=[], node_name=NODE, kubelet_cgroup_root=name)
    agent.until_policy("covered")
    uid = "11112222-3333-4444-5555-666677778888"
    slice_ = f"{name}-kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    trees = (
        ("systemd", uid, f"{name}.slice/{name}-kubepods.slice/{name}-kubepods-burstable.slice/{slice_}", {}),
        ("cgroupfs", uid, f"{name}/kubepods/besteffort/pod{uid}", {}),
        ("static", static, f"{name}/kubepods/pod{static}", {"kubernetes.io/config.hash": static}),
    )
    try:
        for title, _, path, annotations in trees:
            container = mount / path / "cri-containerd-0011223344556677.scope"
            container.mkdir(parents=True)
            sockets = SocketMaker(world.network["gateway"], container)
            world.manifests.write("pod-tree.yaml", pod_object("tree", uid, labels={LABEL: "demo"},
                                                              annotations=annotations))
            gateway = world.until_ready("default/tree")
            expect(f"{title}: the cgroup", gateway["cgroup"], str(mount / path))
            world.speak(sockets)
            sockets.close()
            remove_tree(mount / path.split("/")[0])
            world.manifests.remove("pod-tree.yaml")
            world.until_gone("default/tree")
    finally:
        for path in (f"{name}.slice", name):
            remove_tree(mount / path)
    agent.stop()
    world.begin()


def expect_served(world, sockets, g, peer, when):
    """A connection that was there, and a new one, with a look at the wire."""
    with world.capture(MARKER) as wire:
        g.sendall(MARKER)
        expect(f"through TLS, {when}", peer.receive_exactly(len(MARKER)), MARKER)
        world.speak(sockets)
        expect("markers on the wire", wire.report().markers, 0)


@case("a Pod that is deleted by force is a gateway until its processes end, then gone; the same name again is another Pod")
def gone(world):
    with Pod(world, "web") as pod:
        sockets = pod.sockets()
        pod.publish()
        world.until_ready("default/web")
        g = sockets.connect(world.covered.vip4, 80)
        g.sendall(MARKER)
        peer = world.backends[0].take()
        expect("through TLS", peer.receive_exactly(len(MARKER)), MARKER)
        # As the Pod garbage collector deletes it: first it has failed, then it is gone.
        pod.publish(phase="Failed")
        world.agent.process.wait_for("gateway Pod is deleted or has ended, and its processes still run")
        expect_served(world, sockets, g, peer, "its object says Failed")
        pod.withdraw()
        # Another of its name, which is nobody's gateway.
        with Pod(world, "web", labels={}) as stranger:
            stranger.publish()
            world.manifests.write("a-sign.yaml", pod_object("sign", "77772222-3333-4444-5555-666677778888",
                                                            labels={LABEL: "demo"}))
            world.agent.process.wait_for('event="gateway Pod" gateway=default/sign')
            world.speak(sockets)
            world.manifests.remove("a-sign.yaml")
        world.agent.process.wait_for('event="gateway Pod is gone" gateway=default/sign')
        expect_served(world, sockets, g, peer, "its object gone")
        sockets.close()
        pod.remove()
        world.until_gone("default/web")
        expect_error("the connection", lambda: g.recv(1), ConnectionResetError)
        g.close()
        world.agent.until_idle()
        # Of the same name, in another cgroup.
        with Pod(world, "web") as other:
            others = other.sockets()
            other.publish()
            gateway = world.until_ready("default/web")
            expect_that("the new Pod's cgroup", other.uid in gateway["cgroup"], gateway["cgroup"])
            world.speak(others)
            others.close()
    world.until_gone("default/web")
    expect("pins of links", world.links(), [])


def expect_refused(world, sockets):
    """A covered connect of processes whose gateway is no more, with a look at the wire."""
    with world.capture(MARKER) as wire:
        expect_error("a covered connect", lambda: sockets.connect(world.covered.vip4, 80, timeout=3),
                     ConnectionRefusedError)
        expect_error("a covered endpoint", lambda: sockets.connect(backend4(2), PORT, timeout=3), ConnectionRefusedError)
        expect("markers on the wire", wire.report().markers, 0)


def aside(world):
    """Places of hooks whose gateway is no more (agent/datapath/hooks_former.c)."""
    return [name for name in world.links() if name.startswith("_x")]


@case("a Pod that is replaced in one step, its old processes still alive: they are refused until they end")
def replaced(world):
    with Pod(world, "web") as old, Pod(world, "web") as new:
        old_sockets, new_sockets = old.sockets(), new.sockets()
        old.publish()
        world.until_ready("default/web")
        g = old_sockets.connect(world.covered.vip4, 80)
        g.sendall(MARKER)
        world.backends[0].take().receive_exactly(len(MARKER))
        new.publish()  # the same file
        until(lambda: new.uid in world.gateways().get("default/web", {}).get("cgroup", ""), 30, "the new cgroup")
        world.until_ready("default/web")
        expect_error("the old one's connection", lambda: g.recv(1), ConnectionResetError)
        world.speak(new_sockets)
        expect_refused(world, old_sockets)
        expect("hooks that were set aside", len(aside(world)), 1)
        # By an agent that never knew it as a gateway, too.
        world.agent.kill()
        world.begin()
        world.until_ready("default/web")
        expect_refused(world, old_sockets)
        world.speak(new_sockets)
        _, text, said = world.agent.control("status")
        expect_that("status says whose hooks these are", "deleted Pod" in text and "until they end" in text, text + said)
        old.published = False
        for sockets in (old_sockets, new_sockets):
            sockets.close()
        old.remove()
        until(lambda: not aside(world), LONG, "no hooks of the old one")
    world.until_gone("default/web")


@case("two Pods in one network namespace, of two Gateways, show each its own certificate; one of both shows none")
def certificates(world):
    leaves = {name: world.clients.leaf(name, usage="clientAuth") for name in ("one", "two")}
    world.manifests.write("identities.yaml", *(
        each for name, leaf in leaves.items() for each in
        (manifests.tls_secret(name, leaf), manifests.gateway(name, client_certificate=name))))
    wants = world.publish(Service("wants", 131, target=WANTS, hostname="echo.example"))
    seen = nginx.backend(world.new_directory("wants"), world.network["backend"], world.backend_cgroup,
                         [(backend4(2), WANTS)], world.leaf,
                         f"ssl_verify_client optional; ssl_client_certificate {world.clients.certificate};")
    world.agent.until_policy("wants")

    def shown(sockets):
        with sockets.connect(wants.vip4, 80) as g:
            g.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: g.recv(4096), b"")).decode()
        return next((name for name in leaves if f"CN={name}" in answer), "none")

    with Pod(world, "a", labels={LABEL: "one"}) as a, Pod(world, "b", labels={LABEL: "two"}) as b:
        makers = {"one": a.sockets(), "two": b.sockets()}
        for pod in (a, b):
            pod.publish()
        for name in ("default/a", "default/b"):
            world.until_ready(name)
        for name, sockets in makers.items():
            expect(f"what the Pod of Gateway {name} shows", shown(sockets), name)
        # Served by both Gateways from now on, without a new start.
        ports = world.gateways()["default/a"]["listeners"]
        a.annotate(gateway="default/two")
        until(lambda: len(world.gateways()["default/a"]["gatewayRefs"]) == 2, 30, "two Gateways")
        expect("what a Pod of both shows", shown(makers["one"]), "none")
        expect("its listeners", world.gateways()["default/a"]["listeners"], ports)
        for sockets in makers.values():
            sockets.close()
    seen.close()
    for name in ("identities.yaml", "wants.yaml"):
        world.manifests.remove(name)


@case("adopted by a Gateway's selector; a class that does backend TLS itself is not enrolled unless forced")
def adopted(world):
    classes = [{"apiVersion": CLASS, "kind": "GatewayClass", "metadata": {"name": name},
                "spec": {"controllerName": controller}, **status} for name, controller, status in (
                    ("adopted", "postern.dev/adopted", {}),
                    ("meshed", "example.com/mesh", {"status": {"supportedFeatures": [{"name": "BackendTLSPolicy"}]}}))]

    def gateway(name, class_name, **annotations):
        return {"apiVersion": CLASS, "kind": "Gateway",
                "metadata": {"name": name, "namespace": "default",
                             "annotations": {f"postern.dev/{key.replace('_', '-')}": value
                                             for key, value in annotations.items()}},
                "spec": {"gatewayClassName": class_name,
                         "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}
    world.manifests.write("classes.yaml", *classes, gateway("edge", "adopted", pod_selector="app=ingress,!canary"),
                          gateway("mesh", "meshed"))
    with Pod(world, "ingress", labels={"app": "ingress"}) as ingress, \
            Pod(world, "canary", labels={"app": "ingress", "canary": "yes"}) as canary, \
            Pod(world, "mesh", labels={LABEL: "mesh"}) as mesh:
        for pod in (ingress, canary, mesh):
            pod.publish()
        expect("its Gateway", world.until_ready("default/ingress")["gatewayRefs"],
               [{"namespace": "default", "name": "edge"}])
        until(lambda: ("GatewayDoesBackendTLS", "Pod default/mesh") in world.findings(), 30, "a finding")
        expect("enrolled", sorted(world.gateways()), ["default/ingress"])
        mesh.annotate(force="true")
        world.until_ready("default/mesh")
        canary.labels.pop("canary")
        canary.publish()
        world.until_ready("default/canary")
        # The selector goes: so do they.
        world.manifests.write("classes.yaml", *classes, gateway("edge", "adopted"), gateway("mesh", "meshed"))
        for name in ("default/ingress", "default/canary"):
            world.until_gone(name)
    world.manifests.remove("classes.yaml")
    world.until_gone("default/mesh")


@case("a container that ran before, without a gate: its plain connection ends, and StartRace says so")
def raced(world):
    with Pod(world, "web") as pod, Pod(world, "gated") as gated:
        early = pod.sockets()
        gate = gated.sockets()
        with Backend(world.backend, backend4(3), PORT) as plain:
            world.write_manifests(Service("covered", 130, target=PORT, endpoints=(2, 3), hostname="echo.example"))
            g = early.connect(backend4(3), PORT)
            g.sendall(MARKER)
            expect("before it was enrolled", receive_exactly(plain.take(), len(MARKER)), MARKER)
            pod.publish()
            gated.publish(gated=True)
            for name in ("default/web", "default/gated"):
                world.until_ready(name)
            expect_error("its plain connection", lambda: g.recv(1), ConnectionAbortedError, ConnectionResetError)
        expect("findings", set(world.findings()), {("StartRace", "Pod default/web")})
        for sockets in (early, gate):
            sockets.close()
        # Hooks that were on all along are no race: the agent is started anew.
        world.agent.kill()
        gated.publish(gated=False)
        world.begin()
        for name in ("default/web", "default/gated"):
            world.until_ready(name)
        expect("findings after a restart", set(world.findings()), set())
    world.write_manifests(world.covered)
    for name in ("default/web", "default/gated"):
        world.until_gone(name)


@case("the agent is started anew: the same id and ports; a Pod that went meanwhile loses its hooks, when its processes end")
def restarted(world):
    with Pod(world, "stays") as stays, Pod(world, "goes") as goes, Pod(world, "observed") as observed, \
            Pod(world, "unlabelled") as unlabelled:
        sockets, others = stays.sockets(), goes.sockets()
        observed.annotate(mode="observe")
        for pod in (stays, goes, unlabelled):
            pod.publish()
        for pod in (stays, goes, observed, unlabelled):
            world.until_ready(f"default/{pod.name}")
        ports = world.gateways()["default/stays"]["listeners"]
        expect("pins of links", len(world.links()), 4)
        world.agent.kill()
        for each in (sockets, others):
            expect_error("a connect while there is no agent",
                         lambda each=each: each.connect(world.covered.vip4, 80, timeout=3), ConnectionRefusedError)
        goes.withdraw()
        observed.withdraw()
        unlabelled.labels.clear()
        unlabelled.publish()
        world.begin()
        expect("its ports", world.until_ready("default/stays")["listeners"], ports)
        world.speak(sockets)
        until(lambda: len(world.links()) == 2, 30, "pins of the gateway, and of the one whose processes run")
        expect("hooks that were set aside", len(aside(world)), 1)
        expect_refused(world, others)
        until(lambda: world.maps()["gateway_map"] == 1, 30, "one gateway's entry, which goes after its pins")
        with Backend(world.backend, backend4(3), PLAIN) as plain, others.connect(backend4(3), PLAIN) as g:
            g.sendall(MARKER)
            expect("plain", receive_exactly(plain.take(), len(MARKER)), MARKER)
        for each in (sockets, others):
            each.close()
        goes.remove()
        until(lambda: len(world.links()) == 1, LONG, "one gateway's pins")
    world.until_gone("default/stays")


@case("what the API says is hostile: uids, names and selectors that lead elsewhere enrol nothing and stop nothing")
def hostile(world):
    bad = [pod_object(f"bad-{index}", uid, labels={LABEL: "demo"}, annotations=annotations) for index, (uid, annotations)
           in enumerate((("../../agent", {}), ("a/b", {}), ("x" * 300, {}), ("", {}), ("%s%n", {}),
                         ("0-1", {"kubernetes.io/config.hash": "../agent"}),
                         ("0-2", {"postern.dev/gateway": "../x,y/z/../q"}), ("0-3", {"postern.dev/mode": "off"})))]
    world.manifests.write("bad.yaml", *bad)
    until(lambda: len([each for each in world.findings() if each[0] == "InvalidAnnotation"]) == 2, 30, "two findings")
    until(lambda: len([each for each in world.findings() if each[0] == "UnprotectedGatewayPod"]) == 0, 30,
          "nothing said of Pods without a container")
    expect("enrolled", world.gateways(), {})
    with Pod(world, "web") as pod:
        sockets = pod.sockets()
        pod.publish()
        world.until_ready("default/web")
        world.speak(sockets)
        sockets.close()
    world.manifests.remove("bad.yaml")


@case("a runtime that no hook sees into is said to be unprotected")
def sandboxed(world):
    with Pod(world, "inside") as pod:
        runtime = pod.run("bash", "-c", "exec -a runsc-sandbox sleep infinity")
        until(lambda: Path(f"/proc/{runtime.pid}/cmdline").read_bytes().startswith(b"runsc"), 30, "its name")
        pod.publish()
        message = until(lambda: world.findings().get(("UnprotectedGatewayPod", "Pod default/inside")), 30, "a finding")
        expect_that("the runtime's name", "gVisor" in message, message)
        runtime.kill()
    world.until_gone("default/inside")


class NodeProc:
    """What the agent takes for the node's /proc: process 1 is in the gateways' namespace, as if it were the node's own."""

    def __init__(self, world, process):
        self.path = world.new_directory("node-proc")
        (self.path / "1").symlink_to(f"/proc/{process}")
        (self.path / str(process)).symlink_to(f"/proc/{process}")


def taker(world, *taken, host_ip="", phase="Running", sidecar=False):
    """A Pod that comes and takes the ports."""
    pod = pod_object("taker", "0-7", phase=phase)
    ports = [{"containerPort": 80, "hostPort": port, **({"hostIP": host_ip} if host_ip else {})} for port in taken]
    if sidecar:
        pod["spec"]["initContainers"] = [{"name": "proxy", "image": "p", "restartPolicy": "Always", "ports": ports}]
    else:
        pod["spec"]["containers"][0]["ports"] = ports
    world.manifests.write("taker.yaml", pod)


@case("a hostPort that comes later on a listener's port of a hostNetwork gateway is a finding: HostPortConflict")
def host_port(world):
    world.agent.stop()
    with Pod(world, "host", hostNetwork=True) as host:
        node = NodeProc(world, host.pause.pid)
        world.begin(host_proc=node.path)
        host.publish()
        ports = world.until_ready("default/host", 20)["listeners"]
        expect("findings before", world.findings(), {})
        taker(world, ports[-1])
        message = until(lambda: world.findings().get(("HostPortConflict", "Pod default/host")), 20, "the finding")
        expect_that("Pod and port", f"hostPort {ports[-1]} of Pod default/taker" in message, message)
        expect_that("what posternctl says", "HostPortConflict" in world.agent.control("status")[1], message)
        # On one of the node's other addresses it meets no listener: those are on loopback.
        taker(world, ports[-1], host_ip="192.0.2.7")
        until(lambda: world.findings() == {}, 20, "no finding")
        taker(world, ports[-1], host_ip="127.0.0.1", sidecar=True)
        until(lambda: ("HostPortConflict", "Pod default/host") in world.findings(), 20, "a sidecar's, on loopback")
        # The remedy: the agent anew, which takes other ports.
        world.agent.stop()
        world.begin(host_proc=node.path)
        listeners = world.until_ready("default/host", 20)["listeners"]
        expect_that("other ports", ports[-1] not in listeners, listeners)
        expect("findings of the next agent", world.findings(), {})
        # An ended Pod has no port any more.
        taker(world, listeners[0])
        until(lambda: ("HostPortConflict", "Pod default/host") in world.findings(), 20, "the finding again")
        taker(world, listeners[0], phase="Succeeded")
        until(lambda: world.findings() == {}, 20, "no finding")
        world.manifests.remove("taker.yaml")
    world.agent.stop()
    world.begin()


@case("and of a gateway of the configuration in the node's network namespace; in one of its own no hostPort reaches it")
def host_port_configured(world):
    world.agent.stop()
    afar = {"name": "default/afar", "cgroup": world.cgroups.make("afar"), "netns": world.network.path("node")}
    with Pod(world, "keeper", labels={}) as keeper:
        world.start_agent(gateways=[world.gateway_flags(), afar], node_name=NODE, kubelet_cgroup_root=kubelet_root(),
                          host_proc=NodeProc(world, keeper.pause.pid).path)
        gateways = world.gateways()
        taker(world, *(gateways[name]["listeners"][0] for name in ("default/afar", "default/demo")))
        until(world.findings, 20, "a finding")
        expect("of whom", set(world.findings()), {("HostPortConflict", "gateway default/demo")})
        world.manifests.remove("taker.yaml")
        until(lambda: world.findings() == {}, 20, "no finding")
    world.agent.stop()
    world.begin()


@case("more Pods than there is room for: those that are left out are named, and come in when there is room")
def too_many(world):
    world.manifests.write("many.yaml", *(pod_object(f"many-{index:03}", f"0-{index}", labels={LABEL: "demo"})
                                         for index in range(258)))
    until(lambda: len(world.findings()) == 4, 30, "four Pods that are left out") # 254 are served: POSTERN_MAX_SERVED
    expect_that("why", all("at most 254 gateways" in message for message in world.findings().values()),
                world.findings())
    with Pod(world, "zz") as pod:
        sockets = pod.sockets()
        pod.publish()
        until(lambda: ("UnprotectedGatewayPod", "Pod default/zz") in world.findings(), 30, "it is left out")
        world.manifests.remove("many.yaml")
        world.until_ready("default/zz")
        world.speak(sockets)
        sockets.close()
    world.until_gone("default/zz")
    expect("findings", world.findings(), {})


@case("Pods that come and go a thousand times leave no hook, pin, descriptor or map entry", limit=240)
def leaks(world):
    def settled():
        until(lambda: not world.gateways() and world.agent.status()["workers"]["connections_live"] == 0, 30, "no gateway")
        return {"descriptors": world.agent.descriptors(), "links": world.links(), **world.maps(),
                "programs": attached(world)}

    batch = 20
    with Pod(world, "warm") as pod:
        pod.publish()
        world.until_ready("default/warm")
    before = settled()
    for turn in range(times(50)):
        pods = [Pod(world, f"turn-{index}") for index in range(batch)]
        world.manifests.write("turn.yaml", *(pod.object() for pod in pods))
        names = {f"default/turn-{index}" for index in range(batch)}
        until(lambda names=names: {name for name, each in world.gateways().items() if each["state"] == "ready"} == names,
              30, f"turn {turn}: {batch} gateways ready")
        if turn % 10 == 0:
            sockets = pods[turn % batch].sockets()
            world.speak(sockets)
            sockets.close()
        if turn % 2:  # the object first, or the processes first
            world.manifests.remove("turn.yaml")
        for pod in pods:
            pod.remove()
        if not turn % 2:
            world.manifests.remove("turn.yaml")
    expect("what is left", settled(), before)


def attached(world):
    """Programs on any cgroup below the run's own."""
    return run("bpftool", "cgroup", "tree", world.cgroups.root / "kube").stdout.count("cgroup_")


if __name__ == "__main__":
    main(PodsWorld)
