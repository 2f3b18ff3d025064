// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdint.h>

#include "policy/decode_kinds.h"
#include "policy/text.h"

#define SERVICE_CIDR_MAX 2 /* one per IP family */

int decode_service_cidr(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, spec_path = path_key(&root, "spec"), where = path_key(&spec_path, "cidrs");
	const json_t *spec, *list, *item;
	struct cidr *cidrs;
	char shown[PRINTABLE_MAX];
	const char *text;
	size_t index;
	int result;

	if ((result = field_map(decoder, &root, document, "spec", REQUIRED, &spec)) < 0 ||
	    (result = field_list(decoder, &spec_path, spec, "cidrs", REQUIRED, SERVICE_CIDR_MAX, &list)) < 0)
		return result;
	cidrs = arena_alloc(decoder->arena, json_array_size(list), sizeof(*cidrs));
	if (!cidrs)
		return -ENOMEM;
	json_array_foreach (list, index, item) {
		struct path here = path_index(&where, index);

		result = value_string(decoder, &here, item, &text);
		if (result < 0)
			return result;
		if (cidr_parse(text, &cidrs[index]) < 0)
			return refuse_field(decoder, &here,
			                    "must be a CIDR without host bits, like 10.96.0.0/12, not \"%s\"",
			                    printable(text, shown));
	}
	object->service_cidr.cidrs = cidrs;
	object->service_cidr.cidr_count = json_array_size(list);
	return 0;
}
