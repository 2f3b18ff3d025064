/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * targets.h: what the targetRefs of BackendTLSPolicies say, and which of two policies comes first: for the compile step
 * and for posternctl check, which names the Services of a policy. Pure.
 */
#ifndef POSTERN_POLICY_TARGETS_H
#define POSTERN_POLICY_TARGETS_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/object.h"

/* Of kind Service. A target without kind is broken, and visibly meant one. */
bool is_of_service_kind(const struct target_reference *target);
/* The same, and it has a name. */
bool is_service_target(const struct target_reference *target);
/* "": the whole Service. */
const char *target_section(const struct target_reference *target);
/* Has an earlier target of the policy the same Service (and the same section)? */
bool is_repeated_target(const struct backend_tls_policy *policy, size_t index, bool same_section);

/* Gateway API's precedence (GEP-713): the older one, then the first by namespace and name. Negative: left comes first.
 */
int compare_precedence(const struct object *left, const struct object *right);

#endif
