// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "policy/compilation.h"
#include "policy/vector.h"

static const enum object_kind route_kinds[] = {OBJECT_HTTP_ROUTE, OBJECT_GRPC_ROUTE, OBJECT_TLS_ROUTE,
                                               OBJECT_TCP_ROUTE};

static int compare_service(const struct route_use *use, const char *namespace_, const char *service)
{
	int order = strcmp(use->namespace_, namespace_);

	return order ? order : strcmp(use->service, service);
}

static int compare_uses(const void *left_pointer, const void *right_pointer)
{
	const struct route_use *left = left_pointer, *right = right_pointer;
	int order = compare_service(left, right->namespace_, right->service);

	if (order)
		return order;
	if (left->port != right->port)
		return left->port < right->port ? -1 : 1;
	return (int)left->kind - (int)right->kind;
}

static bool same_use(const struct route_use *left, const struct route_use *right)
{
	return !compare_uses(left, right);
}

static int add_route(struct compilation *compilation, const struct object *object)
{
	for (size_t i = 0; i < object->route.backend_count; i++) {
		const struct backend_reference *backend = &object->route.backends[i];

		if (vector_reserve(&compilation->route_uses, compilation->route_use_count,
		                   &compilation->route_use_capacity, sizeof(*compilation->route_uses)) < 0)
			return -ENOMEM;
		compilation->route_uses[compilation->route_use_count++] = (struct route_use){
		        .namespace_ = backend->namespace_,
		        .service = backend->name,
		        .port = backend->port,
		        .kind = object->kind,
		};
	}
	return 0;
}

int collect_route_uses(struct compilation *compilation)
{
	size_t kept = 0;

	for (size_t kind = 0; kind < ARRAY_SIZE(route_kinds); kind++)
		for (size_t i = 0; i < object_store_count(compilation->store, route_kinds[kind]); i++)
			if (add_route(compilation, object_store_at(compilation->store, route_kinds[kind], i)) < 0)
				return -ENOMEM;
	if (!compilation->route_use_count)
		return 0;
	qsort(compilation->route_uses, compilation->route_use_count, sizeof(*compilation->route_uses), compare_uses);
	for (size_t i = 1; i < compilation->route_use_count; i++)
		if (!same_use(&compilation->route_uses[kept], &compilation->route_uses[i]))
			compilation->route_uses[++kept] = compilation->route_uses[i];
	compilation->route_use_count = kept + 1;
	return 0;
}

/* The kinds of Route that refer to the port, as bits. */
static unsigned int kinds_of_port(const struct compilation *compilation, const struct object *service, uint16_t port)
{
	size_t low = 0, high = compilation->route_use_count;
	unsigned int kinds = 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_service(&compilation->route_uses[middle], service->namespace_, service->name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < compilation->route_use_count; low++) {
		const struct route_use *use = &compilation->route_uses[low];

		if (compare_service(use, service->namespace_, service->name))
			break;
		if (!use->port || use->port == port)
			kinds |= 1u << use->kind;
	}
	return kinds;
}

enum alpn_protocol choose_alpn(const struct compilation *compilation, const struct tls_options *options,
                               const struct object *service, const struct service_port *port, bool *mixed)
{
	static const char *const http_1_1[] = {"kubernetes.io/ws", "kubernetes.io/wss", "http", "https"};
	const unsigned int grpc = 1u << OBJECT_GRPC_ROUTE;
	const unsigned int opaque = 1u << OBJECT_TLS_ROUTE | 1u << OBJECT_TCP_ROUTE;
	unsigned int kinds;

	*mixed = false;
	if (options->alpn_given)
		return options->alpn;
	if (port) {
		if (!strcmp(port->app_protocol, "kubernetes.io/h2c"))
			return ALPN_H2;
		for (size_t i = 0; i < ARRAY_SIZE(http_1_1); i++)
			if (!strcasecmp(port->app_protocol, http_1_1[i]))
				return ALPN_HTTP_1_1;
	}
	kinds = kinds_of_port(compilation, service, port ? port->port : 0);
	if (kinds == grpc)
		return ALPN_H2;
	if (kinds && !(kinds & ~opaque))
		return ALPN_NONE;
	*mixed = kinds & grpc;
	return ALPN_HTTP_1_1;
}
