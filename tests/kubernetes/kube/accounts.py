# SPDX-License-Identifier: GPL-2.0-only
"""Who asks: ServiceAccounts, their rights and tokens, and the files in which a program finds them."""

import json
import os
import time

from kube.client import Client
from lib.waiting import until

TOKEN_SECONDS = 3600


class ServiceAccount:
    """One that exists, with a client of its own."""

    def __init__(self, cluster, namespace, name):
        self._cluster = cluster
        self.namespace, self.name = namespace, name
        self.user = f"system:serviceaccount:{namespace}:{name}"
        self._generation = 0

    def token(self, seconds=TOKEN_SECONDS, bound_to=None):
        """
        A new token, by TokenRequest. The server gives at least 600 s. bound_to: a Secret or Pod of the namespace, with
        whose deletion the token ends (within 10 s, for which the server remembers a token that was good).
        """
        spec = {"expirationSeconds": seconds}
        if bound_to:
            spec["boundObjectRef"] = {"apiVersion": bound_to["apiVersion"], "kind": bound_to["kind"],
                                      "name": bound_to["metadata"]["name"]}
        path = self._cluster.admin.path("v1", "ServiceAccount", self.namespace, self.name, "token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return self._cluster.admin.request("POST", path, request)["status"]["token"]

    def client(self, token=None):
        return Client(self._cluster.api.port, self._cluster.api.authority.certificate, token or self.token())

    def kubeconfig(self, path, port=None, token=None):
        """Written to path; port: of a proxy between."""
        return self._cluster.kubeconfig(path, port, {"token": token or self.token()})

    def directory(self, path, token=None):
        """
        What kubelet mounts at /var/run/secrets/kubernetes.io/serviceaccount: token, ca.crt and namespace, links into a
        directory that is replaced whole. Call it again to rotate: the links stay, `..data` is renamed over.
        """
        self._generation += 1
        fresh = path / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{self._generation}"
        fresh.mkdir(parents=True)
        (fresh / "token").write_text(token or self.token())
        (fresh / "ca.crt").write_text(self._cluster.api.authority.pem)
        (fresh / "namespace").write_text(self.namespace)
        os.symlink(fresh.name, path / "..data_tmp")
        os.replace(path / "..data_tmp", path / "..data")
        for name in ("token", "ca.crt", "namespace"):
            if not os.path.lexists(path / name):
                os.symlink(f"..data/{name}", path / name)
        return path


def rule(groups, resources, verbs, names=None):
    """One of a Role's rules, from words: rule("", "pods nodes", "get list watch")."""
    made = {"apiGroups": groups.split() or [""], "resources": resources.split(), "verbs": verbs.split()}
    if names:
        made["resourceNames"] = list(names)
    return made


def bind(client, account, rules, namespace=None, name=None):
    """Rules of a ClusterRole, or of a Role in `namespace`, and a ServiceAccount bound to them."""
    name = name or account.name
    scope = "" if namespace else "Cluster"
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    api = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    client.apply({**api, "kind": f"{scope}Role", "metadata": metadata, "rules": rules})
    client.apply({**api, "kind": f"{scope}RoleBinding", "metadata": metadata,
                  "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": f"{scope}Role", "name": name},
                  "subjects": [{"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}]})
    until_in_force(client, account.user, rules, namespace)


def until_in_force(client, user, rules, namespace=None):
    """
    Wait until somebody may what the rules say. The server's authorizer watches roles and bindings as everybody does: who
    asks in the moment after they were written may still be refused.
    """
    for each in rules:
        attributes = {"group": each["apiGroups"][-1], "resource": each["resources"][-1], "verb": each["verbs"][-1],
                      **({"namespace": namespace} if namespace else {}),
                      **({"name": each["resourceNames"][-1]} if each.get("resourceNames") else {})}
        if "/" in attributes["resource"]:
            attributes["resource"], attributes["subresource"] = attributes["resource"].split("/")
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": user, "resourceAttributes": attributes}}
        until(lambda review=review: client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                                                   review)["status"]["allowed"], 30, f"{user} may {attributes}")


def write_kubeconfig(path, server, authority_file, user):
    """user: {"token": ...} or {"client-certificate": path, "client-key": path}"""
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(authority_file)}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
    }, indent=2))
    path.chmod(0o600)
    return path
