/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wants.h: from the snapshot and the objects: what each status should say (conditions.h and policy_status.h have the
 * form). Pure.
 *
 * BackendTLSPolicy: its conditions, for each ancestor that is not merely observed. A Gateway is observed if all the
 * pods that serve it are, or by its own annotation if there is none: nothing is done for it, so nothing is accepted.
 * Gateway of the adopted class (controllerName postern.dev/adopted), which nobody else writes: Accepted, Programmed,
 * and ResolvedRefs for its client certificate. On Gateways of other controllers nothing is said of these. Any Gateway:
 * postern.dev/PolicyStatusFull where a policy has no room for it among its 16 ancestors (GEP-713: "signal that on any
 * related resources such as the ancestor"), and only then. GatewayClass of that controllerName: Accepted.
 */
#ifndef POSTERN_CONTROLLER_WANTS_H
#define POSTERN_CONTROLLER_WANTS_H

#include <jansson.h>
#include <stdbool.h>

#define CONDITION_STATUS_FULL "postern.dev/PolicyStatusFull"

struct gateway_status;
struct object;
struct object_store;
struct pod_gateways;
struct policy_status;
struct snapshot;

/* All that is needed to answer; borrowed. */
struct wants_from {
	const struct snapshot *snapshot;
	const struct object_store *store;
	const struct pod_gateways *pods; /* of all nodes */
};

bool gateway_is_observed(const struct wants_from *from, const char *namespace_, const char *name);

/* New references, or NULL: no memory. */
json_t *wanted_of_policy(const struct wants_from *from, const struct policy_status *policy);
/* full: {"namespace/name of the Gateway": ["namespace/name of a policy"...]}, from wanted_full(). */
json_t *wanted_of_gateway(const struct wants_from *from, const struct object *gateway, const json_t *full);
/* NULL also where it is not ours: is_adopted_class() tells. */
json_t *wanted_of_class(const struct object *class);
json_t *wanted_full(const struct snapshot *snapshot);

bool is_adopted_class(const struct object *class);

#endif
