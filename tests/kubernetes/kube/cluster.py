# SPDX-License-Identifier: GPL-2.0-only
"""
A cluster's control plane for one test file: etcd, the API server, the Gateway API's definitions, and the test's own
admin client. Also a world for lib.case.main(). All of it goes at the end, whatever happens.

There is no kube-controller-manager and no kubelet: tests own EndpointSlices and Pods, deleted namespaces stay, nothing
is collected as garbage.
"""

import shutil

from kube import binaries
from kube.accounts import ServiceAccount, bind, write_kubeconfig
from kube.apiserver import ApiServer
from kube.audit import AuditLog
from kube.client import APPLY_PATCH, ApiError, Client, condition
from kube.etcd import Etcd
from kube.proxy import Proxy
from lib.built import Built
from lib.paths import run_directory
from lib.waiting import until

GATEWAY_API = "gateway.networking.k8s.io"


class Cluster(Built):
    audit_level = "Request"
    api_flags = {}  # more flags of kube-apiserver: {"min_request_timeout": 20}
    with_gateway_api = True

    def _build(self):
        binaries.part("server")  # skips where there is none
        crds = binaries.part("crds") if self.with_gateway_api else None
        self.directory = run_directory()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.etcd = self.close_at_end(Etcd(self.directory / "etcd"))
        self.etcd.start()
        self.api = self.close_at_end(ApiServer(self.directory, self.etcd, self.audit_level, **self.api_flags))
        self.api.start()
        self.audit = AuditLog(self.api.audit_log)
        self.admin = self.close_at_end(self.new_admin())
        if crds:
            self.install_definitions(*sorted(crds.glob("*.yaml")))

    def new_directory(self, name):
        path = self.directory / name
        path.mkdir()
        return path

    # Clients

    def new_admin(self):
        """system:masters, by certificate. For another thread than the test's own, say."""
        return Client(self.api.port, self.api.authority.certificate, certificate=self.api.admin)

    def service_account(self, name, namespace="postern-system", rules=()):
        """Makes the namespace, the account, and, of rules (accounts.rule), a ClusterRole of its name."""
        self.namespace(namespace)
        self.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount",
                          "metadata": {"name": name, "namespace": namespace}})
        account = ServiceAccount(self, namespace, name)
        if rules:
            bind(self.admin, account, list(rules))
        return account

    def kubeconfig(self, path, port=None, user=None):
        """Of the admin, if no other user is given; port: of a proxy between."""
        admin = self.api.admin
        user = user or {"client-certificate": str(admin.certificate), "client-key": str(admin.key)}
        server = f"https://127.0.0.1:{port or self.api.port}"
        return write_kubeconfig(path, server, self.api.authority.certificate, user)

    def proxy(self, listener=None):
        """A wire to the API server in the test's hand: kubeconfig(path, port=proxy.port)."""
        return self.close_at_end(Proxy("127.0.0.1", self.api.port, listener))

    # Objects

    def namespace(self, name, **labels):
        self.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return name

    def install_definitions(self, *paths):
        """YAML files of one object each; comes back when every CustomResourceDefinition is Established."""
        established = []
        for path in paths:
            text = path.read_text()
            made = self.admin.request("PATCH", _definition_path(self.admin, text), text, APPLY_PATCH,
                                      fieldManager="postern-test", force="true") if _is_definition(text) else None
            if made:
                established.append(made)
        for made in established:
            made.update(apiVersion="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
            seen = self.admin.until(made, lambda seen: condition(seen, "Established").get("status") == "True",
                                    f"{made['metadata']['name']} Established")
            # Who says so is not who serves it, and hears of it a moment later.
            for each in seen["spec"]["versions"]:
                if each["served"]:
                    until(lambda name=each["name"], spec=seen["spec"]: self._is_served(spec, name), 60,
                          f"{made['metadata']['name']} served")

    def _is_served(self, spec, version):
        try:
            return spec["names"]["kind"] in [each["kind"] for each in self.admin.request(
                "GET", f"/apis/{spec['group']}/{version}")["resources"]] and \
                self.admin.request("GET", f"/apis/{spec['group']}/{version}/{spec['names']['plural']}", limit=1)
        except ApiError as error:
            if error.code != 404:
                raise
            return False

    # The control plane's troubles

    def restart_api(self, graceful=False):
        """
        The API server's end and a new life on the same port. Its watch caches begin anew: old resourceVersions are 410.
        """
        if graceful:
            self.api.stop()
        else:
            self.api.kill()
        self.api.start()

    def compact(self):
        """
        etcd forgets old revisions. What the API server has in its cache it still answers: a watch from an old
        resourceVersion, and the rest of a list by `continue` (unless api_flags = {"feature_gates":
        "ListFromCacheSnapshot=false"}: 410 Gone at once). After restart_api() both are 410.
        """
        self.etcd.compact()

    def explain(self):
        """For the runner, after a failed case."""
        lines = self.api.process.lines if getattr(self, "api", None) and self.api.process else []
        return [f"kube-apiserver: {line}" for line in lines if line[:1] in ("E", "F")][-8:]


def _is_definition(text):
    return "\nkind: CustomResourceDefinition\n" in text


def _definition_path(client, text):
    name = next(line.split()[1] for line in text.splitlines() if line.startswith("  name: "))
    return client.path("apiextensions.k8s.io/v1", "CustomResourceDefinition", name=name)


__all__ = ["ApiError", "Cluster", "GATEWAY_API"]
