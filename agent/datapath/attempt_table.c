/* SPDX-License-Identifier: GPL-2.0-only */
/* The attempts of a worker, by gateway and G's end of the tuple, and what bounds their number. */
#include <stdlib.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "datapath/worker_internal.h"
#include "policy/snapshot.h"

/* An orphan waits for its CONNECT record, which comes again before the SYN's retransmit (1 s, then 2 s more). */
#define ORPHAN_LIMIT_NS 5000000000ull
/*
 * What was in the ring when an attempt was accepted is read in the next round. They are freed by the second, not each
 * by a timer of its own: that would end a wait for each connection.
 */
#define ACCEPTED_LIMIT_NS 1000000000ull
#define MAX_ACCEPTED      8192
/* SYNs that nobody announced, from strangers in the gateway's namespace: past this they are refused at once. */
#define MAX_ORPHANS 1024

static struct attempt **bucket_of(struct worker *worker, uint32_t gateway_id, const struct postern_tuple *tuple)
{
	struct postern_destination_key local = destination_key(&tuple->local, tuple->local_port);
	uint64_t hash = destination_hash(&local) ^
	                ((uint64_t)gateway_id << 32 | tuple->remote_port) * 0x9e3779b97f4a7c15ull;

	return &worker->attempts[(hash ^ hash >> 29) & (ATTEMPT_BUCKETS - 1)];
}

struct attempt *attempt_find(struct worker *worker, const struct worker_gateway *gateway,
                             const struct postern_tuple *tuple)
{
	struct attempt *attempt = *bucket_of(worker, gateway->gateway->id, tuple);

	for (; attempt; attempt = attempt->bucket_next) {
		const struct postern_tuple *other = &attempt->connect.header.tuple;

		if (attempt->gateway == gateway && other->local_port == tuple->local_port &&
		    other->remote_port == tuple->remote_port && address_equal(&other->local, &tuple->local))
			return attempt;
	}
	return NULL;
}

void attempt_for_each(struct worker *worker, const struct worker_gateway *gateway,
                      void (*each)(struct attempt *attempt, void *context), void *context)
{
	for (size_t i = 0; i < ATTEMPT_BUCKETS; i++) {
		struct attempt *next;

		for (struct attempt *attempt = worker->attempts[i]; attempt; attempt = next) {
			next = attempt->bucket_next;
			if (!gateway || attempt->gateway == gateway)
				each(attempt, context);
		}
	}
}

/* Refused attempts are kept for a while, so there may be twice as many as are in flight; but not any number. */
static bool too_many_kept(const struct worker *worker)
{
	return worker->orphan_count >= MAX_ORPHANS ||
	       worker->attempt_count - worker->orphan_count >= 2 * (size_t)worker->options.max_attempts;
}

struct attempt *attempt_new(struct worker *worker, struct worker_gateway *gateway,
                            const struct postern_record_header *header)
{
	struct attempt *attempt;
	struct attempt **bucket;

	if (too_many_kept(worker))
		return NULL;
	attempt = calloc(1, sizeof(*attempt));
	if (!attempt)
		return NULL;
	attempt->timer.on_expire = attempt_on_limit;
	if (loop_timer_set(worker->loop, &attempt->timer, ORPHAN_LIMIT_NS) != 0) {
		free(attempt);
		return NULL;
	}
	attempt->worker = worker;
	attempt->gateway = gateway;
	attempt->state = ATTEMPT_ORPHAN;
	attempt->orphaned = true;
	attempt->connect.header = *header;
	attempt->begun_ns = header->time_ns;
	attempt->b_source.on_event = attempt_on_b_event;
	attempt->b_fd = -1;
	attempt->policy = SNAPSHOT_NO_POLICY;
	attempt->lane_slot = POSTERN_NO_LANE_SLOT;
	bucket = bucket_of(worker, gateway->gateway->id, &header->tuple);
	attempt->bucket_next = *bucket;
	*bucket = attempt;
	worker->attempt_count++;
	worker->orphan_count++;
	statistic_add(&worker->statistics.attempts, 1);
	statistic_add(&worker->statistics.attempts_live, 1);
	return attempt;
}

static void leave_orphans(struct attempt *attempt)
{
	if (attempt->orphaned)
		attempt->worker->orphan_count--;
	attempt->orphaned = false;
}

/* All that it owns or counts for; its place in the table is left. Idempotent. */
static void let_go(struct attempt *attempt)
{
	dial_cancel(attempt);
	lane_slot_withdraw(attempt);
	leave_orphans(attempt);
	attempt_leave_flight(attempt);
	attempt_forget_decision(attempt);
}

static void count_out(struct worker *worker)
{
	worker->attempt_count--;
	statistic_subtract(&worker->statistics.attempts_live, 1);
}

void attempt_free(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	struct attempt **link = bucket_of(worker, attempt->gateway->gateway->id, &attempt->connect.header.tuple);

	while (*link != attempt)
		link = &(*link)->bucket_next;
	*link = attempt->bucket_next;
	loop_timer_cancel(worker->loop, &attempt->timer);
	let_go(attempt);
	if (attempt->state == ATTEMPT_ACCEPTED)
		worker->accepted_count--;
	else
		count_out(worker);
	loop_defer_free(worker->loop, attempt);
}

static void on_accepted_limit(struct loop_timer *timer);

/* Without memory for it MAX_ACCEPTED is their limit. */
static void watch_accepted(struct worker *worker)
{
	worker->accepted_timer.on_expire = on_accepted_limit;
	(void)loop_timer_set(worker->loop, &worker->accepted_timer, ACCEPTED_LIMIT_NS);
}

static void on_accepted_limit(struct loop_timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, accepted_timer);
	uint64_t now = loop_now_ns(worker->loop);
	/* Copies of a CONNECT record from before the accept may lie in the ring: each would dial again, for nobody. */
	bool read = !worker_ring_has_more(worker);

	while (read && worker->accepted.head && now - worker->accepted.head->accepted_ns >= ACCEPTED_LIMIT_NS)
		attempt_free(worker->accepted.head);
	if (worker->accepted.head)
		watch_accepted(worker);
}

void attempt_accepted(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;

	let_go(attempt);
	count_out(worker);
	attempt->state = ATTEMPT_ACCEPTED;
	attempt->accepted_ns = loop_now_ns(worker->loop);
	loop_timer_cancel(worker->loop, &attempt->timer);
	attempt_list_append(&worker->accepted, attempt);
	if (++worker->accepted_count > MAX_ACCEPTED)
		attempt_free(worker->accepted.head);
	if (!worker->accepted_timer.due_ns)
		watch_accepted(worker);
}

/* ---- limits ---- */

/* A silent backend, or one gateway of several, must leave something for the others. */
static size_t share_of(size_t limit)
{
	return limit - limit / 4;
}

/* The only gateway may have them all, unless somebody said otherwise. */
/* Gateways; the one that plays a part for /readyz takes nothing from the others. */
static bool has_several(const struct worker *worker)
{
	unsigned int count = 0;

	for (const struct worker_gateway *each = worker->gateways; each && count < 2; each = each->next)
		count += each->gateway->probe == NULL;
	return count > 1;
}

static size_t gateway_limit(const struct worker *worker)
{
	const struct worker_options *options = &worker->options;

	if (options->max_gateway_connections)
		return options->max_gateway_connections;
	return has_several(worker) ? share_of(options->max_connections) : options->max_connections;
}

enum postern_reason attempt_admit(struct attempt *attempt, const char **detail)
{
	struct worker *worker = attempt->worker;
	const struct worker_options *options = &worker->options;
	const struct postern_destination_key *key = &attempt->connect.socket.destination;
	const uint64_t *same_destination = key_table_find(&worker->in_flight_to, key);
	uint64_t connections = atomic_load_explicit(&worker->statistics.connections_live, memory_order_relaxed);

	leave_orphans(attempt);
	*detail = "";
	if (memory_budget_full(options->budget))
		return REASON_MEMORY_BUDGET;
	if (options->max_descriptors && 2 * connections + worker->in_flight >= options->max_descriptors)
		return REASON_NO_DESCRIPTORS;
	if (connections + worker->in_flight >= options->max_connections) {
		*detail = "of all gateways";
		return REASON_TOO_MANY_CONNECTIONS;
	}
	if (attempt->gateway->connections + attempt->gateway->in_flight >= gateway_limit(worker)) {
		*detail = "of this gateway";
		return REASON_TOO_MANY_CONNECTIONS;
	}
	if (worker->in_flight >= options->max_attempts) {
		*detail = "of all gateways";
		return REASON_TOO_MANY_HANDSHAKES;
	}
	if (has_several(worker) && attempt->gateway->in_flight >= share_of(options->max_attempts)) {
		*detail = "of this gateway";
		return REASON_TOO_MANY_HANDSHAKES;
	}
	if (same_destination && *same_destination >= share_of(options->max_attempts)) {
		*detail = "to this destination";
		return REASON_TOO_MANY_HANDSHAKES;
	}
	if (key_table_set(&worker->in_flight_to, key, same_destination ? *same_destination + 1 : 1) != 0)
		return REASON_NO_MEMORY;
	worker->in_flight++;
	attempt->gateway->in_flight++;
	attempt->in_flight = true;
	return REASON_NONE;
}

void attempt_leave_flight(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	const struct postern_destination_key *key = &attempt->connect.socket.destination;
	uint64_t *same_destination;

	if (!attempt->in_flight)
		return;
	attempt->in_flight = false;
	worker->in_flight--;
	attempt->gateway->in_flight--;
	same_destination = key_table_find(&worker->in_flight_to, key);
	if (same_destination && --*same_destination == 0)
		(void)key_table_remove(&worker->in_flight_to, key);
}

/* ---- lists ---- */

void attempt_list_append(struct attempt_list *list, struct attempt *attempt)
{
	if (attempt->list)
		return;
	attempt->list = list;
	attempt->list_next = NULL;
	attempt->list_previous = list->tail;
	if (list->tail)
		list->tail->list_next = attempt;
	else
		list->head = attempt;
	list->tail = attempt;
}

void attempt_list_remove(struct attempt *attempt)
{
	struct attempt_list *list = attempt->list;

	if (!list)
		return;
	if (attempt->list_previous)
		attempt->list_previous->list_next = attempt->list_next;
	else
		list->head = attempt->list_next;
	if (attempt->list_next)
		attempt->list_next->list_previous = attempt->list_previous;
	else
		list->tail = attempt->list_previous;
	attempt->list = NULL;
}
