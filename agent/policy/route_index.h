/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * route_index.h: who refers to a Service: Routes (for ALPN), and through them Gateways (for the ancestors of a status).
 * Built whole from the Gateways, GatewayClasses, Routes and ReferenceGrants of a store; immutable. Control thread.
 *
 * A Route counts where Gateway API lets it: a backendRef into another namespace needs a ReferenceGrant there (from the
 * Route's kind and namespace to Service); a parentRef must name a Gateway of the store, an existing listener if it
 * names one, and the listener must let the Route's namespace in (from: Same, All; Selector is taken as All, because the
 * labels of namespaces are not looked at; a Gateway without such a listener is no ancestor) and must be of a protocol
 * that takes this kind of Route (HTTP, HTTPS: HTTPRoute and GRPCRoute; TLS: TLSRoute, and TCPRoute where it terminates;
 * TCP: TCPRoute; UDP: none; an implementation's own: any). A Route without any such Gateway counts for nothing, unless
 * the store has no Gateway at all, or a ListenerSet is among its parents: then it counts, and has no Gateway (a
 * ListenerSet is not looked up; it says something of ALPN, and nothing of ancestors).
 */
#ifndef POSTERN_POLICY_ROUTE_INDEX_H
#define POSTERN_POLICY_ROUTE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/object.h"

struct object_store;
struct route_index;

struct route_use {
	uint16_t port; /* of the Service; 0: every port */
	enum object_kind kind;
	bool passthrough; /* a TLSRoute on a listener that does not terminate: what it carries is TLS already */
};

/* Borrowed from the index. */
struct service_routes {
	const char *namespace_, *service;
	const struct route_use *uses; /* sorted by port and kind, each once */
	size_t use_count;
	const struct object *const *gateways; /* sorted by name, each once */
	size_t gateway_count;
};

/* The objects stay referenced as long as the index lives. 0 or -ENOMEM. */
int route_index_new(const struct object_store *store, struct route_index **index);
void route_index_free(struct route_index *index); /* NULL-safe */

/* NULL: nobody refers to it. */
const struct service_routes *route_index_find(const struct route_index *index, const char *namespace_,
                                              const char *service);
size_t route_index_count(const struct route_index *index);
const struct service_routes *route_index_at(const struct route_index *index, size_t i); /* by namespace and Service */
/* Do both say the same of a Service? (Gateways by name.) Either may be NULL. */
bool service_routes_equal(const struct service_routes *left, const struct service_routes *right);

#endif
