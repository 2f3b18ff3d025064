/* SPDX-License-Identifier: GPL-2.0-only */
/*
 *  SYN alone          CONNECT record
 *      |                   |
 *   ORPHAN --CONNECT--> (decide) --TLS, PLAIN--> DIALING --TLS--> HANDSHAKE --verified--> READY
 *      |                 |    ^                     | |               |                     |
 *  second SYN    uncovered  answer                  | +---- PLAIN ----|-----------------> READY
 *      |                 v    |                   failed            failed                  | SYN known: sent again
 *      |                WAITING                     |                 |                     v
 *      v                   | DENY, limit, failure   |                 |                  RELEASED --accept--> ACCEPTED
 *   REFUSED <--------------+------------------------+-----------------+                     | 1 s
 *      | RST or ICMP when the SYN is known                                                  v
 *      v                                                                                (B closed)
 *   GONE record, or 5 s and the ring is read: freed. GONE in any other state: B closed, freed.
 */
#include <stdio.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/failures.h"
#include "datapath/worker_internal.h"
#include "datapath/worker_trace.h"
#include "policy/snapshot.h"

/* A refused attempt is kept for SYN retransmits until G's socket is gone. */
#define REFUSED_LIMIT_NS  5000000000ull
#define READY_LIMIT_NS    5000000000ull
#define SYNS_OF_AN_ORPHAN 2

/* The timer is armed all along, so re-arming it finds its place in the loop: see attempt_new(). */
void attempt_enter(struct attempt *attempt, enum attempt_state state, uint64_t limit_ns)
{
	attempt->state = state;
	(void)loop_timer_set(attempt->worker->loop, &attempt->timer, limit_ns);
}

/* Settings may be shared by several policies that say the same: the destination knows which one is its own. */
const char *attempt_policy_name(const struct attempt *attempt, char *name, size_t size)
{
	name[0] = '\0';
	if (attempt->snapshot && attempt->policy < snapshot_policy_count(attempt->snapshot)) {
		const struct policy_status *policy = snapshot_policy_at(attempt->snapshot, attempt->policy);

		snprintf(name, size, "%s/%s", policy->namespace_, policy->name);
	}
	return name;
}

static void report(struct attempt *attempt, enum postern_reason reason, const char *detail)
{
	char policy[256];

	worker_report(attempt->worker, attempt_subject(attempt), attempt_policy_name(attempt, policy, sizeof(policy)),
	              reason, detail);
}

void attempt_refuse(struct attempt *attempt, enum postern_reason reason, const char *detail)
{
	if (attempt->state == ATTEMPT_REFUSED || attempt->state == ATTEMPT_ACCEPTED)
		return;
	attempt->reason = reason;
	attempt->unreachable = reason == REASON_BACKEND_UNREACHABLE || reason == REASON_BACKEND_SILENT;
	attempt_enter(attempt, ATTEMPT_REFUSED, REFUSED_LIMIT_NS);
	report(attempt, reason, detail);
	dial_cancel(attempt);
	lane_slot_withdraw(attempt);
	attempt_leave_flight(attempt);
	if (attempt->syn_known)
		release_refusal(attempt);
}

/* ---- records ---- */

/* A socket that the gateway made in another namespace, or before it left this one, is not ours to dial for. */
static struct worker_gateway *gateway_of_record(struct worker *worker, const struct postern_connect_record *record)
{
	struct worker_gateway *gateway = worker_find_gateway(worker, record->socket.gateway_id);

	return gateway && gateway->gateway->netns_cookie == record->netns_cookie ? gateway : NULL;
}

/* The port was used again: what we knew is about a connect that no longer exists. */
static void forget_stale(struct attempt *attempt)
{
	if (attempt->state != ATTEMPT_REFUSED && attempt->state != ATTEMPT_ACCEPTED)
		report(attempt, REASON_GATEWAY_GAVE_UP, "its port is used by another connect");
	attempt_free(attempt);
}

static const char *verdict_word(uint32_t verdict)
{
	return verdict == POSTERN_VERDICT_TLS    ? "TLS"
	       : verdict == POSTERN_VERDICT_HOLD ? "HOLD"
	       : verdict == POSTERN_VERDICT_DENY ? "DENY"
	                                         : "PLAIN";
}

void attempt_on_connect(struct worker *worker, const struct postern_connect_record *record)
{
	struct worker_gateway *gateway = gateway_of_record(worker, record);
	enum postern_reason refusal;
	struct attempt *attempt;
	const char *detail;

	if (!gateway) {
		failures_count(worker->options.failures, REASON_GATEWAY_REMOVED);
		return;
	}
	attempt = attempt_find(worker, gateway, &record->header.tuple);
	if (attempt && attempt->connect.header.isn != record->header.isn) {
		forget_stale(attempt);
		attempt = NULL;
	}
	if (attempt && attempt->state != ATTEMPT_ORPHAN)
		return; /* RTO_CB's copy of a record that did arrive, perhaps read after the connect was completed */
	if (!attempt)
		attempt = attempt_new(worker, gateway, &record->header);
	if (!attempt) { /* its SYN follows, and is refused */
		const struct trace_subject subject = {
		        .gateway = gateway,
		        .gateway_port = record->header.tuple.local_port,
		        .destination = &record->socket.destination,
		        .verdict = record->socket.verdict,
		        .cookie = record->socket.cookie,
		};

		worker_report(worker, subject, "", REASON_TOO_MANY_HANDSHAKES, "the attempt could not be kept");
		return;
	}
	attempt->connect = *record;
	worker_trace(worker, TRACE_CONNECT, attempt_subject(attempt), REASON_NONE, "the kernel said %s",
	             verdict_word(record->socket.verdict));
	refusal = attempt_admit(attempt, &detail);
	if (refusal != REASON_NONE)
		attempt_refuse(attempt, refusal, detail);
	else if (gate_is_dialed(attempt))
		gate_decide(attempt);
	else
		attempt_decide(attempt, 0);
}

/*
 * The ring was full when this SYN came, or may have been: what is not in it is no proof. In a full ring there is so
 * much before its last record, which is this one, that reading was seen to be late on the way to it.
 */
static bool may_be_a_loss(const struct worker *worker, const struct postern_syn_record *record)
{
	return worker->ring_behind_ns >= record->header.time_ns;
}

static void held_orphan(struct attempt *attempt)
{
	if (may_be_a_loss(attempt->worker, &attempt->syn))
		attempt->syn_count = 0;
	/* Its CONNECT record was lost, or nobody of ours sent it: the retransmit brings the record again. */
	if (attempt->syn_count < SYNS_OF_AN_ORPHAN)
		return;
	attempt_refuse(attempt, REASON_NO_CONNECT_RECORD, "");
	/* No GONE record will come for it either. */
	if (attempt->answered)
		attempt_free(attempt);
}

void attempt_on_syn(struct worker *worker, const struct postern_syn_record *record)
{
	struct worker_listener *listener = worker_find_listener(worker, record->listener_cookie);
	struct attempt *attempt;

	if (!listener) {
		failures_count(worker->options.failures, REASON_GATEWAY_REMOVED);
		return;
	}
	attempt = attempt_find(worker, listener->gateway, &record->header.tuple);
	if (attempt && attempt->connect.header.isn != record->header.isn) {
		/* CONNECT comes first in the same ring: a SYN with another ISN is a stale one. */
		if (attempt->state != ATTEMPT_ORPHAN && attempt->state != ATTEMPT_ACCEPTED)
			return;
		attempt_free(attempt);
		attempt = NULL;
	}
	if (!attempt)
		attempt = attempt_new(worker, listener->gateway, &record->header);
	if (!attempt) {
		failures_count(worker->options.failures, REASON_TOO_MANY_HANDSHAKES);
		if (!may_be_a_loss(worker, record))
			release_reset(worker, listener->gateway, record);
		return;
	}
	attempt->syn = *record;
	attempt->syn_known = true;
	attempt->syn_count++;
	switch (attempt->state) {
	case ATTEMPT_ORPHAN:
		held_orphan(attempt);
		break;
	case ATTEMPT_READY:
	case ATTEMPT_RELEASED:
		release_syn(attempt);
		break;
	case ATTEMPT_REFUSED:
		release_refusal(attempt);
		break;
	case ATTEMPT_WAITING:
	case ATTEMPT_DIALING:
	case ATTEMPT_HANDSHAKE:
		break; /* it stays held */
	case ATTEMPT_ACCEPTED:
		break; /* sent before the connect was completed */
	}
}

/* G gave up while we were at it: name what it waited for. */
static enum postern_reason reason_of_giving_up(enum attempt_state state)
{
	switch (state) {
	case ATTEMPT_DIALING:
		return REASON_BACKEND_SILENT;
	case ATTEMPT_HANDSHAKE:
		return REASON_HANDSHAKE_TIMEOUT;
	case ATTEMPT_WAITING:
		return REASON_HOLD_TIMEOUT;
	case ATTEMPT_ORPHAN:
	case ATTEMPT_READY:
	case ATTEMPT_RELEASED:
	case ATTEMPT_REFUSED:
	case ATTEMPT_ACCEPTED:
		break;
	}
	return REASON_GATEWAY_GAVE_UP;
}

void attempt_on_gone(struct worker *worker, const struct postern_connect_record *record)
{
	struct worker_gateway *gateway = gateway_of_record(worker, record);
	struct attempt *attempt = gateway ? attempt_find(worker, gateway, &record->header.tuple) : NULL;
	char detail[64];

	/* An orphan's cookie is not known: its CONNECT record was lost. */
	if (!attempt || attempt->state == ATTEMPT_ACCEPTED ||
	    (attempt->state != ATTEMPT_ORPHAN && attempt->connect.socket.cookie != record->socket.cookie))
		return;
	if (attempt->state != ATTEMPT_REFUSED) {
		snprintf(detail, sizeof(detail), "the gateway gave up after %llu ms",
		         (unsigned long long)((monotonic_ns() - attempt->begun_ns) / 1000000));
		report(attempt, reason_of_giving_up(attempt->state), detail);
	}
	attempt_free(attempt);
}

/* ---- events ---- */

void attempt_ready(struct attempt *attempt)
{
	/* B stays in the loop: as a rule the relay takes it over at once. Else its first event takes it out. */
	if (attempt->b_fd >= 0)
		lane_slot_offer(attempt);
	attempt_enter(attempt, ATTEMPT_READY, READY_LIMIT_NS);
	if (attempt->syn_known)
		release_syn(attempt);
}

void attempt_on_b_event(struct loop_source *source, uint32_t events)
{
	struct attempt *attempt = container_of(source, struct attempt, b_source);

	dial_on_event(attempt, events);
}

void attempt_on_limit(struct loop_timer *timer)
{
	struct attempt *attempt = container_of(timer, struct attempt, timer);

	switch (attempt->state) {
	case ATTEMPT_WAITING:
		attempt_refuse(attempt, REASON_HOLD_TIMEOUT, "no decision in time");
		break;
	case ATTEMPT_DIALING:
		attempt_refuse(attempt, REASON_BACKEND_SILENT, "the agent's dial limit passed");
		break;
	case ATTEMPT_HANDSHAKE:
		if (dial_handshake_expired(attempt))
			attempt_refuse(attempt, REASON_HANDSHAKE_TIMEOUT, "");
		break;
	case ATTEMPT_READY:
		/* G is gone, or its SYN was lost and the next one comes late: then its CONNECT record begins anew. */
		report(attempt, REASON_GATEWAY_GAVE_UP, "no SYN came");
		attempt_free(attempt);
		break;
	case ATTEMPT_RELEASED:
		/* In a crowd the loop's word for the accept queue may come later than the limit. */
		if (!release_is_over(attempt))
			break;
		report(attempt, REASON_NEVER_ACCEPTED, "");
		attempt_free(attempt);
		break;
	case ATTEMPT_ORPHAN:
		failures_count(attempt->worker->options.failures, REASON_NO_CONNECT_RECORD);
		attempt_free(attempt);
		break;
	case ATTEMPT_REFUSED:
		/* Copies of its CONNECT record may lie before G's GONE: each would dial once more, for nobody. */
		if (worker_ring_has_more(attempt->worker) &&
		    loop_timer_set(attempt->worker->loop, &attempt->timer, REFUSED_LIMIT_NS) == 0)
			break;
		attempt_free(attempt);
		break;
	case ATTEMPT_ACCEPTED:
		attempt_free(attempt);
		break;
	}
}
