// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/pem.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "certificates.h"
#include "compile_universe.h"
#include "policy/decode.h"
#include "policy_fixture.h"

#define VERSIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Each row: the head of a document with a %d, the numbers that it stands for, and the bodies that each may have. */
static const struct family {
	const char *head;
	int count;
	const char *const *bodies;
} families[] = {
        {"{apiVersion: v1, kind: Service, metadata: {name: s%d}, ", 4,
         VERSIONS("spec: {clusterIP: 10.96.0.1, ports: [{port: 443, targetPort: 8443, nodePort: 30443}]}}",
                  "spec: {clusterIP: 10.96.0.2, externalIPs: [10.0.0.1], ports: [{port: 8443}]}}",
                  "spec: {clusterIPs: [10.96.0.3, 'fd00::3'], ports: [{name: a, port: 80}, {name: b, port: 443}]}}",
                  "spec: {clusterIP: None, ports: [{name: a, port: 80, appProtocol: kubernetes.io/h2c}]}}",
                  "spec: {clusterIP: 10.0.0.1, ports: [{port: 8443}, {name: u, port: 53, protocol: UDP}]}}",
                  "spec: {clusterIP: 10.96.0.5, ports: [{port: 53, protocol: UDP}]}}",
                  "spec: {type: ExternalName, externalName: x.example, ports: [{port: 443}]}}",
                  "spec: {clusterIP: None}}")},
        {"{apiVersion: v1, kind: Service, metadata: {name: s%d, namespace: other}, ", 1,
         VERSIONS("spec: {clusterIP: 10.96.1.1, ports: [{port: 443}]}}",
                  "spec: {clusterIP: 10.96.1.2, externalIPs: [10.0.0.2], ports: [{name: a, port: 8443}]}, status: "
                  "{loadBalancer: {ingress: [{ip: 10.96.0.1}, {ip: 10.0.0.3}]}}}")},
        {"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: e%d, ", 5,
         VERSIONS("labels: {kubernetes.io/service-name: s0}}, ports: [{port: 8443}], endpoints: "
                  "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}",
                  "labels: {kubernetes.io/service-name: s1}}, ports: [{port: 8443}], endpoints: "
                  "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.3]}]}",
                  "labels: {kubernetes.io/service-name: s0, endpointslice.kubernetes.io/managed-by: "
                  "endpointslice-controller.k8s.io}}, ports: [{port: 8443}], endpoints: [{addresses: [10.0.0.1], "
                  "targetRef: {kind: Pod, namespace: default, name: x0}}]}",
                  "labels: {kubernetes.io/service-name: s1, endpointslice.kubernetes.io/managed-by: "
                  "endpointslice-controller.k8s.io}}, ports: [{port: 8443}], endpoints: [{addresses: [10.0.0.1], "
                  "targetRef: {kind: Pod, namespace: default, name: x1}}, {addresses: [10.0.0.2], targetRef: {kind: "
                  "Pod, namespace: default, name: x0}}]}",
                  "labels: {kubernetes.io/service-name: s2, endpointslice.kubernetes.io/managed-by: "
                  "endpointslice-controller.k8s.io}}, ports: [{port: null}], endpoints: [{addresses: [10.0.0.1], "
                  "targetRef: {kind: Pod, namespace: default, name: x2}}]}",
                  "labels: {kubernetes.io/service-name: s2}}, ports: [], endpoints: [{addresses: [10.0.0.1]}]}",
                  "labels: {kubernetes.io/service-name: s3}}, ports: [{name: a, port: 8443}, {name: b, port: 8080}], "
                  "endpoints: [{addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}]}",
                  "labels: {kubernetes.io/service-name: s3}}, ports: [{name: z, port: 9090}], "
                  "endpoints: [{addresses: [10.0.0.2]}]}",
                  "labels: {}}, ports: [{port: 8443}], endpoints: [{addresses: [10.0.0.1]}]}")},
        {"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: e%d, "
         "namespace: other, ",
         1,
         VERSIONS("labels: {kubernetes.io/service-name: s0}}, ports: [{port: 8443}], endpoints: "
                  "[{addresses: [10.0.0.1]}]}",
                  "labels: {kubernetes.io/service-name: s0, endpointslice.kubernetes.io/managed-by: "
                  "endpointslice-controller.k8s.io}}, ports: [{name: a, port: 8443}], endpoints: [{addresses: "
                  "[10.0.0.1], targetRef: {kind: Pod, namespace: other, name: x0}}]}")},
#define SPEC(targets, validation, options)                                                                             \
	"generation: 3}, spec: {targetRefs: [" targets "], validation: {" validation "}, options: {" options "}}}"
#define OLD(spec)        "creationTimestamp: '2020-01-01T00:00:00Z', " spec
#define TARGET(name)     "{group: '', kind: Service, name: " name "}"
#define SECTION(name, p) "{group: '', kind: Service, name: " name ", sectionName: " p "}"
#define CA(kind, name)   "hostname: a.example, caCertificateRefs: [{group: '', kind: " kind ", name: " name "}]"
#define CTB                                                                                                            \
	"hostname: a.example, caCertificateRefs: [{group: certificates.k8s.io, kind: ClusterTrustBundle, name: b0}, "  \
	"{group: '', kind: ConfigMap, name: c0}]"
#define SYSTEM "hostname: b.example, wellKnownCACertificates: System"
        {"{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: p%d, ", 5,
         VERSIONS(SPEC(TARGET("s0"), CA("ConfigMap", "c0"), ""), SPEC(TARGET("s1"), CA("ConfigMap", "c0"), ""),
                  SPEC(TARGET("s0") ", " TARGET("s1"), CA("ConfigMap", "c1"), ""), SPEC(TARGET("s1"), SYSTEM, ""),
                  OLD(SPEC(TARGET("s2") ", " TARGET("s3"), SYSTEM, "postern.dev/alpn: h2")),
                  SPEC(SECTION("s3", "a") ", " SECTION("s3", "b"), CA("Secret", "k0"), ""),
                  OLD(SPEC(SECTION("s2", "a") ", " TARGET("s0"), CTB, "")), SPEC(TARGET("s3"), CTB, ""),
                  SPEC(TARGET("s0"), "hostname: BAD, wellKnownCACertificates: System", ""),
                  SPEC(TARGET("s0") ", " TARGET("s1") ", " TARGET("s9"), SYSTEM, "postern.dev/crl: configmap/c0"),
                  SPEC(TARGET("s1"), CA("ConfigMap", "c0"), "postern.dev/client-certificate: k0"),
                  SPEC("{group: x.io, kind: Pool, name: 'y'}", SYSTEM, ""), OLD(SPEC(SECTION("s1", "a"), SYSTEM, "")))},
        {"{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: p%d, namespace: other, ",
         1,
         VERSIONS(SPEC(TARGET("s0"), SYSTEM, ""), SPEC(TARGET("s0"), CA("ConfigMap", "c0"), ""),
                  SPEC(SECTION("s0", "a"), "hostname: c.example, wellKnownCACertificates: System", ""))},
        {"{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: class%d}, "
         "spec: {controllerName: example.com/x}, ",
         1, VERSIONS("status: {}}", "status: {supportedFeatures: [{name: BackendTLSPolicy}]}}")},
        {"{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g%d, ", 3,
         VERSIONS("generation: 1}, spec: {gatewayClassName: class0, listeners: [{name: l, port: 80, protocol: HTTP}, "
                  "{name: t, port: 443, protocol: TLS, tls: {mode: Passthrough}}]}}",
                  "generation: 2}, spec: {gatewayClassName: other, listeners: [{name: l, port: 80, protocol: HTTP, "
                  "allowedRoutes: {namespaces: {from: All}}}]}}",
                  "generation: 3}, spec: {gatewayClassName: class0, tls: {backend: {clientCertificateRef: {name: "
                  "k0}}}, listeners: [{name: l, port: 80, protocol: HTTP}]}}")},
#define ROUTE(gateway, backends) "spec: {parentRefs: [{name: " gateway "}], rules: [{backendRefs: [" backends "]}]}}"
#define ROUTES                                                                                                         \
	VERSIONS(ROUTE("g0", "{name: s0, port: 443}"), ROUTE("g1", "{name: s0, port: 443}, {name: s1, port: 443}"),    \
	         ROUTE("g2", "{name: s3, port: 80}, {name: s2, port: 443}"), ROUTE("g0", "{name: s1, port: 443}"),     \
	         ROUTE("g1", "{name: s0, namespace: other, port: 443}"))
        {"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: h%d}, ", 2, ROUTES},
        {"{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: r%d}, ", 2, ROUTES},
        {"{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TLSRoute, metadata: {name: l%d}, ", 1, ROUTES},
        {"{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TCPRoute, metadata: {name: t%d}, ", 1, ROUTES},
        {"{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: g%d, namespace: "
         "other}, ",
         1,
         VERSIONS(
                 "spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: "
                 "'', kind: Service}]}}")},
        {"{apiVersion: v1, kind: Pod, metadata: {name: x%d}, ", 3,
         VERSIONS("status: {podIPs: [{ip: 10.0.0.1}]}}", "status: {podIPs: [{ip: 10.0.0.2}]}}", "status: {}}")},
        {"{apiVersion: v1, kind: Pod, metadata: {name: x%d, namespace: other}, ", 1,
         VERSIONS("status: {podIPs: [{ip: 10.0.0.1}]}}", "status: {podIPs: [{ip: 10.0.0.9}]}}")},
        {"{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: n%d}, ", 1,
         VERSIONS("spec: {cidrs: [10.96.0.0/12]}}", "spec: {cidrs: [10.96.0.0/16, 'fd00::/112']}}")},
};

static struct universe_object *add_object(struct universe *universe)
{
	universe->objects = reallocarray(universe->objects, universe->count + 1, sizeof(*universe->objects));
	assert_non_null(universe->objects);
	universe->objects[universe->count] = (struct universe_object){0};
	return &universe->objects[universe->count++];
}

static struct object *make(const char *text)
{
	struct decoded decoded = {0};
	json_t *documents;
	char error[256];
	struct object *object;

	if (yaml_load(text, strlen(text), &documents, error, sizeof(error)))
		fail_msg("%s\nin:\n%s", error, text);
	assert_int_equal(decode_documents(documents, "universe", &decoded), 0);
	json_decref(documents);
	if (decoded.object_count != 1)
		fail_msg("%s\nin:\n%s", decoded.problem_count ? decoded.problems[0].message : "?", text);
	object = object_ref(decoded.objects[0]);
	decoded_free(&decoded);
	return object;
}

struct object *universe_make(const struct universe_object *object, size_t version)
{
	return make(object->texts[version]);
}

static void add_version(struct universe_object *object, const char *text)
{
	assert_true(object->version_count < UNIVERSE_VERSIONS);
	object->texts[object->version_count] = strdup(text);
	assert_non_null(object->texts[object->version_count]);
	object->versions[object->version_count++] = make(text);
}

static void add_family(struct universe *universe, const struct family *family)
{
	for (int i = 0; i < family->count; i++) {
		struct universe_object *object = add_object(universe);

		for (const char *const *body = family->bodies; *body; body++) {
			char head[512], text[2048];

			/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): every head has its %d */
			snprintf(head, sizeof(head), family->head, i);
			snprintf(text, sizeof(text), "%s%s", head, *body);
			add_version(object, text);
		}
	}
}

/* ---- what holds certificates ---- */

static void write_quoted(FILE *stream, const char *key, const char *value)
{
	fprintf(stream, "%s: \"", key);
	for (; *value; value++)
		fputs(*value == '\n' ? "\\n" : (char[]){*value, '\0'}, stream);
	fputs("\"", stream);
}

static void write_base64(FILE *stream, const char *key, const char *value)
{
	size_t length = strlen(value);
	_cleanup_free_ unsigned char *text = malloc(length * 2 + 8);

	assert_non_null(text);
	EVP_EncodeBlock(text, (const unsigned char *)value, (int)length);
	fprintf(stream, "%s: %s", key, text);
}

static void add_with_values(struct universe_object *object, const char *head,
                            void (*write)(FILE *stream, const char *key, const char *value),
                            const char *const *keys_and_values)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_non_null(stream);
	fputs(head, stream);
	for (; keys_and_values[0]; keys_and_values += 2) {
		write(stream, keys_and_values[0], keys_and_values[1]);
		fputs(keys_and_values[2] ? ", " : "", stream);
	}
	fputs("}}", stream);
	fclose(stream);
	add_version(object, text);
	free(text);
}

static void add_authorities(struct universe *universe)
{
	static const char *const heads[] = {"{apiVersion: v1, kind: ConfigMap, metadata: {name: c0}, data: {",
	                                    "{apiVersion: v1, kind: ConfigMap, metadata: {name: c1}, data: {"};
	struct certificate *authority =
	        certificate_new(&(struct certificate_options){.common_name = "u", .authority = true});
	_cleanup_free_ char *crl = certificate_crl_pem(authority, NULL, 86400);

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		struct universe_object *object = add_object(universe);

		add_with_values(object, heads[i], write_quoted, VERSIONS("ca.crt", fixture_ca()));
		add_with_values(object, heads[i], write_quoted, VERSIONS("ca.crt", fixture_other_ca(), "ca.crl", crl));
		add_with_values(object, heads[i], write_quoted, VERSIONS("ca.crt", "junk"));
	}
	certificate_free(authority);
}

static void add_secrets(struct universe *universe)
{
	static const char head[] =
	        "{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: k0}, data: {";
	static const char bundle[] = "{apiVersion: certificates.k8s.io/v1beta1, kind: ClusterTrustBundle, metadata: "
	                             "{name: b0}, spec: {";
	struct certificate *leaf = certificate_new(&(struct certificate_options){.common_name = "gateway"});
	_cleanup_free_ char *certificate = certificate_pem((const struct certificate *const[]){leaf, NULL});
	_cleanup_free_ char *key = certificate_key_pem(leaf);
	struct universe_object *object = add_object(universe);

	add_with_values(object, head, write_base64, VERSIONS("ca.crt", fixture_ca(), "tls.crt", certificate));
	add_with_values(object, head, write_base64, VERSIONS("tls.crt", certificate, "tls.key", key));
	object = add_object(universe);
	add_with_values(object, bundle, write_quoted, VERSIONS("trustBundle", fixture_ca()));
	add_with_values(object, bundle, write_quoted, VERSIONS("trustBundle", fixture_other_ca()));
	certificate_free(leaf);
}

struct universe *universe_new(void)
{
	struct universe *universe = calloc(1, sizeof(*universe));

	assert_non_null(universe);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		add_family(universe, &families[i]);
	add_authorities(universe);
	add_secrets(universe);
	return universe;
}

void universe_free(struct universe *universe)
{
	for (size_t i = 0; i < universe->count; i++) {
		for (size_t j = 0; j < universe->objects[i].version_count; j++) {
			object_unref(universe->objects[i].versions[j]);
			free(universe->objects[i].texts[j]);
		}
	}
	free(universe->objects);
	free(universe);
}
