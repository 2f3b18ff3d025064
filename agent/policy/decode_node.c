// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "policy/decode_kinds.h"

#define NODE_MAX_CIDRS  16 /* Kubernetes gives one per IP family */
#define NODE_MAX_TAINTS 1024
#define STARTUP_TAINT   "postern.dev/not-ready"

static int decode_taints(struct decoder *decoder, const struct path *spec_path, const json_t *spec, struct node *node)
{
	const json_t *list, *item;
	size_t index;
	int result = field_list(decoder, spec_path, spec, "taints", OPTIONAL, NODE_MAX_TAINTS, &list);

	if (result < 0)
		return result;
	json_array_foreach (list, index, item) {
		const char *key = json_string_value(json_object_get(item, "key"));

		node->startup_taint |= key && strcmp(key, STARTUP_TAINT) == 0;
	}
	return 0;
}

int decode_node(struct decoder *decoder, const json_t *document, struct object *object)
{
	static const struct field_item cidr_item = {sizeof(struct cidr), decode_cidr};
	struct path root = {0}, spec_path = path_key(&root, "spec");
	const json_t *spec;
	int result = field_map(decoder, &root, document, "spec", OPTIONAL, &spec);

	if (result < 0 || !spec)
		return result;
	result = decode_taints(decoder, &spec_path, spec, &object->node);
	if (result < 0)
		return result;
	return field_items(decoder, &spec_path, spec, "podCIDRs", OPTIONAL, NODE_MAX_CIDRS, &cidr_item,
	                   &object->node.pod_cidrs, &object->node.pod_cidr_count);
}
