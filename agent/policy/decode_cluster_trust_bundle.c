// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "policy/decode_kinds.h"

/* signerName says who may write the bundle; the API server sees to that. */
int decode_cluster_trust_bundle(struct decoder *decoder, const json_t *document, struct object *object)
{
	struct path root = {0}, spec_path = path_key(&root, "spec");
	const json_t *spec;
	const char *bundle;
	int result;

	if ((result = field_map(decoder, &root, document, "spec", REQUIRED, &spec)) < 0 ||
	    (result = field_borrow(decoder, &spec_path, spec, "trustBundle", OPTIONAL, &bundle)) < 0 || !bundle)
		return result;
	return decode_ca(decoder, bundle, strlen(bundle), &object->cluster_trust_bundle.ca);
}
