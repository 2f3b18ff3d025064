// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two lists are collected from the Routes, Service to use and Service to Gateway, sorted, and rid of duplicates; the
 * Services are what they have in common.
 */
#include "policy/route_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/gateways.h"
#include "policy/store.h"
#include "policy/vector.h"

struct use_entry {
	const char *namespace_, *service;
	struct route_use use;
};

struct ancestor_entry {
	const char *namespace_, *service;
	const struct object *gateway;
};

struct route_index {
	struct service_routes *services; /* sorted */
	size_t count;
	struct route_use *uses; /* of all Services, one after the other; gateways likewise */
	const struct object **gateways;
	struct object **held; /* what the pointers above point into */
	size_t held_count, held_capacity;
};

/* What one Route is attached to. */
struct attached {
	const struct object **gateways;
	size_t count, capacity;
	bool terminated, passthrough; /* by one listener or another */
};

struct build {
	const struct object_store *store;
	struct route_index *index;
	struct attached attached; /* of the Route at hand */
	struct use_entry *uses;
	size_t use_count, use_capacity;
	struct ancestor_entry *ancestors;
	size_t ancestor_count, ancestor_capacity;
};

static int compare_services(const char *left_namespace, const char *left_service, const char *right_namespace,
                            const char *right_service)
{
	int order = strcmp(left_namespace, right_namespace);

	return order ? order : strcmp(left_service, right_service);
}

static int compare_uses(const void *left_pointer, const void *right_pointer)
{
	const struct use_entry *left = left_pointer, *right = right_pointer;
	int order = compare_services(left->namespace_, left->service, right->namespace_, right->service);

	if (order)
		return order;
	if (left->use.port != right->use.port)
		return left->use.port < right->use.port ? -1 : 1;
	if (left->use.kind != right->use.kind)
		return left->use.kind < right->use.kind ? -1 : 1;
	return (int)left->use.passthrough - (int)right->use.passthrough;
}

static int compare_ancestors(const void *left_pointer, const void *right_pointer)
{
	const struct ancestor_entry *left = left_pointer, *right = right_pointer;
	int order = compare_services(left->namespace_, left->service, right->namespace_, right->service);

	return order ? order : object_compare(left->gateway, right->gateway);
}

static int compare_gateways(const void *left_pointer, const void *right_pointer)
{
	const struct object *const *left = left_pointer, *const *right = right_pointer;

	return object_compare(*left, *right);
}

/* Returns how many are left of a sorted array. */
static size_t drop_duplicates(void *items, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	char *bytes = items;
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		if (kept && !compare(bytes + (kept - 1) * size, bytes + i * size))
			continue;
		if (kept != i)
			memcpy(bytes + kept * size, bytes + i * size, size);
		kept++;
	}
	return kept;
}

static size_t sort_once(void *items, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	if (!count)
		return 0;
	sort_list(items, count, size, compare);
	return drop_duplicates(items, count, size, compare);
}

/* Objects are counted by whoever holds a pointer to them; what is in them never changes. */
static int hold(struct route_index *index, const struct object *object)
{
	if (vector_reserve(&index->held, index->held_count, &index->held_capacity, sizeof(struct object *)) < 0)
		return -ENOMEM;
	index->held[index->held_count++] = object_ref((struct object *)object);
	return 0;
}

/* Gateway API says which Routes a listener of its own protocols takes; an implementation's protocol may take any. */
static bool protocol_takes(const struct listener *listener, enum object_kind kind)
{
	if (!strcmp(listener->protocol, "HTTP") || !strcmp(listener->protocol, "HTTPS"))
		return kind == OBJECT_HTTP_ROUTE || kind == OBJECT_GRPC_ROUTE;
	if (!strcmp(listener->protocol, "TLS"))
		return kind == OBJECT_TLS_ROUTE || (kind == OBJECT_TCP_ROUTE && !listener->passthrough);
	if (!strcmp(listener->protocol, "TCP"))
		return kind == OBJECT_TCP_ROUTE;
	return strcmp(listener->protocol, "UDP") != 0;
}

static bool listener_takes(const struct listener *listener, const struct object *gateway, const struct object *route,
                           const struct parent_reference *parent)
{
	return (!*parent->section_name || !strcmp(parent->section_name, listener->name)) &&
	       (!parent->port || parent->port == listener->port) && protocol_takes(listener, route->kind) &&
	       (listener->from_all_namespaces || !strcmp(gateway->namespace_, route->namespace_));
}

static int attach_to_parent(struct build *build, const struct object *route, const struct parent_reference *parent)
{
	const struct object *gateway = object_store_find(build->store, OBJECT_GATEWAY, parent->namespace_,
	                                                 parent->name);
	struct attached *attached = &build->attached;
	bool taken = false;

	for (size_t i = 0; gateway && i < gateway->gateway.listener_count; i++) {
		const struct listener *listener = &gateway->gateway.listeners[i];

		if (!listener_takes(listener, gateway, route, parent))
			continue;
		taken = true;
		if (listener->passthrough)
			attached->passthrough = true;
		else
			attached->terminated = true;
	}
	if (!taken)
		return 0;
	if (vector_reserve(&attached->gateways, attached->count, &attached->capacity, sizeof(struct object *)) < 0)
		return -ENOMEM;
	attached->gateways[attached->count++] = gateway;
	return 0;
}

static int add_use(struct build *build, const struct object *route, const struct backend_reference *backend,
                   bool passthrough)
{
	if (vector_reserve(&build->uses, build->use_count, &build->use_capacity, sizeof(*build->uses)) < 0)
		return -ENOMEM;
	build->uses[build->use_count++] = (struct use_entry){
	        .namespace_ = backend->namespace_,
	        .service = backend->name,
	        .use = {.port = backend->port, .kind = route->kind, .passthrough = passthrough},
	};
	return 0;
}

static int add_backend(struct build *build, const struct object *route, const struct backend_reference *backend)
{
	const struct attached *attached = &build->attached;
	bool passthrough = route->kind == OBJECT_TLS_ROUTE && attached->passthrough;

	if (passthrough && add_use(build, route, backend, true) < 0)
		return -ENOMEM;
	if ((!passthrough || attached->terminated) && add_use(build, route, backend, false) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < attached->count; i++) {
		if (vector_reserve(&build->ancestors, build->ancestor_count, &build->ancestor_capacity,
		                   sizeof(*build->ancestors)) < 0)
			return -ENOMEM;
		build->ancestors[build->ancestor_count++] = (struct ancestor_entry){
		        .namespace_ = backend->namespace_,
		        .service = backend->name,
		        .gateway = attached->gateways[i],
		};
	}
	return 0;
}

/* Without any Gateway in the store, whoever dials is the Gateway of every Route. */
static bool counts(const struct build *build, const struct object *route)
{
	return build->attached.count || route->route.by_listener_set ||
	       !object_store_count(build->store, OBJECT_GATEWAY);
}

static int add_route(struct build *build, const struct object *route)
{
	struct attached *attached = &build->attached;
	size_t before = build->use_count;

	attached->count = 0;
	attached->terminated = route->route.by_listener_set; /* what else its listeners do is not known */
	attached->passthrough = false;
	for (size_t i = 0; i < route->route.parent_count; i++)
		if (attach_to_parent(build, route, &route->route.parents[i]) < 0)
			return -ENOMEM;
	if (!counts(build, route))
		return 0;
	attached->count = sort_once(attached->gateways, attached->count, sizeof(struct object *), compare_gateways);
	for (size_t i = 0; i < route->route.backend_count; i++) {
		const struct backend_reference *backend = &route->route.backends[i];

		if (reference_granted(build->store, "gateway.networking.k8s.io", object_kind_name(route->kind),
		                      route->namespace_, "", "Service", backend->namespace_, backend->name) &&
		    add_backend(build, route, backend) < 0)
			return -ENOMEM;
	}
	return build->use_count > before ? hold(build->index, route) : 0;
}

static int collect(struct build *build)
{
	static const enum object_kind kinds[] = {OBJECT_HTTP_ROUTE, OBJECT_GRPC_ROUTE, OBJECT_TLS_ROUTE,
	                                         OBJECT_TCP_ROUTE};

	for (size_t i = 0; i < object_store_count(build->store, OBJECT_GATEWAY); i++)
		if (hold(build->index, object_store_at(build->store, OBJECT_GATEWAY, i)) < 0)
			return -ENOMEM;
	for (size_t kind = 0; kind < ARRAY_SIZE(kinds); kind++)
		for (size_t i = 0; i < object_store_count(build->store, kinds[kind]); i++)
			if (add_route(build, object_store_at(build->store, kinds[kind], i)) < 0)
				return -ENOMEM;
	build->use_count = sort_once(build->uses, build->use_count, sizeof(*build->uses), compare_uses);
	build->ancestor_count = sort_once(build->ancestors, build->ancestor_count, sizeof(*build->ancestors),
	                                  compare_ancestors);
	return 0;
}

static bool is_of(const struct service_routes *service, const char *namespace_, const char *name)
{
	return !compare_services(service->namespace_, service->service, namespace_, name);
}

/* Every ancestor's Service has a use, so one walk along both lists meets all of them. */
static int join(const struct build *build)
{
	struct route_index *index = build->index;
	struct service_routes *service = NULL;
	size_t gateways = 0;

	index->services = calloc(build->use_count + 1, sizeof(*index->services));
	index->uses = calloc(build->use_count + 1, sizeof(*index->uses));
	index->gateways = calloc(build->ancestor_count + 1, sizeof(struct object *));
	if (!index->services || !index->uses || !index->gateways)
		return -ENOMEM;
	for (size_t i = 0; i < build->use_count; i++) {
		const struct use_entry *use = &build->uses[i];

		index->uses[i] = use->use;
		if (service && is_of(service, use->namespace_, use->service)) {
			service->use_count++;
			continue;
		}
		service = &index->services[index->count++];
		*service = (struct service_routes){
		        .namespace_ = use->namespace_,
		        .service = use->service,
		        .uses = &index->uses[i],
		        .use_count = 1,
		        .gateways = &index->gateways[gateways],
		};
		for (; gateways < build->ancestor_count &&
		       is_of(service, build->ancestors[gateways].namespace_, build->ancestors[gateways].service);
		     gateways++, service->gateway_count++)
			index->gateways[gateways] = build->ancestors[gateways].gateway;
	}
	return 0;
}

int route_index_new(const struct object_store *store, struct route_index **index)
{
	struct build build = {.store = store, .index = calloc(1, sizeof(*build.index))};
	int result = -ENOMEM;

	if (!build.index)
		return -ENOMEM;
	result = collect(&build);
	if (result == 0)
		result = join(&build);
	free(build.attached.gateways);
	free(build.uses);
	free(build.ancestors);
	if (result < 0)
		route_index_free(build.index);
	else
		*index = build.index;
	return result;
}

void route_index_free(struct route_index *index)
{
	if (!index)
		return;
	for (size_t i = 0; i < index->held_count; i++)
		object_unref(index->held[i]);
	free(index->held);
	free(index->services);
	free(index->uses);
	free(index->gateways);
	free(index);
}

static int compare_routes(const void *left_pointer, const void *right_pointer)
{
	const struct service_routes *left = left_pointer, *right = right_pointer;

	return compare_services(left->namespace_, left->service, right->namespace_, right->service);
}

const struct service_routes *route_index_find(const struct route_index *index, const char *namespace_,
                                              const char *service)
{
	const struct service_routes key = {.namespace_ = namespace_, .service = service};

	return find_sorted(&key, index->services, index->count, sizeof(key), compare_routes);
}

size_t route_index_count(const struct route_index *index)
{
	return index->count;
}

const struct service_routes *route_index_at(const struct route_index *index, size_t i)
{
	return &index->services[i];
}

bool service_routes_equal(const struct service_routes *left, const struct service_routes *right)
{
	if (!left || !right)
		return left == right;
	if (left->use_count != right->use_count || left->gateway_count != right->gateway_count)
		return false;
	for (size_t i = 0; i < left->use_count; i++)
		if (left->uses[i].port != right->uses[i].port || left->uses[i].kind != right->uses[i].kind ||
		    left->uses[i].passthrough != right->uses[i].passthrough)
			return false;
	for (size_t i = 0; i < left->gateway_count; i++)
		if (object_compare(left->gateways[i], right->gateways[i]))
			return false;
	return true;
}
