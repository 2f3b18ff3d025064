/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * unknown_fields.h: fields of a BackendTLSPolicy, or of a Gateway's spec.tls.backend, that this version does not know.
 * They have no effect, as if the API server had pruned them, and are said once a manifest and field.
 *
 * Is that safe with the fields that Gateway API has reserved (GEP-1897)? What they could take away stays:
 *   spec.mode           may ask for less than verified TLS one day: the policy covers and verifies as without it
 *   targetRefs[].from   may cover the connections of some Gateways or Routes only: all are covered
 *   targetRefs[].namespace may move the target elsewhere: the Service of this name in the policy's own namespace is
 *                       covered, and none of another namespace, which one tenant could close to the other
 * A misspelled field that adds something (an option, a name) is missing, and the note says so. Pure.
 */
#ifndef POSTERN_POLICY_UNKNOWN_FIELDS_H
#define POSTERN_POLICY_UNKNOWN_FIELDS_H

#include <jansson.h>
#include <stddef.h>

#include "policy/field.h"

struct unknown_field {
	char *subject; /* the first object that has it: "BackendTLSPolicy default/p" */
	char *path;    /* "spec.targetRefs[].namespace" */
	size_t count;  /* how often it stands in the manifest */
};

struct unknown_fields { /* all zero = none; at most 100 are told apart */
	struct unknown_field *items;
	size_t count, capacity;
};

/* Every key of map that is not in known, which ends with NULL. where is the path of map. 0 or -ENOMEM. */
int note_unknown_fields(struct decoder *decoder, const struct path *where, const json_t *map,
                        const char *const known[]);
void unknown_fields_free(struct unknown_fields *fields);

#endif
