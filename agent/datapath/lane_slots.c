/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which lane slot belongs to whom.
 *
 *   free --offer--> G may take it --connection--> in use --both ended--> free
 *                      | withdrawn in time: free         | only the connection ended, or G took it and no connection
 *                      | too late                        v came of it
 *                      +-------------------------> awaits G's CLOSE --CLOSED record, or the kernel's word--> free
 *
 * Every worker of every agent that lives may have slots, and a connection that is handed over brings its own along. So
 * the slot itself says whose it is (owner, in the shared page); the lists are only where a worker looks first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "datapath/hooks.h"
#include "datapath/worker_internal.h"

#define RECLAIM_INTERVAL_NS 1000000000ull

static __u64 *owner_of(const struct worker *worker, uint32_t slot)
{
	return &hooks_lane_slots(worker->options.hooks)[slot].owner;
}

/* Before any worker of this agent has slots: who has one is another agent that lives, or dead. */
static void forget_dead_owner(const struct worker *worker, uint32_t slot)
{
	uint64_t owner = __atomic_load_n(owner_of(worker, slot), __ATOMIC_ACQUIRE);

	if (owner && (owner > POSTERN_MAX_RINGS || !(worker->options.other_rings >> (owner - 1) & 1)))
		__atomic_store_n(owner_of(worker, slot), 0, __ATOMIC_RELEASE);
}

/* Of this worker's share; its list is empty. */
static void list_free_slots(struct worker *worker)
{
	uint32_t first = worker->options.index * worker->slot_share;

	for (uint32_t slot = first + worker->slot_share; slot-- > first;) {
		if (__atomic_load_n(owner_of(worker, slot), __ATOMIC_ACQUIRE) == 0)
			worker->free_slots[worker->free_slot_count++] = slot;
	}
}

/* The slots are shared out evenly, so that workers do not look for them in the same places. */
int lane_slots_start(struct worker *worker, unsigned int worker_count)
{
	uint32_t share = POSTERN_MAX_LANE_SLOTS / worker_count;

	worker->slot_share = share;
	worker->free_slots = calloc(share, sizeof(uint32_t));
	worker->slot_states = calloc(POSTERN_MAX_LANE_SLOTS, sizeof(struct lane_slot_state));
	if (!worker->free_slots || !worker->slot_states)
		return -ENOMEM;
	for (uint32_t i = 0; i < share; i++)
		forget_dead_owner(worker, worker->options.index * share + i);
	list_free_slots(worker);
	return 0;
}

static void give_back(struct worker *worker, uint32_t slot)
{
	worker->slot_states[slot] = (struct lane_slot_state){0};
	__atomic_store_n(owner_of(worker, slot), 0, __ATOMIC_RELEASE);
	if (worker->free_slot_count < worker->slot_share)
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
	list_free_slots(worker);
	for (uint32_t slot = 0; slot < POSTERN_MAX_LANE_SLOTS; slot++) {
		const struct lane_slot_state *state = &worker->slot_states[slot];

		if (state->awaits_close && !hooks_lane_has_gateway(worker->options.hooks, state->gateway_cookie))
			give_back(worker, slot);
	}
}

static uint32_t take(struct worker *worker)
{
	struct postern_lane_slot *slots = hooks_lane_slots(worker->options.hooks);

	if (worker->free_slot_count == 0)
		reclaim_slots(worker);
	while (worker->free_slot_count) {
		struct postern_lane_slot *slot = &slots[worker->free_slots[--worker->free_slot_count]];
		__u64 nobody = 0;

		if (!__atomic_compare_exchange_n(&slot->owner, &nobody, worker->options.ring + 1, false,
		                                 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue; /* another agent's, or it was in two lists */
		slot->redirected_bytes = slot->agent_read = slot->redirected = slot->passed = slot->bulk_bytes = 0;
		slot->leave = slot->left = slot->redirected_until = 0;
		return (uint32_t)(slot - slots);
	}
	return POSTERN_NO_LANE_SLOT;
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
	/*
	 * G never took the offer (it was established before that reached the map): then it never will. The CLOSED
	 * record of a connection that was handed over may have gone to the former agent.
	 */
	if (connection->lane_closed || hooks_lane_withdraw(worker->options.hooks, connection->gateway_cookie) == 0 ||
	    (connection->handed_over && !hooks_lane_has_gateway(worker->options.hooks, connection->gateway_cookie)))
		give_back(worker, slot);
	else
		await_close(worker, slot, connection->gateway_cookie);
}

void lane_slot_take_over(struct connection *connection)
{
	struct worker *worker = connection->worker;

	if (connection->lane_slot == POSTERN_NO_LANE_SLOT)
		return;
	worker->slot_states[connection->lane_slot] = (struct lane_slot_state){.connection = connection};
	__atomic_store_n(owner_of(worker, connection->lane_slot), worker->options.ring + 1, __ATOMIC_RELEASE);
}

void lane_slot_hand_over(struct connection *connection)
{
	if (connection->lane_slot != POSTERN_NO_LANE_SLOT)
		connection->worker->slot_states[connection->lane_slot] = (struct lane_slot_state){0};
	connection->lane_slot = POSTERN_NO_LANE_SLOT;
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
