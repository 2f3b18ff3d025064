// SPDX-License-Identifier: GPL-2.0-only
/* On which Gateways a policy's status is told: those with a Route to a Service that it targets. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/compilation.h"
#include "policy/vector.h"

struct gateways {
	const struct object **items;
	size_t count, capacity;
};

static bool is_served(const struct compiler *compiler, const struct object *gateway)
{
	const struct gateway_status *status = gateway_list_find(compiler->gateways, gateway->namespace_, gateway->name);

	return status && status->served;
}

static int add_gateways(const struct compiler *compiler, const struct service_routes *routes, struct gateways *gateways)
{
	for (size_t i = 0; routes && i < routes->gateway_count; i++) {
		if (!is_served(compiler, routes->gateways[i]))
			continue;
		if (vector_reserve(&gateways->items, gateways->count, &gateways->capacity, sizeof(*gateways->items)) <
		    0)
			return -ENOMEM;
		gateways->items[gateways->count++] = routes->gateways[i];
	}
	return 0;
}

static int compare_gateways(const void *left, const void *right)
{
	const struct object *const *left_object = left, *const *right_object = right;

	return object_compare(*left_object, *right_object);
}

static void sort_gateways(struct gateways *gateways)
{
	size_t kept = 0;

	if (!gateways->count)
		return;
	sort_list(gateways->items, gateways->count, sizeof(*gateways->items), compare_gateways);
	for (size_t i = 1; i < gateways->count; i++)
		if (object_compare(gateways->items[kept], gateways->items[i]))
			gateways->items[++kept] = gateways->items[i];
	gateways->count = kept + 1;
}

static int set_ancestor(struct object_name *ancestor, const char *namespace_, const char *name)
{
	ancestor->namespace_ = strdup(namespace_);
	ancestor->name = strdup(name);
	return ancestor->namespace_ && ancestor->name ? 0 : -ENOMEM;
}

/* Others' entries stay; ours get what room they leave. */
static int write_ancestors(const struct gateways *gateways, unsigned int foreign, struct policy_status *status)
{
	size_t room = foreign < POLICY_MAX_ANCESTORS ? POLICY_MAX_ANCESTORS - foreign : 0;

	status->ancestors = calloc(gateways->count + 1, sizeof(*status->ancestors));
	if (!status->ancestors)
		return -ENOMEM;
	status->ancestor_count = gateways->count < room ? gateways->count : room;
	status->ancestors_left_out = gateways->count - status->ancestor_count;
	for (size_t i = 0; i < gateways->count; i++)
		if (set_ancestor(&status->ancestors[i], gateways->items[i]->namespace_, gateways->items[i]->name) < 0)
			return -ENOMEM;
	return 0;
}

/* The store has no Gateway at all: whoever dials. */
static int write_anybody(struct policy_status *status)
{
	status->ancestors = calloc(1, sizeof(*status->ancestors));
	if (!status->ancestors)
		return -ENOMEM;
	status->ancestor_count = 1;
	return set_ancestor(&status->ancestors[0], "", "");
}

int collect_ancestors(const struct compiler *compiler, const struct object *policy, struct policy_status *status)
{
	const struct backend_tls_policy *spec = &policy->backend_tls_policy;
	struct gateways gateways = {0};
	int result = 0;

	if (!compiler->gateways->count)
		return write_anybody(status);
	for (size_t i = 0; result == 0 && i < spec->target_count; i++)
		if (is_service_target(&spec->targets[i]) && !is_repeated_target(spec, i, false))
			result = add_gateways(
			        compiler, route_index_find(compiler->routes, policy->namespace_, spec->targets[i].name),
			        &gateways);
	sort_gateways(&gateways);
	if (result == 0)
		result = write_ancestors(&gateways, spec->foreign_ancestors, status);
	free(gateways.items);
	return result;
}
