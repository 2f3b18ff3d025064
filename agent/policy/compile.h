/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compile.h: object store -> snapshot (design section 1 and 9). Pure but for its arguments: no clock, no I/O, so that
 * the agent, the controller and `posternctl check` get the same answer from the same objects. Control thread.
 */
#ifndef POSTERN_POLICY_COMPILE_H
#define POSTERN_POLICY_COMPILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

struct object_store;
struct snapshot;

struct compile_options {
	const struct cidr *cluster_cidrs; /* from the configuration; ServiceCIDR objects of the store are added */
	size_t cluster_cidr_count;
	bool trust_every_slice; /* a directory of manifests is its operator's own: every slice is a trusted claim */
	uint64_t now_ns;        /* CLOCK_MONOTONIC, for tombstones */
	uint64_t tombstone_ns;  /* how long a covered endpoint that vanished stays TLS; 0 = the design's 10 minutes */
	/* Ids live here across compiles: digest -> settings id. Owned by the caller, see settings_registry_new(). */
	struct settings_registry *registry;
};

struct settings_registry;
struct settings_registry *settings_registry_new(void);
void settings_registry_free(struct settings_registry *registry);

/*
 * 0 and a snapshot with one reference in *result, or -ENOMEM with *result untouched. Bad policies are never an error
 * here: they end as DENY with a reason, and in the policy's status. previous may be NULL (the first compile).
 */
int compile_snapshot(const struct object_store *store, const struct compile_options *options, struct snapshot *previous,
                     struct snapshot **result);

#endif
