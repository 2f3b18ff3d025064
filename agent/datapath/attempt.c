/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/failures.h"
#include "datapath/context_table.h"
#include "datapath/worker_internal.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "tls/context.h"

/* A refused attempt is kept for SYN retransmits until G's socket is gone. */
#define REFUSED_LIMIT_NS  5000000000ull
#define READY_LIMIT_NS    5000000000ull
#define SYNS_OF_AN_ORPHAN 2

/* The timer is armed all along, so re-arming it finds its place in the loop: see attempt_new(). */
static void enter(struct attempt *attempt, enum attempt_state state, uint64_t limit_ns)
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

	worker_report(attempt->worker, attempt->gateway, attempt->connect.header.tuple.local_port,
	              &attempt->connect.socket.destination, attempt_policy_name(attempt, policy, sizeof(policy)),
	              reason, detail);
}

void attempt_refuse(struct attempt *attempt, enum postern_reason reason, const char *detail)
{
	if (attempt->state == ATTEMPT_REFUSED || attempt->state == ATTEMPT_ACCEPTED)
		return;
	attempt->reason = reason;
	attempt->unreachable = reason == REASON_BACKEND_UNREACHABLE || reason == REASON_BACKEND_SILENT;
	enter(attempt, ATTEMPT_REFUSED, REFUSED_LIMIT_NS);
	report(attempt, reason, detail);
	dial_cancel(attempt);
	lane_slot_withdraw(attempt);
	attempt_leave_flight(attempt);
	if (attempt->syn_known)
		release_refusal(attempt);
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

static void forget_decision(struct attempt *attempt)
{
	tls_context_unref(attempt->context);
	attempt->context = NULL;
	snapshot_unref(attempt->snapshot);
	attempt->snapshot = NULL;
	attempt->settings = NULL;
	attempt->policy = SNAPSHOT_NO_POLICY;
}

static const struct destination *look_up(struct attempt *attempt, struct snapshot *snapshot)
{
	const struct destination *destination;

	forget_decision(attempt);
	attempt->snapshot = snapshot;
	if (!snapshot)
		return NULL;
	destination = snapshot_find(snapshot, &attempt->connect.socket.destination);
	if (!destination)
		return NULL;
	attempt->policy = destination->policy;
	if (destination->verdict == POSTERN_VERDICT_TLS) {
		attempt->settings = snapshot_settings(snapshot, destination->settings_id);
		attempt->context = context_table_get(attempt->worker->options.contexts, destination->settings_id);
	}
	return destination;
}

/* The destination by the current snapshot, which the attempt keeps from now on, with the context that belongs to it. */
static const struct destination *look_up_current(struct attempt *attempt)
{
	struct snapshot_holder *snapshots = attempt->worker->options.snapshots;
	uint64_t seen = 0;

	for (;;) {
		struct snapshot *snapshot = snapshot_holder_get(snapshots);
		const struct destination *destination = look_up(attempt, snapshot);

		if (!destination || destination->verdict != POSTERN_VERDICT_TLS || attempt->context)
			return destination;
		/* Another one may have been published in between, and the contexts of this one dropped. */
		if (snapshot_generation(snapshot) == seen)
			return destination;
		seen = snapshot_generation(snapshot);
	}
}

static void ask_control_thread(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	const struct worker_options *options = &worker->options;
	uint64_t waited = monotonic_ns() - attempt->begun_ns;

	/* The limit runs from the connect, however often the answer was too old. */
	enter(attempt, ATTEMPT_WAITING, waited < options->hold_limit_ns ? options->hold_limit_ns - waited : 0);
	attempt->question = ++worker->last_question;
	attempt_list_append(&worker->waiting, attempt);
	if (options->request_decision(options->context, options->index, attempt->question,
	                              &attempt->connect.socket.destination) != 0)
		attempt_refuse(attempt, REASON_NO_MEMORY, "the destination could not be asked for");
}

void attempt_decide(struct attempt *attempt, uint64_t as_of_ns)
{
	const struct destination *destination = look_up_current(attempt);

	attempt_list_remove(attempt); /* it waits no more */
	/* TLS and DENY are safe answers from any snapshot. */
	if (destination && destination->verdict == POSTERN_VERDICT_DENY) {
		refuse_denied(attempt, destination);
		return;
	}
	if (destination && destination->verdict == POSTERN_VERDICT_TLS) {
		attempt->verdict = POSTERN_VERDICT_TLS;
		if (attempt->settings && attempt->context)
			dial_start(attempt);
		else
			attempt_refuse(attempt, REASON_INTERNAL, "no TLS context for the policy's settings");
		return;
	}
	/*
	 * Nothing covers the key. That must be known as of this connect; and if the kernel's map said TLS, the key is
	 * leaving it, and perhaps about to be covered again: the answer comes when it has left.
	 */
	if (as_of_ns < attempt->begun_ns) {
		ask_control_thread(attempt);
		return;
	}
	attempt->verdict = POSTERN_VERDICT_PLAIN;
	dial_start(attempt);
}

static const char *refusal_detail(enum postern_reason refusal)
{
	return refusal == REASON_HOLD_TIMEOUT ? "the source has errors" : "the kernel's destination map has no room";
}

void attempt_hold_answered(struct worker *worker, uint64_t as_of_ns, const struct hold_answer *answers, size_t count)
{
	struct attempt *attempt = worker->waiting.head;

	/* Both are in the order of the questions. What waits no more has ended meanwhile. */
	for (size_t i = 0; i < count && attempt;) {
		struct attempt *next = attempt->list_next;

		if (answers[i].question < attempt->question) {
			i++;
			continue;
		}
		if (answers[i].question == attempt->question) {
			if (answers[i].refusal != REASON_NONE)
				attempt_refuse(attempt, answers[i].refusal, refusal_detail(answers[i].refusal));
			else
				attempt_decide(attempt, as_of_ns);
			i++;
		}
		attempt = next;
	}
}

/* ---- the policy changes ---- */

/* B as it is dialed now is of no use: begin with the verdict again. G waits on. */
static void begin_anew(struct attempt *attempt)
{
	dial_cancel(attempt);
	lane_slot_withdraw(attempt);
	attempt->transmit_armed = false;
	attempt->user_mode_reason = REASON_NONE;
	attempt_decide(attempt, 0);
}

static bool is_decided(const struct attempt *attempt)
{
	switch (attempt->state) {
	case ATTEMPT_DIALING:
	case ATTEMPT_HANDSHAKE:
	case ATTEMPT_READY:
	case ATTEMPT_RELEASED:
		return true;
	case ATTEMPT_ORPHAN:
	case ATTEMPT_WAITING:
	case ATTEMPT_REFUSED:
	case ATTEMPT_ACCEPTED:
		break;
	}
	return false;
}

static void look_again(struct attempt *attempt, void *context)
{
	const struct destination *destination;

	if (!is_decided(attempt))
		return;
	destination = snapshot_find(context, &attempt->connect.socket.destination);
	/* Covered no more: what was begun under the policy ends under it. */
	if (!destination || destination->verdict == POSTERN_VERDICT_PLAIN)
		return;
	if (destination->verdict == POSTERN_VERDICT_TLS && attempt->settings &&
	    attempt->settings->id == destination->settings_id)
		return;
	if (attempt->state == ATTEMPT_RELEASED)
		attempt_refuse(attempt, REASON_POLICY_CHANGED, "between the release and accept()");
	else
		begin_anew(attempt);
}

void attempt_policy_changed(struct worker *worker)
{
	struct snapshot *snapshot = snapshot_holder_get(worker->options.snapshots);

	if (snapshot)
		attempt_for_each(worker, NULL, look_again, snapshot);
	snapshot_unref(snapshot);
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
		worker_report(worker, gateway, record->header.tuple.local_port, &record->socket.destination, "",
		              REASON_TOO_MANY_HANDSHAKES, "the attempt could not be kept");
		return;
	}
	attempt->connect = *record;
	refusal = attempt_admit(attempt, &detail);
	if (refusal != REASON_NONE)
		attempt_refuse(attempt, refusal, detail);
	else
		attempt_decide(attempt, 0);
}

static void held_orphan(struct attempt *attempt)
{
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
	loop_remove(attempt->worker->loop, &attempt->b_source);
	lane_slot_offer(attempt);
	enter(attempt, ATTEMPT_READY, READY_LIMIT_NS);
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
		failures_count(attempt->worker->options.failures, REASON_NO_CONNECT_RECORD);
		attempt_free(attempt);
		break;
	case ATTEMPT_REFUSED:
	case ATTEMPT_ACCEPTED:
		attempt_free(attempt);
		break;
	}
}
