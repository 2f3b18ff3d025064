// SPDX-License-Identifier: GPL-2.0-only
#include "policy/decode_kinds.h"

int decode_metadata_string(struct decoder *decoder, const json_t *document, const char *map_key, const char *key,
                           const char **value)
{
	struct path root = {0}, metadata_path = path_key(&root, "metadata"),
	            map_path = path_key(&metadata_path, map_key);
	const json_t *map;
	int result = field_map(decoder, &metadata_path, json_object_get(document, "metadata"), map_key, OPTIONAL, &map);

	*value = "";
	if (result < 0 || !map)
		return result;
	result = field_string(decoder, &map_path, map, key, OPTIONAL, value);
	*value = *value ? *value : "";
	return result;
}
