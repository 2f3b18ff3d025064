/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * memory_budget.h: how much memory the agent may use, and whether that is used up: user memory, and the kernel's for
 * its sockets. The control thread measures (control/memory_watch.h), workers read: new connects are refused while it is
 * full, and socket buffers are capped by what the budget leaves for each connection.
 */
#ifndef POSTERN_BASE_MEMORY_BUDGET_H
#define POSTERN_BASE_MEMORY_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct memory_budget {
	_Atomic uint64_t bytes; /* 0: not known, so nothing is refused or capped */
	_Atomic uint64_t used;  /* when it was last measured */
	_Atomic bool full;
	_Atomic bool counts_sockets; /* workers are to count the memory of their sockets: nobody else does */
};

/* A budget may be NULL: there is none. */
static inline bool memory_budget_full(const struct memory_budget *budget)
{
	return budget && atomic_load_explicit(&budget->full, memory_order_relaxed);
}

static inline uint64_t memory_budget_bytes(const struct memory_budget *budget)
{
	return budget ? atomic_load_explicit(&budget->bytes, memory_order_relaxed) : 0;
}

/* Full from the whole on, and until an eighth is free again: what wavers around the edge refuses in one piece. */
static inline void memory_budget_measured(struct memory_budget *budget, uint64_t bytes, uint64_t used)
{
	bool full = atomic_load_explicit(&budget->full, memory_order_relaxed);

	atomic_store_explicit(&budget->bytes, bytes, memory_order_relaxed);
	atomic_store_explicit(&budget->used, used, memory_order_relaxed);
	atomic_store_explicit(&budget->full, bytes && used >= (full ? bytes - bytes / 8 : bytes), memory_order_relaxed);
}

#endif
