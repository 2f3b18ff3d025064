// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes changed at random seldom leave a manifest that is one. So the text is read, one place of the tree is changed,
 * and the whole is written again, as JSON, which is YAML.
 */
#include <string.h>

#include "base/yaml.h"
#include "fuzz.h"

#define MAX_PLACES 4096

/* Where a value stands. */
struct place {
	json_t *container;
	const char *key; /* of an object; NULL: index of an array */
	size_t index;
};

struct places {
	struct place at[MAX_PLACES];
	size_t count;
};

static const char *const values[] = {
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "80",
        "443",
        "8443",
        "65535",
        "65536",
        "4294967296",
        "9223372036854775807",
        "0.5",
        "1e300",
        "[]",
        "{}",
        "\"\"",
        "\"x\"",
        "\"a\"",
        "\"default\"",
        "\"System\"",
        "\"TCP\"",
        "\"UDP\"",
        "\"IPv4\"",
        "\"IPv6\"",
        "\"FQDN\"",
        "\"None\"",
        "\"ExternalName\"",
        "\"10.0.0.1\"",
        "\"10.0.0.2\"",
        "\"10.96.0.1\"",
        "\"fd00::1\"",
        "\"::ffff:10.0.0.1\"",
        "\"0.0.0.0\"",
        "\"10.96.0.0/12\"",
        "\"Service\"",
        "\"Secret\"",
        "\"ConfigMap\"",
        "\"ClusterTrustBundle\"",
        "\"Gateway\"",
        "\"Pod\"",
        "\"HTTPRoute\"",
        "\"GRPCRoute\"",
        "\"BackendTLSPolicy\"",
        "\"gateway.networking.k8s.io\"",
        "\"kubernetes.io/tls\"",
        "\"kubernetes.io/h2c\"",
        "\"Hostname\"",
        "\"URI\"",
        "\"Passthrough\"",
        "\"Terminate\"",
        "\"All\"",
        "\"Same\"",
        "\"TLS\"",
        "\"HTTP\"",
        "\"HTTPS\"",
        "\"s\"",
        "\"t\"",
        "\"p\"",
        "\"g\"",
        "\"ca\"",
        "\"echo.example.com\"",
        "\"*.example.com\"",
        "\"spiffe://example.com/a\"",
        "\"2024-05-01T12:00:00Z\"",
        "\"endpointslice-controller.k8s.io\"",
        "\"quarantine\"",
        "\"first\"",
        "\"second\"",
        "\"\\u001b[1m\"",
        "\"a\\nb\"",
        "\"\\u00fc\"",
};

static const char *const keys[] = {
        "kind",
        "apiVersion",
        "metadata",
        "name",
        "namespace",
        "generation",
        "creationTimestamp",
        "uid",
        "labels",
        "annotations",
        "spec",
        "data",
        "binaryData",
        "stringData",
        "type",
        "status",
        "items",
        "ports",
        "port",
        "protocol",
        "targetPort",
        "nodePort",
        "appProtocol",
        "clusterIP",
        "clusterIPs",
        "addressType",
        "endpoints",
        "addresses",
        "conditions",
        "targetRef",
        "targetRefs",
        "group",
        "sectionName",
        "validation",
        "hostname",
        "caCertificateRefs",
        "wellKnownCACertificates",
        "subjectAltNames",
        "uri",
        "options",
        "rules",
        "filters",
        "backendRefs",
        "backendRef",
        "requestMirror",
        "externalAuth",
        "parentRefs",
        "listeners",
        "tls",
        "mode",
        "allowedRoutes",
        "namespaces",
        "from",
        "to",
        "backend",
        "clientCertificateRef",
        "gatewayClassName",
        "controllerName",
        "supportedFeatures",
        "trustBundle",
        "podIPs",
        "podIP",
        "ip",
        "hostNetwork",
        "nodeName",
        "cidrs",
        "ca.crt",
        "ca.crl",
        "tls.crt",
        "tls.key",
        "when",
        "postern.dev/alpn",
        "postern.dev/force",
        "postern.dev/gateway",
        "gateway.networking.k8s.io/gateway-name",
        "kubernetes.io/service-name",
        "endpointslice.kubernetes.io/managed-by",
        "ancestors",
};

/* libFuzzer's own generator is not to be had: xorshift, seeded by what it hands over. */
static uint32_t next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static size_t pick(uint32_t *state, size_t count)
{
	return count ? next(state) % count : 0;
}

static void collect(json_t *value, struct places *places)
{
	const char *key;
	json_t *item;
	size_t index;

	json_array_foreach (value, index, item) {
		if (places->count < MAX_PLACES)
			places->at[places->count++] = (struct place){value, NULL, index};
		collect(item, places);
	}
	json_object_foreach (value, key, item) {
		if (places->count < MAX_PLACES)
			places->at[places->count++] = (struct place){value, key, 0};
		collect(item, places);
	}
}

static json_t *value_at(const struct place *place)
{
	return place->key ? json_object_get(place->container, place->key)
	                  : json_array_get(place->container, place->index);
}

/* Takes over value. */
static void put(const struct place *place, json_t *value)
{
	if (!value)
		return;
	if (place->key)
		json_object_set_new(place->container, place->key, value);
	else
		json_array_set_new(place->container, place->index, value);
}

static void take_away(const struct place *place)
{
	if (place->key)
		json_object_del(place->container, place->key);
	else
		json_array_remove(place->container, place->index);
}

/* Beside the place: another element, or the same value under another key. */
static void put_beside(const struct place *place, json_t *value, uint32_t *state)
{
	if (place->key)
		json_object_set_new(place->container, keys[pick(state, sizeof(keys) / sizeof(keys[0]))], value);
	else
		json_array_insert_new(place->container, place->index, value);
}

static json_t *some_value(uint32_t *state)
{
	return json_loads(values[pick(state, sizeof(values) / sizeof(values[0]))], JSON_DECODE_ANY, NULL);
}

static json_t *changed_value(const json_t *value, uint32_t *state)
{
	uint8_t bytes[256];
	size_t size;

	if (json_is_integer(value))
		return json_integer((json_int_t)((uint64_t)json_integer_value(value) + pick(state, 3) - 1));
	if (!json_is_string(value) || json_string_length(value) > sizeof(bytes) / 2)
		return some_value(state);
	size = json_string_length(value);
	memcpy(bytes, json_string_value(value), size);
	size = LLVMFuzzerMutate(bytes, size, sizeof(bytes));
	return memchr(bytes, '\0', size) ? NULL : json_stringn((const char *)bytes, size); /* NULL: not UTF-8 */
}

static void change_tree(json_t *documents, const struct places *places, uint32_t *state)
{
	const struct place *place = &places->at[pick(state, places->count)];
	const struct place *other = &places->at[pick(state, places->count)];

	(void)documents;
	switch (pick(state, 6)) {
	case 0:
		take_away(place);
		break;
	case 1:
		put(place, json_deep_copy(value_at(other)));
		break;
	case 2:
		put_beside(place, json_deep_copy(value_at(other)), state);
		break;
	case 3:
		put_beside(place, some_value(state), state);
		break;
	case 4:
		put(place, some_value(state));
		break;
	default:
		put(place, changed_value(value_at(place), state));
	}
}

/* 0: it does not fit. */
static size_t write_documents(const json_t *documents, uint8_t *data, size_t max_size)
{
	const json_t *document;
	size_t index, size = 0;

	json_array_foreach (documents, index, document) {
		size_t written = 0, left = max_size - size;

		if (left > 4) {
			memcpy(data + size, "---\n", 4);
			written = json_dumpb(document, (char *)data + size + 4, left - 4,
			                     JSON_ENCODE_ANY | JSON_COMPACT);
		}
		if (!written || written + 5 > left)
			return 0;
		size += written + 5;
		data[size - 1] = '\n';
	}
	return size;
}

size_t fuzz_mutate_yaml(uint8_t *data, size_t size, size_t max_size, unsigned int seed, size_t kept)
{
	static struct places places;
	uint32_t state = seed | 1;
	json_t *documents = NULL;
	size_t written = 0;
	char error[128];

	places.count = 0;
	if (pick(&state, 8) && size > kept &&
	    yaml_load((const char *)data + kept, size - kept, &documents, error, sizeof(error)) == 0) {
		for (size_t changes = 1 + pick(&state, 3); changes; changes--) {
			places.count = 0;
			collect(documents, &places);
			if (places.count)
				change_tree(documents, &places, &state);
		}
		/* Into a buffer of its own, so that what does not fit leaves the text as it was. */
		uint8_t *copy = malloc(max_size);

		written = copy ? write_documents(documents, copy, max_size - kept) : 0;
		if (written)
			memcpy(data + kept, copy, written);
		free(copy);
	}
	json_decref(documents);
	return written ? kept + written : LLVMFuzzerMutate(data, size, max_size);
}
