/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/metric_agent.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/memory_budget.h"
#include "base/trace.h"
#include "base/version.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "datapath/proof.h"
#include "datapath/traffic.h"
#include "datapath/worker.h"
#include "observe/metric.h"
#include "policy/client_certificate.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "source/source.h"

#define SECONDS(ns) ((double)(ns) / 1e9)

static void cleanup_snapshot(struct snapshot **snapshot)
{
	snapshot_unref(*snapshot);
}

/* ---- gateways and traffic ---- */

static void gateways(struct metric_text *text, const struct metric_sources *sources)
{
	metric_add(text, METRIC_READY, sources->ready);
	for (size_t i = 0; i < sources->gateway_count; i++)
		metric_add(text, METRIC_GATEWAY_READY, sources->gateways[i]->state == GATEWAY_READY,
		           sources->gateways[i]->name,
		           sources->gateways[i]->mode == POSTERN_MODE_OBSERVE ? "observe" : "enforce");
	for (size_t i = 0; sources->hooks && i < sources->gateway_count; i++)
		metric_add(text, METRIC_GATEWAY_HOOKS,
		           hooks_gateway_attached(sources->hooks, sources->gateways[i]->name),
		           sources->gateways[i]->name);
}

static void connections(struct metric_text *text, const struct metric_sources *sources)
{
	_cleanup_free_ struct traffic_row *rows = calloc(TRAFFIC_ROWS_SHOWN, sizeof(*rows));
	uint64_t stalls[2] = {0};
	size_t count;

	if (!rows || !sources->traffic)
		return;
	count = traffic_rows(sources->traffic, rows);
	for (size_t i = 0; i < count; i++)
		metric_add(text, METRIC_LIVE_CONNECTIONS, (double)rows[i].live, rows[i].gateway, rows[i].policy,
		           traffic_mode_name(rows[i].mode));
	for (size_t i = 0; i < count; i++)
		metric_add(text, METRIC_CONNECTIONS, (double)rows[i].begun, rows[i].gateway, rows[i].policy,
		           traffic_mode_name(rows[i].mode));
	for (size_t i = 0; i < count; i++) {
		metric_add(text, METRIC_RELAYED_BYTES, (double)rows[i].bytes_to_backend, rows[i].gateway,
		           rows[i].policy, traffic_mode_name(rows[i].mode), "to_backend");
		metric_add(text, METRIC_RELAYED_BYTES, (double)rows[i].bytes_to_gateway, rows[i].gateway,
		           rows[i].policy, traffic_mode_name(rows[i].mode), "to_gateway");
		stalls[0] += rows[i].stalls_to_backend;
		stalls[1] += rows[i].stalls_to_gateway;
	}
	metric_add(text, METRIC_WINDOW_STALLS, (double)stalls[0], "to_backend");
	metric_add(text, METRIC_WINDOW_STALLS, (double)stalls[1], "to_gateway");
}

static void by_gateway(struct metric_text *text, const struct metric_sources *sources)
{
	_cleanup_free_ struct traffic_gateway_row *rows = calloc(TRAFFIC_GATEWAYS_SHOWN, sizeof(*rows));
	double bounds[TRAFFIC_BUCKETS];
	size_t count;

	if (!rows || !sources->traffic)
		return;
	for (size_t i = 0; i < TRAFFIC_BUCKETS; i++)
		bounds[i] = traffic_bucket_us[i] / 1e6;
	count = traffic_gateway_rows(sources->traffic, rows);
	for (size_t i = 0; i < count; i++)
		metric_add_histogram(text, METRIC_HANDSHAKE_DURATION, rows[i].bucket, bounds, TRAFFIC_BUCKETS,
		                     SECONDS(rows[i].sum_ns), rows[i].gateway);
	for (size_t i = 0; i < count; i++) {
		metric_add(text, METRIC_GATEWAY_CPU, SECONDS(rows[i].handshake_cpu_ns), rows[i].gateway, "handshake");
		metric_add(text, METRIC_GATEWAY_CPU, SECONDS(rows[i].relay_cpu_ns), rows[i].gateway, "relay");
	}
}

static void workers(struct metric_text *text, const struct metric_sources *sources)
{
	struct worker_statistics sum;

	worker_totals(sources->workers, sources->worker_count, &sum);
	metric_add(text, METRIC_HANDSHAKES, (double)sum.handshakes_full, "full");
	metric_add(text, METRIC_HANDSHAKES, (double)sum.handshakes_resumed, "resumed");
	metric_add(text, METRIC_ATTEMPTS, (double)sum.attempts);
	metric_add(text, METRIC_LIVE_ATTEMPTS, (double)sum.attempts_live);
	metric_add(text, METRIC_LANE_CONNECTIONS, (double)sum.lane_connections);
	metric_add(text, METRIC_TICKETS_DROPPED, (double)sum.tickets_dropped);
	metric_add(text, METRIC_REVERIFIED, (double)sum.verified_again);
	metric_add(text, METRIC_DRAINING, (double)sum.draining);
	metric_add(text, METRIC_HANDED_OVER, (double)sum.handed_over, "out");
	metric_add(text, METRIC_HANDED_OVER, (double)sum.taken_over, "in");
}

static double cpu_seconds(pthread_t thread)
{
	clockid_t clock;
	struct timespec time;

	if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &time) == -1)
		return 0;
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void threads(struct metric_text *text, const struct metric_sources *sources)
{
	char name[32];

	metric_add(text, METRIC_THREAD_CPU, cpu_seconds(pthread_self()), "control");
	for (size_t i = 0; i < sources->worker_count; i++) {
		(void)snprintf(name, sizeof(name), "worker-%zu", i);
		metric_add(text, METRIC_THREAD_CPU, cpu_seconds(worker_thread(sources->workers[i])), name);
	}
}

/* ---- failures and the kernel ---- */

static void failures(struct metric_text *text, const struct metric_sources *sources)
{
	if (!sources->failures)
		return;
	for (unsigned int i = REASON_NONE + 1; i < REASON_COUNT; i++) {
		enum postern_reason reason = (enum postern_reason)i;

		if (!reason_is_of_mode(reason))
			metric_add(text, METRIC_FAILURES, (double)failures_total(sources->failures, reason),
			           reason_name(reason), reason_class_name(reason_class(reason)));
	}
	for (unsigned int i = REASON_NONE + 1; i < REASON_COUNT; i++) {
		/* What waits for tickets is in the kernel a second later. */
		if (reason_is_of_mode((enum postern_reason)i) && i != REASON_TICKETS_PENDING)
			metric_add(text, METRIC_KTLS_OFF,
			           (double)failures_total(sources->failures, (enum postern_reason)i),
			           reason_name((enum postern_reason)i));
	}
	metric_add(text, METRIC_ESCAPED, (double)failures_total(sources->failures, REASON_ESCAPED));
}

static void add_error(void *context, const struct postern_helper_error *error, uint64_t count)
{
	uint64_t *sites = context;

	if (error->site < POSTERN_SITES)
		sites[error->site] += count;
}

static void kernel(struct metric_text *text, const struct metric_sources *sources)
{
	uint64_t counters[POSTERN_COUNTERS] = {0};
	uint64_t sites[POSTERN_SITES] = {0};
	int error = sources->hooks ? hooks_counters(sources->hooks, counters) : 0;

	if (error)
		log_warning("counters cannot be read", "errno=%d", -error);
	metric_add(text, METRIC_WIRE_NOT_TLS, (double)counters[POSTERN_COUNT_WIRE_NOT_TLS]);
	for (unsigned int i = 0; i < POSTERN_COUNTERS; i++) {
		if (i != POSTERN_COUNT_WIRE_NOT_TLS && counter_name(i))
			metric_add(text, METRIC_KERNEL_EVENTS, (double)counters[i], counter_name(i));
	}
	error = sources->hooks ? hooks_for_each_helper_error(sources->hooks, add_error, sites) : 0;
	if (error)
		log_warning("helper errors cannot be read", "errno=%d", -error);
	for (unsigned int i = 0; i < POSTERN_SITES; i++) {
		if (helper_site_name(i))
			metric_add(text, METRIC_HELPER_FAILURES, (double)sites[i], helper_site_name(i));
	}
}

static void maps(struct metric_text *text, const struct metric_sources *sources)
{
	for (size_t i = 0; i < sources->map_count; i++)
		metric_add(text, METRIC_MAP_ENTRIES, (double)sources->maps[i].entries, sources->maps[i].name);
	for (size_t i = 0; i < sources->map_count; i++)
		metric_add(text, METRIC_MAP_CAPACITY, (double)sources->maps[i].capacity, sources->maps[i].name);
	metric_add(text, METRIC_MAP_OVERFLOW, (double)sources->map_overflow);
}

static void memory(struct metric_text *text, const struct memory_budget *budget)
{
	metric_add(text, METRIC_MEMORY_BUDGET, (double)memory_budget_bytes(budget));
	metric_add(text, METRIC_MEMORY_USED,
	           budget ? (double)atomic_load_explicit(&budget->used, memory_order_relaxed) : 0);
}

/* ---- proof ---- */

static int verdict_value(const struct proof_result *result)
{
	switch (result->verdict) {
	case PROOF_SAFE:
		return 1;
	case PROOF_UNSAFE:
		return -1;
	case PROOF_NOT_RUN:
	case PROOF_UNAVAILABLE:
		break;
	}
	return 0;
}

static const char *direction_name(unsigned int direction)
{
	return direction == TLS_DIRECTION_TRANSMIT ? "transmit" : "receive";
}

static void crypto_proof(struct metric_text *text, const struct proof *proof, unsigned int mode, unsigned int direction)
{
	/* Padded records are received only. */
	if (mode == PROOF_NO_PAD && direction == TLS_DIRECTION_TRANSMIT)
		return;
	for (unsigned int version = 0; version < 2; version++) {
		for (unsigned int cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++)
			metric_add(text, METRIC_PROOF, verdict_value(&proof->crypto[mode][direction][version][cipher]),
			           proof_mode_name((enum proof_mode)mode), direction_name(direction),
			           tls_version_name((enum tls_version)version),
			           tls_cipher_name((enum tls_cipher)cipher));
	}
}

static void proof(struct metric_text *text, const struct proof *proof)
{
	if (!proof)
		return;
	for (unsigned int i = 0; i < PROOF_HOOKS; i++)
		metric_add(text, METRIC_PROOF, verdict_value(&proof->hook[i]), proof_hook_name((enum proof_hook)i), "",
		           "", "");
	for (unsigned int direction = 0; direction < 2; direction++)
		metric_add(text, METRIC_PROOF, verdict_value(&proof->rekey[direction]), "rekey",
		           direction_name(direction), "", "");
	for (unsigned int mode = 0; mode < PROOF_MODES; mode++) {
		for (unsigned int direction = 0; direction < 2; direction++)
			crypto_proof(text, proof, mode, direction);
	}
}

/* ---- policy ---- */

static void certificates(struct metric_text *text, const struct metric_sources *sources,
                         const struct snapshot *snapshot)
{
	char owner[640];

	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);
		const struct ca_expiry *expiry = metric_snapshot_expiry(sources->figures, policy->settings_id);

		if (!expiry || expiry->at == INT64_MAX)
			continue;
		(void)snprintf(owner, sizeof(owner), "%s/%s", policy->namespace_, policy->name);
		metric_add(text, METRIC_CA_EXPIRY, (double)expiry->at, owner);
	}
	for (size_t i = 0; i < snapshot_gateway_count(snapshot); i++) {
		const struct gateway_status *gateway = snapshot_gateway_at(snapshot, i);

		if (!gateway->client_certificate)
			continue;
		(void)snprintf(owner, sizeof(owner), "Gateway %s/%s", gateway->namespace_, gateway->name);
		metric_add(text, METRIC_CLIENT_CERTIFICATE_EXPIRY, (double)gateway->client_certificate->not_after,
		           owner);
	}
	/* Policies, not settings: those that are equal share them, and each has an owner who is to act. */
	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);
		const struct tls_settings *settings = snapshot_settings(snapshot, policy->settings_id);

		if (!settings || !settings->client_certificate)
			continue;
		(void)snprintf(owner, sizeof(owner), "BackendTLSPolicy %s/%s", policy->namespace_, policy->name);
		metric_add(text, METRIC_CLIENT_CERTIFICATE_EXPIRY, (double)settings->client_certificate->not_after,
		           owner);
	}
}

static void policy(struct metric_text *text, const struct metric_sources *sources)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = sources->snapshots
	                                                                ? snapshot_holder_get(sources->snapshots)
	                                                                : NULL;
	struct metric_snapshot *figures = sources->figures;

	if (!snapshot)
		return;
	metric_snapshot_update(figures, snapshot, time(NULL));
	metric_add(text, METRIC_POLICIES, (double)figures->policies_accepted, "accepted");
	metric_add(text, METRIC_POLICIES, (double)figures->policies_refused, "refused");
	metric_add(text, METRIC_DESTINATIONS, (double)figures->destinations[0], "tls");
	metric_add(text, METRIC_DESTINATIONS, (double)figures->destinations[1], "plain");
	metric_add(text, METRIC_DESTINATIONS, (double)figures->destinations[2], "deny");
	metric_add(text, METRIC_AMBIGUOUS, (double)figures->ambiguous);
	certificates(text, sources, snapshot);
	metric_add(text, METRIC_SNAPSHOT_GENERATION, (double)snapshot_generation(snapshot));
	metric_add(text, METRIC_SNAPSHOT_AGE, SECONDS(monotonic_ns() - snapshot_compiled_ns(snapshot)));
}

static void watches(struct metric_text *text, const struct metric_sources *sources)
{
	uint64_t now = monotonic_ns();
	uint64_t stale = 0;

	metric_add(text, METRIC_SOURCE_ERRORS, (double)sources->source_errors);
	for (size_t i = 0; i < sources->watch_count; i++) {
		uint64_t since = sources->watches[i].failing_since_ns;

		if (since && since < now && now - since > stale)
			stale = now - since;
	}
	metric_add(text, METRIC_SOURCE_STALE, SECONDS(stale));
#define EACH(metric, value)                                                                                            \
	for (size_t i = 0; i < sources->watch_count; i++)                                                              \
	metric_add(text, metric, (double)(value), sources->watches[i].resource, sources->watches[i].namespace_)
	EACH(METRIC_WATCH_UP, strcmp(sources->watches[i].state, "watching") == 0);
	EACH(METRIC_WATCH_EVENTS, sources->watches[i].events);
	EACH(METRIC_WATCH_LISTS, sources->watches[i].lists);
	EACH(METRIC_WATCH_FAILURES, sources->watches[i].failures);
#undef EACH
}

static void trace(struct metric_text *text, struct trace *trace)
{
	uint64_t losses[TRACE_LOSSES] = {0};

	if (trace)
		trace_losses(trace, losses);
	for (enum trace_loss loss = 0; loss < TRACE_LOSSES; loss++)
		metric_add(text, METRIC_TRACE_LOST, (double)losses[loss], trace_loss_name(loss));
}

void metrics_of_agent(struct metric_text *text, const struct metric_sources *sources)
{
	gateways(text, sources);
	connections(text, sources);
	by_gateway(text, sources);
	workers(text, sources);
	threads(text, sources);
	failures(text, sources);
	kernel(text, sources);
	maps(text, sources);
	memory(text, sources->memory_budget);
	proof(text, sources->proof);
	policy(text, sources);
	watches(text, sources);
	metric_add(text, METRIC_PROBES, (double)sources->probes_passed, "passed");
	metric_add(text, METRIC_PROBES, (double)sources->probes_failed, "failed");
	metric_add(text, METRIC_ULP_CHECKS, (double)sources->ulp_checks);
	metric_add(text, METRIC_ULP_MISMATCHES, (double)sources->ulp_mismatches);
	metric_add(text, METRIC_TLS_DECRYPT_ERRORS, (double)sources->tls_decrypt_errors);
	trace(text, sources->trace);
	metrics_of_both(text, sources->started, sources->traffic ? traffic_folded(sources->traffic) : 0);
}

void metrics_of_both(struct metric_text *text, double started, uint64_t folded_since_start)
{
	struct log_statistics log;

	log_statistics(&log);
	metric_add(text, METRIC_BUILD, 1, postern_version, OpenSSL_version(OPENSSL_VERSION_STRING));
	metric_add(text, METRIC_START_TIME, started);
	metric_add(text, METRIC_LOG_LINES, (double)log.lines, "written");
	metric_add(text, METRIC_LOG_LINES, (double)log.suppressed, "suppressed");
	metric_add(text, METRIC_LOG_LINES, (double)log.lost, "lost");
	metric_add(text, METRIC_SERIES_FOLDED, (double)(metric_folded(text) + folded_since_start));
}
