// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>

#include "policy/decode_kinds.h"

#define GRANT_MAX_ITEMS 16 /* of each list */

static int decode_from(struct decoder *decoder, const struct path *where, const json_t *map, void *item)
{
	struct grant_from *from = item;
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_string(decoder, where, map, "group", REQUIRED, &from->group)) < 0 ||
	    (result = field_string(decoder, where, map, "kind", REQUIRED, &from->kind)) < 0)
		return result;
	return field_string(decoder, where, map, "namespace", REQUIRED, &from->namespace_);
}

static int decode_to(struct decoder *decoder, const struct path *where, const json_t *map, void *item)
{
	struct grant_to *to = item;
	struct path name_path = path_key(where, "name");
	int result;

	if ((result = value_map(decoder, where, map)) < 0 ||
	    (result = field_string(decoder, where, map, "group", REQUIRED, &to->group)) < 0 ||
	    (result = field_string(decoder, where, map, "kind", REQUIRED, &to->kind)) < 0 ||
	    (result = field_string(decoder, where, map, "name", OPTIONAL, &to->name)) < 0)
		return result;
	/* Taken for "absent", it would grant everything of the kind. */
	return to->name && !*to->name ? refuse_field(decoder, &name_path, "must not be empty") : 0;
}

int decode_reference_grant(struct decoder *decoder, const json_t *document, struct object *object)
{
	static const struct field_item from_item = {sizeof(struct grant_from), decode_from};
	static const struct field_item to_item = {sizeof(struct grant_to), decode_to};
	struct path root = {0}, spec_path = path_key(&root, "spec");
	struct reference_grant *grant = &object->reference_grant;
	const json_t *spec;
	int result;

	if ((result = field_map(decoder, &root, document, "spec", REQUIRED, &spec)) < 0 ||
	    (result = field_items(decoder, &spec_path, spec, "from", REQUIRED, GRANT_MAX_ITEMS, &from_item,
	                          &grant->from, &grant->from_count)) < 0)
		return result;
	return field_items(decoder, &spec_path, spec, "to", REQUIRED, GRANT_MAX_ITEMS, &to_item, &grant->to,
	                   &grant->to_count);
}
