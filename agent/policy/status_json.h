/* SPDX-License-Identifier: GPL-2.0-only */
/* status_json.h: the policies of a snapshot as posternctl and the status socket show them. */
#ifndef POSTERN_POLICY_STATUS_JSON_H
#define POSTERN_POLICY_STATUS_JSON_H

#include <jansson.h>

struct snapshot;

/*
 * An array of {"namespace", "name", "generation", "accepted": {"status", "reason", "message"}, "resolvedRefs": {...},
 * "destinations"}; status is "True" or "False", as in Kubernetes. A new reference, or NULL: no memory.
 */
json_t *policy_statuses_json(const struct snapshot *snapshot);

#endif
