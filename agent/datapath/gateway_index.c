/* SPDX-License-Identifier: GPL-2.0-only */
/* A worker's gateways by id and its listeners by cookie, in chains: what each record of the ring is looked up by. */
#include <stddef.h>

#include "datapath/worker_internal.h"

static struct worker_gateway **gateways_of(struct worker *worker, uint32_t id)
{
	return &worker->gateway_index.by_id[id % INDEX_GATEWAYS];
}

/* The kernel counts cookies up, each CPU in steps of its own. */
static size_t place_of(uint64_t cookie)
{
	return (cookie * 0x9e3779b97f4a7c15) >> 32 & (INDEX_LISTENERS - 1);
}

void gateway_index_add(struct worker *worker, struct worker_gateway *gateway)
{
	struct gateway_index *index = &worker->gateway_index;
	struct worker_gateway **chain = gateways_of(worker, gateway->gateway->id);

	gateway->next_by_id = *chain;
	*chain = gateway;
	for (size_t i = 0; i < gateway->listener_count; i++) {
		struct worker_listener *listener = &gateway->listeners[i];
		struct worker_listener **v4 = &index->by_cookie_v4[place_of(listener->listener->cookie_v4)];
		struct worker_listener **v6 = &index->by_cookie_v6[place_of(listener->listener->cookie_v6)];

		listener->next_v4 = *v4;
		*v4 = listener;
		if (listener->listener->fd_v6 < 0)
			continue;
		listener->next_v6 = *v6;
		*v6 = listener;
	}
}

void gateway_index_remove(struct worker *worker, struct worker_gateway *gateway)
{
	struct gateway_index *index = &worker->gateway_index;

	for (struct worker_gateway **link = gateways_of(worker, gateway->gateway->id); *link;
	     link = &(*link)->next_by_id) {
		if (*link == gateway) {
			*link = gateway->next_by_id;
			break;
		}
	}
	for (size_t i = 0; i < gateway->listener_count; i++) {
		struct worker_listener *listener = &gateway->listeners[i];
		struct worker_listener **v4 = &index->by_cookie_v4[place_of(listener->listener->cookie_v4)];
		struct worker_listener **v6 = &index->by_cookie_v6[place_of(listener->listener->cookie_v6)];

		while (*v4 && *v4 != listener)
			v4 = &(*v4)->next_v4;
		if (*v4)
			*v4 = listener->next_v4;
		while (*v6 && *v6 != listener)
			v6 = &(*v6)->next_v6;
		if (*v6)
			*v6 = listener->next_v6;
	}
}

struct worker_gateway *worker_find_gateway(struct worker *worker, uint32_t gateway_id)
{
	struct worker_gateway *gateway = *gateways_of(worker, gateway_id);

	while (gateway && gateway->gateway->id != gateway_id)
		gateway = gateway->next_by_id;
	return gateway;
}

struct worker_listener *worker_find_listener(struct worker *worker, uint64_t listener_cookie)
{
	const struct gateway_index *index = &worker->gateway_index;
	size_t place = place_of(listener_cookie);

	for (struct worker_listener *each = index->by_cookie_v4[place]; each; each = each->next_v4) {
		if (each->listener->cookie_v4 == listener_cookie)
			return each;
	}
	for (struct worker_listener *each = index->by_cookie_v6[place]; each; each = each->next_v6) {
		if (each->listener->cookie_v6 == listener_cookie)
			return each;
	}
	return NULL;
}
