// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be recognised of a document that does not decode. It is used to refuse, never to serve: whatever cannot be
 * read is left out, and nothing is an error but want of memory.
 */
#include <errno.h>
#include <string.h>

#include "policy/decode_kinds.h"

static int visible_string(struct arena *arena, const json_t *map, const char *key, const char **text)
{
	const char *found = json_string_value(json_object_get(map, key));

	*text = NULL;
	if (!found || !*found)
		return 0;
	*text = arena_strdup(arena, found);
	return *text ? 0 : -ENOMEM;
}

/* An element, a list of elements, or neither: whatever stands there is looked at as a list. */
static size_t visible_count(const json_t *value)
{
	return json_is_array(value) ? json_array_size(value) : json_is_object(value);
}

static const json_t *visible_at(const json_t *value, size_t index)
{
	return json_is_array(value) ? json_array_get(value, index) : value;
}

static int visible_metadata(struct arena *arena, const json_t *document, struct object *object)
{
	const json_t *metadata = json_object_get(document, "metadata");

	if (visible_string(arena, metadata, "namespace", &object->namespace_) < 0 ||
	    visible_string(arena, metadata, "name", &object->name) < 0)
		return -ENOMEM;
	object->namespace_ = object->namespace_ ? object->namespace_ : "default";
	object->name = object->name ? object->name : "(unnamed)";
	return 0;
}

static int visible_policy(struct arena *arena, const json_t *document, struct backend_tls_policy *policy)
{
	const json_t *spec = json_object_get(document, "spec");
	const json_t *lists[] = {json_object_get(spec, "targetRefs"), json_object_get(spec, "targetRef")};
	size_t total = visible_count(lists[0]) + visible_count(lists[1]);
	struct target_reference *targets = arena_alloc(arena, total, sizeof(*targets));

	if (!targets)
		return -ENOMEM;
	for (size_t list = 0; list < 2; list++) {
		for (size_t i = 0; i < visible_count(lists[list]); i++) {
			const json_t *item = visible_at(lists[list], i);
			struct target_reference *target = &targets[policy->target_count];

			if (visible_string(arena, item, "group", &target->group) < 0 ||
			    visible_string(arena, item, "kind", &target->kind) < 0 ||
			    visible_string(arena, item, "name", &target->name) < 0 ||
			    visible_string(arena, item, "sectionName", &target->section_name) < 0)
				return -ENOMEM;
			policy->target_count += target->name != NULL;
		}
	}
	policy->targets = targets;
	return 0;
}

/* ---- addresses and ports ---- */

static uint16_t visible_port(const json_t *map, const char *key)
{
	const json_t *value = json_object_get(map, key);
	json_int_t number = json_integer_value(value);

	return json_is_integer(value) && number > 0 && number <= UINT16_MAX ? (uint16_t)number : 0;
}

/* Adds those of a string, or of a list of strings, that are addresses. There is room. */
static void visible_addresses(const json_t *value, struct postern_address *addresses, size_t *count)
{
	size_t items = json_is_array(value) ? json_array_size(value) : 1;

	for (size_t i = 0; i < items; i++) {
		const char *text = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);

		if (text && address_parse(text, &addresses[*count]) == 0)
			++*count;
	}
}

/* UDP and SCTP by their names; whatever else stands there may have been meant as TCP. */
static bool may_be_tcp(const json_t *port)
{
	const char *protocol = json_string_value(json_object_get(port, "protocol"));

	return !protocol || (strcmp(protocol, "UDP") != 0 && strcmp(protocol, "SCTP") != 0);
}

static int visible_name(struct arena *arena, const json_t *map, const char **name)
{
	if (visible_string(arena, map, "name", name) < 0)
		return -ENOMEM;
	*name = *name ? *name : "";
	return 0;
}

static int visible_service(struct arena *arena, const json_t *document, struct service *service)
{
	const json_t *spec = json_object_get(document, "spec"), *list = json_object_get(spec, "ports");
	const json_t *sources[] = {json_object_get(spec, "clusterIP"), json_object_get(spec, "clusterIPs"),
	                           json_object_get(spec, "externalIPs")};
	struct service_port *ports = arena_alloc(arena, visible_count(list), sizeof(*ports));
	struct postern_address *addresses;
	size_t room = 0;

	for (size_t i = 0; i < 3; i++)
		room += json_is_array(sources[i]) ? json_array_size(sources[i]) : 1;
	addresses = arena_alloc(arena, room, sizeof(*addresses));
	if (!ports || !addresses)
		return -ENOMEM;
	for (size_t i = 0; i < 3; i++)
		visible_addresses(sources[i], addresses, &service->cluster_ip_count);
	service->cluster_ips = addresses;
	for (size_t i = 0; i < visible_count(list); i++) {
		const json_t *item = visible_at(list, i);
		struct service_port *port = &ports[service->port_count];

		if (visible_name(arena, item, &port->name) < 0)
			return -ENOMEM;
		*port = (struct service_port){
		        .name = port->name,
		        .port = visible_port(item, "port"),
		        .target_port = visible_port(item, "targetPort"),
		        .node_port = visible_port(item, "nodePort"),
		        .app_protocol = "",
		};
		service->port_count += port->port && may_be_tcp(item);
	}
	service->ports = ports;
	return 0;
}

static int visible_slice_ports(struct arena *arena, const json_t *document, struct endpoint_slice *slice)
{
	const json_t *list = json_object_get(document, "ports");
	struct slice_port *ports = arena_alloc(arena, visible_count(list), sizeof(*ports));

	if (!ports)
		return -ENOMEM;
	for (size_t i = 0; i < visible_count(list); i++) {
		const json_t *item = visible_at(list, i);
		struct slice_port *port = &ports[slice->port_count];

		if (visible_name(arena, item, &port->name) < 0)
			return -ENOMEM;
		port->port = visible_port(item, "port"); /* 0, any port, if it is none */
		slice->port_count += may_be_tcp(item);
	}
	slice->ports = ports;
	return 0;
}

static int visible_endpoints(struct arena *arena, const json_t *document, struct endpoint_slice *slice)
{
	const json_t *list = json_object_get(document, "endpoints");
	struct postern_address *addresses;
	struct endpoint *endpoints;
	size_t room = 0, count = 0;

	for (size_t i = 0; i < visible_count(list); i++) {
		const json_t *value = json_object_get(visible_at(list, i), "addresses");

		room += json_is_array(value) ? json_array_size(value) : 1;
	}
	addresses = arena_alloc(arena, room, sizeof(*addresses));
	endpoints = arena_alloc(arena, room, sizeof(*endpoints));
	if (!addresses || !endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < visible_count(list); i++)
		visible_addresses(json_object_get(visible_at(list, i), "addresses"), addresses, &count);
	for (size_t i = 0; i < count; i++)
		endpoints[i] = (struct endpoint){.address = addresses[i], .pod = ""};
	slice->endpoints = endpoints;
	slice->endpoint_count = count;
	return 0;
}

static int visible_slice(struct arena *arena, const json_t *document, struct endpoint_slice *slice)
{
	const json_t *labels = json_object_get(json_object_get(document, "metadata"), "labels");

	if (visible_string(arena, labels, "kubernetes.io/service-name", &slice->service) < 0 ||
	    visible_slice_ports(arena, document, slice) < 0 || visible_endpoints(arena, document, slice) < 0)
		return -ENOMEM;
	slice->service = slice->service ? slice->service : "";
	if (slice->endpoint_count * slice->port_count > SLICE_MAX_DESTINATIONS)
		slice->port_count = 0; /* any port */
	return 0;
}

bool is_worth_seeing(enum object_kind kind)
{
	return kind == OBJECT_BACKEND_TLS_POLICY || kind == OBJECT_SERVICE || kind == OBJECT_ENDPOINT_SLICE;
}

int decode_visible(struct arena *arena, const json_t *document, struct object *object)
{
	if (visible_metadata(arena, document, object) < 0)
		return -ENOMEM;
	switch (object->kind) {
	case OBJECT_SERVICE:
		return visible_service(arena, document, &object->service);
	case OBJECT_ENDPOINT_SLICE:
		return visible_slice(arena, document, &object->endpoint_slice);
	default:
		return visible_policy(arena, document, &object->backend_tls_policy);
	}
}
