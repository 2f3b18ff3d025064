/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/startup_taint.h"

#include <errno.h>
#include <string.h>

#include "observe/json.h"
#include "policy/object.h"

json_t *startup_taint_wanted(const struct object *node)
{
	return json_pack("{s:o}", "uid", json_text(node->uid));
}

int startup_taint_merge(json_t *node, const json_t *wanted)
{
	json_t *taints = json_object_get(json_object_get(node, "spec"), "taints");
	int changed = 0;

	if (!json_equal(json_object_get(json_object_get(node, "metadata"), "uid"), json_object_get(wanted, "uid")))
		return -ESTALE;
	/* It may be there once for each effect. */
	for (size_t i = json_array_size(taints); i-- > 0;) {
		const char *key = json_string_value(json_object_get(json_array_get(taints, i), "key"));

		if (!key || strcmp(key, STARTUP_TAINT) != 0)
			continue;
		if (json_array_remove(taints, i) < 0)
			return -ENOMEM;
		changed = 1;
	}
	return changed;
}

json_t *startup_taint_patch(const json_t *node)
{
	const json_t *metadata = json_object_get(node, "metadata");

	/* The list is written whole, as the API has it: resourceVersion makes a conflict of a change in between. */
	return json_pack("{s:{s:O, s:O}, s:{s:O}}", "metadata", "uid", json_object_get(metadata, "uid"),
	                 "resourceVersion", json_object_get(metadata, "resourceVersion"), "spec", "taints",
	                 json_object_get(json_object_get(node, "spec"), "taints"));
}
