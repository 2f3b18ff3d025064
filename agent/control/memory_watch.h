/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memory_watch.h: measures what the agent uses of its memory budget, in the control thread.
 *
 * The budget is the setting memoryBudget, or three quarters of the tightest memory.max of the agent's own cgroup and
 * those above it, or three quarters of the machine's memory. What is used:
 *   - of a cgroup with the memory controller: memory.current without the page cache, which is given back on demand.
 *     It holds the kernel's memory for A and B, too;
 *   - without one: resident anonymous memory, and what the workers counted for their sockets.
 * With several limits, the one that is nearest counts. Measured every 200 ms, every 20 ms from half of it on.
 */
#ifndef POSTERN_CONTROL_MEMORY_WATCH_H
#define POSTERN_CONTROL_MEMORY_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/memory_budget.h"

struct worker;

#define MEMORY_LIMITS_MAX 16

struct memory_limit {
	char *cgroup;    /* its directory */
	uint64_t budget; /* bytes */
};

struct memory_watch {
	struct loop *loop;
	struct loop_timer timer;
	struct memory_budget *budget;
	struct worker *const *workers;
	unsigned int worker_count;
	struct memory_limit limits[MEMORY_LIMITS_MAX];
	size_t limit_count;
	uint64_t own_budget; /* by own accounting: nothing above has a limit. 0: a cgroup's count is better */
	char source[160];    /* where the budget comes from, for the operator */
	bool told;           /* that it is full */
};

/*
 * cgroup: the agent's, absolute, below the cgroup2 mount. setting: bytes, 0 = find it out. Workers are looked at while
 * the watch lives. 0 or -ENOMEM.
 */
int memory_watch_start(struct memory_watch *watch, struct loop *loop, const char *cgroup, const char *mount,
                       uint64_t setting, struct memory_budget *budget);
void memory_watch_workers(struct memory_watch *watch, struct worker *const *workers, unsigned int count);
void memory_watch_stop(struct memory_watch *watch);
/* The budget before any worker runs. */
void memory_watch_measure(struct memory_watch *watch);

#endif
