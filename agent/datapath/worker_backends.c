/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/worker_backends.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "datapath/worker_internal.h"
#include "datapath/worker_list.h"

#define LIST_LIMIT_NS UINT64_C(1000000000)

static bool is_kernel(enum relay_mode mode)
{
	return mode == RELAY_KTLS_COPY || mode == RELAY_KTLS_SPLICE;
}

static void describe(const struct connection *connection, bool with_port, struct backend_view *view)
{
	struct relay_stats stats;

	relay_stats(connection->relay, &stats);
	*view = (struct backend_view){
	        .gateway_cookie = connection->gateway_cookie,
	        .netns_cookie = connection->gateway->gateway->netns_cookie,
	        .destination = connection->destination,
	        .b_port = with_port ? connection_b_port(connection) : 0,
	        .kernel_transmit = is_kernel(stats.to_backend),
	        .kernel_receive = is_kernel(stats.to_gateway),
	        .version = connection->info.version,
	        .cipher = connection->info.cipher,
	};
}

static int list_backends(struct worker *worker, bool with_ports, void **items, size_t *result_count)
{
	size_t size = atomic_load_explicit(&worker->statistics.connections_live, memory_order_relaxed);
	struct backend_view *views = calloc(size ? size : 1, sizeof(*views));
	size_t count = 0;

	if (!views)
		return -ENOMEM;
	for (struct connection *each = worker->connections; each && count < size; each = each->next) {
		if (each->relay)
			describe(each, with_ports, &views[count++]);
	}
	*items = views;
	*result_count = count;
	return 0;
}

int worker_list_backends(struct worker *worker, bool with_ports, struct backend_view **views, size_t *count)
{
	uint64_t until = monotonic_ns() + LIST_LIMIT_NS;
	void *items = NULL;
	int error = worker_take_list(worker, worker_ask_list(worker, with_ports, list_backends), until, &items, count);

	*views = items;
	return error;
}

struct reset_message {
	struct inbox_message inbox;
	uint64_t gateway_cookie;
	enum postern_reason reason;
	char detail[192];
};

static void run_reset(struct worker *worker, struct inbox_message *inbox)
{
	struct reset_message *message = container_of(inbox, struct reset_message, inbox);

	for (struct connection *each = worker->connections; each; each = each->next) {
		if (each->gateway_cookie != message->gateway_cookie || !each->relay)
			continue;
		relay_abort(each->relay, message->reason, message->detail);
		break;
	}
	free(message);
}

int worker_reset_backend(struct worker *worker, uint64_t gateway_cookie, enum postern_reason reason, const char *detail)
{
	struct reset_message *message = calloc(1, sizeof(*message));

	if (!message)
		return -ENOMEM;
	message->inbox.run = run_reset;
	message->gateway_cookie = gateway_cookie;
	message->reason = reason;
	(void)snprintf(message->detail, sizeof(message->detail), "%s", detail);
	worker_post(worker, &message->inbox);
	return 0;
}
