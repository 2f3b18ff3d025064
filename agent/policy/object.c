// SPDX-License-Identifier: GPL-2.0-only
#include "policy/object.h"

#include <stdlib.h>
#include <string.h>

#include "policy/client_certificate.h"
#include "policy/shared_text.h"

static const char *const kind_names[OBJECT_KINDS] = {
        [OBJECT_SERVICE] = "Service",
        [OBJECT_ENDPOINT_SLICE] = "EndpointSlice",
        [OBJECT_CONFIG_MAP] = "ConfigMap",
        [OBJECT_BACKEND_TLS_POLICY] = "BackendTLSPolicy",
        [OBJECT_GATEWAY] = "Gateway",
        [OBJECT_GATEWAY_CLASS] = "GatewayClass",
        [OBJECT_HTTP_ROUTE] = "HTTPRoute",
        [OBJECT_GRPC_ROUTE] = "GRPCRoute",
        [OBJECT_TLS_ROUTE] = "TLSRoute",
        [OBJECT_TCP_ROUTE] = "TCPRoute",
        [OBJECT_SERVICE_CIDR] = "ServiceCIDR",
        [OBJECT_SECRET] = "Secret",
        [OBJECT_CLUSTER_TRUST_BUNDLE] = "ClusterTrustBundle",
        [OBJECT_REFERENCE_GRANT] = "ReferenceGrant",
        [OBJECT_POD] = "Pod",
        [OBJECT_NODE] = "Node",
};

const char *object_kind_name(enum object_kind kind)
{
	return kind_names[kind];
}

bool object_kind_is_namespaced(enum object_kind kind)
{
	return kind != OBJECT_GATEWAY_CLASS && kind != OBJECT_SERVICE_CIDR && kind != OBJECT_CLUSTER_TRUST_BUNDLE &&
	       kind != OBJECT_NODE;
}

struct object *object_new(enum object_kind kind)
{
	struct object *object = calloc(1, sizeof(*object));

	if (!object)
		return NULL;
	object->kind = kind;
	object->references = 1;
	object->namespace_ = "";
	object->name = "";
	object->uid = "";
	object->origin = "";
	object->generation = 1;
	object->created = OBJECT_CREATED_UNKNOWN;
	return object;
}

struct object *object_ref(struct object *object)
{
	object->references++;
	return object;
}

static void drop_material(struct object *object)
{
	switch (object->kind) {
	case OBJECT_CONFIG_MAP:
		shared_text_unref(object->config_map.ca.pem);
		shared_text_unref(object->config_map.crl.pem);
		break;
	case OBJECT_SECRET:
		shared_text_unref(object->secret.ca.pem);
		shared_text_unref(object->secret.crl.pem);
		client_certificate_unref(object->secret.certificate);
		break;
	case OBJECT_CLUSTER_TRUST_BUNDLE:
		shared_text_unref(object->cluster_trust_bundle.ca.pem);
		break;
	default:
		break;
	}
}

void object_unref(struct object *object)
{
	if (!object || --object->references)
		return;
	drop_material(object);
	arena_free(&object->arena);
	free(object);
}

int object_compare(const struct object *left, const struct object *right)
{
	int order = strcmp(left->namespace_, right->namespace_);

	return order ? order : strcmp(left->name, right->name);
}
