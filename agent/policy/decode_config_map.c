// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>

#include "policy/ca_bundle.h"
#include "policy/decode_kinds.h"

/*
 * Of a ConfigMap only ca.crt matters. What is wrong with it is no structural error: the ConfigMap may be nobody's CA,
 * and if it is, the policies that refer to it say so.
 */
int decode_config_map(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, data_path = path_key(&root, "data"), ca_path = path_key(&data_path, "ca.crt");
	struct config_map *config_map = &object->config_map;
	const json_t *data, *ca;
	char problem[160];
	int result = field_map(decoder, &root, document, "data", OPTIONAL, &data);

	if (result < 0 || !data)
		return result;
	ca = json_object_get(data, "ca.crt");
	if (!ca || json_is_null(ca))
		return 0;
	if (!json_is_string(ca))
		return refuse_field(decoder, &ca_path, "must be a string");
	config_map->has_ca = true;
	result = ca_bundle_parse(json_string_value(ca), json_string_length(ca), &config_map->ca, problem,
	                         sizeof(problem));
	if (result != -EINVAL)
		return result;
	config_map->ca_problem = arena_strdup(decoder->arena, problem);
	return config_map->ca_problem ? 0 : -ENOMEM;
}
