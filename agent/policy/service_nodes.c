// SPDX-License-Identifier: GPL-2.0-only
/* What the store has of each Service: itself, its slices, who refers to it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/compilation.h"
#include "policy/gateways.h"
#include "policy/vector.h"

static struct service_node *service_of(struct table_node *node)
{
	return container_of(node, struct service_node, node);
}

static struct service_node *find_hashed(const struct compiler *compiler, const char *namespace_, const char *name,
                                        uint64_t hash)
{
	struct table_node *node = table_first(&compiler->services, hash);

	for (; node; node = table_next(node))
		if (!strcmp(service_of(node)->namespace_, namespace_) && !strcmp(service_of(node)->name, name))
			return service_of(node);
	return NULL;
}

struct service_node *find_service(const struct compiler *compiler, const char *namespace_, const char *name)
{
	return find_hashed(compiler, namespace_, name, table_hash_names(namespace_, name, OBJECT_SERVICE));
}

struct service_node *get_service(struct compiler *compiler, const char *namespace_, const char *name)
{
	uint64_t hash = table_hash_names(namespace_, name, OBJECT_SERVICE);
	struct service_node *service = find_hashed(compiler, namespace_, name, hash);
	size_t namespace_size = strlen(namespace_) + 1, name_size = strlen(name) + 1;

	if (service)
		return service;
	if (table_reserve(&compiler->services) < 0)
		return NULL;
	service = calloc(1, sizeof(*service) + namespace_size + name_size);
	if (!service)
		return NULL;
	memcpy(service->text, namespace_, namespace_size);
	memcpy(service->text + namespace_size, name, name_size);
	service->namespace_ = service->text;
	service->name = service->text + namespace_size;
	table_insert(&compiler->services, &service->node, hash);
	return service;
}

int touch_service(struct compiler *compiler, struct service_node *service)
{
	if (service->dirty)
		return 0;
	if (vector_reserve(&compiler->dirty_services, compiler->dirty_service_count, &compiler->dirty_service_capacity,
	                   sizeof(struct service_node *)) < 0)
		return -ENOMEM;
	compiler->dirty_services[compiler->dirty_service_count++] = service;
	service->dirty = true;
	return 0;
}

static int compare_slices(const struct slice_use *left, const struct object *slice, bool quarantined)
{
	int order = strcmp(left->slice->name, slice->name);

	return order ? order : (int)left->quarantined - (int)quarantined;
}

static int add_slice(struct compiler *compiler, const struct object *slice, bool quarantined)
{
	struct service_node *service;
	size_t place;

	if (!*slice->endpoint_slice.service)
		return 0;
	service = get_service(compiler, slice->namespace_, slice->endpoint_slice.service);
	if (!service || touch_service(compiler, service) < 0 ||
	    vector_reserve(&service->slices, service->slice_count, &service->slice_capacity, sizeof(*service->slices)) <
	            0)
		return -ENOMEM;
	place = service->slice_count;
	while (place && compare_slices(&service->slices[place - 1], slice, quarantined) > 0)
		place--;
	memmove(service->slices + place + 1, service->slices + place,
	        (service->slice_count - place) * sizeof(*service->slices));
	service->slices[place] = (struct slice_use){slice, quarantined};
	service->slice_count++;
	return 0;
}

static int remove_slice(struct compiler *compiler, const struct object *slice)
{
	struct service_node *service;

	if (!*slice->endpoint_slice.service)
		return 0;
	service = find_service(compiler, slice->namespace_, slice->endpoint_slice.service);
	for (size_t i = 0; i < service->slice_count; i++) {
		if (service->slices[i].slice != slice || service->slices[i].quarantined)
			continue;
		service->slice_count--;
		memmove(service->slices + i, service->slices + i + 1,
		        (service->slice_count - i) * sizeof(*service->slices));
		break;
	}
	return touch_service(compiler, service);
}

static int set_service(struct compiler *compiler, const struct object_change *change)
{
	const struct object *object = change->new ? change->new : change->old;
	struct service_node *service = get_service(compiler, object->namespace_, object->name);

	if (!service)
		return -ENOMEM;
	service->service = change->new;
	return touch_service(compiler, service);
}

static int quarantine_service(struct compiler *compiler, const struct object *object)
{
	struct service_node *service = get_service(compiler, object->namespace_, object->name);

	if (!service || vector_reserve(&service->quarantined, service->quarantined_count,
	                               &service->quarantined_capacity, sizeof(struct object *)) < 0)
		return -ENOMEM;
	service->quarantined[service->quarantined_count++] = object;
	return touch_service(compiler, service);
}

static int fill_from_quarantine(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->quarantine_count[OBJECT_SERVICE]; i++)
		if (quarantine_service(compiler, compiler->quarantine[OBJECT_SERVICE][i].object) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < compiler->quarantine_count[OBJECT_ENDPOINT_SLICE]; i++)
		if (add_slice(compiler, compiler->quarantine[OBJECT_ENDPOINT_SLICE][i].object, true) < 0)
			return -ENOMEM;
	return 0;
}

int change_services(struct compiler *compiler)
{
	const struct changes *services = &compiler->changes[OBJECT_SERVICE];
	const struct changes *slices = &compiler->changes[OBJECT_ENDPOINT_SLICE];

	for (size_t i = 0; i < services->count; i++)
		if (set_service(compiler, &services->items[i]) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < slices->count; i++) {
		const struct object_change *change = &slices->items[i];

		if ((change->old && remove_slice(compiler, change->old) < 0) ||
		    (change->new &&add_slice(compiler, change->new, false) < 0))
			return -ENOMEM;
	}
	return compiler->first ? fill_from_quarantine(compiler) : 0;
}

/* ---- Routes and Gateways ---- */

static int touch_routed(struct compiler *compiler, const struct service_routes *routes)
{
	struct service_node *service = routes ? find_service(compiler, routes->namespace_, routes->service) : NULL;

	return service ? touch_service(compiler, service) : 0;
}

/* Both in order of names. */
static int compare_indexes(struct compiler *compiler, const struct route_index *old, const struct route_index *new)
{
	size_t old_count = route_index_count(old), new_count = route_index_count(new);

	for (size_t i = 0, j = 0; i < old_count || j < new_count;) {
		const struct service_routes *left = i < old_count ? route_index_at(old, i) : NULL;
		const struct service_routes *right = j < new_count ? route_index_at(new, j) : NULL;
		int order = !left ? 1 : !right ? -1 : strcmp(left->namespace_, right->namespace_);

		if (left && right && !order)
			order = strcmp(left->service, right->service);
		if ((order || !service_routes_equal(left, right)) &&
		    touch_routed(compiler, order <= 0 ? left : right) < 0)
			return -ENOMEM;
		i += order <= 0;
		j += order >= 0;
	}
	return 0;
}

/* Does it matter to statuses, beyond which Routes there are? */
static bool served_changed(const struct gateway_list *old, const struct gateway_list *new)
{
	if (!old || !old->count != !new->count)
		return true;
	for (size_t i = 0; i < new->count; i++) {
		const struct gateway_status *status = &new->statuses[i];
		const struct gateway_status *before = gateway_list_find(old, status->namespace_, status->name);

		if (before && before->served != status->served)
			return true;
	}
	return false;
}

static int change_gateways(struct compiler *compiler)
{
	struct gateway_status *statuses;
	struct gateway_list *list;
	size_t count;
	bool changed;

	if (gateway_statuses_new(compiler->store, &statuses, &count) < 0)
		return -ENOMEM;
	list = gateway_list_new(statuses, count);
	if (!list)
		return -ENOMEM;
	changed = served_changed(compiler->gateways, list);
	for (size_t i = 0; changed && i < compiler->slot_count; i++)
		compiler->slots[i]->dirty = true;
	gateway_list_unref(compiler->gateways);
	compiler->gateways = list;
	return 0;
}

static bool any_changed(const struct compiler *compiler, const enum object_kind *kinds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kind_changed(compiler, kinds[i]))
			return true;
	return false;
}

int change_routes(struct compiler *compiler)
{
	static const enum object_kind route_kinds[] = {
	        OBJECT_GATEWAY,   OBJECT_GATEWAY_CLASS, OBJECT_HTTP_ROUTE,      OBJECT_GRPC_ROUTE,
	        OBJECT_TLS_ROUTE, OBJECT_TCP_ROUTE,     OBJECT_REFERENCE_GRANT,
	};
	static const enum object_kind gateway_kinds[] = {
	        OBJECT_GATEWAY,
	        OBJECT_GATEWAY_CLASS,
	        OBJECT_SECRET,
	        OBJECT_REFERENCE_GRANT,
	};
	struct route_index *index;
	int result;

	if (!compiler->gateways || any_changed(compiler, gateway_kinds, ARRAY_SIZE(gateway_kinds)))
		if (change_gateways(compiler) < 0)
			return -ENOMEM;
	if (compiler->routes && !any_changed(compiler, route_kinds, ARRAY_SIZE(route_kinds)))
		return 0;
	if (route_index_new(compiler->store, &index) < 0)
		return -ENOMEM;
	result = compiler->routes ? compare_indexes(compiler, compiler->routes, index) : 0;
	route_index_free(compiler->routes);
	compiler->routes = index;
	return result;
}

/* ---- endings ---- */

static void free_service(struct table_node *node)
{
	struct service_node *service = service_of(node);

	free(service->quarantined);
	free(service->slices);
	free(service->attachments);
	free(service->coverages);
	free(service->claims);
	free(service->guards);
	free(service);
}

void drop_idle_services(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->dirty_service_count; i++) {
		struct service_node *service = compiler->dirty_services[i];

		service->dirty = false;
		if (service->service || service->quarantined_count || service->slice_count || service->attachment_count)
			continue;
		table_remove(&compiler->services, &service->node);
		free_service(&service->node);
	}
	compiler->dirty_service_count = 0;
}

void free_services(struct compiler *compiler)
{
	table_free(&compiler->services, free_service);
	free(compiler->dirty_services);
	compiler->dirty_services = NULL;
	compiler->dirty_service_count = compiler->dirty_service_capacity = 0;
}
