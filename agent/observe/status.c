/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/status.h"

#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/memory_budget.h"
#include "base/version.h"
#include "config/config.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "datapath/shadow.h"
#include "datapath/worker.h"
#include "observe/json.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "source/source.h"

static void cleanup_snapshot(struct snapshot **snapshot)
{
	snapshot_unref(*snapshot);
}

const char *verdict_name(uint32_t verdict)
{
	switch (verdict) {
	case POSTERN_VERDICT_NONE:
		return "none";
	case POSTERN_VERDICT_TLS:
		return "tls";
	case POSTERN_VERDICT_PLAIN:
		return "plain";
	case POSTERN_VERDICT_DENY:
		return "deny";
	case POSTERN_VERDICT_HOLD:
		return "hold";
	}
	return "unknown";
}

static json_t *gateways(const struct status_sources *sources, const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; i < sources->gateway_count; i++)
		json_append(&array, status_gateway(sources->gateways[i], snapshot));
	return array;
}

static json_t *policies(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; snapshot && i < snapshot_policy_count(snapshot); i++)
		json_append(&array, status_policy(snapshot_policy_at(snapshot, i)));
	return array;
}

static json_t *gateway_objects(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; snapshot && i < snapshot_gateway_count(snapshot); i++)
		json_append(&array, status_gateway_object(snapshot_gateway_at(snapshot, i)));
	return array;
}

static json_t *findings(const struct status_sources *sources)
{
	json_t *array = json_array();

	for (size_t i = 0; i < sources->finding_count; i++) {
		const struct status_finding *finding = &sources->findings[i];

		json_append(&array, json_pack("{s:s, s:o, s:o}", "reason", finding->reason, "object",
		                              json_text(finding->object), "message", json_text(finding->message)));
	}
	return array;
}

/* Zeros until the first compile: readers need not know of a null. */
static json_t *snapshot_summary(const struct snapshot *snapshot)
{
	uint64_t age = snapshot ? monotonic_ns() - snapshot_compiled_ns(snapshot) : 0;

	return json_pack("{s:I, s:o, s:I, s:I}", "generation",
	                 (json_int_t)(snapshot ? snapshot_generation(snapshot) : 0), "age_seconds", json_seconds(age),
	                 "policies", (json_int_t)(snapshot ? snapshot_policy_count(snapshot) : 0), "destinations",
	                 (json_int_t)(snapshot ? snapshot_destination_count(snapshot) : 0));
}

static json_t *source_errors(const struct source *source)
{
	json_t *array = json_array();

	for (size_t i = 0; source && i < source_error_count(source); i++) {
		const struct source_error *error = source_error_at(source, i);

		json_append(&array, json_pack("{s:o, s:o}", "object", json_text(error->object), "message",
		                              json_text(error->message)));
	}
	return array;
}

static json_t *source_notes(const struct source *source)
{
	json_t *array = json_array();

	for (size_t i = 0; source && i < source_note_count(source); i++)
		json_append(&array, json_text(source_note_at(source, i)));
	return array;
}

/* Of a Kubernetes source; of manifests there is none. */
static json_t *source_watches(const struct source *source)
{
	json_t *array = json_array();
	uint64_t now = monotonic_ns();

	for (size_t i = 0; source && i < source_watch_count(source); i++) {
		struct source_watch watch = source_watch_at(source, i);
		json_t *age = watch.last_event_ns ? json_seconds(now - watch.last_event_ns) : json_null();
		json_t *failing = watch.failing_since_ns ? json_seconds(now - watch.failing_since_ns) : json_null();

		json_append(&array, json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "resource",
		                              json_text(watch.resource), "namespace", json_text(watch.namespace_),
		                              "name", json_text(watch.name), "state", json_text(watch.state), "objects",
		                              (json_int_t)watch.objects, "lists", (json_int_t)watch.lists, "events",
		                              (json_int_t)watch.events, "failures", (json_int_t)watch.failures,
		                              "last_event_seconds", age, "failing_seconds", failing, "error",
		                              json_text(watch.error)));
	}
	return array;
}

static json_t *counters(struct hooks *hooks)
{
	uint64_t values[POSTERN_COUNTERS] = {0};
	json_t *object = json_object();
	int error = hooks ? hooks_counters(hooks, values) : 0;

	if (error)
		log_warning("counters cannot be read", "errno=%d", -error);
	for (unsigned int i = 0; i < POSTERN_COUNTERS; i++)
		json_set(&object, counter_name(i), json_integer((json_int_t)values[i]));
	return object;
}

static void add_helper_error(void *context, const struct postern_helper_error *error, uint64_t count)
{
	const char *site = helper_site_name(error->site);

	json_append(context, json_pack("{s:s, s:o, s:I}", "site", site ? site : "unknown", "errno",
	                               json_errno(error->error), "count", (json_int_t)count));
}

static json_t *helper_errors(struct hooks *hooks)
{
	json_t *array = json_array();
	int error = hooks ? hooks_for_each_helper_error(hooks, add_helper_error, &array) : 0;

	if (error)
		log_warning("helper errors cannot be read", "errno=%d", -error);
	return array;
}

struct would_list {
	const struct status_sources *sources;
	const struct snapshot *snapshot; /* NULL: none yet */
	json_t *array;
};

static const char *gateway_name(const struct status_sources *sources, uint32_t id)
{
	for (size_t i = 0; i < sources->gateway_count; i++) {
		if (sources->gateways[i]->id == id)
			return sources->gateways[i]->name;
	}
	return "";
}

/* What a handshake beside the gateway came to. Nothing yet: null. */
static json_t *shadow_of(const struct would_list *list, const struct postern_would_key *key)
{
	struct shadow_result result;

	if (!list->sources->shadow || !shadow_find(list->sources->shadow, key->gateway_id, &key->destination, &result))
		return json_null();
	return json_pack("{s:b, s:s, s:o, s:s, s:o}", "verified", result.reason == REASON_NONE, "reason",
	                 result.reason == REASON_NONE ? "" : reason_name(result.reason), "detail",
	                 json_text(result.detail), "remedy",
	                 result.reason == REASON_NONE ? "" : reason_remedy(result.reason), "age_seconds",
	                 json_seconds(monotonic_ns() - result.at_ns));
}

static json_t *policy_of(const struct would_list *list, const struct destination *destination)
{
	const struct policy_status *policy;
	char name[512];

	if (!destination || destination->policy >= snapshot_policy_count(list->snapshot))
		return json_string("");
	policy = snapshot_policy_at(list->snapshot, destination->policy);
	(void)snprintf(name, sizeof(name), "%s/%s", policy->namespace_, policy->name);
	return json_text(name);
}

/* The verdict is that of the connects that were counted; reason and policy are those of now. */
static void add_would(void *context, const struct postern_would_key *key, uint64_t count)
{
	struct would_list *list = context;
	const struct destination *destination = list->snapshot ? snapshot_find(list->snapshot, &key->destination)
	                                                       : NULL;
	bool denied = destination && destination->verdict == POSTERN_VERDICT_DENY;

	json_append(&list->array,
	            json_pack("{s:o, s:o, s:s, s:I, s:s, s:o, s:o}", "gateway",
	                      json_text(gateway_name(list->sources, key->gateway_id)), "destination",
	                      json_destination(&key->destination), "verdict", verdict_name(key->verdict), "count",
	                      (json_int_t)count, "reason", denied ? reason_name(destination->reason) : "", "policy",
	                      policy_of(list, destination), "shadow", shadow_of(list, key)));
}

static json_t *would(const struct status_sources *sources, const struct snapshot *snapshot)
{
	struct would_list list = {.sources = sources, .snapshot = snapshot, .array = json_array()};
	int error = sources->hooks ? hooks_for_each_would(sources->hooks, add_would, &list) : 0;

	if (error)
		log_warning("observed verdicts cannot be read", "errno=%d", -error);
	return list.array;
}

static json_t *failure_totals(struct failures *failures)
{
	json_t *object = json_object();

	for (unsigned int i = REASON_NONE + 1; i < REASON_COUNT; i++)
		json_set(&object, reason_name((enum postern_reason)i),
		         json_integer((json_int_t)failures_total(failures, (enum postern_reason)i)));
	return object;
}

static json_t *worker_document(const struct status_sources *sources)
{
	struct worker_statistics sum;

	worker_totals(sources->workers, sources->worker_count, &sum);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "count",
	                 (json_int_t)sources->worker_count, "attempts", (json_int_t)sum.attempts, "attempts_live",
	                 (json_int_t)sum.attempts_live, "connections", (json_int_t)sum.connections, "connections_live",
	                 (json_int_t)sum.connections_live, "handshakes_full", (json_int_t)sum.handshakes_full,
	                 "handshakes_resumed", (json_int_t)sum.handshakes_resumed, "bytes_to_backend",
	                 (json_int_t)sum.bytes_to_backend, "bytes_to_gateway", (json_int_t)sum.bytes_to_gateway,
	                 "tickets_dropped", (json_int_t)sum.tickets_dropped, "lane_connections",
	                 (json_int_t)sum.lane_connections, "verified_again", (json_int_t)sum.verified_again, "draining",
	                 (json_int_t)sum.draining, "handed_over", (json_int_t)sum.handed_over, "taken_over",
	                 (json_int_t)sum.taken_over);
}

static json_t *switches(const struct config *config)
{
	return json_pack("{s:s, s:s, s:s}", "ktls", config_switch_name(config->ktls), "lane",
	                 config_switch_name(config->lane), "splice", config_switch_name(config->splice));
}

static json_t *limits(const struct status_sources *sources)
{
	const struct memory_budget *budget = sources->memory_budget;
	uint64_t used = budget ? atomic_load_explicit(&budget->used, memory_order_relaxed) : 0;

	return json_pack("{s:I, s:i, s:I, s:I, s:I, s:I, s:b, s:s}", "max_connections",
	                 (json_int_t)sources->max_connections, "max_handshakes", (int)sources->config->max_handshakes,
	                 "descriptors", (json_int_t)sources->descriptor_limit, "descriptors_needed",
	                 (json_int_t)sources->descriptors_needed, "memory_budget",
	                 (json_int_t)memory_budget_bytes(budget), "memory_used", (json_int_t)used, "memory_full",
	                 memory_budget_full(budget), "memory_source",
	                 sources->memory_source ? sources->memory_source : "");
}

json_t *status_document(const struct status_sources *sources)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = sources->snapshots
	                                                                ? snapshot_holder_get(sources->snapshots)
	                                                                : NULL;
	json_t *document = json_object();

	json_set(&document, "version", json_text(postern_version));
	json_set(&document, "pid", json_integer(getpid()));
	json_set(&document, "bpffs", json_text(sources->config->bpffs));
	json_set(&document, "ready", json_boolean(sources->ready));
	json_set(&document, "reason", json_text(sources->reason));
	json_set(&document, "uptime_seconds",
	         json_integer((json_int_t)((monotonic_ns() - sources->started_ns) / 1000000000)));
	json_set(&document, "snapshot", snapshot_summary(snapshot));
	json_set(&document, "gateways", gateways(sources, snapshot));
	json_set(&document, "findings", findings(sources));
	json_set(&document, "proof", status_proof(sources->proof));
	json_set(&document, "switches", switches(sources->config));
	json_set(&document, "policies", policies(snapshot));
	json_set(&document, "gateway_objects", gateway_objects(snapshot));
	json_set(&document, "system_ca", status_system_ca(&sources->system_ca));
	json_set(&document, "source_errors", source_errors(sources->source));
	json_set(&document, "source_notes", source_notes(sources->source));
	json_set(&document, "source_watches", source_watches(sources->source));
	json_set(&document, "expected", status_expected(sources, snapshot));
	json_set(&document, "programs", status_programs(sources->hooks));
	json_set(&document, "counters", counters(sources->hooks));
	json_set(&document, "helper_errors", helper_errors(sources->hooks));
	json_set(&document, "would", would(sources, snapshot));
	json_set(&document, "failures", failure_totals(sources->failures));
	json_set(&document, "workers", worker_document(sources));
	json_set(&document, "limits", limits(sources));
	return document;
}
