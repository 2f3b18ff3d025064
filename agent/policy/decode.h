/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * decode.h: JSON values (of a manifest, of the API server) -> typed objects. Pure; control thread.
 *
 * A document whose structure is wrong gives a problem that names object and field, and no object. Kinds that postern
 * has no use for are skipped and named once.
 */
#ifndef POSTERN_POLICY_DECODE_H
#define POSTERN_POLICY_DECODE_H

#include <jansson.h>
#include <stddef.h>

#include "policy/object.h"
#include "policy/unknown_fields.h"

struct problem {
	char *object;  /* "Service default/echo", or "document 3" when it has no name */
	char *message; /* "spec.ports[0].port: must be ..." */
};

struct unknown_kind {
	char *name; /* "Deployment.apps" */
	size_t count;
};

struct decoded {
	struct object **objects; /* one reference each */
	size_t object_count, object_capacity;
	/*
	 * What could be recognised in documents that could not be decoded: policies with name and targets only;
	 * Services and EndpointSlices with the addresses and ports that can be read. Whoever drops the documents must
	 * see to it that these targets, at these addresses, are refused, not served in plaintext.
	 */
	struct object **visible;
	size_t visible_count, visible_capacity;
	struct problem *problems;
	size_t problem_count, problem_capacity;
	struct unknown_kind *unknown_kinds; /* each once; at most 100 are told apart */
	size_t unknown_kind_count, unknown_kind_capacity;
	struct unknown_fields unknown_fields;
};

/*
 * documents: a JSON array as yaml_load() gives it; `kind: List` is unpacked, null documents are skipped. origin is
 * copied into each object. decoded must be all zero, and is freed by the caller whatever the result. 0 or -ENOMEM.
 */
int decode_documents(const json_t *documents, const char *origin, struct decoded *decoded);
void decoded_free(struct decoded *decoded);

#endif
