/* SPDX-License-Identifier: GPL-2.0-only */
/* What an attempt is by the current snapshot: TLS with which settings and identity, plain, refused, or not known yet.
 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "datapath/context_table.h"
#include "datapath/worker_internal.h"
#include "policy/client_certificate.h"
#include "policy/gateway_identity.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "tls/context.h"

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

void attempt_forget_decision(struct attempt *attempt)
{
	client_certificate_unref(attempt->client_certificate);
	attempt->client_certificate = NULL;
	tls_context_unref(attempt->context);
	attempt->context = NULL;
	snapshot_unref(attempt->snapshot);
	attempt->snapshot = NULL;
	attempt->settings = NULL;
	attempt->policy = SNAPSHOT_NO_POLICY;
}

/* /readyz: no policy covers this, and it is dialed as if one did. */
static bool is_probed(const struct attempt *attempt)
{
	const struct gateway_probe *probe = attempt->gateway->gateway->probe;

	return probe && memcmp(&attempt->connect.socket.destination, &probe->destination->key,
	                       sizeof(probe->destination->key)) == 0;
}

static const struct destination *look_up(struct attempt *attempt, struct snapshot *snapshot)
{
	const struct destination *destination;

	attempt_forget_decision(attempt);
	attempt->snapshot = snapshot;
	if (!snapshot)
		return NULL;
	if (is_probed(attempt)) {
		const struct gateway_probe *probe = attempt->gateway->gateway->probe;

		attempt->settings = probe->settings;
		attempt->context = tls_context_ref(probe->context);
		return probe->destination;
	}
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
	attempt_enter(attempt, ATTEMPT_WAITING, waited < options->hold_limit_ns ? options->hold_limit_ns - waited : 0);
	attempt->question = ++worker->last_question;
	attempt_list_append(&worker->waiting, attempt);
	if (options->request_decision(options->context, options->index, attempt->question,
	                              &attempt->connect.socket.destination) != 0)
		attempt_refuse(attempt, REASON_NO_MEMORY, "the destination could not be asked for");
}

static void find_identity(const struct attempt *attempt, const struct snapshot *snapshot,
                          const struct tls_settings *settings, struct gateway_identity *identity)
{
	const struct gateway *gateway = attempt->gateway->gateway;

	gateway_identity_find(snapshot, gateway_refs(gateway)->at, gateway_refs(gateway)->count, settings, identity);
}

/* The verdict is TLS, and there are settings and a context. */
static void dial_as_gateway(struct attempt *attempt)
{
	struct gateway_identity identity;
	char detail[TLS_DETAIL_MAX];

	find_identity(attempt, attempt->snapshot, attempt->settings, &identity);
	if (identity.unusable) {
		snprintf(detail, sizeof(detail), "Gateway %s/%s: %s", identity.unusable->namespace_,
		         identity.unusable->name, identity.unusable->resolved_refs.message);
		attempt_refuse(attempt, REASON_CLIENT_CERTIFICATE_UNUSABLE, detail);
		return;
	}
	if (identity.certificate)
		attempt->client_certificate = client_certificate_ref(identity.certificate);
	dial_start(attempt);
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
			dial_as_gateway(attempt);
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
	switch (refusal) {
	case REASON_HOLD_TIMEOUT:
		return "the source has errors";
	case REASON_POLICY_CHANGED:
		return "a policy covered the destination before the agent was started, and no object names it now";
	default:
		return "the kernel's destination map has no room";
	}
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

static bool shows_the_same(const struct attempt *attempt, const struct snapshot *snapshot)
{
	struct gateway_identity identity;

	find_identity(attempt, snapshot, attempt->settings, &identity);
	return !identity.unusable && client_certificates_equal(identity.certificate, attempt->client_certificate);
}

static void look_again(struct attempt *attempt, void *context)
{
	const struct destination *destination;

	if (!is_decided(attempt) || is_probed(attempt))
		return;
	destination = snapshot_find(context, &attempt->connect.socket.destination);
	/* Covered no more: what was begun under the policy ends under it. */
	if (!destination || destination->verdict == POSTERN_VERDICT_PLAIN)
		return;
	if (destination->verdict == POSTERN_VERDICT_TLS && attempt->settings &&
	    attempt->settings->id == destination->settings_id && shows_the_same(attempt, context))
		return;
	if (attempt->state != ATTEMPT_RELEASED)
		begin_anew(attempt);
	/* What lies in the accept queue is a connection: right after this it is looked at as all of them are. */
	else if (release_is_over(attempt))
		attempt_refuse(attempt, REASON_POLICY_CHANGED, "between the release and accept()");
}

void attempt_policy_changed(struct worker *worker)
{
	struct snapshot *snapshot = snapshot_holder_get(worker->options.snapshots);

	if (snapshot)
		attempt_for_each(worker, NULL, look_again, snapshot);
	snapshot_unref(snapshot);
}
