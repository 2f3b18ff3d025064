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

struct object_name;
struct object_store;
struct settings_registry;
struct shared_text;
struct snapshot;

struct compile_options {
	const struct cidr *cluster_cidrs; /* from the configuration; ServiceCIDR objects of the store are added */
	size_t cluster_cidr_count;
	/*
	 * A directory of manifests is its operator's own: what a slice there says takes a key at once. Which of several
	 * claims on one key counts is decided by the same rule everywhere.
	 */
	bool operators_own;
	struct shared_text *system_ca; /* what wellKnownCACertificates: System stands for. NULL: there is none */
	uint64_t now_ns;               /* CLOCK_MONOTONIC, for tombstones */
	uint64_t tombstone_ns; /* how long a covered endpoint that vanished stays TLS; 0 = the design's 10 minutes */
	/* Ids live here across compiles: digest -> settings id. Owned by the caller, see settings_registry_new(). */
	struct settings_registry *registry;
};

struct settings_registry *settings_registry_new(void);
void settings_registry_free(struct settings_registry *registry);

/*
 * The compiler remembers what it saw and made, so that the next compile costs what changed: it compares the store's
 * objects with those it saw (by pointer: an object never changes), finds the Services that are concerned, and shares
 * with the snapshot before it all that stayed. What it yields is what a new compiler would yield from the same store
 * and the same past (tombstones), in every byte that a reader can see but times: a test holds it to that.
 *
 * It holds a reference to every object that it saw. What costs a whole compile: the first run, a change of what is in
 * quarantine, another system CA, and the run after one that failed.
 *
 * options are copied (now_ns of them is not used). The registry must live as long.
 */
struct compiler;
struct compiler *compiler_new(const struct compile_options *options); /* NULL: no memory */
void compiler_free(struct compiler *compiler);                        /* NULL-safe */
void compiler_set_system_ca(struct compiler *compiler, struct shared_text *system_ca);
/*
 * 0 and the new snapshot with one reference for the caller in *result; or -ENOMEM with *result untouched: then the
 * compiler has forgotten all but the last snapshot, and makes everything anew in its next run. Bad policies are never
 * an error here: they end as DENY with a reason, and in the policy's status.
 */
int compiler_run(struct compiler *compiler, const struct object_store *store, uint64_t now_ns,
                 struct snapshot **result);

/*
 * The Pods whose addresses decide which claims on a contested endpoint count (verdicts.c), for a source that does not
 * have every Pod: sorted, each once, at most `most` of them. The names are borrowed until the next run.
 */
size_t compiler_contested_pods(const struct compiler *compiler, struct object_name *pods, size_t most);

/*
 * The same once, with nothing remembered but the tombstones of previous (NULL: none): for posternctl check and tests.
 */
int compile_snapshot(const struct object_store *store, const struct compile_options *options, struct snapshot *previous,
                     struct snapshot **result);

#endif
