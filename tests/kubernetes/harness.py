#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The harness itself, without postern: what the other tests of this directory command and read does what it says."""

import http.client
import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kube.accounts import rule
from kube.client import ApiError, Client
from kube.cluster import Cluster
from lib.case import case, expect, expect_error, expect_that, main
from lib.manifests import backend_tls_policy, config_map
from lib.waiting import until


class World(Cluster):
    # Else the API server answers the rest of a list from snapshots of its cache, compacted or not.
    api_flags = {"feature_gates": "ListFromCacheSnapshot=false"}


def through(cluster, proxy):
    """The admin, by way of a proxy."""
    return Client(proxy.port, cluster.api.authority.certificate, certificate=cluster.api.admin)


def refusal(what, action, code):
    error = expect_error(what, action, ApiError)
    expect(f"{what}: code", error.code, code)
    return error


@case("the kinds that postern reads are served, and a BackendTLSPolicy comes back as it was made")
def kinds(cluster):
    for version, names in (("gateway.networking.k8s.io/v1", ("GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute",
                                                              "TLSRoute", "TCPRoute", "BackendTLSPolicy",
                                                              "ReferenceGrant", "ListenerSet")),
                           ("v1", ("Service", "Secret", "ConfigMap", "Pod", "Node", "Event")),
                           ("discovery.k8s.io/v1", ("EndpointSlice",)), ("coordination.k8s.io/v1", ("Lease",)),
                           ("networking.k8s.io/v1", ("ServiceCIDR",))):
        for kind in names:
            expect_that(f"{kind} {version} served", cluster.admin.path(version, kind), kind)
    made = cluster.admin.create(backend_tls_policy("kinds", "web", "web.example", "ca"))
    expect("its hostname", cluster.admin.read(made)["spec"]["validation"]["hostname"], "web.example")
    expect("its generation", made["metadata"]["generation"], 1)
    cidr = until(lambda: cluster.admin.list("networking.k8s.io/v1", "ServiceCIDR"), 20, "the cluster's own ServiceCIDR")
    expect("ServiceCIDR", cidr[0]["spec"]["cidrs"], ["10.96.0.0/16", "fd96::/112"])


@case("a Service gets ClusterIPs of both families; status is a subresource of its own")
def services(cluster):
    made = cluster.admin.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "both"}, "spec": {
        "ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 443, "targetPort": 8443}]}})
    expect("ClusterIPs", [address.split(":")[0][:5] for address in made["spec"]["clusterIPs"]], ["10.96", "fd96"])
    pod = cluster.admin.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {
        "nodeName": "node-1", "containers": [{"name": "main", "image": "none"}]}})
    cluster.admin.merge_status(pod, {"podIP": "10.77.2.2", "podIPs": [{"ip": "10.77.2.2"}]})
    expect("podIP", cluster.admin.read(pod)["status"]["podIP"], "10.77.2.2")
    expect("pods of the node", [each["metadata"]["name"] for each in
                                cluster.admin.list("v1", "Pod", fieldSelector="spec.nodeName=node-1")], ["one"])
    cluster.admin.delete(pod)
    expect("pods afterwards", cluster.admin.list("v1", "Pod", fieldSelector="spec.nodeName=node-1"), [])


@case("RBAC: an account may what its rules say and nothing else; the audit log has both, and no admin among them")
def rights(cluster):
    account = cluster.service_account("reader", rules=[rule("", "configmaps", "get list watch")])
    mark = cluster.audit.mark()
    with account.client() as client:
        client.list("v1", "ConfigMap", labelSelector="a=b")
        refusal("secrets", lambda: client.list("v1", "Secret", namespace="default"), 403)
        refusal("write", lambda: client.create(config_map("no", "x")), 403)
        for _ in client.watch("v1", "ConfigMap", within=1, fieldSelector="metadata.name=x"):
            pass
    asked = lambda: [row for row in cluster.audit.rows(mark, account.user) if row.resource]
    rows = until(lambda: len(found := asked()) >= 4 and found, 10, "4 rows")
    expect("rows", [(row.verb, row.resource, row.namespace, row.label_selector, row.field_selector, row.code)
                    for row in rows], [
        ("list", "configmaps", "", "a=b", "", 200),
        ("list", "secrets", "default", "", "", 403),
        ("create", "configmaps", "default", "", "", 403),
        ("watch", "configmaps", "", "", "metadata.name=x", 200)])
    expect("refused", [row.resource for row in cluster.audit.refused(account.user, mark)], ["secrets", "configmaps"])
    expect("used", cluster.audit.used(account.user, mark), {("list", "", "configmaps"), ("watch", "", "configmaps")})


@case("a token bound to a Secret ends with it; a rotated directory has the new one under the same names", limit=90)
def tokens(cluster):
    account = cluster.service_account("rotating", rules=[rule("", "configmaps", "get list")])
    secret = cluster.admin.create({"apiVersion": "v1", "kind": "Secret",
                                   "metadata": {"name": "bound", "namespace": account.namespace}})
    directory = account.directory(cluster.directory / "mounted", account.token(bound_to=secret))
    first = (directory / "token").read_text()
    with account.client(first) as client:
        client.list("v1", "ConfigMap")
        cluster.admin.delete(secret)

        def ended():
            try:
                client.list("v1", "ConfigMap")
            except ApiError as error:
                return error.code == 401
            return False
        until(ended, 40, "401 for the token whose Secret is gone", every=0.5)
    account.directory(directory)
    expect_that("another token", (directory / "token").read_text() != first, first[:20])
    expect("namespace", (directory / "namespace").read_text(), "postern-system")
    with account.client((directory / "token").read_text()) as client:
        client.list("v1", "ConfigMap")


@case("pages of a list; compacted, the rest of it is 410; a watch brings what comes, and bookmarks", limit=90)
def lists(cluster):
    for index in range(5):
        cluster.admin.apply(config_map(f"page-{index}", "x", cluster.namespace("pages")))
    path = cluster.admin.path("v1", "ConfigMap", "pages")
    first = cluster.admin.request("GET", path, limit=2)
    second = cluster.admin.request("GET", path, limit=2, **{"continue": first["metadata"]["continue"]})
    expect("names", [each["metadata"]["name"] for each in first["items"] + second["items"]],
           [f"page-{index}" for index in range(4)])
    seen = []

    def watch():
        with cluster.new_admin() as other:
            for kind, thing in other.watch("v1", "ConfigMap", "pages", 60, allowWatchBookmarks="true",
                                           resourceVersion=first["metadata"]["resourceVersion"], timeoutSeconds=15):
                seen.append((kind, thing["metadata"].get("name", "")))
    watcher = threading.Thread(target=watch)
    watcher.start()
    cluster.admin.apply(config_map("page-9", "y", "pages"))
    until(lambda: ("ADDED", "page-9") in seen, 20, "the new object in the watch")
    cluster.admin.apply(config_map("elsewhere", "y"))  # a bookmark says that the watcher has missed nothing up to this
    watcher.join(60)
    expect("last event", seen[-1], ("BOOKMARK", ""))
    cluster.compact()
    gone = refusal("the rest of a list after compaction", lambda: cluster.admin.request(
        "GET", path, limit=2, **{"continue": first["metadata"]["continue"]}), 410)
    expect("reason", gone.reason, "Expired")


@case("killed and started again the server has what it had; a watch from an old resourceVersion is 410", limit=180)
def restarts(cluster):
    made = cluster.admin.apply(config_map("kept", "x"))
    for index in range(3):
        cluster.admin.apply(config_map("kept", f"x{index}"))
    cluster.compact()
    cluster.restart_api()
    expect("kept", cluster.admin.read(made)["data"]["ca.crt"], "x2")
    with cluster.new_admin() as other:
        version = made["metadata"]["resourceVersion"]
        events = list(other.watch("v1", "ConfigMap", "default", 10, resourceVersion=version))
    expect("events", [(kind, thing.get("code")) for kind, thing in events], [("ERROR", 410)])
    cluster.restart_api(graceful=True)
    expect("kept", cluster.admin.read(made)["data"]["ca.crt"], "x2")


@case("a wire in the test's hand: it passes, cuts in the middle of an object, refuses, stalls, and passes again")
def wire(cluster):
    big = cluster.admin.apply(config_map("big", "x" * 900_000))
    with cluster.proxy() as proxy:
        with through(cluster, proxy) as client:
            expect("bytes by the proxy", len(client.read(big)["data"]["ca.crt"]), 900_000)
            expect_that("counted", proxy.answered > 900_000, proxy.answered)
            expect("open", proxy.open, 1)
            client.close()  # it tries again only on a connection that it had before
            proxy.cut_after(400_000)
            expect_error("cut", lambda: client.read(big), OSError, http.client.HTTPException)
            proxy.wait_cut()
            proxy.refuse()
            expect_error("refused", lambda: client.read(big), OSError)
            proxy.pass_on()
            expect("again", len(client.read(big)["data"]["ca.crt"]), 900_000)
            proxy.stall()
            answers = []
            reader = threading.Thread(target=lambda: answers.append(client.read(big)))
            reader.start()
            reader.join(1)
            expect("answers while it stalls", answers, [])
            proxy.pass_on()
            reader.join(20)
            expect("answers afterwards", len(answers), 1)
        until(lambda: proxy.open == 0, 10, "the client's end passed on")
    expect_error("no proxy any more", lambda: through(cluster, proxy).read(big), OSError)


if __name__ == "__main__":
    main(World)
