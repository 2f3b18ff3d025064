/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/wants.h"

#include <stdio.h>
#include <string.h>

#include "controller/conditions.h"
#include "controller/json_cleanup.h"
#include "node/pod_gateways.h"
#include "observe/json.h"
#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy/store.h"
#include "policy/text.h"

#define EXAMPLES 5 /* policies that a message names */

/* ---- policies ---- */

static bool serves(const struct pod_gateway *pod, const char *namespace_, const char *name)
{
	for (size_t i = 0; i < pod->ref_count; i++)
		if (!strcmp(pod->refs[i].namespace_, namespace_) && !strcmp(pod->refs[i].name, name))
			return true;
	return false;
}

bool gateway_is_observed(const struct wants_from *from, const char *namespace_, const char *name)
{
	const struct object *gateway = object_store_find(from->store, OBJECT_GATEWAY, namespace_, name);
	bool served = false;

	for (size_t i = 0; i < from->pods->count; i++) {
		if (!serves(&from->pods->at[i], namespace_, name))
			continue;
		if (from->pods->at[i].mode != POSTERN_MODE_OBSERVE)
			return false;
		served = true;
	}
	return served || (gateway && !strcmp(gateway->gateway.mode, "observe"));
}

static void add_condition(json_t **conditions, const char *type, const struct policy_condition *condition)
{
	json_append(conditions, condition_wanted(type, condition->status, condition->reason, condition->message));
}

json_t *wanted_of_policy(const struct wants_from *from, const struct policy_status *policy)
{
	json_t *conditions = json_array(), *ancestors = json_array();

	add_condition(&conditions, "Accepted", &policy->accepted);
	add_condition(&conditions, "ResolvedRefs", &policy->resolved_refs);
	for (size_t i = 0; i < policy->ancestor_count + policy->ancestors_left_out; i++) {
		const struct object_name *ancestor = &policy->ancestors[i];

		/* One without a name stands for whoever dials, where there is no Gateway at all. */
		if (!*ancestor->name || gateway_is_observed(from, ancestor->namespace_, ancestor->name))
			continue;
		json_append(&ancestors,
		            json_pack("{s:s, s:s}", "namespace", ancestor->namespace_, "name", ancestor->name));
	}
	return json_pack("{s:I, s:o, s:o}", "generation", (json_int_t)policy->generation, "conditions", conditions,
	                 "ancestors", ancestors);
}

/* ---- Gateways ---- */

json_t *wanted_full(const struct snapshot *snapshot)
{
	json_t *full = json_object();

	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);

		for (size_t j = 0; j < policy->ancestors_left_out; j++) {
			const struct object_name *gateway = &policy->ancestors[policy->ancestor_count + j];
			_cleanup_json_ json_t *name = json_sprintf("%s/%s", gateway->namespace_, gateway->name);
			json_t *list = name ? json_object_get(full, json_string_value(name)) : NULL;

			if (name && !list) {
				list = json_array();
				if (json_object_set_new(full, json_string_value(name), list) < 0)
					list = NULL;
			}
			if (!list ||
			    json_array_append_new(list, json_sprintf("%s/%s", policy->namespace_, policy->name)) < 0) {
				json_decref(full);
				return NULL;
			}
		}
	}
	return full;
}

static json_t *full_condition(const json_t *policies)
{
	struct text message = {0};
	_cleanup_free_ char *taken = NULL;
	const json_t *policy;
	size_t index;

	text_append(&message,
	            "status.ancestors of these policies is full (%d entries), so that they cannot be told for "
	            "this Gateway, and count for it all the same: ",
	            POLICY_MAX_ANCESTORS);
	json_array_foreach (policies, index, policy)
		if (index < EXAMPLES)
			text_append(&message, "%sBackendTLSPolicy %s", index ? ", " : "", json_string_value(policy));
	if (json_array_size(policies) > EXAMPLES)
		text_append(&message, " and %zu more", json_array_size(policies) - EXAMPLES);
	text_add_sentence(&message, "let fewer Gateways have a Route to their Services");
	taken = text_take(&message);
	return taken ? condition_wanted(CONDITION_STATUS_FULL, true, "StatusFull", taken) : NULL;
}

bool is_adopted_class(const struct object *class)
{
	return class && !strcmp(class->gateway_class.controller_name, GATEWAY_CONTROLLER_ADOPTED);
}

/* What is said of a Gateway that nobody but us speaks for. */
static void add_adopted(const struct gateway_status *status, json_t **conditions)
{
	json_append(conditions, condition_wanted("Accepted", true, "Accepted",
	                                         "postern gives its data plane the TLS of BackendTLSPolicies"));
	json_append(conditions,
	            condition_wanted("Programmed", true, "Programmed",
	                             "nothing is to be programmed: what serves this Gateway is set up by others"));
	if (status)
		add_condition(conditions, "ResolvedRefs", &status->resolved_refs);
}

json_t *wanted_of_gateway(const struct wants_from *from, const struct object *gateway, const json_t *full)
{
	const struct gateway_status *status = snapshot_find_gateway(from->snapshot, gateway->namespace_, gateway->name);
	const struct object *class = object_store_find(from->store, OBJECT_GATEWAY_CLASS, "",
	                                               gateway->gateway.class_name);
	_cleanup_json_ json_t *name = json_sprintf("%s/%s", gateway->namespace_, gateway->name);
	const json_t *policies = name ? json_object_get(full, json_string_value(name)) : NULL;
	json_t *conditions = json_array(), *absent = json_array();

	if (is_adopted_class(class) && gateway_is_observed(from, gateway->namespace_, gateway->name)) {
		json_append(&absent, json_string("Accepted"));
		json_append(&absent, json_string("Programmed"));
		json_append(&absent, json_string("ResolvedRefs"));
	} else if (is_adopted_class(class)) {
		add_adopted(status, &conditions);
	}
	if (policies)
		json_append(&conditions, full_condition(policies));
	else
		json_append(&absent, json_string(CONDITION_STATUS_FULL));
	return json_pack("{s:I, s:o, s:o}", "generation", (json_int_t)gateway->generation, "conditions", conditions,
	                 "absent", absent);
}

json_t *wanted_of_class(const struct object *class)
{
	json_t *conditions = json_array();

	json_append(&conditions, condition_wanted("Accepted", true, "Accepted",
	                                          "inert: Gateways of this class name data planes that others set up "
	                                          "(annotation postern.dev/pod-selector)"));
	return json_pack("{s:I, s:o}", "generation", (json_int_t) class->generation, "conditions", conditions);
}
