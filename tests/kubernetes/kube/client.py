# SPDX-License-Identifier: GPL-2.0-only
"""
A client of the API for tests: objects are the dictionaries of their JSON, kinds are looked up in the server's own
discovery. One connection for each client, so one client for each thread.
"""

import http.client
import json
import socket
import ssl
import time
from urllib.parse import quote, urlencode

from lib.waiting import until

MANAGER = "postern-test"
JSON, YAML = "application/json", "application/yaml"
MERGE_PATCH, APPLY_PATCH = "application/merge-patch+json", "application/apply-patch+yaml"
# The server's "not now": what it serves of a definition, or after its own start, has a cache that is filled first. It is
# waited out, as every client of Kubernetes does.
NOT_NOW, NOT_NOW_WITHIN = 429, 60


class ApiError(Exception):
    """What the server refused; .code and .reason as in its Status, .causes its details."""

    def __init__(self, request, status):
        self.code = status.get("code", 0)
        self.reason = status.get("reason", "")
        self.message = status.get("message", "")
        self.causes = (status.get("details") or {}).get("causes") or []
        super().__init__(f"{request}: {self.code} {self.reason}: {self.message}")


class Client:
    def __init__(self, port, authority, token=None, certificate=None, host="127.0.0.1", user_agent="postern-test"):
        """authority: path of the CA's PEM; certificate: a Leaf (lib.certificates) for a client that has one."""
        self._host, self._port = host, port
        self._context = ssl.create_default_context(cafile=str(authority))
        if certificate:
            self._context.load_cert_chain(certificate.certificate, certificate.key)
        self.token = token
        self._user_agent = user_agent
        self._connection = None
        self._plurals = {}  # (apiVersion, kind) -> (plural, namespaced)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._connection:
            self._connection.close()
            self._connection = None

    # Requests as they are

    def request(self, method, path, body=None, content_type=JSON, **query):
        """The answer's JSON; an ApiError is one that the server sent. body: an object, or bytes or text as they are."""
        def exchange():
            answer, text = self._exchange(method, path, body, content_type, query)
            return (answer, text) if answer.status != NOT_NOW else None
        answer, text = until(exchange, NOT_NOW_WITHIN, f"{method} {path} to be answered by more than 429", every=0.5)
        try:
            value = json.loads(text)
        except ValueError:
            value = {"code": answer.status, "message": text.decode(errors="replace")[:500]}
        if answer.status >= 400:
            raise ApiError(f"{method} {path}", value)
        return value

    def text(self, path):
        """Of what is no JSON: /readyz, /metrics."""
        answer, text = self._exchange("GET", path, None, JSON, {})
        if answer.status >= 400:
            raise ApiError(f"GET {path}", {"code": answer.status, "message": text.decode(errors="replace")[:500]})
        return text.decode()

    def _exchange(self, method, path, body, content_type, query):
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        url = path + ("?" + urlencode(query) if query else "")
        for attempt in (1, 2):
            fresh = self._connection is None
            connection = self._connection or self._connect()
            self._connection = connection
            try:
                connection.request(method, url, body, self._headers(content_type))
                answer = connection.getresponse()
                return answer, answer.read()
            except (http.client.HTTPException, OSError):
                self.close()
                # A connection that was kept may have ended meanwhile: once more, on a new one.
                if fresh or attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _connect(self, timeout=30):
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)

    def _headers(self, content_type=JSON):
        headers = {"Content-Type": content_type, "Accept": JSON, "User-Agent": self._user_agent}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    # Where a kind lives

    def path(self, api_version, kind, namespace=None, name=None, subresource=None):
        plural, namespaced = self._plural(api_version, kind)
        words = ["/apis" if "/" in api_version else "/api", api_version]
        if namespaced and namespace:
            words += ["namespaces", namespace]
        words.append(plural)
        words += [quote(word, safe="") for word in (name, subresource) if word]
        return "/".join(words)

    def _plural(self, api_version, kind):
        if (api_version, kind) not in self._plurals:
            root = "/apis/" if "/" in api_version else "/api/"
            for resource in self.request("GET", root + api_version)["resources"]:
                if "/" not in resource["name"]:
                    self._plurals[api_version, resource["kind"]] = (resource["name"], resource["namespaced"])
        try:
            return self._plurals[api_version, kind]
        except KeyError:
            unknown = {"code": 404, "reason": "NoKind", "message": "no such kind"}
            raise ApiError(f"{api_version} {kind}", unknown) from None

    def path_of(self, thing, subresource=None, named=True):
        metadata = thing["metadata"]
        _, namespaced = self._plural(thing["apiVersion"], thing["kind"])
        namespace = metadata.get("namespace", "default") if namespaced else None
        name = metadata["name"] if named else None
        return self.path(thing["apiVersion"], thing["kind"], namespace, name, subresource)

    # Objects

    def create(self, thing, **query):
        return self.request("POST", self.path_of(thing, named=False), thing, **query)

    def apply(self, thing, manager=MANAGER, **query):
        """Server-side apply, by force; the object is made if there is none."""
        query = {"fieldManager": manager, "force": "true", **query}
        return self.request("PATCH", self.path_of(thing), thing, APPLY_PATCH, **query)

    def apply_all(self, *things):
        return [self.apply(thing) for thing in things]

    def replace(self, thing, subresource=None):
        """PUT: with a resourceVersion in it, a conflict if somebody was faster."""
        return self.request("PUT", self.path_of(thing, subresource), thing)

    def merge(self, thing, change, subresource=None):
        """A JSON merge patch of the object that `thing` names."""
        return self.request("PATCH", self.path_of(thing, subresource), change, MERGE_PATCH)

    def merge_status(self, thing, status):
        return self.merge(thing, {"status": status}, "status")

    def delete(self, thing, **query):
        """Gone at once; no error if it was gone before."""
        try:
            return self.request("DELETE", self.path_of(thing), gracePeriodSeconds=0, **query)
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    def get(self, api_version, kind, name, namespace=None):
        return self.request("GET", self.path(api_version, kind, namespace, name))

    def read(self, thing):
        """The object as the server has it now."""
        return self.request("GET", self.path_of(thing))

    def list(self, api_version, kind, namespace=None, **query):
        """The items; query: labelSelector, fieldSelector, limit, ..."""
        return self.request("GET", self.path(api_version, kind, namespace), **query)["items"]

    def watch(self, api_version, kind, namespace=None, within=30, **query):
        """(type, object) of each event, on a connection of its own, until the server ends it or the time is over."""
        path = self.path(api_version, kind, namespace) + "?" + urlencode({"watch": "true", **query})
        deadline = time.monotonic() + within
        connection = self._connect(within)

        def begin():
            connection.request("GET", path, headers=self._headers())
            answer = connection.getresponse()
            if answer.status == NOT_NOW:
                answer.read()
                return None
            return answer
        try:
            answer = until(begin, NOT_NOW_WITHIN, f"{path} to be answered by more than 429", every=0.5)
            if answer.status >= 400:
                raise ApiError(f"watch {path}", json.loads(answer.read()))
            while (left := deadline - time.monotonic()) > 0:
                connection.sock.settimeout(left)
                try:
                    line = answer.readline()
                except socket.timeout:
                    return
                if not line:
                    return
                event = json.loads(line)
                yield event["type"], event["object"]
        finally:
            connection.close()

    def until(self, thing, holds, what, within=20):
        """Watch one object until holds(object); the object. `what` says what was waited for."""
        metadata = thing["metadata"]
        _, namespaced = self._plural(thing["apiVersion"], thing["kind"])
        namespace = metadata.get("namespace", "default") if namespaced else None
        seen = None
        for kind, seen in self.watch(thing["apiVersion"], thing["kind"], namespace, within,
                                     fieldSelector=f"metadata.name={metadata['name']}"):
            if kind in ("ADDED", "MODIFIED") and holds(seen):
                return seen
        raise AssertionError(f"expected {what} within {within} s, last seen {json.dumps(seen)[:1500]}")


def condition(thing, kind):
    """The condition of this type in an object's status, or {}."""
    return next((each for each in thing.get("status", {}).get("conditions", []) if each["type"] == kind), {})
