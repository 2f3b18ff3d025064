// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "policy/decode_kinds.h"

int decode_config_map(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, data_path = path_key(&root, "data");
	struct config_map *config_map = &object->config_map;
	const json_t *data;
	const char *ca, *crl;
	int result = field_map(decoder, &root, document, "data", OPTIONAL, &data);

	if (result < 0 || !data)
		return result;
	if ((result = field_borrow(decoder, &data_path, data, "ca.crt", OPTIONAL, &ca)) < 0 ||
	    (result = field_borrow(decoder, &data_path, data, "ca.crl", OPTIONAL, &crl)) < 0)
		return result;
	if (ca)
		result = decode_ca(decoder, ca, strlen(ca), &config_map->ca);
	if (result == 0 && crl)
		result = decode_crl(decoder, crl, strlen(crl), &config_map->crl);
	return result;
}
