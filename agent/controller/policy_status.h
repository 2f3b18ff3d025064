/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * policy_status.h: status.ancestors of a BackendTLSPolicy, as postern would have it. Pure.
 *
 * What governs: GEP-713 and the comments of PolicyStatus in Gateway API. An entry belongs to who wrote its
 * controllerName; of those that are ours, (ancestorRef, controllerName) is the key. Entries of others stay where they
 * are and as they are, to the last unknown field. Ours are changed in place, taken out when their Gateway is no longer
 * an ancestor, and new ones put at the end, in the order of names; 16 in all. All conditions of all our entries get one
 * observedGeneration in one write, and none is written while one of them has a greater one.
 *
 * wanted: what conditions.h has, and "ancestors": [{"namespace": "n", "name": "g"}...], those for whom there may be no
 * room last.
 */
#ifndef POSTERN_CONTROLLER_POLICY_STATUS_H
#define POSTERN_CONTROLLER_POLICY_STATUS_H

#include <jansson.h>
#include <stddef.h>

#define POSTERN_CONTROLLER_NAME "postern.dev/backend-tls"

/*
 * Change policy (as GET gave it) in place. 1: its status has to be written, 0: it is as it should be, -ESTALE: its
 * generation is not the wanted one, or an entry of ours is newer; -ENOMEM: policy is good for nothing any more.
 */
int policy_status_merge(json_t *policy, const json_t *wanted, const char *now);

#endif
