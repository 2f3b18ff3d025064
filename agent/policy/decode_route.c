// SPDX-License-Identifier: GPL-2.0-only
/*
 * To which Gateways does a Route belong, and which Services does it refer to? That, and by which kind of Route, decides
 * where a policy's status goes, and the ALPN protocol.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/decode_kinds.h"

#define EXPERIMENTAL_GROUP "gateway.networking.x-k8s.io"

struct backend_list {
	struct backend_reference *items;
	size_t count;
	size_t capacity;
};

static int add_backend(struct decoder *decoder, struct backend_list *list, const struct backend_reference *backend)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 4;
		struct backend_reference *items = arena_alloc(decoder->arena, capacity, sizeof(*items));

		if (!items)
			return -ENOMEM;
		if (list->count)
			memcpy(items, list->items, list->count * sizeof(*items));
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = *backend;
	return 0;
}

static int decode_backend(struct decoder *decoder, const struct path *where, const json_t *map,
                          const char *route_namespace, struct backend_list *list)
{
	struct backend_reference backend = {0};
	const char *group, *kind;
	json_int_t port = 0;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_borrow(decoder, where, map, "group", OPTIONAL, &group)) < 0 ||
	    (result = field_borrow(decoder, where, map, "kind", OPTIONAL, &kind)) < 0 ||
	    (result = field_string(decoder, where, map, "name", REQUIRED, &backend.name)) < 0 ||
	    (result = field_string(decoder, where, map, "namespace", OPTIONAL, &backend.namespace_)) < 0 ||
	    (result = field_integer(decoder, where, map, "port", OPTIONAL, 1, UINT16_MAX, &port)) < 0)
		return result;
	if ((group && *group) || (kind && strcmp(kind, "Service")))
		return 0;
	backend.namespace_ = backend.namespace_ ? backend.namespace_ : route_namespace;
	backend.port = (uint16_t)port;
	return add_backend(decoder, list, &backend);
}

/* RequestMirror and ExternalAuth send requests to Services of their own. */
static int decode_filters(struct decoder *decoder, const struct path *where, const json_t *map,
                          const char *route_namespace, struct backend_list *list)
{
	static const char *const kinds[] = {"requestMirror", "externalAuth"};
	struct path filters_path = path_key(where, "filters");
	const json_t *filters, *filter, *settings, *backend;
	size_t index;
	int result = field_list(decoder, where, map, "filters", OPTIONAL, SIZE_MAX, &filters);

	if (result < 0)
		return result;
	json_array_foreach (filters, index, filter) {
		struct path here = path_index(&filters_path, index);

		result = value_map(decoder, &here, filter);
		for (size_t i = 0; result == 0 && i < ARRAY_SIZE(kinds); i++) {
			struct path settings_path = path_key(&here, kinds[i]);
			struct path backend_path = path_key(&settings_path, "backendRef");

			result = field_map(decoder, &here, filter, kinds[i], OPTIONAL, &settings);
			if (result < 0 || !settings)
				continue;
			result = field_map(decoder, &settings_path, settings, "backendRef", OPTIONAL, &backend);
			if (result == 0 && backend)
				result = decode_backend(decoder, &backend_path, backend, route_namespace, list);
		}
		if (result < 0)
			return result;
	}
	return 0;
}

static int decode_rule(struct decoder *decoder, const struct path *where, const json_t *rule,
                       const char *route_namespace, struct backend_list *list)
{
	struct path backends_path = path_key(where, "backendRefs");
	const json_t *backends, *backend;
	size_t index;
	int result;

	if ((result = value_map(decoder, where, rule)) < 0 ||
	    (result = decode_filters(decoder, where, rule, route_namespace, list)) < 0 ||
	    (result = field_list(decoder, where, rule, "backendRefs", OPTIONAL, SIZE_MAX, &backends)) < 0)
		return result;
	json_array_foreach (backends, index, backend) {
		struct path here = path_index(&backends_path, index);

		if ((result = decode_backend(decoder, &here, backend, route_namespace, list)) < 0 ||
		    (result = decode_filters(decoder, &here, backend, route_namespace, list)) < 0)
			return result;
	}
	return 0;
}

enum parent_kind {
	PARENT_GATEWAY,
	PARENT_LISTENER_SET,
	PARENT_OTHER, /* a Service: mesh */
};

static enum parent_kind parent_kind(const char *group, const char *kind)
{
	bool of_gateway_api = !group || !strcmp(group, GATEWAY_GROUP);

	if (of_gateway_api && (!kind || !strcmp(kind, "Gateway")))
		return PARENT_GATEWAY;
	if (kind && ((of_gateway_api && !strcmp(kind, "ListenerSet")) ||
	             (group && !strcmp(group, EXPERIMENTAL_GROUP) && !strcmp(kind, "XListenerSet"))))
		return PARENT_LISTENER_SET;
	return PARENT_OTHER;
}

static int decode_parent(struct decoder *decoder, const struct path *where, const json_t *map,
                         const char *route_namespace, struct parent_reference *parent, enum parent_kind *parent_is)
{
	const char *group, *kind;
	json_int_t port = 0;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_borrow(decoder, where, map, "group", OPTIONAL, &group)) < 0 ||
	    (result = field_borrow(decoder, where, map, "kind", OPTIONAL, &kind)) < 0 ||
	    (result = field_string(decoder, where, map, "name", REQUIRED, &parent->name)) < 0 ||
	    (result = field_string(decoder, where, map, "namespace", OPTIONAL, &parent->namespace_)) < 0 ||
	    (result = field_string(decoder, where, map, "sectionName", OPTIONAL, &parent->section_name)) < 0 ||
	    (result = field_integer(decoder, where, map, "port", OPTIONAL, 1, UINT16_MAX, &port)) < 0)
		return result;
	parent->namespace_ = parent->namespace_ ? parent->namespace_ : route_namespace;
	parent->section_name = parent->section_name ? parent->section_name : "";
	parent->port = (uint16_t)port;
	*parent_is = parent_kind(group, kind);
	return 0;
}

static int decode_parents(struct decoder *decoder, const struct path *spec_path, const json_t *spec,
                          struct object *object)
{
	struct path where = path_key(spec_path, "parentRefs");
	struct parent_reference *parents;
	const json_t *list, *item;
	size_t index, count = 0;
	int result = field_list(decoder, spec_path, spec, "parentRefs", OPTIONAL, SIZE_MAX, &list);

	if (result < 0 || !list)
		return result;
	parents = arena_alloc(decoder->arena, json_array_size(list), sizeof(*parents));
	if (!parents)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&where, index);
		enum parent_kind kind;

		result = decode_parent(decoder, &here, item, object->namespace_, &parents[count], &kind);
		if (result < 0)
			return result;
		count += kind == PARENT_GATEWAY;
		object->route.by_listener_set |= kind == PARENT_LISTENER_SET;
	}
	object->route.parents = parents;
	object->route.parent_count = count;
	return 0;
}

int decode_route(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, spec_path = path_key(&root, "spec"), rules_path = path_key(&spec_path, "rules");
	struct backend_list list = {0};
	const json_t *spec, *rules, *rule;
	size_t index;
	int result;

	if ((result = field_map(decoder, &root, document, "spec", REQUIRED, &spec)) < 0 ||
	    (result = decode_parents(decoder, &spec_path, spec, object)) < 0 ||
	    (result = field_list(decoder, &spec_path, spec, "rules", OPTIONAL, SIZE_MAX, &rules)) < 0)
		return result;
	json_array_foreach (rules, index, rule) {
		struct path here = path_index(&rules_path, index);

		result = decode_rule(decoder, &here, rule, object->namespace_, &list);
		if (result < 0)
			return result;
	}
	object->route.backends = list.items;
	object->route.backend_count = list.count;
	return 0;
}
