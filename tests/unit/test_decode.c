// SPDX-License-Identifier: GPL-2.0-only
/* Structure: what is refused, with which words; what is skipped; what is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "decode_fixture.h"
#include "policy/decode.h"
#include "policy/store.h"

#define META        "metadata: {name: x}\n"
#define V1(kind)    "apiVersion: v1\nkind: " kind "\n" META
#define GW(kind)    "apiVersion: gateway.networking.k8s.io/v1\nkind: " kind "\n" META
#define SLICE       "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" META
#define POLICY_SPEC "spec: {targetRefs: [{group: '', kind: Service, name: e}], validation: {hostname: a.b}}\n"

static void refusals(void **state)
{
	static const struct refused_document rows[] = {
	        /* the document */
	        {"x", "document 1", "must be a map with apiVersion, kind and metadata"},
	        {"---\n---\n[]", "document 2", "must be a map"},
	        {"{}", "document 1", "kind: is required"},
	        {"kind: Service\n" META, "Service default/x", "apiVersion: is required"},
	        {"apiVersion: 1\nkind: Service\n" META, "Service default/x", "apiVersion: is required, as a string"},
	        {"apiVersion: v1\nkind: [Service]\n" META, "document 1", "kind: is required, as a string"},
	        {"apiVersion: v2\nkind: Service\n" META, "Service default/x", "version \"v2\" is not known; known: v1"},
	        {"apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: BackendTLSPolicy\n" META POLICY_SPEC,
	         "BackendTLSPolicy default/x", "version \"v1alpha2\" is not known; known: v1 v1alpha3"},
	        {"apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n" META, "EndpointSlice default/x",
	         "v1beta1"},
	        {"apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTlsPolicy\n" META POLICY_SPEC,
	         "BackendTlsPolicy default/x", "kind: must be BackendTLSPolicy, not \"BackendTlsPolicy\""},
	        {"apiVersion: v1\nkind: List\nitems: x\n", "document 1 (List)", "items: must be a list"},
	        {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: []}]\n", "document 1 (List)",
	         "a List in a List"},
	        {"apiVersion: v1\nkind: List\nitems: [3]\n", "document 1", "must be a map"},
	        {"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Service, metadata: {name: 'y'}}]\n",
	         "Service default/y", "spec: is required"},
	        /* metadata */
	        {"apiVersion: v1\nkind: Service\n", "document 1 (Service)", "metadata: is required"},
	        {"apiVersion: v1\nkind: Service\nmetadata: x\n", "document 1 (Service)",
	         "metadata: must be a map, not a string"},
	        {"apiVersion: v1\nkind: Service\nmetadata: {}\n", "document 1 (Service)", "metadata.name: is required"},
	        {"apiVersion: v1\nkind: Service\nmetadata: {name: 3}\n", "document 1 (Service)",
	         "metadata.name: must be a string, not a number"},
	        {"apiVersion: v1\nkind: Service\nmetadata: {name: X}\n", "Service default/X",
	         "metadata.name: must be a DNS label"},
	        {"apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\n", "Service default/a.b",
	         "metadata.name: must be a DNS label"},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a..b}\n", "ConfigMap default/a..b",
	         "metadata.name: must be a DNS subdomain"},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: a.b}\n", "ConfigMap a.b/a",
	         "metadata.namespace: must be a DNS label"},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"a\\n\\e[31m\"}\n", "ConfigMap default/a??[31m",
	         "not \"a??[31m\""},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, generation: -1}\n", "ConfigMap default/a",
	         "metadata.generation: must be between"},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, generation: 1.5}\n", "ConfigMap default/a",
	         "metadata.generation: must be a whole number"},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, uid: 7}\n", "ConfigMap default/a",
	         "metadata.uid: must be a string"},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, creationTimestamp: yesterday}\n",
	         "ConfigMap default/a", "metadata.creationTimestamp: must be an RFC 3339 time"},
	        {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, creationTimestamp: '2024-02-30T00:00:00Z'}\n",
	         "ConfigMap default/a", "metadata.creationTimestamp"},
	        /* Service */
	        {V1("Service"), "Service default/x", "spec: is required"},
	        {V1("Service") "spec: []\n", "Service default/x", "spec: must be a map, not a list"},
	        {V1("Service") "spec: {type: Other}\n", "Service default/x", "spec.type: must be ClusterIP, NodePort"},
	        {V1("Service") "spec: {clusterIP: 10.0.0}\n", "Service default/x",
	         "spec.clusterIP: must be an IP address, not \"10.0.0\""},
	        {V1("Service") "spec: {clusterIP: 7}\n", "Service default/x", "spec.clusterIP: must be a string"},
	        {V1("Service") "spec: {clusterIP: '::ffff:10.0.0.1'}\n", "Service default/x",
	         "must not be an IPv4-mapped IPv6 address"},
	        {V1("Service") "spec: {clusterIP: 0.0.0.0}\n", "Service default/x", "must be a unicast address"},
	        {V1("Service") "spec: {clusterIP: 224.0.0.1}\n", "Service default/x", "must be a unicast address"},
	        {V1("Service") "spec: {clusterIP: 'ff02::1'}\n", "Service default/x", "must be a unicast address"},
	        {V1("Service") "spec: {clusterIPs: [10.0.0.1, x]}\n", "Service default/x",
	         "spec.clusterIPs[1]: must be an IP address"},
	        {V1("Service") "spec: {clusterIPs: [10.0.0.1, 10.0.0.2, 10.0.0.3]}\n", "Service default/x",
	         "spec.clusterIPs: has 3 items, at most 2"},
	        {V1("Service") "spec: {clusterIP: 10.0.0.2, clusterIPs: [10.0.0.1]}\n", "Service default/x",
	         "spec.clusterIP: must be the first of clusterIPs"},
	        {V1("Service") "spec: {type: ExternalName, clusterIP: 10.0.0.1}\n", "Service default/x",
	         "spec.clusterIP: must not be set: the Service is of type ExternalName"},
	        {V1("Service") "spec: {type: ExternalName, clusterIPs: [10.0.0.1]}\n", "Service default/x",
	         "spec.clusterIPs: must not be set: the Service is of type ExternalName"},
	        {V1("Service") "spec: {ports: x}\n", "Service default/x", "spec.ports: must be a list, not a string"},
	        {V1("Service") "spec: {ports: [1]}\n", "Service default/x",
	         "spec.ports[0]: must be a map, not a number"},
	        {V1("Service") "spec: {ports: [{}]}\n", "Service default/x", "spec.ports[0].port: is required"},
	        {V1("Service") "spec: {ports: [{port: 0}]}\n", "Service default/x",
	         "spec.ports[0].port: must be between 1 and 65535, not 0"},
	        {V1("Service") "spec: {ports: [{port: 1}, {port: 70000}]}\n", "Service default/x",
	         "spec.ports[1].port: must be between 1 and 65535, not 70000"},
	        {V1("Service") "spec: {ports: [{port: '80'}]}\n", "Service default/x",
	         "spec.ports[0].port: must be a whole number, not a string"},
	        {V1("Service") "spec: {ports: [{port: 80.5}]}\n", "Service default/x", "must be a whole number"},
	        {V1("Service") "spec: {ports: [{port: 99999999999999999999}]}\n", "Service default/x",
	         "must be a whole number"},
	        {V1("Service") "spec: {ports: [{port: 80, protocol: tcp}]}\n", "Service default/x",
	         "spec.ports[0].protocol: must be TCP, UDP or SCTP"},
	        {V1("Service") "spec: {ports: [{port: 80, targetPort: -1}]}\n", "Service default/x",
	         "spec.ports[0].targetPort: must be between"},
	        {V1("Service") "spec: {ports: [{port: 80, targetPort: {}}]}\n", "Service default/x",
	         "spec.ports[0].targetPort: must be a whole number"},
	        {V1("Service") "spec: {ports: [{port: 80, nodePort: 65536}]}\n", "Service default/x",
	         "spec.ports[0].nodePort"},
	        {V1("Service") "spec: {ports: [{port: 80, name: A}]}\n", "Service default/x",
	         "spec.ports[0].name: must be a DNS label"},
	        {V1("Service") "spec: {ports: [{port: 80}, {port: 81}]}\n", "Service default/x",
	         "spec.ports[1].name: must differ from that of ports[0]"},
	        {V1("Service") "spec: {ports: [{port: 80, name: a}, {port: 80, name: b}]}\n", "Service default/x",
	         "spec.ports[1]: has the port and protocol of ports[0]"},
	        /* EndpointSlice */
	        {SLICE, "EndpointSlice default/x", "addressType: is required"},
	        {SLICE "addressType: IPv5\n", "EndpointSlice default/x", "addressType: must be IPv4, IPv6 or FQDN"},
	        {SLICE "addressType: IPv4\nendpoints: {}\n", "EndpointSlice default/x",
	         "endpoints: must be a list, not a map"},
	        {SLICE "addressType: IPv4\nendpoints: [{}]\n", "EndpointSlice default/x",
	         "endpoints[0].addresses: is required"},
	        {SLICE "addressType: IPv4\nendpoints: [{addresses: [a.b]}]\n", "EndpointSlice default/x",
	         "endpoints[0].addresses[0]: must be an IP address, not \"a.b\""},
	        {SLICE "addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]\n", "EndpointSlice default/x",
	         "must be an IPv4 address, as addressType says"},
	        {SLICE "addressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]\n", "EndpointSlice default/x",
	         "must be an IPv6 address"},
	        {SLICE "addressType: IPv6\nendpoints: [{addresses: ['::ffff:10.0.0.1']}]\n", "EndpointSlice default/x",
	         "must not be an IPv4-mapped IPv6 address"},
	        {SLICE "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], targetRef: x}]\n",
	         "EndpointSlice default/x", "endpoints[0].targetRef: must be a map"},
	        {SLICE "addressType: IPv4\nports: [{port: 0}]\n", "EndpointSlice default/x",
	         "ports[0].port: must be between 1 and 65535"},
	        {SLICE "addressType: IPv4\nports: [{port: http}]\n", "EndpointSlice default/x",
	         "ports[0].port: must be a whole number"},
	        {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x, labels: []}\naddressType: "
	         "IPv4\n",
	         "EndpointSlice default/x", "metadata.labels: must be a map"},
	        {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x, labels: "
	         "{kubernetes.io/service-name: 3}}\naddressType: IPv4\n",
	         "EndpointSlice default/x", "metadata.labels.kubernetes.io/service-name: must be a string"},
	        /* ConfigMap */
	        {V1("ConfigMap") "data: x\n", "ConfigMap default/x", "data: must be a map"},
	        {V1("ConfigMap") "data: {ca.crt: 3}\n", "ConfigMap default/x", "data.ca.crt: must be a string"},
	        /* BackendTLSPolicy */
	        {GW("BackendTLSPolicy"), "BackendTLSPolicy default/x", "spec: is required"},
	        {GW("BackendTLSPolicy") "spec: {targetRefs: {}}\n", "BackendTLSPolicy default/x",
	         "spec.targetRefs: must be a list, not a map"},
	        {GW("BackendTLSPolicy") "spec: {targetRefs: [x]}\n", "BackendTLSPolicy default/x",
	         "spec.targetRefs[0]: must be a map, not a string"},
	        {GW("BackendTLSPolicy") "spec: {targetRefs: [{name: 3}]}\n", "BackendTLSPolicy default/x",
	         "spec.targetRefs[0].name: must be a string, not a number"},
	        {GW("BackendTLSPolicy") "spec: {targetRefs: [{sectionName: 443}]}\n", "BackendTLSPolicy default/x",
	         "spec.targetRefs[0].sectionName: must be a string"},
	        {GW("BackendTLSPolicy") "spec: {validation: []}\n", "BackendTLSPolicy default/x",
	         "spec.validation: must be a map"},
	        {GW("BackendTLSPolicy") "spec: {validation: {hostname: 1}}\n", "BackendTLSPolicy default/x",
	         "spec.validation.hostname: must be a string"},
	        {GW("BackendTLSPolicy") "spec: {validation: {caCertificateRefs: {}}}\n", "BackendTLSPolicy default/x",
	         "spec.validation.caCertificateRefs: must be a list"},
	        {GW("BackendTLSPolicy") "spec: {validation: {subjectAltNames: [x]}}\n", "BackendTLSPolicy default/x",
	         "spec.validation.subjectAltNames[0]: must be a map"},
	        {GW("BackendTLSPolicy") "spec: {options: {postern.dev/min-tls-version: 1.3}}\n",
	         "BackendTLSPolicy default/x",
	         "spec.options.postern.dev/min-tls-version: must be a string, not a number"},
	        {GW("BackendTLSPolicy") "spec: {targetRef: {name: e}}\n", "BackendTLSPolicy default/x",
	         "spec.targetRef: is of an older schema: write a list targetRefs"},
	        {GW("BackendTLSPolicy") "spec: {options: [x]}\n", "BackendTLSPolicy default/x",
	         "spec.options: must be a map"},
	        /* Routes */
	        {GW("HTTPRoute"), "HTTPRoute default/x", "spec: is required"},
	        {GW("HTTPRoute") "spec: {rules: x}\n", "HTTPRoute default/x", "spec.rules: must be a list"},
	        {GW("HTTPRoute") "spec: {rules: [{backendRefs: [{port: 80}]}]}\n", "HTTPRoute default/x",
	         "spec.rules[0].backendRefs[0].name: is required"},
	        {GW("GRPCRoute") "spec: {rules: [{}, {backendRefs: [{name: a, port: 0}]}]}\n", "GRPCRoute default/x",
	         "spec.rules[1].backendRefs[0].port: must be between"},
	        {GW("HTTPRoute") "spec: {rules: [{filters: [{requestMirror: {backendRef: x}}]}]}\n",
	         "HTTPRoute default/x", "spec.rules[0].filters[0].requestMirror.backendRef: must be a map"},
	        /* ServiceCIDR */
	        {"apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\n" META "spec: {cidrs: [10.0.0.1/8]}\n",
	         "ServiceCIDR x", "spec.cidrs[0]: must be a CIDR without host bits"},
	        {"apiVersion: v1\nkind: Node\n" META "spec: {podCIDRs: [10.0.0.1/24]}\n", "Node x",
	         "spec.podCIDRs[0]: must be a CIDR without host bits"},
	        {"apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\n" META "spec: {}\n", "ServiceCIDR x",
	         "spec.cidrs: is required"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_refused(&rows[i]);
}

static void acceptances(void **state)
{
	static const char *const rows[] = {
	        V1("Service") "spec: {}\n",
	        V1("Service") "spec: {clusterIP: None, clusterIPs: [None]}\n",
	        V1("Service") "spec: {clusterIP: '', ports: null}\n",
	        V1("Service") "spec: {type: null, ports: [{port: 80, targetPort: http, nodePort: 0, name: null, "
	                      "appProtocol: null}]}\n",
	        V1("Service") "spec: {ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]}\n",
	        V1("Service") "spec: {future: {field: [1, 2]}}\nstatus: whatever\n",
	        SLICE "addressType: IPv4\nendpoints: null\nports: null\n",
	        SLICE
	        "addressType: IPv4\nendpoints: [{addresses: []}]\nports: [{name: null, port: null, protocol: null}]\n",
	        V1("ConfigMap"),
	        V1("ConfigMap") "data: null\n",
	        V1("ConfigMap") "data: {ca.crt: null, other: 3}\n",
	        V1("ConfigMap") "data: {ca.crt: junk}\n",
	        GW("BackendTLSPolicy") "spec: {}\n",
	        GW("BackendTLSPolicy") "spec: {mode: Future, validation: {future: 1}}\n",
	        GW("Gateway"),
	        GW("GatewayClass"),
	        GW("HTTPRoute") "spec: {rules: [{backendRefs: [{group: x.io, kind: Pool, name: p}]}]}\n",
	        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\n" META "spec: {}\n",
	        "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\n" META "spec: {rules: null}\n",
	        "apiVersion: gateway.networking.k8s.io/v1alpha3\nkind: TLSRoute\n" META "spec: {}\n",
	        "apiVersion: networking.k8s.io/v1beta1\nkind: ServiceCIDR\n" META "spec: {cidrs: []}\n",
	        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, creationTimestamp: null, namespace: null}\n",
	        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, creationTimestamp: "
	        "2024-02-29T23:59:60.5+05:30}\n",
	        "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}]\n",
	        "apiVersion: v1\nkind: ConfigMapList\nmetadata: {resourceVersion: '7'}\nitems: [{metadata: {name: "
	        "a}}]\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct decoded decoded = {0};

		decode_yaml(rows[i], &decoded);
		if (decoded.problem_count)
			fail_msg("expected no problem, saw \"%s\" in\n%s", decoded.problems[0].message, rows[i]);
		assert_int_equal(decoded.object_count, 1);
		assert_string_equal(decoded.objects[0]->origin, "test.yaml");
		decoded_free(&decoded);
	}
}

static void one_bad_document_does_not_hide_the_others(void **state)
{
	struct decoded decoded = {0};

	(void)state;
	decode_yaml("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: bad}}\n"
	            "- {apiVersion: v1, kind: ConfigMap, metadata: {name: good}}\n---\nnull\n---\n" V1(
	                    "ConfigMap") "---\n7\n",
	            &decoded);
	assert_int_equal(decoded.problem_count, 2);
	assert_int_equal(decoded.object_count, 2);
	assert_string_equal(decoded.problems[0].object, "Service default/bad");
	assert_string_equal(decoded.problems[1].object, "document 4");
	decoded_free(&decoded);
}

static void unknown_kinds_are_noted_once(void **state)
{
	struct decoded decoded = {0};

	(void)state;
	decode_yaml("apiVersion: apps/v1\nkind: Deployment\nmetadata: garbage\n---\napiVersion: apps/v1\nkind: "
	            "Deployment\n---\n"
	            "apiVersion: v1\nkind: Namespace\n---\napiVersion: other.io/v1\nkind: BackendTLSPolicy\n",
	            &decoded);
	assert_int_equal(decoded.problem_count, 0);
	assert_int_equal(decoded.object_count, 0);
	assert_int_equal(decoded.unknown_kind_count, 3);
	assert_string_equal(decoded.unknown_kinds[0].name, "Deployment.apps");
	assert_int_equal(decoded.unknown_kinds[0].count, 2);
	assert_string_equal(decoded.unknown_kinds[1].name, "Namespace");
	assert_string_equal(decoded.unknown_kinds[2].name, "BackendTLSPolicy.other.io");
	decoded_free(&decoded);
}

/* A slip in the kind of a policy is an error, and what it targets is seen; other kinds of the group are left alone. */
static void misspelled_kinds_are_errors(void **state)
{
	struct decoded decoded = {0};

	(void)state;
	decode_yaml("apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolice\nmetadata: {name: x}\nspec:\n"
	            "  targetRefs: [{group: '', kind: Service, name: echo}]\n---\n"
	            "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: 'y'}\n",
	            &decoded);
	assert_int_equal(decoded.problem_count, 1);
	assert_string_equal(decoded.problems[0].object, "BackendTLSPolice default/x");
	assert_string_equal(decoded.problems[0].message,
	                    "kind: \"BackendTLSPolice\" is no kind of gateway.networking.k8s.io");
	assert_int_equal(decoded.visible_count, 1);
	assert_int_equal(decoded.unknown_kind_count, 1);
	assert_string_equal(decoded.unknown_kinds[0].name, "ListenerSet.gateway.networking.k8s.io");
	decoded_free(&decoded);
}

static void findings_are_bounded(void **state)
{
	struct decoded decoded = {0};
	char *yaml;
	size_t size;
	FILE *stream = open_memstream(&yaml, &size);

	(void)state;
	for (int i = 0; i < 500; i++)
		fprintf(stream, "---\n{apiVersion: v1, kind: Kind%d}\n---\nx\n", i);
	fclose(stream);
	decode_yaml(yaml, &decoded);
	free(yaml);
	assert_int_equal(decoded.problem_count, 100);
	assert_int_equal(decoded.unknown_kind_count, 100);
	decoded_free(&decoded);
}

/* In what does not decode, a policy's targets are seen. */
static void broken_policies_are_visible(void **state)
{
	struct decoded decoded = {0};
	const struct object *object;

	(void)state;
	decode_yaml("apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {name: p, namespace: "
	            "'n'}\n"
	            "spec: {targetRefs: [{name: a, sectionName: s}, 7, {name: 7}, {kind: Pool, group: x, name: b}], "
	            "options: 7}\n",
	            &decoded);
	assert_int_equal(decoded.object_count, 0);
	assert_int_equal(decoded.visible_count, 1);
	object = decoded.visible[0];
	assert_string_equal(object->namespace_, "n");
	assert_string_equal(object->name, "p");
	assert_int_equal(object->backend_tls_policy.target_count, 2);
	assert_string_equal(object->backend_tls_policy.targets[0].name, "a");
	assert_string_equal(object->backend_tls_policy.targets[0].section_name, "s");
	assert_string_equal(object->backend_tls_policy.targets[1].kind, "Pool");
	decoded_free(&decoded);
}

/* In a Service and a slice that do not decode, addresses and TCP ports are seen. */
static void broken_addresses_are_visible(void **state)
{
	struct decoded decoded = {0};
	const struct service *service;
	const struct endpoint_slice *slice;

	(void)state;
	decode_yaml(
	        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: 'n'}\n"
	        "spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1', 7], externalIPs: 192.0.2.1, ports: [\n"
	        "{name: a, port: 443, targetPort: 8443, nodePort: 99999}, {port: 53, protocol: UDP}, {port: x}, 7]}\n"
	        "---\n"
	        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
	        "metadata: {name: e, namespace: 'n', labels: {kubernetes.io/service-name: s}}\n"
	        "endpoints: [{addresses: [10.0.0.1, x]}, 7, {addresses: 10.0.0.2}]\n"
	        "ports: [{name: a, port: 8443}, {protocol: SCTP, port: 1}, {port: 70000}]\n",
	        &decoded);
	assert_int_equal(decoded.object_count, 0);
	assert_int_equal(decoded.problem_count, 2);
	assert_int_equal(decoded.visible_count, 2);
	assert_int_equal(decoded.visible[0]->kind, OBJECT_SERVICE);
	assert_string_equal(decoded.visible[0]->namespace_, "n");
	assert_string_equal(decoded.visible[0]->name, "s");
	service = &decoded.visible[0]->service;
	assert_int_equal(service->cluster_ip_count, 4);
	assert_int_equal(service->port_count, 1);
	assert_string_equal(service->ports[0].name, "a");
	assert_int_equal(service->ports[0].port, 443);
	assert_int_equal(service->ports[0].target_port, 8443);
	assert_int_equal(service->ports[0].node_port, 0);
	slice = &decoded.visible[1]->endpoint_slice;
	assert_string_equal(slice->service, "s");
	assert_int_equal(slice->endpoint_count, 2);
	assert_int_equal(slice->port_count, 2);
	assert_int_equal(slice->ports[0].port, 8443);
	assert_int_equal(slice->ports[1].port, 0);
	assert_false(slice->managed);
	decoded_free(&decoded);
}

static void fields_arrive(void **state)
{
	struct decoded decoded = {0};
	const struct object *object;

	(void)state;
	decode_yaml(
	        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: 'n', uid: u-1, generation: 7,"
	        " creationTimestamp: '1970-01-02T00:00:00Z'}\n"
	        "spec: {clusterIPs: [10.96.0.1, 'fd00::1'], ports: [{name: a, port: 80, targetPort: 8080, nodePort: "
	        "30080,"
	        " appProtocol: x}, {name: b, port: 81, protocol: SCTP}, {name: c, port: 82, targetPort: named}]}\n",
	        &decoded);
	object = decoded.objects[0];
	assert_string_equal(object->namespace_, "n");
	assert_string_equal(object->uid, "u-1");
	assert_int_equal(object->generation, 7);
	assert_int_equal(object->created, 86400);
	assert_int_equal(object->service.cluster_ip_count, 2);
	assert_int_equal(object->service.port_count, 3);
	assert_int_equal(object->service.ports[0].target_port, 8080);
	assert_int_equal(object->service.ports[0].node_port, 30080);
	assert_string_equal(object->service.ports[0].app_protocol, "x");
	assert_int_equal(object->service.ports[1].protocol, TRANSPORT_SCTP);
	assert_int_equal(object->service.ports[1].target_port, 81);
	assert_int_equal(object->service.ports[2].target_port, 0);
	decoded_free(&decoded);

	decode_yaml(
	        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e, namespace: 'n', labels: {"
	        "kubernetes.io/service-name: s, endpointslice.kubernetes.io/managed-by: "
	        "endpointslice-controller.k8s.io}}\n"
	        "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1, 10.0.0.2], targetRef: {kind: Pod, "
	        "namespace: 'n'}},"
	        " {addresses: [10.0.0.3], targetRef: {kind: Node, namespace: 'n'}}]\n",
	        &decoded);
	object = decoded.objects[0];
	assert_string_equal(object->endpoint_slice.service, "s");
	assert_true(object->endpoint_slice.managed);
	assert_int_equal(object->endpoint_slice.endpoint_count, 3);
	assert_true(object->endpoint_slice.endpoints[1].own_pod);
	assert_false(object->endpoint_slice.endpoints[2].own_pod);
	decoded_free(&decoded);
}

static struct object *named(enum object_kind kind, const char *namespace_, const char *name)
{
	struct object *object = object_new(kind);

	object->namespace_ = namespace_;
	object->name = name;
	return object;
}

static void the_store_keeps_order(void **state)
{
	static const char *const names[] = {"m", "a", "z", "b", "y", "c", "m"};
	struct object_store *store = object_store_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct object *object = named(OBJECT_SERVICE, i % 2 ? "n" : "k", names[i]);

		assert_int_equal(object_store_put(store, object), 0);
		object_unref(object);
	}
	assert_int_equal(object_store_count(store, OBJECT_SERVICE), 6); /* k/m was replaced */
	for (size_t i = 1; i < 6; i++)
		assert_true(object_compare(object_store_at(store, OBJECT_SERVICE, i - 1),
		                           object_store_at(store, OBJECT_SERVICE, i)) < 0);
	assert_non_null(object_store_find(store, OBJECT_SERVICE, "k", "z"));
	assert_null(object_store_find(store, OBJECT_SERVICE, "n", "z"));
	assert_null(object_store_find(store, OBJECT_CONFIG_MAP, "k", "z"));
	assert_true(object_store_remove(store, OBJECT_SERVICE, "k", "z"));
	assert_false(object_store_remove(store, OBJECT_SERVICE, "k", "z"));
	assert_null(object_store_find(store, OBJECT_SERVICE, "k", "z"));
	assert_int_equal(object_store_count(store, OBJECT_SERVICE), 5);
	object_store_free(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(refusals),
	        cmocka_unit_test(acceptances),
	        cmocka_unit_test(one_bad_document_does_not_hide_the_others),
	        cmocka_unit_test(unknown_kinds_are_noted_once),
	        cmocka_unit_test(misspelled_kinds_are_errors),
	        cmocka_unit_test(findings_are_bounded),
	        cmocka_unit_test(broken_policies_are_visible),
	        cmocka_unit_test(broken_addresses_are_visible),
	        cmocka_unit_test(fields_arrive),
	        cmocka_unit_test(the_store_keeps_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
