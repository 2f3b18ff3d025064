/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/conditions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "observe/json.h"

const char *condition_time(const struct timespec *time, bool micros, char text[static TIME_TEXT_MAX])
{
	struct tm parts;
	size_t length;

	if (!gmtime_r(&time->tv_sec, &parts) || !(length = strftime(text, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &parts)))
		length = (size_t)snprintf(text, TIME_TEXT_MAX, "1970-01-01T00:00:00");
	if (micros)
		snprintf(text + length, TIME_TEXT_MAX - length, ".%06uZ",
		         (unsigned int)(time->tv_nsec / 1000 % 1000000));
	else
		snprintf(text + length, TIME_TEXT_MAX - length, "Z");
	return text;
}

json_t *condition_wanted(const char *type, bool status, const char *reason, const char *message)
{
	return json_pack("{s:s, s:b, s:s, s:o}", "type", type, "status", status, "reason", reason, "message",
	                 json_text(message));
}

json_t *condition_find(const json_t *conditions, const char *type)
{
	json_t *condition;
	size_t index;

	json_array_foreach (conditions, index, condition) {
		const char *its = json_string_value(json_object_get(condition, "type"));

		if (its && !strcmp(its, type))
			return condition;
	}
	return NULL;
}

bool conditions_are_newer(const json_t *conditions, const json_t *wanted)
{
	json_int_t generation = json_integer_value(json_object_get(wanted, "generation"));
	const json_t *each;
	size_t index;

	json_array_foreach (json_object_get(wanted, "conditions"), index, each) {
		const json_t *there = condition_find(conditions, json_string_value(json_object_get(each, "type")));

		if (json_integer_value(json_object_get(there, "observedGeneration")) > generation)
			return true;
	}
	return false;
}

static bool has_string(const json_t *object, const char *key, const char *value)
{
	const char *there = json_string_value(json_object_get(object, key));

	return there && !strcmp(there, value);
}

/* 1: changed, 0, -ENOMEM. */
static int set_member(json_t *object, const char *key, json_t *value)
{
	if (!value)
		return -ENOMEM;
	if (json_equal(json_object_get(object, key), value)) {
		json_decref(value);
		return 0;
	}
	return json_object_set_new(object, key, value) == 0 ? 1 : -ENOMEM;
}

static int merge_one(json_t *conditions, const json_t *wanted, json_int_t generation, const char *now)
{
	const char *type = json_string_value(json_object_get(wanted, "type"));
	const char *status = json_is_true(json_object_get(wanted, "status")) ? "True" : "False";
	json_t *there = condition_find(conditions, type);
	int changes[5] = {0};
	bool turned;

	if (!there) {
		there = json_pack("{s:s}", "type", type);
		if (!there || json_array_append_new(conditions, there) < 0)
			return -ENOMEM;
	}
	turned = !has_string(there, "status", status);
	if (turned)
		changes[0] = set_member(there, "lastTransitionTime", json_string(now));
	changes[1] = set_member(there, "status", json_string(status));
	changes[2] = set_member(there, "observedGeneration", json_integer(generation));
	changes[3] = set_member(there, "reason", json_incref(json_object_get(wanted, "reason")));
	changes[4] = set_member(there, "message", json_incref(json_object_get(wanted, "message")));
	for (size_t i = 0; i < 5; i++)
		if (changes[i] < 0)
			return changes[i];
	return changes[0] | changes[1] | changes[2] | changes[3] | changes[4];
}

static int remove_type(json_t *conditions, const char *type)
{
	int changed = 0;

	for (size_t i = json_array_size(conditions); i-- > 0;) {
		if (!has_string(json_array_get(conditions, i), "type", type))
			continue;
		json_array_remove(conditions, i);
		changed = 1;
	}
	return changed;
}

int conditions_merge(json_t *conditions, const json_t *wanted, const char *now)
{
	json_int_t generation = json_integer_value(json_object_get(wanted, "generation"));
	const json_t *each;
	int changed = 0;
	size_t index;

	if (conditions_are_newer(conditions, wanted))
		return 0;
	json_array_foreach (json_object_get(wanted, "absent"), index, each)
		changed |= remove_type(conditions, json_string_value(each));
	json_array_foreach (json_object_get(wanted, "conditions"), index, each) {
		int result = merge_one(conditions, each, generation, now);

		if (result < 0)
			return result;
		changed |= result;
	}
	return changed;
}

json_int_t object_generation(const json_t *object)
{
	return json_integer_value(json_object_get(json_object_get(object, "metadata"), "generation"));
}

int object_conditions_merge(json_t *object, const json_t *wanted, const char *now)
{
	json_t *status = json_object_get(object, "status"), *there = json_object_get(status, "conditions"), *conditions;
	int result;

	if (object_generation(object) != json_integer_value(json_object_get(wanted, "generation")))
		return -ESTALE;
	conditions = json_is_array(there) ? json_deep_copy(there) : json_array();
	if (!conditions)
		return -ENOMEM;
	result = conditions_merge(conditions, wanted, now);
	if (result <= 0) {
		json_decref(conditions);
		return result;
	}
	if (!json_is_object(status) && json_object_set_new(object, "status", status = json_object()) < 0) {
		json_decref(conditions);
		return -ENOMEM;
	}
	return json_object_set_new(status, "conditions", conditions) == 0 ? 1 : -ENOMEM;
}
