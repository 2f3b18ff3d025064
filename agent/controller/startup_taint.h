/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * startup_taint.h: the taint postern.dev/not-ready, with which a node may be born (kubelet --register-with-taints), so
 * that no gateway is put on it before its agent is ready: taken away then. Pure.
 *
 * wanted: {"uid": "..."}: of the node whose agent is ready.
 */
#ifndef POSTERN_CONTROLLER_STARTUP_TAINT_H
#define POSTERN_CONTROLLER_STARTUP_TAINT_H

#include <jansson.h>

#define STARTUP_TAINT "postern.dev/not-ready"

struct object;

json_t *startup_taint_wanted(const struct object *node); /* NULL: no memory */
/* Take it out of node (as GET gave it): 1: it was there, 0: it was not, -ESTALE: another node, -ENOMEM. */
int startup_taint_merge(json_t *node, const json_t *wanted);
/* The patch (JSON merge) that writes node's taints, and only to this node in this state. NULL: no memory. */
json_t *startup_taint_patch(const json_t *node);

#endif
