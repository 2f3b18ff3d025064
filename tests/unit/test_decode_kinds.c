// SPDX-License-Identifier: GPL-2.0-only
/* The kinds around a policy: Gateways, Secrets, grants, pods, trust bundles. What is kept, what is refused and how. */
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

static const struct object *decode_one(const char *yaml, struct decoded *decoded)
{
	*decoded = (struct decoded){0};
	decode_yaml(yaml, decoded);
	if (decoded->problem_count || decoded->object_count != 1)
		fail_msg("expected one object, saw %zu and \"%s\" in\n%s", decoded->object_count,
		         decoded->problem_count ? decoded->problems[0].message : "", yaml);
	return decoded->objects[0];
}

#define GROUP    "apiVersion: gateway.networking.k8s.io/v1\n"
#define GATEWAY  GROUP "kind: Gateway\nmetadata: {name: g, namespace: 'n'}\n"
#define CLASS    GROUP "kind: GatewayClass\nmetadata: {name: c}\n"
#define GRANT    GROUP "kind: ReferenceGrant\nmetadata: {name: r, namespace: 'n'}\n"
#define ROUTE    GROUP "kind: TLSRoute\nmetadata: {name: t, namespace: 'n'}\n"
#define POLICY   GROUP "kind: BackendTLSPolicy\nmetadata: {name: p, namespace: 'n'}\n"
#define POD      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: 'n'}\n"
#define SECRET   "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: 'n'}\n"
#define BUNDLE   "apiVersion: certificates.k8s.io/v1beta1\nkind: ClusterTrustBundle\nmetadata: {name: b}\n"
#define LISTENER "{name: l, protocol: HTTP, port: 80}"

static void refusals(void **state)
{
	static const struct refused_document rows[] = {
	        {GATEWAY "spec: x\n", "Gateway n/g", "spec: must be a map, not a string"},
	        {GATEWAY "spec: {gatewayClassName: 3}\n", "Gateway n/g", "spec.gatewayClassName: must be a string"},
	        {GATEWAY "spec: {listeners: {}}\n", "Gateway n/g", "spec.listeners: must be a list"},
	        {GATEWAY "spec: {listeners: [x]}\n", "Gateway n/g", "spec.listeners[0]: must be a map"},
	        {GATEWAY "spec: {listeners: [{protocol: HTTP, port: 80}]}\n", "Gateway n/g",
	         "spec.listeners[0].name: is required"},
	        {GATEWAY "spec: {listeners: [{name: l, port: 80}]}\n", "Gateway n/g",
	         "spec.listeners[0].protocol: is required"},
	        {GATEWAY "spec: {listeners: [" LISTENER ", {name: m, protocol: HTTP, port: 65536}]}\n", "Gateway n/g",
	         "spec.listeners[1].port: must be between 1 and 65535"},
	        {GATEWAY "spec: {listeners: [{name: l, protocol: TLS, port: 80, tls: {mode: 1}}]}\n", "Gateway n/g",
	         "spec.listeners[0].tls.mode: must be a string"},
	        {GATEWAY "spec: {listeners: [{name: l, protocol: TLS, port: 80, allowedRoutes: {namespaces: "
	                 "{from: [All]}}}]}\n",
	         "Gateway n/g", "spec.listeners[0].allowedRoutes.namespaces.from: must be a string"},
	        {GATEWAY "spec: {tls: {backend: []}}\n", "Gateway n/g", "spec.tls.backend: must be a map"},
	        {GATEWAY "spec: {tls: {backend: {clientCertificateRef: s}}}\n", "Gateway n/g",
	         "spec.tls.backend.clientCertificateRef: must be a map"},
	        {GATEWAY "spec: {tls: {backend: {clientCertificateRef: {kind: Secret}}}}\n", "Gateway n/g",
	         "spec.tls.backend.clientCertificateRef.name: is required"},
	        {GROUP "kind: Gateway\nmetadata: {name: g, annotations: {postern.dev/force: true}}\n",
	         "Gateway default/g", "metadata.annotations.postern.dev/force: must be a string, not a boolean"},
	        {CLASS "spec: {controllerName: {}}\n", "GatewayClass c", "spec.controllerName: must be a string"},
	        {GRANT, "ReferenceGrant n/r", "spec: is required"},
	        {GRANT "spec: {to: []}\n", "ReferenceGrant n/r", "spec.from: is required"},
	        {GRANT "spec: {from: []}\n", "ReferenceGrant n/r", "spec.to: is required"},
	        {GRANT "spec: {from: [{kind: Gateway, namespace: a}], to: []}\n", "ReferenceGrant n/r",
	         "spec.from[0].group: is required"},
	        {GRANT "spec: {from: [{group: g, namespace: a}], to: []}\n", "ReferenceGrant n/r",
	         "spec.from[0].kind: is required"},
	        {GRANT "spec: {from: [{group: g, kind: Gateway}], to: []}\n", "ReferenceGrant n/r",
	         "spec.from[0].namespace: is required"},
	        {GRANT "spec: {from: [], to: [{group: '', name: s}]}\n", "ReferenceGrant n/r",
	         "spec.to[0].kind: is required"},
	        {GRANT "spec: {from: [], to: [{group: '', kind: Secret, name: ''}]}\n", "ReferenceGrant n/r",
	         "spec.to[0].name: must not be empty"},
	        {GRANT "spec: {from: [], to: [{group: '', kind: Secret, name: 3}]}\n", "ReferenceGrant n/r",
	         "spec.to[0].name: must be a string"},
	        {GRANT "spec: {from: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], to: []}\n", "ReferenceGrant n/r",
	         "spec.from: has 17 items, at most 16"},
	        {ROUTE "spec: {parentRefs: [{namespace: a}]}\n", "TLSRoute n/t",
	         "spec.parentRefs[0].name: is required"},
	        {ROUTE "spec: {parentRefs: [{name: g, port: 0}]}\n", "TLSRoute n/t",
	         "spec.parentRefs[0].port: must be between"},
	        {ROUTE "spec: {parentRefs: [{name: g, sectionName: 80}]}\n", "TLSRoute n/t",
	         "spec.parentRefs[0].sectionName: must be a string"},
	        {POD "spec: {hostNetwork: 'true'}\n", "Pod n/p",
	         "spec.hostNetwork: must be true or false, not a string"},
	        {POD "spec: {nodeName: 1}\n", "Pod n/p", "spec.nodeName: must be a string"},
	        {POD "status: {podIPs: [10.0.0.1]}\n", "Pod n/p", "status.podIPs[0]: must be a map"},
	        {POD "status: {podIPs: [{ip: 10.0.0}]}\n", "Pod n/p", "status.podIPs[0].ip: must be an IP address"},
	        {POD "status: {podIPs: [{}]}\n", "Pod n/p", "status.podIPs[0].ip: is required"},
	        {POD "status: {podIP: 224.0.0.1}\n", "Pod n/p", "status.podIP: must be a unicast address"},
	        {POD "status: {podIP: 7}\n", "Pod n/p", "status.podIP: must be a string"},
	        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: "
	         "{gateway.networking.k8s.io/gateway-name: 7}}\n",
	         "Pod default/p", "metadata.labels.gateway.networking.k8s.io/gateway-name: must be a string"},
	        {SECRET "data: x\n", "Secret n/s", "data: must be a map"},
	        {SECRET "data: {tls.key: 5}\n", "Secret n/s", "data.tls.key: must be a string, not a number"},
	        {SECRET "stringData: {ca.crt: []}\n", "Secret n/s", "stringData.ca.crt: must be a string, not a list"},
	        {SECRET "type: {}\n", "Secret n/s", "type: must be a string"},
	        {BUNDLE, "ClusterTrustBundle b", "spec: is required"},
	        {BUNDLE "spec: {trustBundle: {}}\n", "ClusterTrustBundle b", "spec.trustBundle: must be a string"},
	        {"apiVersion: certificates.k8s.io/v1beta1\nkind: ClusterTrustBundle\nmetadata: {name: 'a.b::c'}\n",
	         "ClusterTrustBundle a.b::c", "metadata.name: must be DNS subdomains"},
	        {"apiVersion: certificates.k8s.io/v7\nkind: ClusterTrustBundle\nmetadata: {name: b}\n",
	         "ClusterTrustBundle b", "version \"v7\" is not known; known: v1beta1 v1alpha1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_refused(&rows[i]);
}

static void a_gateway_arrives(void **state)
{
	struct decoded decoded;
	const struct gateway_spec *gateway = &decode_one(GATEWAY, &decoded)->gateway;

	(void)state;
	assert_string_equal(gateway->class_name, "");
	assert_int_equal(gateway->listener_count, 0);
	assert_false(gateway->has_client_certificate);
	assert_false(gateway->force);
	decoded_free(&decoded);

	gateway = &decode_one("apiVersion: gateway.networking.k8s.io/v1beta1\nkind: Gateway\n"
	                      "metadata: {name: g, namespace: 'n', annotations: {postern.dev/force: 'true'}}\n"
	                      "spec:\n  gatewayClassName: c\n  listeners:\n  - " LISTENER "\n"
	                      "  - {name: m, protocol: TLS, port: 443, tls: {mode: Passthrough}, allowedRoutes: "
	                      "{namespaces: {from: All}}}\n"
	                      "  - {name: o, protocol: TLS, port: 444, tls: {mode: Terminate}, allowedRoutes: "
	                      "{namespaces: {from: Selector, selector: {}}}}\n"
	                      "  - {name: p, protocol: HTTPS, port: 445, tls: {}, allowedRoutes: {namespaces: {from: "
	                      "Same}, kinds: []}}\n"
	                      "  tls: {frontend: {default: {}}, backend: {clientCertificateRef: {name: s}}}\n",
	                      &decoded)
	                   ->gateway;
	assert_true(gateway->force);
	assert_string_equal(gateway->class_name, "c");
	assert_int_equal(gateway->listener_count, 4);
	assert_string_equal(gateway->listeners[0].name, "l");
	assert_string_equal(gateway->listeners[0].protocol, "HTTP");
	assert_int_equal(gateway->listeners[0].port, 80);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(gateway->listeners[i].passthrough, i == 1);
		assert_int_equal(gateway->listeners[i].from_all_namespaces, i == 1 || i == 2);
	}
	assert_true(gateway->has_client_certificate);
	assert_string_equal(gateway->client_certificate.group, "");
	assert_string_equal(gateway->client_certificate.kind, "Secret");
	assert_string_equal(gateway->client_certificate.namespace_, "n");
	assert_string_equal(gateway->client_certificate.name, "s");
	decoded_free(&decoded);

	gateway = &decode_one(GATEWAY "spec: {tls: {backend: {clientCertificateRef: {group: g, kind: K, namespace: m, "
	                              "name: s}}}}\n",
	                      &decoded)
	                   ->gateway;
	assert_string_equal(gateway->client_certificate.group, "g");
	assert_string_equal(gateway->client_certificate.kind, "K");
	assert_string_equal(gateway->client_certificate.namespace_, "m");
	decoded_free(&decoded);
}

static void supported_features_are_names_or_maps(void **state)
{
	static const struct {
		const char *status;
		bool supported;
	} rows[] = {
	        {"", false},
	        {"status: {supportedFeatures: [BackendTLSPolicy]}\n", true},
	        {"status: {supportedFeatures: [{name: Gateway}, {name: BackendTLSPolicy}]}\n", true},
	        {"status: {supportedFeatures: [{name: BackendTLSPolicySANValidation}]}\n", false},
	        {"status: {supportedFeatures: [7, {name: 7}, {}, null, BackendTLSPolicy]}\n", true},
	        {"status: {supportedFeatures: BackendTLSPolicy}\n", false},
	        {"status: []\n", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *yaml = NULL;
		struct decoded decoded;
		const struct gateway_class *class;

		assert_true(asprintf(&yaml, CLASS "spec: {controllerName: a.b/c}\n%s", rows[i].status) > 0);
		class = &decode_one(yaml, &decoded)->gateway_class;
		assert_string_equal(class->controller_name, "a.b/c");
		if (class->supports_backend_tls_policy != rows[i].supported)
			fail_msg("expected %d, saw %d for %s", rows[i].supported, class->supports_backend_tls_policy,
			         rows[i].status);
		decoded_free(&decoded);
	}
}

static void a_grant_arrives(void **state)
{
	struct decoded decoded;
	const struct reference_grant *grant =
	        &decode_one("apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: r}\n"
	                    "spec: {from: [{group: g, kind: Gateway, namespace: a}], to: [{group: '', kind: Secret}, "
	                    "{group: '', kind: Secret, name: s}]}\n",
	                    &decoded)
	                 ->reference_grant;

	(void)state;
	assert_int_equal(grant->from_count, 1);
	assert_string_equal(grant->from[0].group, "g");
	assert_string_equal(grant->from[0].kind, "Gateway");
	assert_string_equal(grant->from[0].namespace_, "a");
	assert_int_equal(grant->to_count, 2);
	assert_string_equal(grant->to[0].kind, "Secret");
	assert_null(grant->to[0].name);
	assert_string_equal(grant->to[1].name, "s");
	decoded_free(&decoded);
}

static void a_pod_arrives(void **state)
{
	struct decoded decoded;
	const struct pod *pod = &decode_one(POD, &decoded)->pod;
	char text[ADDRESS_TEXT_MAX];

	(void)state;
	assert_int_equal(pod->address_count, 0);
	assert_string_equal(pod->node_name, "");
	assert_string_equal(pod->gateway_name, "");
	assert_string_equal(pod->gateway_annotation, "");
	assert_false(pod->host_network);
	decoded_free(&decoded);

	pod = &decode_one("apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: "
	                  "{gateway.networking.k8s.io/gateway-name: "
	                  "g}, annotations: {postern.dev/gateway: n/h}}\nspec: {hostNetwork: true, nodeName: node-1}\n"
	                  "status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}\n",
	                  &decoded)
	               ->pod;
	assert_int_equal(pod->address_count, 2);
	assert_string_equal(address_format(&pod->addresses[1], text), "fd00::1");
	assert_true(pod->host_network);
	assert_string_equal(pod->node_name, "node-1");
	assert_string_equal(pod->gateway_name, "g");
	assert_string_equal(pod->gateway_annotation, "n/h");
	decoded_free(&decoded);

	pod = &decode_one(POD "status: {podIP: 10.0.0.7, podIPs: []}\n", &decoded)->pod;
	assert_int_equal(pod->address_count, 1);
	assert_string_equal(address_format(&pod->addresses[0], text), "10.0.0.7");
	decoded_free(&decoded);

	pod = &decode_one(POD "status: {podIP: ''}\n", &decoded)->pod;
	assert_int_equal(pod->address_count, 0);
	decoded_free(&decoded);
}

static void parents_are_gateways(void **state)
{
	struct decoded decoded;
	const struct route *route =
	        &decode_one(ROUTE "spec: {parentRefs: [{name: a}, {name: mesh, group: '', kind: Service}, {name: b, "
	                          "namespace: m, sectionName: l, port: 443, group: gateway.networking.k8s.io, kind: "
	                          "Gateway}, {name: set, kind: ListenerSet}]}\n",
	                    &decoded)
	                 ->route;

	(void)state;
	assert_int_equal(route->backend_count, 0);
	assert_int_equal(route->parent_count, 2);
	assert_true(route->by_listener_set);
	assert_string_equal(route->parents[0].namespace_, "n");
	assert_string_equal(route->parents[0].name, "a");
	assert_string_equal(route->parents[0].section_name, "");
	assert_int_equal(route->parents[0].port, 0);
	assert_string_equal(route->parents[1].namespace_, "m");
	assert_string_equal(route->parents[1].section_name, "l");
	assert_int_equal(route->parents[1].port, 443);
	decoded_free(&decoded);
}

static void endpoints_know_their_pods(void **state)
{
	struct decoded decoded;
	const struct endpoint_slice *slice =
	        &decode_one(
	                 "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e, namespace: 'n'}\n"
	                 "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1, 10.0.0.2], targetRef: {kind: Pod, "
	                 "namespace: 'n', name: p-1}}, {addresses: [10.0.0.3], targetRef: {kind: Pod, namespace: m, "
	                 "name: p-2}}, {addresses: [10.0.0.4]}, {addresses: [10.0.0.5], targetRef: {kind: Pod, "
	                 "namespace: 'n'}}]\n",
	                 &decoded)
	                 ->endpoint_slice;

	(void)state;
	assert_int_equal(slice->endpoint_count, 5);
	assert_string_equal(slice->endpoints[0].pod, "p-1");
	assert_string_equal(slice->endpoints[1].pod, "p-1");
	assert_string_equal(slice->endpoints[2].pod, "");
	assert_string_equal(slice->endpoints[3].pod, "");
	assert_true(slice->endpoints[4].own_pod);
	assert_string_equal(slice->endpoints[4].pod, "");
	decoded_free(&decoded);
}

static void ancestors_of_others_are_counted(void **state)
{
	static const struct {
		const char *status;
		unsigned int count;
	} rows[] = {
	        {"", 0},
	        {"status: {ancestors: []}\n", 0},
	        {"status: {ancestors: [{controllerName: postern.dev/backend-tls}]}\n", 0},
	        {"status: {ancestors: [{controllerName: a.b/c}, {controllerName: postern.dev/backend-tls}, "
	         "{controllerName: d.e/f}]}\n",
	         2},
	        {"status: {ancestors: [7, {}, {controllerName: 7}]}\n", 3},
	        {"status: junk\n", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *yaml = NULL;
		struct decoded decoded;
		unsigned int count;

		assert_true(asprintf(&yaml, POLICY "spec: {}\n%s", rows[i].status) > 0);
		count = decode_one(yaml, &decoded)->backend_tls_policy.foreign_ancestors;
		if (count != rows[i].count)
			fail_msg("expected %u, saw %u for %s", rows[i].count, count, rows[i].status);
		decoded_free(&decoded);
	}
}

static void both_versions_of_a_policy_are_one(void **state)
{
	static const char *const versions[] = {"v1", "v1alpha3"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		_cleanup_free_ char *yaml = NULL;
		struct decoded decoded;
		const struct backend_tls_policy *policy;

		assert_true(
		        asprintf(&yaml,
		                 "apiVersion: gateway.networking.k8s.io/%s\nkind: BackendTLSPolicy\nmetadata: {name: "
		                 "p}\n"
		                 "spec:\n  targetRefs: [{group: '', kind: Service, name: e, sectionName: s}]\n"
		                 "  validation: {hostname: a.b, wellKnownCACertificates: System, caCertificateRefs: "
		                 "[{group: '', kind: Secret, name: c}], subjectAltNames: [{type: URI, uri: 'a://b'}]}\n"
		                 "  options: {a.b/c: d}\n",
		                 versions[i]) > 0);
		policy = &decode_one(yaml, &decoded)->backend_tls_policy;
		assert_int_equal(decoded.unknown_fields.count, 0);
		assert_string_equal(policy->targets[0].section_name, "s");
		assert_string_equal(policy->hostname, "a.b");
		assert_string_equal(policy->well_known_ca, "System");
		assert_string_equal(policy->cas[0].kind, "Secret");
		assert_string_equal(policy->subject_alt_names[0].uri, "a://b");
		assert_string_equal(policy->options[0].key, "a.b/c");
		assert_string_equal(policy->options[0].value, "d");
		decoded_free(&decoded);
	}
}

/* They change nothing: the policy covers as if they were not there. */
static void unknown_fields_are_noted_once(void **state)
{
	static const struct {
		const char *subject, *path;
		size_t count;
	} rows[] = {
	        {"BackendTLSPolicy n/p", "spec.mode", 2},
	        {"BackendTLSPolicy n/p", "spec.targetRefs[].namespace", 2},
	        {"BackendTLSPolicy n/p", "spec.targetRefs[].from", 1},
	        {"BackendTLSPolicy n/p", "spec.validation.skip?verify", 1},
	        {"BackendTLSPolicy n/p", "spec.validation.caCertificateRefs[].namespace", 1},
	        {"BackendTLSPolicy n/p", "spec.validation.subjectAltNames[].ip", 1},
	        {"Gateway n/g", "spec.tls.backend.validation", 1},
	        {"Gateway n/g", "spec.tls.backend.clientCertificateRef.key", 1},
	};
	struct decoded decoded = {0};
	const struct backend_tls_policy *policy;

	(void)state;
	decode_yaml(
	        POLICY
	        "spec:\n  mode: Optional\n  targetRefs: [{name: a, namespace: x, from: []}, {name: b, namespace: 'y'}, "
	        "{name: c, namespace: null}]\n"
	        "  validation: {hostname: a.b, \"skip\\nverify\": true, caCertificateRefs: [{name: c, namespace: "
	        "x}], subjectAltNames: [{ip: 1}]}\n"
	        "---\n" GROUP "kind: BackendTLSPolicy\nmetadata: {name: q}\nspec: {mode: Other}\n"
	        "---\n" GATEWAY "spec: {future: 1, tls: {more: 1, backend: {validation: {}, clientCertificateRef: "
	        "{name: s, key: k}}}}\n",
	        &decoded);
	assert_int_equal(decoded.problem_count, 0);
	assert_int_equal(decoded.object_count, 3);
	assert_int_equal(decoded.unknown_fields.count, ARRAY_SIZE(rows));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct unknown_field *found = NULL;

		for (size_t j = 0; j < decoded.unknown_fields.count; j++)
			if (!strcmp(decoded.unknown_fields.items[j].path, rows[i].path))
				found = &decoded.unknown_fields.items[j];
		if (!found || strcmp(found->subject, rows[i].subject) || found->count != rows[i].count)
			fail_msg("expected %s %s %zu, saw %s %zu", rows[i].subject, rows[i].path, rows[i].count,
			         found ? found->subject : "nothing", found ? found->count : 0);
	}
	policy = &decoded.objects[0]->backend_tls_policy;
	assert_int_equal(policy->target_count, 3);
	assert_string_equal(policy->targets[0].name, "a");
	assert_string_equal(policy->hostname, "a.b");
	decoded_free(&decoded);
}

static void unknown_fields_are_bounded(void **state)
{
	struct decoded decoded = {0};
	char *yaml;
	size_t size;
	FILE *stream = open_memstream(&yaml, &size);

	(void)state;
	fprintf(stream, POLICY "spec:\n");
	for (int i = 0; i < 500; i++)
		fprintf(stream, "  field%d: 1\n", i);
	fclose(stream);
	decode_yaml(yaml, &decoded);
	free(yaml);
	assert_int_equal(decoded.object_count, 1);
	assert_int_equal(decoded.unknown_fields.count, 100);
	decoded_free(&decoded);
}

static void trust_bundle_names_have_colons(void **state)
{
	struct decoded decoded;
	const struct object *object =
	        decode_one("apiVersion: certificates.k8s.io/v1alpha1\nkind: ClusterTrustBundle\nmetadata: {name: "
	                   "'example.com:signer:b.1'}\nspec: {signerName: example.com/signer, trustBundle: junk}\n",
	                   &decoded);

	(void)state;
	assert_string_equal(object->name, "example.com:signer:b.1");
	assert_string_equal(object->namespace_, "");
	assert_true(object->cluster_trust_bundle.ca.present);
	assert_null(object->cluster_trust_bundle.ca.pem);
	assert_string_equal(object->cluster_trust_bundle.ca.problem, "holds no certificate");
	decoded_free(&decoded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(refusals),
	        cmocka_unit_test(a_gateway_arrives),
	        cmocka_unit_test(supported_features_are_names_or_maps),
	        cmocka_unit_test(a_grant_arrives),
	        cmocka_unit_test(a_pod_arrives),
	        cmocka_unit_test(parents_are_gateways),
	        cmocka_unit_test(endpoints_know_their_pods),
	        cmocka_unit_test(ancestors_of_others_are_counted),
	        cmocka_unit_test(both_versions_of_a_policy_are_one),
	        cmocka_unit_test(unknown_fields_are_noted_once),
	        cmocka_unit_test(unknown_fields_are_bounded),
	        cmocka_unit_test(trust_bundle_names_have_colons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
