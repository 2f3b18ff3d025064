/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The agent's side of the lane (bpf/lane.bpf.c): what was read from A is credit for its program, and a stream that the
 * lane does not serve leaves it.
 *
 *   IN ---- STREAM bytes of bulk, or BEHIND bytes at all, ------> ASKED   slot->leave = 1
 *           passed, and few redirected since                        |
 *                                                                   |
 *       the program has answered (slot->left), and all that it had  |
 *       redirected is read (agent_read is at redirected_until)      v
 *                                                                  OUT   both sockets are plain TCP, for good
 *
 * What passes the lane does not pass for free: it is copied on its way through sk_msg, and A can only be read by
 * copying. Large messages and what sendfile() lends pass always; small ones do while something is in flight, which is
 * all the time where the agent does not keep up with a stream (an upload by nginx in pieces of 8 KB, one CPU, 6.1,
 * max,-erms: 8 % of the chain). A short stop of the agent is no reason: what TCP's queues hold must go by first.
 *
 * OUT is safe for splice(), which would skip what lies in A's redirect queue: the program runs under G's lock, one
 * message after the other, so nothing is redirected after `left`; each message was put into A's queue before G's send
 * came back, and A's redirect queue is read before its TCP queue. (Two threads of a gateway that send on one socket at
 * the same time have no order between them; that is so without the lane, too.) A connection that never becomes OUT goes
 * on as before.
 */
#include "datapath/relay_internal.h"

#define STREAM     (512u << 10)
#define BEHIND     (8u << 20) /* more than window and socket buffers hold, as a rule */
#define FAIR_SHARE 4          /* one byte for four that passed */

/* By what was read; what is redirected and on its way makes it less for a while. */
static uint64_t passed_bytes(uint64_t agent_read, uint64_t redirected)
{
	return agent_read > redirected ? agent_read - redirected : 0;
}

/* Counted since the lane last had a fair share: the ends of large messages are small, and may be redirected. */
static bool is_stream(struct relay *relay, const struct postern_lane_slot *slot, uint64_t agent_read)
{
	uint64_t redirected = __atomic_load_n(&slot->redirected_bytes, __ATOMIC_RELAXED);
	uint64_t bulk = __atomic_load_n(&slot->bulk_bytes, __ATOMIC_RELAXED);
	uint64_t passed = passed_bytes(agent_read, redirected);
	uint64_t share = redirected - relay->lane_redirected;

	if (passed < relay->lane_passed ||
	    (share > (bulk - relay->lane_bulk) / FAIR_SHARE && share > (passed - relay->lane_passed) / FAIR_SHARE)) {
		relay->lane_redirected = redirected;
		relay->lane_bulk = bulk;
		relay->lane_passed = passed;
	}
	return bulk - relay->lane_bulk >= STREAM || passed - relay->lane_passed >= BEHIND;
}

static bool has_left(const struct postern_lane_slot *slot, uint64_t agent_read)
{
	if (!__atomic_load_n(&slot->left, __ATOMIC_ACQUIRE))
		return false;
	return (int32_t)((uint32_t)agent_read - __atomic_load_n(&slot->redirected_until, __ATOMIC_RELAXED)) >= 0;
}

void relay_lane_read(struct relay *relay, size_t size)
{
	struct postern_lane_slot *slot = relay->lane_slot;
	/* Release: the program, on another CPU perhaps, sees the credit when the bytes are out of A's queue. */
	uint64_t agent_read = __atomic_add_fetch(&slot->agent_read, (uint64_t)size, __ATOMIC_RELEASE);

	if (!relay->leave_lane)
		return;
	/* Another agent may have asked, before it handed the connection over. */
	if (!__atomic_load_n(&slot->leave, __ATOMIC_RELAXED)) {
		if (is_stream(relay, slot, agent_read))
			__atomic_store_n(&slot->leave, 1, __ATOMIC_RELAXED);
		return;
	}
	if (!has_left(slot, agent_read))
		return;
	relay->lane_slot = NULL;
	relay->to_backend.may_splice = relay->splices_without_lane;
	relay->leave_lane(relay->context);
}
