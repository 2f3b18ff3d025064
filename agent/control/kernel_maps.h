/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel_maps.h: the kernel's destination map, guarded ports and CIDRs, kept as a cache of the snapshot. Control
 * thread.
 *
 * Coverage grows at once and shrinks late: a key that is covered no more, or that nothing names any more, keeps its
 * verdict for KERNEL_MAPS_DELAY_NS, so that an object which is replaced (deleted and made again) never opens a gap.
 * Each change costs its own keys.
 *
 *   not there --covered or PLAIN--> there --covered or named no more--> leaving --100 ms--> PLAIN, or not there
 *                                     ^                                    |
 *                                     +-----------covered again------------+
 *
 * Two kinds of keys are in the map although the snapshot does not name them: those that a HOLD found to be nobody's
 * (PLAIN until an object names them), and covered ones that an earlier life of the agent left (refused for the time of
 * a tombstone: their settings are not known any more).
 *
 * A covered key that finds no room in the map must not become a miss that passes: its port is guarded, and its address
 * gets a host route in the CIDRs if none holds it, so that the miss is a HOLD, which the agent answers from the
 * snapshot. It is tried again whenever keys leave.
 */
#ifndef POSTERN_CONTROL_KERNEL_MAPS_H
#define POSTERN_CONTROL_KERNEL_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/key_table.h"
#include "datapath/hooks.h"
#include "policy/snapshot.h"

#define KERNEL_MAPS_DELAY_NS 100000000ull

struct kernel_maps {
	struct hooks *hooks;
	struct postern_runtime_config runtime; /* as configured */
	uint64_t keep_ns;                      /* how long an earlier life's covered keys are refused */

	struct snapshot *applied; /* what the maps show, but for what is leaving. NULL: nothing yet */
	struct key_table leaving; /* -> when, CLOCK_MONOTONIC */
	struct key_table kept;    /* of an earlier life -> until when */
	struct key_table plain;   /* nobody's, after a HOLD */
	struct key_table overflow;

	/* What the kernel has now. */
	uint64_t guarded[HOOKS_GUARDED_WORDS];
	struct cidr *cidrs;
	size_t cidr_count;
	size_t cidr_capacity;
	bool strict;

	struct { /* of these, what nobody needs any more */
		uint64_t ports[HOOKS_GUARDED_WORDS];
		size_t cidrs;
		bool strict;
	} unwanted;
	uint64_t guards_due_ns; /* when that goes; 0: there is none */
	bool incomplete;        /* a covered key is neither in the map nor in overflow */
	bool unguarded;         /* a guard could not be written */
	bool retired;           /* another agent writes the maps */
	bool inherits;          /* the earlier life is an agent that runs: what it found to be nobody's is still that */
};

/* Reads what an earlier life left, and writes the switches. 0 or negative errno. */
int kernel_maps_start(struct kernel_maps *maps, struct hooks *hooks, const struct postern_runtime_config *runtime,
                      uint64_t keep_ns);
/* Another agent writes the maps from now on. What is due is its business; `applied` is still followed. */
void kernel_maps_retire(struct kernel_maps *maps);
void kernel_maps_stop(struct kernel_maps *maps); /* the kernel's maps stay as they are */

struct kernel_maps_change {
	bool grew;      /* a key is covered that was not: plain sockets to it must go */
	bool tightened; /* that, or a key that is refused now or has other settings: live connections must be looked at
	                 */
};

/* Show the snapshot, and keep a reference of it. Errors are logged, and tried again by kernel_maps_settle(). */
void kernel_maps_apply(struct kernel_maps *maps, struct snapshot *snapshot, uint64_t now_ns,
                       struct kernel_maps_change *change);
/*
 * Carry out what is due. Returns when the next is, 0 for never. While the source has errors (in_order false) nothing is
 * taken away that an earlier life of the agent had put there: a file that cannot be read may be what named it.
 */
uint64_t kernel_maps_settle(struct kernel_maps *maps, uint64_t now_ns, bool in_order);

/*
 * An agent that drains and has given the maps up may still have said PLAIN of keys that are nobody's
 * (hooks_let_pass_unless_known()): remember them as this one's own finds, so that they end when they are named, and
 * take away what stands in front of a covered "any port". While such an agent lives before and after each
 * kernel_maps_apply(), and once more when none does.
 */
void kernel_maps_adopt(struct kernel_maps *maps);

/* A covered key may pass: the agent is not ready. */
bool kernel_maps_broken(const struct kernel_maps *maps);
/* Covered no more, and still in the map as it was. */
bool kernel_maps_is_leaving(const struct kernel_maps *maps, const struct postern_destination_key *key);
/*
 * The snapshot does not cover the key: make sure that the map says PLAIN, which the witness judges by. 0; -EPERM: it is
 * covered, or an earlier life had covered it and no object names it now, or no snapshot was applied yet; -E2BIG: the
 * map is full, or too many are remembered; -ENOMEM.
 */
int kernel_maps_let_pass(struct kernel_maps *maps, const struct postern_destination_key *key);

#endif
