/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pod_readiness.h: the condition postern.dev/enrolled in a Pod's status, for Pods whose spec.readinessGates names it:
 * the kubelet counts such a Pod as Ready only while it is True. Pure.
 *
 * wanted: {"uid": "...", "status": true, "reason": "...", "message": "..."}
 */
#ifndef POSTERN_CONTROLLER_POD_READINESS_H
#define POSTERN_CONTROLLER_POD_READINESS_H

#include <jansson.h>

#define CONDITION_ENROLLED "postern.dev/enrolled"

struct enrolment_verdict;
struct object;

/* A new reference, or NULL: no memory. */
json_t *pod_readiness_wanted(const struct object *pod, const struct enrolment_verdict *verdict);

/*
 * Change pod (as GET gave it) in place. 1: it is to be written, 0: it is as it should be, -ESTALE: another Pod, or one
 * without the gate; -ENOMEM.
 */
int pod_readiness_merge(json_t *pod, const json_t *wanted, const char *now);
/*
 * The patch (strategic merge) that writes it: this condition alone, and only to this Pod in this state. NULL: no
 * memory.
 */
json_t *pod_readiness_patch(const json_t *pod);

#endif
