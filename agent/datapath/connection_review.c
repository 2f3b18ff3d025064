/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Live connections are looked at again (design section 9): when the policy changes, when a peer's chain expires, and
 * while they drain.
 *
 *   the key is now       a TLS connection                                          a plain one
 *   DENY                 reset                                                     reset
 *   TLS, same settings   kept                                                      reset
 *   TLS, others          its peer is verified by them: kept, or reset              reset
 *   PLAIN, or gone       kept                                                      kept
 *
 * One that shows another client certificate than it should now drains: a reset as soon as nothing is being asked or
 * answered, ten minutes later in any case. It is never a clean end: we cannot see whether a body was cut.
 *
 * A pass goes over the list of connections, a slice in each round of the loop. Who joins while it runs was decided by
 * the new policy already, and need not be seen. Many connections share few chains: each distinct one is verified once,
 * by the verification cache of the context.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "datapath/context_table.h"
#include "datapath/worker_internal.h"
#include "policy/client_certificate.h"
#include "policy/gateway_identity.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "tls/context.h"
#include "tls/peer.h"

#define INTERVAL_NS 5000000000ull
#define IDLE_NS     5000000000ull
#define DRAIN_NS    600000000000ull

static int64_t unix_time(void)
{
	return (int64_t)time(NULL);
}

static void note_expiry(int64_t *earliest, int64_t valid_until)
{
	if (valid_until && (!*earliest || valid_until < *earliest))
		*earliest = valid_until;
}

/* ---- one connection ---- */

static void set_draining(struct connection *connection, uint64_t until_ns)
{
	struct worker *worker = connection->worker;
	uint64_t *drain_until_ns = &connection->trust.drain_until_ns;

	if (!*drain_until_ns && until_ns) {
		worker->review.draining++;
		statistic_add(&worker->statistics.draining, 1);
	} else if (*drain_until_ns && !until_ns) {
		worker->review.draining--;
		statistic_subtract(&worker->statistics.draining, 1);
	}
	*drain_until_ns = until_ns;
}

/* False: the connection has ended. */
static bool drain(struct connection *connection)
{
	uint64_t now = monotonic_ns();

	if (now >= connection->trust.drain_until_ns) {
		relay_abort(connection->relay, REASON_POLICY_CHANGED,
		            "client certificate: it shows one that was replaced ten minutes ago");
		return false;
	}
	if (relay_is_idle(connection->relay, now - IDLE_NS)) {
		relay_abort(connection->relay, REASON_POLICY_CHANGED,
		            "client certificate: it is idle, and shows one that was replaced");
		return false;
	}
	return true;
}

static bool shows(const struct connection_trust *trust, const struct client_certificate *certificate)
{
	if (!trust->shows_certificate || !certificate)
		return !trust->shows_certificate && !certificate;
	return memcmp(trust->certificate_digest, certificate->digest, sizeof(trust->certificate_digest)) == 0;
}

static void look_at_identity(struct connection *connection, const struct snapshot *snapshot,
                             const struct tls_settings *settings)
{
	const struct gateway *gateway = connection->gateway->gateway;
	struct connection_trust *trust = &connection->trust;
	struct gateway_identity identity;

	gateway_identity_find(snapshot, gateway_refs(gateway)->at, gateway_refs(gateway)->count, settings, &identity);
	if (!identity.unusable && shows(trust, identity.certificate))
		set_draining(connection, 0);
	else if (!trust->drain_until_ns)
		set_draining(connection, monotonic_ns() + DRAIN_NS);
}

static void policy_name(const struct snapshot *snapshot, const struct destination *destination, char *name, size_t size)
{
	name[0] = '\0';
	if (destination->policy < snapshot_policy_count(snapshot)) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, destination->policy);

		(void)snprintf(name, size, "%s/%s", policy->namespace_, policy->name);
	}
}

/* Without memory it keeps the name of the policy by which it began. */
static void rename_policy(struct connection *connection, const char *name)
{
	struct names *names = &connection->worker->names;
	const char *taken = names_take(names, name);

	if (!taken)
		return;
	names_give(names, connection->policy);
	connection->policy = taken;
}

static void begin_pass(struct worker *worker, bool whole);

/* A newer snapshot than that of the pass: the contexts of this one may be gone. */
static bool is_stale(struct worker *worker)
{
	struct snapshot *newest = snapshot_holder_get(worker->options.snapshots);
	bool stale = newest && snapshot_generation(newest) != snapshot_generation(worker->review.snapshot);

	snapshot_unref(newest);
	return stale;
}

/* False: it has ended, or the pass has begun again. */
static bool verify_again(struct connection *connection, const struct destination *destination)
{
	struct worker *worker = connection->worker;
	struct connection_trust *trust = &connection->trust;
	bool expired = trust->settings_id == destination->settings_id;
	struct verify_result result = {.reason = REASON_INTERNAL, .detail = "no TLS context for the policy's settings"};
	int64_t valid_until = 0;
	struct tls_context *context = context_table_get(worker->options.contexts, destination->settings_id);
	char name[256];
	char detail[sizeof(name) + VERIFY_TEXT_MAX + 64];
	bool verified;

	if (!context && is_stale(worker)) {
		begin_pass(worker, worker->review.whole);
		return false;
	}
	verified = context && trust->peer && tls_context_judge_peer(context, trust->peer, &result, &valid_until);
	tls_context_unref(context);
	statistic_add(&worker->statistics.verified_again, 1);
	policy_name(worker->review.snapshot, destination, name, sizeof(name));
	rename_policy(connection, name);
	if (!verified) {
		(void)snprintf(detail, sizeof(detail), "verified again after %s%s: %s",
		               expired ? "a certificate expired; policy " : "a change of policy ", name, result.detail);
		relay_abort(connection->relay, result.reason, detail);
		return false;
	}
	trust->settings_id = destination->settings_id;
	trust->valid_until = valid_until;
	return true;
}

static void look_at(struct connection *connection)
{
	const struct snapshot *snapshot = connection->worker->review.snapshot;
	const struct destination *destination = snapshot_find(snapshot, &connection->destination);
	struct connection_trust *trust = &connection->trust;

	if (destination && destination->verdict == POSTERN_VERDICT_DENY) {
		relay_abort(connection->relay, destination->reason, "the policy became unusable");
		return;
	}
	if (connection->verdict == POSTERN_VERDICT_PLAIN) {
		if (destination && destination->verdict == POSTERN_VERDICT_TLS)
			relay_abort(connection->relay, REASON_POLICY_CHANGED, "relayed in plain; covered now");
		return;
	}
	if (destination && destination->verdict == POSTERN_VERDICT_TLS) {
		bool expired = trust->valid_until && trust->valid_until <= unix_time();

		if ((expired || trust->settings_id != destination->settings_id) &&
		    !verify_again(connection, destination))
			return;
		look_at_identity(connection, snapshot, snapshot_settings(snapshot, destination->settings_id));
	}
	if (trust->drain_until_ns && !drain(connection))
		return;
	/* Nothing covers the key any more: nobody asks for a valid certificate. */
	if (destination && destination->verdict == POSTERN_VERDICT_TLS)
		note_expiry(&connection->worker->review.next_expiry, trust->valid_until);
}

/* ---- a pass ---- */

static void end_pass(struct worker *worker)
{
	struct connection_review *review = &worker->review;

	review->next = NULL;
	review->whole = false;
	snapshot_unref(review->snapshot);
	review->snapshot = NULL;
}

static void begin_pass(struct worker *worker, bool whole)
{
	struct connection_review *review = &worker->review;

	end_pass(worker);
	review->snapshot = snapshot_holder_get(worker->options.snapshots);
	review->whole = whole;
	review->next = review->snapshot ? worker->connections : NULL;
	review->next_expiry = 0;
}

static bool is_due(const struct connection_review *review, const struct connection *connection, int64_t now)
{
	const struct connection_trust *trust = &connection->trust;

	return review->whole || trust->drain_until_ns || (trust->valid_until && trust->valid_until <= now);
}

bool connection_review_run(struct worker *worker, uint64_t budget_ns)
{
	struct connection_review *review = &worker->review;
	uint64_t end = monotonic_ns() + budget_ns;
	int64_t now = unix_time();

	if (!review->snapshot)
		return false;
	while (review->next) {
		struct connection *connection = review->next;

		review->next = connection->next;
		if (is_due(review, connection, now))
			look_at(connection);
		else
			note_expiry(&review->next_expiry, connection->trust.valid_until);
		if (review->next && monotonic_ns() >= end)
			return true;
	}
	review->earliest_expiry = review->next_expiry;
	end_pass(worker);
	return false;
}

void connection_policy_changed(struct worker *worker)
{
	begin_pass(worker, true);
}

static void on_interval(struct loop_timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, review.timer);
	struct connection_review *review = &worker->review;
	bool expired = review->earliest_expiry && review->earliest_expiry <= unix_time();

	if (!review->snapshot && (review->draining || expired))
		begin_pass(worker, false);
	/* It was armed until now, so it finds its place. */
	(void)loop_timer_set(worker->loop, timer, INTERVAL_NS);
}

/* ---- life ---- */

int connection_review_start(struct worker *worker)
{
	worker->review.timer.on_expire = on_interval;
	return loop_timer_set(worker->loop, &worker->review.timer, INTERVAL_NS);
}

void connection_review_stop(struct worker *worker)
{
	if (worker->loop)
		loop_timer_cancel(worker->loop, &worker->review.timer);
	end_pass(worker);
}

void connection_review_join(struct connection *connection, const struct attempt *attempt)
{
	struct connection_review *review = &connection->worker->review;
	struct connection_trust *trust = &connection->trust;

	if (!attempt->session)
		return;
	trust->settings_id = attempt->settings->id;
	trust->peer = tls_session_peer(attempt->session);
	trust->valid_until = connection->info.peer_valid_until;
	if (attempt->client_certificate) {
		trust->shows_certificate = true;
		memcpy(trust->certificate_digest, attempt->client_certificate->digest,
		       sizeof(trust->certificate_digest));
	}
	note_expiry(&review->earliest_expiry, trust->valid_until);
	note_expiry(&review->next_expiry, trust->valid_until);
}

void connection_review_leave(struct connection *connection)
{
	struct connection_review *review = &connection->worker->review;

	if (review->next == connection)
		review->next = connection->next;
	set_draining(connection, 0);
	tls_peer_unref(connection->trust.peer);
	connection->trust.peer = NULL;
}
