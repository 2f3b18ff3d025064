/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which lane slot belongs to whom.
 *
 *   free --offer--> G may take it --connection--> in use --both ended--> free
 *                      | withdrawn in time: free         | only the connection ended, or G took it and no connection
 *                      | too late                        v came of it
 *                      +-------------------------> awaits G's CLOSE --CLOSED record, or the kernel's word--> free
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/hooks.h"
#include "datapath/worker_internal.h"

#define RECLAIM_INTERVAL_NS 1000000000ull

/* The slots are shared out evenly, so that no worker needs a lock for its own. */
int lane_slots_start(struct worker *worker, unsigned int worker_count)
{
	uint32_t share = POSTERN_MAX_LANE_SLOTS / worker_count;
	uint32_t first = worker->options.index * share;

	worker->free_slots = calloc(share, sizeof(uint32_t));
	worker->slot_states = calloc(POSTERN_MAX_LANE_SLOTS, sizeof(struct lane_slot_state));
	if (!worker->free_slots || !worker->slot_states)
		return -ENOMEM;
	for (uint32_t i = 0; i < share; i++)
		worker->free_slots[worker->free_slot_count++] = first + share - 1 - i;
	return 0;
}

static void give_back(struct worker *worker, uint32_t slot)
{
	worker->slot_states[slot] = (struct lane_slot_state){0};
	worker->free_slots[worker->free_slot_count++] = slot;
}

static void await_close(struct worker *worker, uint32_t slot, uint64_t gateway_cookie)
{
	worker->slot_states[slot] = (struct lane_slot_state){
	        .awaits_close = true,
	        .gateway_cookie = gateway_cookie,
	};
}

/* All slots are out: those whose CLOSED record was lost (a full ring) come back, by the kernel's own word about G. */
static void reclaim_slots(struct worker *worker)
{
	uint64_t now = monotonic_ns();

	if (now - worker->slots_reclaimed_ns < RECLAIM_INTERVAL_NS)
		return;
	worker->slots_reclaimed_ns = now;
	for (uint32_t slot = 0; slot < POSTERN_MAX_LANE_SLOTS; slot++) {
		const struct lane_slot_state *state = &worker->slot_states[slot];

		if (state->awaits_close && !hooks_lane_has_gateway(worker->options.hooks, state->gateway_cookie))
			give_back(worker, slot);
	}
}

static uint32_t take(struct worker *worker)
{
	struct postern_lane_slot *slots = hooks_lane_slots(worker->options.hooks);
	uint32_t slot;

	if (worker->free_slot_count == 0)
		reclaim_slots(worker);
	if (worker->free_slot_count == 0)
		return POSTERN_NO_LANE_SLOT;
	slot = worker->free_slots[--worker->free_slot_count];
	memset(&slots[slot], 0, sizeof(slots[slot]));
	return slot;
}

void lane_slot_offer(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	const struct postern_gateway_socket *socket = &attempt->connect.socket;
	uint32_t slot;

	if (!worker->options.lane || !(socket->flags & POSTERN_G_NONBLOCK) || socket->flags & POSTERN_G_MPTCP ||
	    attempt->lane_slot != POSTERN_NO_LANE_SLOT)
		return;
	slot = take(worker);
	if (slot == POSTERN_NO_LANE_SLOT)
		return;
	if (hooks_lane_offer(worker->options.hooks, socket->cookie, slot) != 0)
		give_back(worker, slot);
	else
		attempt->lane_slot = slot;
}

void lane_slot_withdraw(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	uint64_t cookie = attempt->connect.socket.cookie;
	uint32_t slot = attempt->lane_slot;

	if (slot == POSTERN_NO_LANE_SLOT)
		return;
	attempt->lane_slot = POSTERN_NO_LANE_SLOT;
	/* The kernel's own word: what could be taken back was not taken by G, and never will be. */
	if (hooks_lane_withdraw(worker->options.hooks, cookie) == 0)
		give_back(worker, slot);
	else
		await_close(worker, slot, cookie);
}

bool lane_slot_pass_on(struct attempt *attempt, struct connection *connection)
{
	struct worker *worker = attempt->worker;

	if (attempt->lane_slot == POSTERN_NO_LANE_SLOT)
		return false;
	connection->lane_slot = attempt->lane_slot;
	attempt->lane_slot = POSTERN_NO_LANE_SLOT;
	worker->slot_states[connection->lane_slot] = (struct lane_slot_state){.connection = connection};
	return true;
}

void lane_slot_leave(struct connection *connection)
{
	struct worker *worker = connection->worker;
	uint32_t slot = connection->lane_slot;

	if (slot == POSTERN_NO_LANE_SLOT)
		return;
	connection->lane_slot = POSTERN_NO_LANE_SLOT;
	(void)hooks_lane_leave_agent(worker->options.hooks,
	                             connection->gateway_cookie); /* A's close() may have done it */
	/* G never took the offer (it was established before that reached the map): then it never will. */
	if (connection->lane_closed || hooks_lane_withdraw(worker->options.hooks, connection->gateway_cookie) == 0)
		give_back(worker, slot);
	else
		await_close(worker, slot, connection->gateway_cookie);
}

void lane_slot_closed(struct worker *worker, const struct postern_connect_record *record)
{
	uint32_t slot = record->socket.lane_slot;
	const struct lane_slot_state *state;

	if (slot >= POSTERN_MAX_LANE_SLOTS)
		return;
	state = &worker->slot_states[slot];
	if (state->connection && state->connection->gateway_cookie == record->socket.cookie)
		state->connection->lane_closed = true; /* it may still be flushing towards B: its end frees the slot */
	else if (state->awaits_close && state->gateway_cookie == record->socket.cookie)
		give_back(worker, slot);
}
