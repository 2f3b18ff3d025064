/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * heap_trim.h: gives back what handshakes have left of the heap, in the control thread.
 *
 * A handshake takes about 40 KB of user memory and frees it within a second or so, when the kernel has both keys. The C
 * library keeps such memory: after a burst of connections it would be 40 KB for each of them, however long they are
 * idle. malloc_trim() returns every page that is free. It holds the lock of one arena at a time, for some milliseconds
 * with tens of MB, so it is called when handshakes have come to rest, and at most every TRIM_INTERVAL_NS if they do
 * not: once when most sessions are freed, and once when the last ones have waited for tickets.
 */
#ifndef POSTERN_CONTROL_HEAP_TRIM_H
#define POSTERN_CONTROL_HEAP_TRIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

struct worker;

struct heap_trim {
	struct loop *loop;
	struct loop_timer timer;
	struct worker *const *workers;
	unsigned int worker_count;
	uint64_t handshakes;   /* as they were seen last */
	uint64_t unsettled;    /* of these, since the last trim */
	uint64_t last_seen_ns; /* when the number grew */
	uint64_t trimmed_ns;
	bool once_more; /* the last sessions were not freed yet at the last trim */
};

/* Workers are looked at while it lives. 0 or -ENOMEM. */
int heap_trim_start(struct heap_trim *trim, struct loop *loop, struct worker *const *workers, unsigned int count);
void heap_trim_stop(struct heap_trim *trim);
/* So many handshakes were completed by now: is it time? Then it is taken as done. */
bool heap_trim_is_due(struct heap_trim *trim, uint64_t handshakes, uint64_t now_ns);

#endif
