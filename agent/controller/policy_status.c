/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/policy_status.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "controller/conditions.h"
#include "controller/json_cleanup.h"
#include "policy/snapshot.h"

#define GATEWAY_GROUP "gateway.networking.k8s.io"

static const char *string_or(const json_t *object, const char *key, const char *otherwise)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : otherwise;
}

static bool is_ours(const json_t *entry)
{
	return !strcmp(string_or(entry, "controllerName", ""), POSTERN_CONTROLLER_NAME);
}

/* Is it the entry of this Gateway, as a whole? namespace_ is the policy's own. */
static bool is_of(const json_t *entry, const char *namespace_, const json_t *ancestor)
{
	const json_t *reference = json_object_get(entry, "ancestorRef");

	return !strcmp(string_or(reference, "group", GATEWAY_GROUP), GATEWAY_GROUP) &&
	       !strcmp(string_or(reference, "kind", "Gateway"), "Gateway") &&
	       !strcmp(string_or(reference, "namespace", namespace_), string_or(ancestor, "namespace", "")) &&
	       !strcmp(string_or(reference, "name", ""), string_or(ancestor, "name", "")) &&
	       !json_object_get(reference, "sectionName") && !json_object_get(reference, "port");
}

static json_t *find_entry(const json_t *entries, const char *namespace_, const json_t *ancestor)
{
	json_t *entry;
	size_t index;

	json_array_foreach (entries, index, entry)
		if (is_ours(entry) && is_of(entry, namespace_, ancestor))
			return entry;
	return NULL;
}

static bool is_newer(const json_t *entries, const json_t *wanted)
{
	const json_t *entry;
	size_t index;

	json_array_foreach (entries, index, entry)
		if (is_ours(entry) && conditions_are_newer(json_object_get(entry, "conditions"), wanted))
			return true;
	return false;
}

/* Which of the wanted Gateways it is of; NULL: none. Past the room that others leave, none is wanted. */
static const json_t *find_wanted(const json_t *entry, const char *namespace_, const json_t *wanted, size_t room)
{
	const json_t *ancestor;
	size_t index;

	json_array_foreach (json_object_get(wanted, "ancestors"), index, ancestor)
		if (index < room && is_of(entry, namespace_, ancestor))
			return ancestor;
	return NULL;
}

static size_t room_for_ours(const json_t *entries)
{
	size_t foreign = 0, index;
	const json_t *entry;

	json_array_foreach (entries, index, entry)
		foreign += !is_ours(entry);
	return foreign < POLICY_MAX_ANCESTORS ? POLICY_MAX_ANCESTORS - foreign : 0;
}

/* What stays: all of others, and of ours one for each Gateway that is wanted. 1: something is gone. */
static int keep_entries(const json_t *old, const char *namespace_, const json_t *wanted, size_t room, json_t *kept)
{
	json_t *entry;
	int changed = 0;
	size_t index;

	json_array_foreach (old, index, entry) {
		const json_t *ancestor = is_ours(entry) ? find_wanted(entry, namespace_, wanted, room) : NULL;
		json_t *copy;

		if (is_ours(entry) && (!ancestor || find_entry(kept, namespace_, ancestor))) {
			changed = 1;
			continue;
		}
		copy = json_deep_copy(entry);
		if (!copy || json_array_append_new(kept, copy) < 0)
			return -ENOMEM;
	}
	return changed;
}

static int merge_entry(json_t *entry, const json_t *wanted, const char *now)
{
	json_t *conditions = json_object_get(entry, "conditions");

	if (!json_is_array(conditions)) {
		conditions = json_array();
		if (json_object_set_new(entry, "conditions", conditions) < 0)
			return -ENOMEM;
	}
	return conditions_merge(conditions, wanted, now);
}

static json_t *add_entry(json_t *entries, const json_t *ancestor)
{
	json_t *entry = json_pack("{s:{s:s, s:s, s:O, s:O}, s:s}", "ancestorRef", "group", GATEWAY_GROUP, "kind",
	                          "Gateway", "namespace", json_object_get(ancestor, "namespace"), "name",
	                          json_object_get(ancestor, "name"), "controllerName", POSTERN_CONTROLLER_NAME);

	if (!entry || json_array_append_new(entries, entry) < 0)
		return NULL;
	return entry;
}

static int merge_entries(json_t *entries, const char *namespace_, const json_t *wanted, size_t room, const char *now)
{
	const json_t *ancestor;
	int changed = 0;
	size_t index;

	json_array_foreach (json_object_get(wanted, "ancestors"), index, ancestor) {
		json_t *entry = find_entry(entries, namespace_, ancestor);
		int result;

		if (index >= room)
			break;
		if (!entry && !(entry = add_entry(entries, ancestor)))
			return -ENOMEM;
		result = merge_entry(entry, wanted, now);
		if (result < 0)
			return result;
		changed |= result;
	}
	return changed;
}

int policy_status_merge(json_t *policy, const json_t *wanted, const char *now)
{
	const char *namespace_ = string_or(json_object_get(policy, "metadata"), "namespace", "");
	json_t *status = json_object_get(policy, "status"), *old = json_object_get(status, "ancestors");
	_cleanup_json_ json_t *entries = json_array();
	size_t room = room_for_ours(old);
	int removed, merged;

	if (object_generation(policy) != json_integer_value(json_object_get(wanted, "generation")) ||
	    is_newer(old, wanted))
		return -ESTALE;
	if (!entries)
		return -ENOMEM;
	removed = keep_entries(old, namespace_, wanted, room, entries);
	merged = removed < 0 ? removed : merge_entries(entries, namespace_, wanted, room, now);
	if (merged < 0)
		return merged;
	if (!removed && !merged)
		return 0;
	if (!json_is_object(status) && json_object_set_new(policy, "status", status = json_object()) < 0)
		return -ENOMEM;
	return json_object_set_new(status, "ancestors", TAKE_PTR(entries)) == 0 ? 1 : -ENOMEM;
}
