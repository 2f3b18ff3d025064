// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of an object can matter, as a digest: status, leases of leadership and bookkeeping change all the time, and each
 * change would cost a compile. What is left out here no decoder reads; everything else counts.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/cleanup.h"
#include "source/kubernetes_internal.h"

#define CONTROLLER_NAME "postern.dev/backend-tls"

static void decref(json_t **value)
{
	json_decref(*value);
}
#define _cleanup_json_ _cleanup_(decref)

/* A copy of the map without some of its keys; NULL: no memory. */
static json_t *copy_without(const json_t *map, const char *const keys[])
{
	json_t *copy = json_copy((json_t *)map);

	for (size_t i = 0; copy && keys[i]; i++)
		(void)json_object_del(copy, keys[i]);
	return copy;
}

static int replace(json_t *document, const char *key, json_t *value)
{
	return value && json_object_set_new(document, key, value) == 0 ? 0 : -ENOMEM;
}

static int trim_metadata(json_t *document)
{
	static const char *const bookkeeping[] = {"resourceVersion", "managedFields", "selfLink", NULL};
	static const char *const noise[] = {"kubectl.kubernetes.io/last-applied-configuration",
	                                    "endpoints.kubernetes.io/last-change-trigger-time",
	                                    "control-plane.alpha.kubernetes.io/leader", NULL};
	const json_t *annotations;
	json_t *metadata = copy_without(json_object_get(document, "metadata"), bookkeeping);

	if (!metadata || replace(document, "metadata", metadata) < 0)
		return -ENOMEM;
	annotations = json_object_get(metadata, "annotations");
	return json_is_object(annotations) ? replace(metadata, "annotations", copy_without(annotations, noise)) : 0;
}

/* Not-ready, serving and terminating endpoints count. */
static int trim_endpoints(json_t *document)
{
	static const char *const unread[] = {"conditions", "hints", "zone", "nodeName", "deprecatedTopology", NULL};
	const json_t *endpoints = json_object_get(document, "endpoints"), *endpoint;
	json_t *copies;
	size_t index;

	if (!json_is_array(endpoints))
		return 0;
	copies = json_array();
	if (replace(document, "endpoints", copies) < 0)
		return -ENOMEM;
	json_array_foreach (endpoints, index, endpoint) {
		json_t *copy = json_is_object(endpoint) ? copy_without(endpoint, unread)
		                                        : json_incref((json_t *)endpoint);

		if (!copy || json_array_append_new(copies, copy) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Who else wrote a status; not what: see count_foreign_ancestors(). */
static int trim_policy_status(json_t *document)
{
	const json_t *ancestors = json_object_get(json_object_get(document, "status"), "ancestors"), *ancestor;
	json_t *names = json_array();
	size_t index;

	if (replace(document, "status", names) < 0)
		return -ENOMEM;
	json_array_foreach (ancestors, index, ancestor) {
		const char *name = json_string_value(json_object_get(ancestor, "controllerName"));

		if ((!name || strcmp(name, CONTROLLER_NAME) != 0) &&
		    json_array_append_new(names, json_string(name ? name : "")) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int trim_node(json_t *document)
{
	const json_t *spec = json_object_get(document, "spec");

	(void)json_object_del(document, "status");
	return replace(document, "spec",
	               json_pack("{s:O?, s:O?}", "podCIDRs", json_object_get(spec, "podCIDRs"), "taints",
	                         json_object_get(spec, "taints")));
}

static int trim(enum object_kind kind, json_t *document)
{
	if (trim_metadata(document) < 0)
		return -ENOMEM;
	switch (kind) {
	case OBJECT_ENDPOINT_SLICE:
		return trim_endpoints(document);
	case OBJECT_BACKEND_TLS_POLICY:
		return trim_policy_status(document);
	case OBJECT_NODE:
		return trim_node(document);
	case OBJECT_GATEWAY:
	case OBJECT_HTTP_ROUTE:
	case OBJECT_GRPC_ROUTE:
	case OBJECT_TLS_ROUTE:
	case OBJECT_TCP_ROUTE:
	case OBJECT_SERVICE_CIDR:
		(void)json_object_del(document, "status");
		return 0;
	default:
		return 0;
	}
}

static int add(const char *bytes, size_t size, void *context)
{
	return EVP_DigestUpdate(context, bytes, size) == 1 ? 0 : -1;
}

static void free_context(EVP_MD_CTX **context)
{
	EVP_MD_CTX_free(*context);
}

int kubernetes_digest(enum object_kind kind, const json_t *document, uint8_t digest[static DIGEST_BYTES])
{
	_cleanup_json_ json_t *copy = json_copy((json_t *)document);
	_cleanup_(free_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t whole[EVP_MAX_MD_SIZE];

	if (!copy || !context || trim(kind, copy) < 0 || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1 ||
	    json_dump_callback(copy, add, context, JSON_COMPACT | JSON_SORT_KEYS) < 0 ||
	    EVP_DigestFinal_ex(context, whole, NULL) != 1)
		return -ENOMEM;
	memcpy(digest, whole, DIGEST_BYTES);
	return 0;
}
