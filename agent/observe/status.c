/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/status.h"

#include <unistd.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/version.h"
#include "config/config.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "datapath/worker.h"
#include "observe/json.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "source/files.h"

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

json_t *status_gateway(const struct gateway *gateway)
{
	json_t *ports = json_array();

	for (size_t i = 0; i < gateway->listener_count; i++)
		json_append(&ports, json_integer(gateway->listeners[i].port));
	return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:o}", "name", json_text(gateway->name), "cgroup",
	                 json_text(gateway->cgroup_path), "mode", config_gateway_mode_name(gateway->mode), "state",
	                 gateway_state_name(gateway->state), "reason", json_text(gateway->reason), "netns",
	                 json_text(gateway->netns_path), "listeners", ports);
}

static json_t *gateways(const struct status_sources *sources)
{
	json_t *array = json_array();

	for (size_t i = 0; i < sources->gateway_count; i++)
		json_append(&array, status_gateway(sources->gateways[i]));
	return array;
}

static json_t *condition(const struct policy_condition *condition)
{
	return json_pack("{s:b, s:o, s:o}", "status", condition->status, "reason", json_text(condition->reason),
	                 "message", json_text(condition->message));
}

json_t *status_policy(const struct policy_status *policy)
{
	return json_pack("{s:o, s:o, s:I, s:o, s:o, s:I}", "namespace", json_text(policy->namespace_), "name",
	                 json_text(policy->name), "generation", (json_int_t)policy->generation, "accepted",
	                 condition(&policy->accepted), "resolvedRefs", condition(&policy->resolved_refs),
	                 "destinations", (json_int_t)policy->destination_count);
}

static json_t *policies(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; snapshot && i < snapshot_policy_count(snapshot); i++)
		json_append(&array, status_policy(snapshot_policy_at(snapshot, i)));
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

static json_t *source_errors(const struct files_source *files)
{
	json_t *array = json_array();

	for (size_t i = 0; files && i < files_source_error_count(files); i++) {
		const struct source_error *error = files_source_error_at(files, i);

		json_append(&array, json_pack("{s:o, s:o}", "object", json_text(error->object), "message",
		                              json_text(error->message)));
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

static void add_would(void *context, const struct postern_would_key *key, uint64_t count)
{
	struct would_list *list = context;

	json_append(&list->array, json_pack("{s:o, s:o, s:s, s:I}", "gateway",
	                                    json_text(gateway_name(list->sources, key->gateway_id)), "destination",
	                                    json_destination(&key->destination), "verdict", verdict_name(key->verdict),
	                                    "count", (json_int_t)count));
}

static json_t *would(const struct status_sources *sources)
{
	struct would_list list = {.sources = sources, .array = json_array()};
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

static json_t *worker_totals(const struct status_sources *sources)
{
	struct worker_statistics sum = {0};

	for (size_t i = 0; i < sources->worker_count; i++) {
		struct worker_statistics one = {0};

		worker_statistics(sources->workers[i], &one);
		sum.attempts += one.attempts;
		sum.attempts_live += one.attempts_live;
		sum.connections += one.connections;
		sum.connections_live += one.connections_live;
		sum.handshakes_full += one.handshakes_full;
		sum.handshakes_resumed += one.handshakes_resumed;
		sum.bytes_to_backend += one.bytes_to_backend;
		sum.bytes_to_gateway += one.bytes_to_gateway;
		sum.tickets_dropped += one.tickets_dropped;
		sum.lane_connections += one.lane_connections;
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "count",
	                 (json_int_t)sources->worker_count, "attempts", (json_int_t)sum.attempts, "attempts_live",
	                 (json_int_t)sum.attempts_live, "connections", (json_int_t)sum.connections, "connections_live",
	                 (json_int_t)sum.connections_live, "handshakes_full", (json_int_t)sum.handshakes_full,
	                 "handshakes_resumed", (json_int_t)sum.handshakes_resumed, "bytes_to_backend",
	                 (json_int_t)sum.bytes_to_backend, "bytes_to_gateway", (json_int_t)sum.bytes_to_gateway,
	                 "tickets_dropped", (json_int_t)sum.tickets_dropped, "lane_connections",
	                 (json_int_t)sum.lane_connections);
}

static json_t *switches(const struct config *config)
{
	return json_pack("{s:s, s:s, s:s}", "ktls", config_switch_name(config->ktls), "lane",
	                 config_switch_name(config->lane), "splice", config_switch_name(config->splice));
}

json_t *status_document(const struct status_sources *sources)
{
	_cleanup_(cleanup_snapshot) struct snapshot *snapshot = sources->snapshots
	                                                                ? snapshot_holder_get(sources->snapshots)
	                                                                : NULL;
	json_t *document = json_object();

	json_set(&document, "version", json_text(postern_version));
	json_set(&document, "pid", json_integer(getpid()));
	json_set(&document, "ready", json_boolean(sources->ready));
	json_set(&document, "reason", json_text(sources->reason));
	json_set(&document, "uptime_seconds",
	         json_integer((json_int_t)((monotonic_ns() - sources->started_ns) / 1000000000)));
	json_set(&document, "snapshot", snapshot_summary(snapshot));
	json_set(&document, "gateways", gateways(sources));
	json_set(&document, "proof", status_proof(sources->proof));
	json_set(&document, "switches", switches(sources->config));
	json_set(&document, "policies", policies(snapshot));
	json_set(&document, "source_errors", source_errors(sources->files));
	json_set(&document, "counters", counters(sources->hooks));
	json_set(&document, "helper_errors", helper_errors(sources->hooks));
	json_set(&document, "would", would(sources));
	json_set(&document, "failures", failure_totals(sources->failures));
	json_set(&document, "workers", worker_totals(sources));
	return document;
}
