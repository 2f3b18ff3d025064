/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "datapath/worker_internal.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"

/* An orphan waits for its CONNECT record, which comes again before the SYN's retransmit (1 s, then 2 s more). */
#define ORPHAN_LIMIT_NS 5000000000ull
/* A refused attempt is kept for SYN retransmits until G's socket is gone. */
#define REFUSED_LIMIT_NS  5000000000ull
#define READY_LIMIT_NS    5000000000ull
#define SYNS_OF_AN_ORPHAN 2

/* ---- the table: by gateway and G's end of the tuple ---- */

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

static void on_limit(struct loop_timer *timer);
static void on_b_event(struct loop_source *source, uint32_t events);

static struct attempt *attempt_new(struct worker *worker, const struct worker_gateway *gateway,
                                   const struct postern_record_header *header)
{
	struct attempt *attempt;
	struct attempt **bucket;

	attempt = calloc(1, sizeof(*attempt));
	if (!attempt)
		return NULL;
	attempt->worker = worker;
	attempt->gateway = gateway;
	attempt->state = ATTEMPT_ORPHAN;
	attempt->connect.header = *header;
	attempt->begun_ns = header->time_ns;
	attempt->timer.on_expire = on_limit;
	attempt->b_source.on_event = on_b_event;
	attempt->b_fd = -1;
	attempt->policy = SNAPSHOT_NO_POLICY;
	attempt->lane_slot = POSTERN_NO_LANE_SLOT;
	bucket = bucket_of(worker, gateway->gateway->id, &header->tuple);
	attempt->bucket_next = *bucket;
	*bucket = attempt;
	statistic_add(&worker->statistics.attempts, 1);
	statistic_add(&worker->statistics.attempts_live, 1);
	return attempt;
}

void attempt_free(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	struct attempt **link = bucket_of(worker, attempt->gateway->gateway->id, &attempt->connect.header.tuple);

	while (*link != attempt)
		link = &(*link)->bucket_next;
	*link = attempt->bucket_next;
	loop_timer_cancel(worker->loop, &attempt->timer);
	dial_cancel(attempt);
	if (attempt->lane_slot != POSTERN_NO_LANE_SLOT) {
		hooks_lane_withdraw(worker->options.hooks, attempt->connect.socket.cookie);
		lane_slot_abandon(attempt);
	}
	snapshot_unref(attempt->snapshot);
	statistic_subtract(&worker->statistics.attempts_live, 1);
	loop_defer_free(worker->loop, attempt);
}

static void enter(struct attempt *attempt, enum attempt_state state, uint64_t limit_ns)
{
	attempt->state = state;
	if (loop_timer_set(attempt->worker->loop, &attempt->timer, limit_ns) != 0 && state != ATTEMPT_REFUSED)
		attempt_refuse(attempt, REASON_NO_MEMORY, "no timer");
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

	worker_report(attempt->worker, attempt->gateway, attempt->connect.header.tuple.local_port,
	              &attempt->connect.socket.destination, attempt_policy_name(attempt, policy, sizeof(policy)),
	              reason, detail);
}

void attempt_refuse(struct attempt *attempt, enum postern_reason reason, const char *detail)
{
	if (attempt->state == ATTEMPT_REFUSED)
		return;
	attempt->reason = reason;
	attempt->unreachable = reason == REASON_BACKEND_UNREACHABLE || reason == REASON_BACKEND_SILENT;
	attempt->state = ATTEMPT_REFUSED;
	report(attempt, reason, detail);
	dial_cancel(attempt);
	if (attempt->syn_known)
		release_refusal(attempt);
	enter(attempt, ATTEMPT_REFUSED, REFUSED_LIMIT_NS);
}

/* ---- the verdict ---- */

/* The snapshot denies the key: say whose fault it is, in the words of the policy's own condition. */
static void refuse_denied(struct attempt *attempt, const struct destination *destination)
{
	const char *detail = "";

	if (destination->policy < snapshot_policy_count(attempt->snapshot)) {
		const struct policy_status *status = snapshot_policy_at(attempt->snapshot, destination->policy);

		detail = status->accepted.status ? status->resolved_refs.message : status->accepted.message;
	}
	attempt_refuse(attempt, destination->reason, detail);
}

static void ask_control_thread(struct attempt *attempt)
{
	struct worker_options *options = &attempt->worker->options;
	uint64_t waited = monotonic_ns() - attempt->begun_ns;

	/* The limit runs from the connect, however often the answer was too old. */
	if (attempt->state != ATTEMPT_WAITING)
		enter(attempt, ATTEMPT_WAITING, waited < options->hold_limit_ns ? options->hold_limit_ns - waited : 0);
	if (attempt->state == ATTEMPT_WAITING)
		options->request_decision(options->context, options->index, &attempt->connect.socket.destination);
}

void attempt_decide(struct attempt *attempt, uint64_t snapshot_as_of_ns)
{
	struct worker *worker = attempt->worker;
	const struct postern_gateway_socket *socket = &attempt->connect.socket;
	struct snapshot *snapshot = snapshot_holder_get(worker->options.snapshots);
	const struct destination *destination = snapshot ? snapshot_find(snapshot, &socket->destination) : NULL;
	bool held = socket->verdict == POSTERN_VERDICT_HOLD;

	snapshot_unref(attempt->snapshot);
	attempt->snapshot = snapshot;
	attempt->settings = NULL;
	attempt->policy = destination ? destination->policy : SNAPSHOT_NO_POLICY;
	/* TLS and DENY are safe answers from any snapshot; that nothing covers the key must be known as of this
	 * connect. */
	if (held && snapshot_as_of_ns < attempt->begun_ns &&
	    (!destination || destination->verdict == POSTERN_VERDICT_PLAIN)) {
		ask_control_thread(attempt);
		return;
	}
	if (destination && destination->verdict == POSTERN_VERDICT_DENY) {
		refuse_denied(attempt, destination);
		return;
	}
	if (destination && destination->verdict == POSTERN_VERDICT_TLS) {
		attempt->verdict = POSTERN_VERDICT_TLS;
		attempt->settings = snapshot_settings(snapshot, destination->settings_id);
		if (!attempt->settings)
			attempt_refuse(attempt, REASON_INTERNAL, "settings are missing from the snapshot");
		else
			dial_start(attempt);
		return;
	}
	/* Nothing covers the key. That is an answer to HOLD; for a connect that saw TLS the policy went meanwhile. */
	if (!held) {
		attempt_refuse(attempt, REASON_POLICY_CHANGED, "covered at connect(), not covered now");
		return;
	}
	attempt->verdict = POSTERN_VERDICT_PLAIN;
	dial_start(attempt);
}

/* ---- records ---- */

static bool over_limit(struct worker *worker)
{
	return atomic_load_explicit(&worker->statistics.attempts_live, memory_order_relaxed) >=
	       worker->options.max_attempts;
}

/* A refusal before there is an attempt: only the counter and the operator can be told. G's SYN is left to its own
 * timer. */
static void report_unborn(struct worker *worker, const struct worker_gateway *gateway,
                          const struct postern_connect_record *record, enum postern_reason reason)
{
	worker_report(worker, gateway, record->header.tuple.local_port, &record->socket.destination, "", reason,
	              "the attempt could not be kept");
}

void attempt_on_connect(struct worker *worker, const struct postern_connect_record *record)
{
	struct worker_gateway *gateway = worker_find_gateway(worker, record->socket.gateway_id);
	struct attempt *attempt;

	if (!gateway) {
		failures_count(worker->options.failures, REASON_GATEWAY_REMOVED);
		return;
	}
	attempt = attempt_find(worker, gateway, &record->header.tuple);
	if (attempt && attempt->connect.header.isn != record->header.isn) {
		/* The port was used again: what we knew is about a connect that no longer exists. */
		attempt_free(attempt);
		attempt = NULL;
	}
	if (attempt && attempt->state != ATTEMPT_ORPHAN)
		return; /* RTO_CB's copy of a record that did arrive */
	if (!attempt)
		attempt = attempt_new(worker, gateway, &record->header);
	if (!attempt) {
		report_unborn(worker, gateway, record, REASON_NO_MEMORY);
		return;
	}
	attempt->connect = *record;
	if (over_limit(worker)) {
		attempt_refuse(attempt, REASON_TOO_MANY_HANDSHAKES, "");
		return;
	}
	attempt_decide(attempt, 0);
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
		if (attempt->state != ATTEMPT_ORPHAN)
			return; /* CONNECT comes first in the same ring: a SYN with another ISN is a stale one */
		attempt_free(attempt);
		attempt = NULL;
	}
	if (!attempt) {
		attempt = attempt_new(worker, listener->gateway, &record->header);
		if (!attempt) {
			failures_count(worker->options.failures, REASON_NO_MEMORY);
			return;
		}
		enter(attempt, ATTEMPT_ORPHAN, ORPHAN_LIMIT_NS);
	}
	attempt->syn = *record;
	attempt->syn_known = true;
	attempt->syn_count++;
	switch (attempt->state) {
	case ATTEMPT_ORPHAN:
		/* Its CONNECT record was lost, or nobody of ours sent it: the retransmit brings the record again. */
		if (attempt->syn_count >= SYNS_OF_AN_ORPHAN || over_limit(worker))
			attempt_refuse(attempt, REASON_NO_CONNECT_RECORD, "");
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
		break;
	}
	return REASON_GATEWAY_GAVE_UP;
}

void attempt_on_gone(struct worker *worker, const struct postern_connect_record *record)
{
	struct worker_gateway *gateway = worker_find_gateway(worker, record->socket.gateway_id);
	struct attempt *attempt = gateway ? attempt_find(worker, gateway, &record->header.tuple) : NULL;
	char detail[64];

	if (!attempt)
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
	struct worker *worker = attempt->worker;
	const struct postern_gateway_socket *socket = &attempt->connect.socket;

	loop_remove(worker->loop, &attempt->b_source);
	if (worker->options.lane && socket->flags & POSTERN_G_NONBLOCK && !(socket->flags & POSTERN_G_MPTCP)) {
		attempt->lane_slot = lane_slot_take(worker);
		if (attempt->lane_slot != POSTERN_NO_LANE_SLOT &&
		    hooks_lane_offer(worker->options.hooks, socket->cookie, attempt->lane_slot) != 0) {
			lane_slot_give_back(worker, attempt->lane_slot);
			attempt->lane_slot = POSTERN_NO_LANE_SLOT;
		}
	}
	enter(attempt, ATTEMPT_READY, READY_LIMIT_NS);
	if (attempt->state == ATTEMPT_READY && attempt->syn_known)
		release_syn(attempt);
}

static void on_b_event(struct loop_source *source, uint32_t events)
{
	struct attempt *attempt = container_of(source, struct attempt, b_source);

	dial_on_event(attempt, events);
}

static void on_limit(struct loop_timer *timer)
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
		attempt_refuse(attempt, REASON_HANDSHAKE_TIMEOUT, "");
		break;
	case ATTEMPT_READY:
		attempt_refuse(attempt, REASON_GATEWAY_GAVE_UP, "no SYN came");
		break;
	case ATTEMPT_RELEASED:
		report(attempt, REASON_NEVER_ACCEPTED, "");
		attempt_free(attempt);
		break;
	case ATTEMPT_ORPHAN:
	case ATTEMPT_REFUSED:
		attempt_free(attempt);
		break;
	}
}
