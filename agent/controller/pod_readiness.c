/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/pod_readiness.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "controller/conditions.h"
#include "controller/enrolments.h"
#include "observe/json.h"
#include "policy/object.h"

json_t *pod_readiness_wanted(const struct object *pod, const struct enrolment_verdict *verdict)
{
	return json_pack("{s:o, s:b, s:s, s:o}", "uid", json_text(pod->uid), "status", verdict->word == ENROLMENT_YES,
	                 "reason", verdict->reason, "message", json_text(verdict->message));
}

static bool has_gate(const json_t *pod)
{
	const json_t *gate;
	size_t index;

	json_array_foreach (json_object_get(json_object_get(pod, "spec"), "readinessGates"), index, gate) {
		const char *type = json_string_value(json_object_get(gate, "conditionType"));

		if (type && !strcmp(type, CONDITION_ENROLLED))
			return true;
	}
	return false;
}

/* 1: changed. */
static int set(json_t *condition, const char *key, json_t *value)
{
	int changed = !json_equal(json_object_get(condition, key), value);

	return json_object_set_new(condition, key, value) == 0 ? changed : -ENOMEM;
}

/* The list that the condition goes into; borrowed, NULL: no memory. */
static json_t *conditions_of(json_t *pod)
{
	json_t *status = json_object_get(pod, "status"), *conditions;

	if (!json_is_object(status) && json_object_set_new(pod, "status", status = json_object()) < 0)
		return NULL;
	conditions = json_object_get(status, "conditions");
	if (!json_is_array(conditions) && json_object_set_new(status, "conditions", conditions = json_array()) < 0)
		return NULL;
	return conditions;
}

int pod_readiness_merge(json_t *pod, const json_t *wanted, const char *now)
{
	const char *status = json_is_true(json_object_get(wanted, "status")) ? "True" : "False";
	json_t *conditions, *condition;
	int results[3], turned;

	if (!json_equal(json_object_get(json_object_get(pod, "metadata"), "uid"), json_object_get(wanted, "uid")) ||
	    !has_gate(pod))
		return -ESTALE;
	conditions = conditions_of(pod);
	condition = condition_find(conditions, CONDITION_ENROLLED);
	if (!condition) {
		condition = json_pack("{s:s}", "type", CONDITION_ENROLLED);
		if (!condition || json_array_append_new(conditions, condition) < 0)
			return -ENOMEM;
	}
	turned = set(condition, "status", json_string(status));
	if (turned == 1 && set(condition, "lastTransitionTime", json_string(now)) < 0)
		return -ENOMEM;
	results[0] = turned;
	results[1] = set(condition, "reason", json_incref(json_object_get(wanted, "reason")));
	results[2] = set(condition, "message", json_incref(json_object_get(wanted, "message")));
	for (size_t i = 0; i < 3; i++)
		if (results[i] < 0)
			return results[i];
	return results[0] | results[1] | results[2];
}

json_t *pod_readiness_patch(const json_t *pod)
{
	const json_t *metadata = json_object_get(pod, "metadata");
	json_t *condition = condition_find(json_object_get(json_object_get(pod, "status"), "conditions"),
	                                   CONDITION_ENROLLED);

	return json_pack("{s:{s:O, s:O}, s:{s:[O]}}", "metadata", "uid", json_object_get(metadata, "uid"),
	                 "resourceVersion", json_object_get(metadata, "resourceVersion"), "status", "conditions",
	                 condition);
}
