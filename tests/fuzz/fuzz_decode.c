// SPDX-License-Identifier: GPL-2.0-only
/*
 * decode: a letter that picks the kind (A = Service, ... in the order of enum object_kind), then the document as YAML;
 * apiVersion, kind and a name are put around what has none -> decode_documents().
 *
 * It becomes one whole object or at least one problem, which is one line. Of a policy that is no object, every target
 * that has a name is visible. An object has a name of Kubernetes' grammar, no pointer is missing where object.h
 * promises a string, and what is a port or an address is one. At the end the target says how often each decoder gave an
 * object, and a long run in which one never did is a failure.
 */
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/yaml.h"
#include "fuzz.h"
#include "policy/client_certificate.h"
#include "policy/decode.h"
#include "policy/names.h"
#include "policy/shared_text.h"
#include "policy/store.h"

#define LONG_RUN 5000

static const char *const api_versions[OBJECT_KINDS] = {
        [OBJECT_SERVICE] = "v1",
        [OBJECT_ENDPOINT_SLICE] = "discovery.k8s.io/v1",
        [OBJECT_CONFIG_MAP] = "v1",
        [OBJECT_BACKEND_TLS_POLICY] = "gateway.networking.k8s.io/v1",
        [OBJECT_GATEWAY] = "gateway.networking.k8s.io/v1",
        [OBJECT_GATEWAY_CLASS] = "gateway.networking.k8s.io/v1",
        [OBJECT_HTTP_ROUTE] = "gateway.networking.k8s.io/v1",
        [OBJECT_GRPC_ROUTE] = "gateway.networking.k8s.io/v1",
        [OBJECT_TLS_ROUTE] = "gateway.networking.k8s.io/v1alpha3",
        [OBJECT_TCP_ROUTE] = "gateway.networking.k8s.io/v1alpha2",
        [OBJECT_SERVICE_CIDR] = "networking.k8s.io/v1",
        [OBJECT_SECRET] = "v1",
        [OBJECT_CLUSTER_TRUST_BUNDLE] = "certificates.k8s.io/v1beta1",
        [OBJECT_REFERENCE_GRANT] = "gateway.networking.k8s.io/v1beta1",
        [OBJECT_POD] = "v1",
        [OBJECT_NODE] = "v1",
};

static struct {
	unsigned long runs;
	unsigned long objects[OBJECT_KINDS];
} seen;

static void tell(void)
{
	bool missing = false;

	if (seen.runs < LONG_RUN)
		return;
	fprintf(stderr, "decode: objects:");
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
		fprintf(stderr, " %s %lu", object_kind_name((enum object_kind)kind), seen.objects[kind]);
		missing |= !seen.objects[kind];
	}
	fputc('\n', stderr);
	if (missing) {
		fprintf(stderr, "decode: a decoder was never reached\n");
		_exit(1);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return atexit(tell);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	return fuzz_mutate_yaml(data, size, max_size, seed, 1);
}

static void check_text(const char *text, const char *what)
{
	FUZZ_CHECK(text && strlen(text) < YAML_MAX_BYTES, "%s is missing", what);
}

static void check_pem(const struct pem_value *value, const char *block)
{
	FUZZ_CHECK(value->present || (!value->pem && !value->problem), "what is absent has content");
	FUZZ_CHECK(!value->present || !value->pem != !value->problem, "neither PEM nor problem, or both");
	FUZZ_CHECK(!value->problem || fuzz_is_message(value->problem, 256), "\"%s\"", value->problem);
	FUZZ_CHECK(!value->pem || strstr(value->pem->text, block), "no %s", block);
}

static void check_service(const struct service *service)
{
	for (size_t i = 0; i < service->port_count; i++) {
		check_text(service->ports[i].name, "ports[].name");
		check_text(service->ports[i].app_protocol, "ports[].appProtocol");
		FUZZ_CHECK(service->ports[i].port && service->ports[i].protocol <= TRANSPORT_SCTP, "port");
	}
	FUZZ_CHECK(!service->external_name || !service->cluster_ip_count, "ExternalName with a ClusterIP");
}

static void check_slice(const struct endpoint_slice *slice)
{
	check_text(slice->service, "service");
	for (size_t i = 0; i < slice->port_count; i++)
		check_text(slice->ports[i].name, "ports[].name");
	for (size_t i = 0; i < slice->endpoint_count; i++) {
		check_text(slice->endpoints[i].pod, "endpoints[].pod");
		FUZZ_CHECK(slice->endpoints[i].own_pod || !*slice->endpoints[i].pod, "a foreign pod");
	}
	FUZZ_CHECK(!slice->fqdn || !slice->endpoint_count, "endpoints without address");
}

static void check_policy(const struct backend_tls_policy *policy)
{
	for (size_t i = 0; i < policy->option_count; i++) {
		check_text(policy->options[i].key, "option");
		check_text(policy->options[i].value, "option's value");
	}
	FUZZ_CHECK(policy->has_validation || (!policy->hostname && !policy->ca_count), "validation out of nothing");
}

static void check_route(const struct route *route)
{
	for (size_t i = 0; i < route->parent_count; i++) {
		check_text(route->parents[i].namespace_, "parentRefs[].namespace");
		check_text(route->parents[i].name, "parentRefs[].name");
		check_text(route->parents[i].section_name, "parentRefs[].sectionName");
	}
	for (size_t i = 0; i < route->backend_count; i++) {
		check_text(route->backends[i].namespace_, "backendRefs[].namespace");
		check_text(route->backends[i].name, "backendRefs[].name");
	}
}

static void check_gateway(const struct gateway_spec *gateway)
{
	check_text(gateway->class_name, "gatewayClassName");
	for (size_t i = 0; i < gateway->listener_count; i++) {
		check_text(gateway->listeners[i].name, "listeners[].name");
		check_text(gateway->listeners[i].protocol, "listeners[].protocol");
	}
	if (gateway->has_client_certificate) {
		check_text(gateway->client_certificate.group, "clientCertificateRef.group");
		check_text(gateway->client_certificate.kind, "clientCertificateRef.kind");
		check_text(gateway->client_certificate.namespace_, "clientCertificateRef.namespace");
		check_text(gateway->client_certificate.name, "clientCertificateRef.name");
	}
}

static void check_secret(const struct secret *secret)
{
	check_text(secret->type, "type");
	check_pem(&secret->ca, "CERTIFICATE");
	check_pem(&secret->crl, "X509 CRL");
	FUZZ_CHECK(!secret->certificate != !secret->certificate_problem, "neither certificate nor problem, or both");
	FUZZ_CHECK(!secret->certificate_problem || fuzz_is_message(secret->certificate_problem, 256), "\"%s\"",
	           secret->certificate_problem);
}

static void check_grant(const struct reference_grant *grant)
{
	for (size_t i = 0; i < grant->from_count; i++) {
		check_text(grant->from[i].group, "from[].group");
		check_text(grant->from[i].kind, "from[].kind");
		check_text(grant->from[i].namespace_, "from[].namespace");
	}
	for (size_t i = 0; i < grant->to_count; i++) {
		check_text(grant->to[i].group, "to[].group");
		check_text(grant->to[i].kind, "to[].kind");
	}
}

static void check_cidrs(const struct cidr *cidrs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		FUZZ_CHECK(cidrs[i].prefix_length <= 128 && cidr_contains(&cidrs[i], &cidrs[i].address), "CIDR");
}

static void check_kind(const struct object *object)
{
	switch (object->kind) {
	case OBJECT_SERVICE:
		check_service(&object->service);
		break;
	case OBJECT_ENDPOINT_SLICE:
		check_slice(&object->endpoint_slice);
		break;
	case OBJECT_CONFIG_MAP:
		check_pem(&object->config_map.ca, "CERTIFICATE");
		check_pem(&object->config_map.crl, "X509 CRL");
		break;
	case OBJECT_BACKEND_TLS_POLICY:
		check_policy(&object->backend_tls_policy);
		break;
	case OBJECT_GATEWAY:
		check_gateway(&object->gateway);
		break;
	case OBJECT_GATEWAY_CLASS:
		check_text(object->gateway_class.controller_name, "controllerName");
		break;
	case OBJECT_SERVICE_CIDR:
		check_cidrs(object->service_cidr.cidrs, object->service_cidr.cidr_count);
		break;
	case OBJECT_NODE:
		check_cidrs(object->node.pod_cidrs, object->node.pod_cidr_count);
		break;
	case OBJECT_SECRET:
		check_secret(&object->secret);
		break;
	case OBJECT_CLUSTER_TRUST_BUNDLE:
		check_pem(&object->cluster_trust_bundle.ca, "CERTIFICATE");
		break;
	case OBJECT_REFERENCE_GRANT:
		check_grant(&object->reference_grant);
		break;
	case OBJECT_POD:
		check_text(object->pod.node_name, "nodeName");
		check_text(object->pod.gateway_name, "gateway-name");
		check_text(object->pod.gateway_annotation, "postern.dev/gateway");
		break;
	default:
		check_route(&object->route);
	}
}

static void check_object(struct object *object, enum object_kind kind)
{
	struct object_store *store = object_store_new();

	FUZZ_CHECK(object->kind == kind, "a %s", object_kind_name(object->kind));
	FUZZ_CHECK(is_dns_subdomain(object->name), "name \"%s\"", object->name);
	FUZZ_CHECK(object_kind_is_namespaced(kind) ? is_dns_label(object->namespace_) : !*object->namespace_,
	           "namespace \"%s\"", object->namespace_);
	check_text(object->uid, "uid");
	FUZZ_CHECK(!strcmp(object->origin, "fuzz.yaml"), "origin \"%s\"", object->origin);
	check_kind(object);
	FUZZ_CHECK(store && object_store_put(store, object) == 0 &&
	                   object_store_find(store, kind, object->namespace_, object->name) == object,
	           "not found in a store");
	object_store_free(store);
	seen.objects[kind]++;
}

static bool is_visible(const struct decoded *decoded, const char *name)
{
	for (size_t i = 0; i < decoded->visible_count; i++) {
		const struct backend_tls_policy *policy = &decoded->visible[i]->backend_tls_policy;

		for (size_t j = 0; j < policy->target_count; j++)
			if (!strcmp(policy->targets[j].name, name))
				return true;
	}
	return false;
}

static void check_visible(const struct decoded *decoded, const json_t *document)
{
	const json_t *targets = json_object_get(json_object_get(document, "spec"), "targetRefs"), *target;
	size_t index;

	json_array_foreach (targets, index, target) {
		const char *name = json_string_value(json_object_get(target, "name"));

		FUZZ_CHECK(!name || !*name || is_visible(decoded, name), "the target \"%s\" of a policy is not seen",
		           name);
	}
}

static void set_default(json_t *map, const char *key, json_t *value)
{
	if (!json_object_get(map, key))
		json_object_set_new(map, key, value);
	else
		json_decref(value);
}

static void decode(json_t *document, enum object_kind kind)
{
	json_t *documents = json_array();
	struct decoded decoded = {0};

	set_default(document, "apiVersion", json_string(api_versions[kind]));
	set_default(document, "kind", json_string(object_kind_name(kind)));
	set_default(document, "metadata", json_pack("{s:s}", "name", "x"));
	json_array_append(documents, document);
	FUZZ_CHECK(decode_documents(documents, "fuzz.yaml", &decoded) == 0, "no memory");
	for (size_t i = 0; i < decoded.problem_count; i++)
		FUZZ_CHECK(fuzz_is_message(decoded.problems[i].object, 512) &&
		                   fuzz_is_message(decoded.problems[i].message, 1024),
		           "\"%s\": \"%s\"", decoded.problems[i].object, decoded.problems[i].message);
	for (size_t i = 0; i < decoded.unknown_fields.count; i++)
		FUZZ_CHECK(fuzz_is_message(decoded.unknown_fields.items[i].subject, 512) &&
		                   fuzz_is_message(decoded.unknown_fields.items[i].path, 512),
		           "\"%s\": \"%s\"", decoded.unknown_fields.items[i].subject,
		           decoded.unknown_fields.items[i].path);
	/* The document may have a kind of its own. */
	if (!json_is_string(json_object_get(document, "kind")) ||
	    strcmp(json_string_value(json_object_get(document, "kind")), object_kind_name(kind)) ||
	    strcmp(json_string_value(json_object_get(document, "apiVersion")) ?: "", api_versions[kind]))
		goto out;
	FUZZ_CHECK(decoded.object_count ? decoded.object_count == 1 && !decoded.problem_count : decoded.problem_count,
	           "%zu objects, %zu problems", decoded.object_count, decoded.problem_count);
	if (decoded.object_count)
		check_object(decoded.objects[0], kind);
	else if (kind == OBJECT_BACKEND_TLS_POLICY)
		check_visible(&decoded, document);
out:
	decoded_free(&decoded);
	json_decref(documents);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *documents;
	char error[256];

	seen.runs++;
	if (size < 2 || data[0] < 'A' || data[0] >= 'A' + OBJECT_KINDS ||
	    yaml_load((const char *)data + 1, size - 1, &documents, error, sizeof(error)) != 0)
		return 0;
	if (json_is_object(json_array_get(documents, 0)))
		decode(json_array_get(documents, 0), (enum object_kind)(data[0] - 'A'));
	json_decref(documents);
	return 0;
}
