# SPDX-License-Identifier: GPL-2.0-only
"""
A world with posternd, one gateway pod with a real nginx in it, and backends that say whether they were spoken to in TLS
or in the clear.
"""

import threading

from kube import postern
from kube.pods import GATEWAY_NAME, PodWorld
from lib import http, manifests
from lib.backend import Backend
from lib.nginx import Nginx
from lib.sockets import SocketMaker
from lib.tls_peer import TlsPeer, server_context
from lib.topology import bracketed
from lib.waiting import until

MARKER = "postern-datapath-marker-7be2"
GATEWAY_PORT, PORT, TARGET = 8080, 443, 8443


class Speaker:
    """
    A server that takes TLS and plain HTTP on one port, and says which it was; `kinds` of all requests so far, at each
    address in the order in which their connections came.
    """

    def __init__(self, name, maker, addresses, context=None):
        self._name, self._context = name, context
        if context:
            context.sni_callback = _remember_name
        self._seen = []  # (number of the address, place among its connections, kind)
        self._backends, listening = [], threading.Event()

        def serve(number, sock):
            listening.wait()
            self._serve(sock, lambda kind: self._seen.append((number, self._backends[number].place(sock), kind)))
        for number, address in enumerate(addresses):
            self._backends.append(Backend(maker, address, TARGET, script=lambda sock, number=number: serve(number, sock)))
        listening.set()

    @property
    def kinds(self):
        return [kind for _, _, kind in sorted(self._seen)]

    def _serve(self, sock, note):
        with sock:
            first = sock.recv(1, 2)  # MSG_PEEK
            if not first:
                return  # connected, and never a word
            if first == b"\x16":
                if not self._context:
                    return
                peer = TlsPeer(sock, self._context).handshake()
                self._answer(peer.receive, peer.send, note, "tls", getattr(peer.tls, "name", ""))
                peer.close_notify()
            else:
                self._answer(lambda: sock.recv(65536), sock.sendall, note, "plain", "")

    def _answer(self, receive, send, note, kind, name):  # pylint: disable=too-many-arguments
        request = b""
        while b"\r\n\r\n" not in request:
            data = receive()
            if not data:
                return
            if not request:
                note(kind)
            request += data
        marker = "yes" if MARKER.encode() in request else "no"
        body = f"kind={kind}\nsni={name}\nat={self._name}\nmarker={marker}\n".encode()
        send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def close(self):
        for backend in self._backends:
            backend.close()


def _remember_name(tls, name, _context):
    tls.name = name


class Gateway:
    """A pod of the Gateway default/demo with nginx, which dials what the request's path says: /to/ADDRESS/PORT/."""

    def __init__(self, world, name="gateway-0"):
        self.world, self.name = world, name
        self.pod = world.one.pod(name, labels={GATEWAY_NAME: "demo"})
        self.sockets = None

    def serve(self):
        """Once its hooks are on: here nobody plays the gate."""
        self.world.until_enrolled(self.name)
        self.sockets = SocketMaker(self.pod.netns, self.pod.main)
        self.nginx = Nginx(self.world.new_directory(f"nginx-{self.pod.uid}"), f"""
            server {{
                listen {self.pod.address4}:{GATEWAY_PORT};
                proxy_connect_timeout 20s;
                location ~ ^/to/(?<address>[^/]+)/(?<port>[0-9]+)(?<rest>/.*)$ {{
                    proxy_pass http://$address:$port$rest;
                }}
            }}""", self.pod.netns, self.pod.main)
        return self

    def ask(self, address, port=TARGET):
        """(status, what the backend saw: kind, sni, at, marker)"""
        answer = http.request(self.world.client, self.pod.address4, GATEWAY_PORT, f"/to/{bracketed(address)}/{port}/",
                              headers={"X-Marker": MARKER})
        return answer.status, answer.values if answer.status == 200 else {}

    def kind(self, address, port=TARGET):
        """tls, plain, or the status of the gateway's own refusal."""
        status, values = self.ask(address, port)
        return values.get("kind", status)

    def delete(self):
        self.sockets.close()
        self.nginx.close()
        self.pod.delete()


class SpeakingWorld(PodWorld):
    def _build(self):
        super()._build()
        self.one = self.node("node-1")
        self._contexts = 0
        postern.install(self)
        self.fill()
        self.agent = postern.start_agent(self, self.one)
        self.admin.apply(manifests.gateway("demo"))
        self.gateway = Gateway(self).serve()

    def fill(self):
        """What the cluster has before the agent starts."""

    def until_enrolled(self, name, within=30):
        until(lambda: any(each["name"] == f"default/{name}" and each["state"] == "ready"
                          for each in self.agent.status()["gateways"]), within, f"gateway {name} ready")

    def speaker(self, pod, name, service_name, addresses=()):
        """A Speaker in the pod, on its own addresses or those; service_name: whose certificate it has, None: plain."""
        maker = self.close_at_end(SocketMaker(pod.netns, pod.main))
        return self.close_at_end(Speaker(name, maker, addresses or [pod.address4, pod.address6],
                                         self.context(service_name) if service_name else None))

    def context(self, name):
        self._contexts += 1
        return server_context(self.authority.leaf(f"{name}-{self._contexts}", f"DNS:{name}.example"))
