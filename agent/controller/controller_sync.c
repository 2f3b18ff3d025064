/* SPDX-License-Identifier: GPL-2.0-only */
/* From the source's objects to what each status should say, and what is wrong with pods. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/log.h"
#include "controller/controller.h"
#include "controller/enrolments.h"
#include "controller/json_cleanup.h"
#include "controller/pod_readiness.h"
#include "controller/refusals.h"
#include "controller/startup_taint.h"
#include "controller/wants.h"
#include "node/pod_gateways.h"
#include "policy/object.h"
#include "policy/store.h"

#define POLICY_API "gateway.networking.k8s.io/v1"

/*
 * Tells versions of an object apart: another version is another object, and never at the address of the one before,
 * which the compiler holds until it has seen the new one.
 */
static uint64_t version_of(const struct object *object)
{
	return (uint64_t)(uintptr_t)object;
}

/* ---- Events ---- */

static void tell(struct controller *controller, const struct event_regarding *policy, const char *reason,
                 const char *note)
{
	events_tell(controller->events, policy, true, reason, "Accept", note);
}

static const char *metadata(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(json_object_get(object, "metadata"), key));

	return value ? value : "";
}

void controller_tell_policy(struct controller *controller, const json_t *policy, const char *reason, const char *note)
{
	const struct event_regarding regarding = {
	        .api_version = POLICY_API,
	        .kind = "BackendTLSPolicy",
	        .namespace_ = metadata(policy, "namespace"),
	        .name = metadata(policy, "name"),
	        .uid = metadata(policy, "uid"),
	};

	tell(controller, &regarding, reason, note);
}

struct telling {
	struct controller *controller;
	const json_t *policy;
};

static void tell_refusal(void *context, const char *reason, const char *note)
{
	const struct telling *telling = context;

	controller_tell_policy(telling->controller, telling->policy, reason, note);
}

void controller_on_written(void *context, enum written_kind kind, const json_t *before, const json_t *after)
{
	struct telling telling = {context, after};

	if (kind == WRITTEN_POLICY)
		refusals_find(before, after, tell_refusal, &telling);
}

/* A refused policy without an entry in its status: nobody would know. Once for each message. */
static void tell_untold(struct controller *controller, const struct policy_status *policy, const json_t *wanted,
                        json_t *still)
{
	const struct policy_condition *refusal = !policy->accepted.status        ? &policy->accepted
	                                         : !policy->resolved_refs.status ? &policy->resolved_refs
	                                                                         : NULL;
	_cleanup_json_ json_t *name = json_sprintf("%s/%s", policy->namespace_, policy->name);
	const struct object *object;
	const char *said;

	if (!refusal || json_array_size(json_object_get(wanted, "ancestors")) || !name)
		return;
	said = json_string_value(json_object_get(controller->untold, json_string_value(name)));
	(void)json_object_set_new(still, json_string_value(name), json_string(refusal->message));
	object = object_store_find(source_store(controller->source), OBJECT_BACKEND_TLS_POLICY, policy->namespace_,
	                           policy->name);
	if (object && (!said || strcmp(said, refusal->message)))
		tell(controller,
		     &(struct event_regarding){POLICY_API, "BackendTLSPolicy", policy->namespace_, policy->name,
		                               object->uid},
		     refusal->reason, refusal->message);
}

/* ---- what is wanted ---- */

/* The policy in force, or in quarantine: an object that cannot be decoded has a status all the same. */
static uint64_t version_of_policy(const struct object_store *store, const struct policy_status *policy)
{
	const struct object *object = object_store_find(store, OBJECT_BACKEND_TLS_POLICY, policy->namespace_,
	                                                policy->name);

	return version_of(object);
}

static int want_policies(struct controller *controller, const struct wants_from *from)
{
	json_t *still = json_object();
	int result = still ? 0 : -ENOMEM;

	for (size_t i = 0; result == 0 && i < snapshot_policy_count(from->snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(from->snapshot, i);
		json_t *wanted = wanted_of_policy(from, policy);

		if (wanted && lease_leads(controller->lease))
			tell_untold(controller, policy, wanted, still);
		result = status_writer_want(controller->writer, WRITTEN_POLICY, policy->namespace_, policy->name,
		                            wanted, version_of_policy(from->store, policy));
	}
	if (still) {
		json_decref(controller->untold);
		controller->untold = still;
	}
	return result;
}

static int want_gateways(struct controller *controller, const struct wants_from *from)
{
	_cleanup_json_ json_t *full = wanted_full(from->snapshot);
	int result = full ? 0 : -ENOMEM;

	for (size_t i = 0; result == 0 && i < object_store_count(from->store, OBJECT_GATEWAY); i++) {
		const struct object *gateway = object_store_at(from->store, OBJECT_GATEWAY, i);

		result = status_writer_want(controller->writer, WRITTEN_GATEWAY, gateway->namespace_, gateway->name,
		                            wanted_of_gateway(from, gateway, full), version_of(gateway));
	}
	for (size_t i = 0; result == 0 && i < object_store_count(from->store, OBJECT_GATEWAY_CLASS); i++) {
		const struct object *class = object_store_at(from->store, OBJECT_GATEWAY_CLASS, i);

		if (is_adopted_class(class))
			result = status_writer_want(controller->writer, WRITTEN_GATEWAY_CLASS, "", class->name,
			                            wanted_of_class(class), version_of(class));
	}
	return result;
}

static int want_pods(struct controller *controller, const struct wants_from *from)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < object_store_count(from->store, OBJECT_POD); i++) {
		const struct object *pod = object_store_at(from->store, OBJECT_POD, i);
		struct enrolment_verdict verdict;

		if (!pod->pod.readiness_gated)
			continue;
		enrolments_judge(controller->enrolments, pod, from->pods, &verdict);
		if (verdict.word != ENROLMENT_UNKNOWN)
			result = status_writer_want(controller->writer, WRITTEN_POD, pod->namespace_, pod->name,
			                            pod_readiness_wanted(pod, &verdict), version_of(pod));
	}
	return result;
}

static int want_nodes(struct controller *controller, const struct wants_from *from)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < object_store_count(from->store, OBJECT_NODE); i++) {
		const struct object *node = object_store_at(from->store, OBJECT_NODE, i);

		if (node->node.startup_taint && fleet_node_is_ready(controller->fleet, node->name))
			result = status_writer_want(controller->writer, WRITTEN_NODE, "", node->name,
			                            startup_taint_wanted(node), version_of(node));
	}
	return result;
}

static void look_at(struct controller *controller, const struct pod_gateways *pods)
{
	uint64_t wait_ns = pod_findings_update(controller->findings, source_store(controller->source), pods,
	                                       fleet_synced(controller->fleet), monotonic_ns());

	if (wait_ns)
		(void)loop_timer_set(controller->loop, &controller->findings_timer, wait_ns);
}

void controller_look_at_pods(struct controller *controller)
{
	struct pod_gateways pods = {0};

	if (!controller->snapshot || pod_gateways_find(source_store(controller->source), "", &pods) < 0)
		return;
	look_at(controller, &pods);
	pod_gateways_free(&pods);
}

void controller_ask_agents(struct controller *controller)
{
	const struct object_store *store = source_store(controller->source);
	struct pod_gateways pods = {0};
	uint64_t wait_ns = ENROLMENTS_SOON_NS;

	if (!controller->snapshot || !lease_leads(controller->lease))
		return; /* who begins to lead compiles, and comes here again */
	if (pod_gateways_find(store, "", &pods) == 0)
		wait_ns = enrolments_update(controller->enrolments, store, &pods, fleet_synced(controller->fleet),
		                            monotonic_ns());
	pod_gateways_free(&pods);
	if (wait_ns)
		(void)loop_timer_set(controller->loop, &controller->enrolments_timer, wait_ns);
}

/* Without memory for all of it, nothing is forgotten: the next change tries again. */
static void want_all(struct controller *controller)
{
	struct pod_gateways pods = {0};
	const struct wants_from from = {controller->snapshot, source_store(controller->source), &pods};
	int result = pod_gateways_find(from.store, "", &pods);

	if (result == 0) {
		status_writer_begin(controller->writer);
		result = want_policies(controller, &from);
		if (result == 0)
			result = want_gateways(controller, &from);
		if (result == 0 && controller->enrolments)
			result = want_pods(controller, &from);
		if (result == 0 && controller->options->startup_taint)
			result = want_nodes(controller, &from);
		if (result == 0)
			status_writer_end(controller->writer);
		look_at(controller, &pods);
	}
	if (result < 0)
		log_error("no memory for what is to be written", "error=\"%s\"", strerror(-result));
	pod_gateways_free(&pods);
}

#define MAX_CONTESTED_PODS 200

void controller_sync(struct controller *controller)
{
	struct object_name pods[MAX_CONTESTED_PODS];
	struct snapshot *snapshot = NULL;
	int result;

	(void)source_refresh(controller->source, false);
	if (!source_synced(controller->source))
		return;
	result = compiler_run(controller->compiler, source_store(controller->source), monotonic_ns(), &snapshot);
	if (result < 0) {
		log_error("compile failed", "error=\"%s\"", strerror(-result));
		return;
	}
	if (!controller->snapshot)
		log_info("the cluster is known", "policies=%zu destinations=%zu", snapshot_policy_count(snapshot),
		         snapshot_destination_count(snapshot));
	source_want_pods(controller->source, pods,
	                 compiler_contested_pods(controller->compiler, pods, MAX_CONTESTED_PODS));
	snapshot_unref(controller->snapshot);
	controller->snapshot = snapshot;
	want_all(controller);
	if (controller->enrolments)
		controller_ask_agents(controller); /* its Pods may be others now */
}
