// SPDX-License-Identifier: GPL-2.0-only
#include "policy/status_json.h"

#include "policy/snapshot.h"

static json_t *condition_json(const struct policy_condition *condition)
{
	return json_pack("{s:s, s:s, s:s}", "status", condition->status ? "True" : "False", "reason", condition->reason,
	                 "message", condition->message);
}

static json_t *policy_json(const struct policy_status *policy)
{
	return json_pack("{s:s, s:s, s:I, s:o, s:o, s:I}", "namespace", policy->namespace_, "name", policy->name,
	                 "generation", (json_int_t)policy->generation, "accepted", condition_json(&policy->accepted),
	                 "resolvedRefs", condition_json(&policy->resolved_refs), "destinations",
	                 (json_int_t)policy->destination_count);
}

json_t *policy_statuses_json(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < snapshot_policy_count(snapshot); i++) {
		if (json_array_append_new(array, policy_json(snapshot_policy_at(snapshot, i)))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}
