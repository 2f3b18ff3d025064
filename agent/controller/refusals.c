/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/refusals.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "controller/conditions.h"
#include "controller/policy_status.h"

/* The conditions are the same in each entry of ours: those of the first. */
static const json_t *our_conditions(const json_t *policy)
{
	const json_t *entry;
	size_t index;

	json_array_foreach (json_object_get(json_object_get(policy, "status"), "ancestors"), index, entry) {
		const char *controller = json_string_value(json_object_get(entry, "controllerName"));

		if (controller && !strcmp(controller, POSTERN_CONTROLLER_NAME))
			return json_object_get(entry, "conditions");
	}
	return NULL;
}

static const char *member(const json_t *condition, const char *key)
{
	const char *value = json_string_value(json_object_get(condition, key));

	return value ? value : "";
}

static bool says_the_same(const json_t *left, const json_t *right)
{
	return left && !strcmp(member(left, "status"), member(right, "status")) &&
	       !strcmp(member(left, "reason"), member(right, "reason")) &&
	       !strcmp(member(left, "message"), member(right, "message"));
}

void refusals_find(const json_t *before, const json_t *after,
                   void (*tell)(void *context, const char *reason, const char *note), void *context)
{
	static const char *const types[] = {"Accepted", "ResolvedRefs"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		const json_t *old = condition_find(our_conditions(before), types[i]),
		             *new = condition_find(our_conditions(after), types[i]);
		const char *ambiguous = strstr(member(new, "message"), REASON_WORD_AMBIGUOUS ":");

		if (!new || says_the_same(old, new))
			continue;
		if (!strcmp(member(new, "status"), "False"))
			tell(context, member(new, "reason"), member(new, "message"));
		if (ambiguous)
			tell(context, REASON_WORD_AMBIGUOUS, ambiguous);
	}
}
