/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * resources.h: what the process takes of the system before it serves anyone: descriptors for its connections, and its
 * pins, which are one agent's at a time. Control thread.
 */
#ifndef POSTERN_CONTROL_RESOURCES_H
#define POSTERN_CONTROL_RESOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct descriptor_limit {
	uint64_t limit;           /* RLIMIT_NOFILE in force */
	uint64_t needed;          /* for what was configured */
	uint64_t for_connections; /* of them, for A and B */
	uint32_t max_connections; /* that there are descriptors for */
};

/*
 * Raise RLIMIT_NOFILE to what so many connections, gateways and workers need, the hard limit included where we may.
 * Where it is not enough (logged), connects are refused before the last descriptors are gone, so that files, gateways
 * and the status socket do not go without.
 */
void resources_raise_descriptors(uint32_t max_connections, size_t gateways, unsigned int workers,
                                 struct descriptor_limit *limit);

/*
 * The lock on everything pinned below bpffs: two agents on the same pins would take each other's connects, but for an
 * agent and its successor (beside), which have arranged it. It is on the directory itself, so it holds across run
 * directories and across containers that share the mount, and is gone with the process. A descriptor to keep,
 * -EWOULDBLOCK (another agent lives; logged), or another negative errno.
 */
int resources_lock_pins(const char *bpffs, bool beside);
void resources_unlock_pins(int *lock); /* idempotent; -1: not held */

#endif
