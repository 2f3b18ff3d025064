// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdint.h>

#include "base/printable.h"
#include "policy/decode_kinds.h"

#define SERVICE_CIDR_MAX 2 /* one per IP family */

int decode_cidr(struct decoder *decoder, const struct path *where, const json_t *value, void *item)
{
	char shown[PRINTABLE_MAX];
	const char *text;
	int result = value_borrow(decoder, where, value, &text);

	if (result < 0)
		return result;
	if (cidr_parse(text, item) < 0)
		return refuse_field(decoder, where, "must be a CIDR without host bits, like 10.96.0.0/12, not \"%s\"",
		                    printable(text, shown));
	return 0;
}

int decode_service_cidr(struct decoder *decoder, const json_t *document, struct object *object)
{
	static const struct field_item cidr_item = {sizeof(struct cidr), decode_cidr};
	struct path root = {0}, spec_path = path_key(&root, "spec");
	const json_t *spec;
	int result = field_map(decoder, &root, document, "spec", REQUIRED, &spec);

	if (result < 0)
		return result;
	return field_items(decoder, &spec_path, spec, "cidrs", REQUIRED, SERVICE_CIDR_MAX, &cidr_item,
	                   &object->service_cidr.cidrs, &object->service_cidr.cidr_count);
}
