/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/worker_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "datapath/worker_internal.h"

#define LIST_LIMIT_NS UINT64_C(1000000000)

struct list_message {
	struct inbox_message inbox;
	worker_list_function list;
	bool with_ports;
	void *items;
	size_t count;
	int error;
};

static void drop_list(struct inbox_message *inbox)
{
	struct list_message *message = container_of(inbox, struct list_message, inbox);

	free(message->items);
	free(message);
}

static void run_list(struct worker *worker, struct inbox_message *inbox)
{
	struct list_message *message = container_of(inbox, struct list_message, inbox);

	message->error = message->list(worker, message->with_ports, &message->items, &message->count);
	worker_finish(worker, inbox);
}

struct list_message *worker_ask_list(struct worker *worker, bool with_ports, worker_list_function list)
{
	struct list_message *message = calloc(1, sizeof(*message));

	if (!message)
		return NULL;
	message->inbox.run = run_list;
	message->inbox.drop = drop_list;
	message->list = list;
	message->with_ports = with_ports;
	worker_post(worker, &message->inbox);
	return message;
}

int worker_take_list(struct worker *worker, struct list_message *message, uint64_t until_ns, void **items,
                     size_t *count)
{
	int error;

	if (!message)
		return -ENOMEM;
	if (worker_await(worker, &message->inbox, until_ns))
		return -ETIMEDOUT;
	error = message->error;
	if (!error) {
		*items = TAKE_PTR(message->items);
		*count = message->count;
	}
	drop_list(&message->inbox);
	return error;
}

/* Behind what is there. 0 or -ENOMEM. */
static int append(struct connection_view **all, size_t *all_count, const struct connection_view *views, size_t count)
{
	struct connection_view *grown;

	if (count == 0)
		return 0;
	grown = reallocarray(*all, *all_count + count, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memcpy(grown + *all_count, views, count * sizeof(*grown));
	*all = grown;
	*all_count += count;
	return 0;
}

int worker_list_connections(struct worker *const *workers, size_t worker_count, struct connection_view **views,
                            size_t *count, size_t *silent)
{
	_cleanup_free_ struct list_message **asked = calloc(worker_count + 1, sizeof(struct list_message *));
	_cleanup_free_ struct connection_view *all = NULL;
	uint64_t until = monotonic_ns() + LIST_LIMIT_NS;
	size_t all_count = 0;
	int error = 0;

	*silent = 0;
	if (!asked)
		return -ENOMEM;
	for (size_t i = 0; i < worker_count; i++)
		asked[i] = worker_ask_list(workers[i], true, connection_list);
	/* All of them, whatever the first one says: a message is taken, or left to its worker. */
	for (size_t i = 0; i < worker_count; i++) {
		void *items = NULL;
		size_t item_count = 0;
		int result = worker_take_list(workers[i], asked[i], until, &items, &item_count);
		_cleanup_free_ void *taken = items;

		if (!result && !error)
			result = append(&all, &all_count, items, item_count);
		if (!result || error)
			continue;
		error = result;
		*silent = i;
	}
	if (error)
		return error;
	*views = TAKE_PTR(all);
	*count = all_count;
	return 0;
}
