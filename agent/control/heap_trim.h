/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * heap_trim.h: gives back what handshakes have left of the heap, in the control thread.
 *
 * A handshake takes about 40 KB of user memory, until its session is freed: when the kernel has both keys, when it
 * failed, or with its connection. The C library keeps such memory: after a burst of connections it would be 40 KB for
 * each of them, however long they are idle. malloc_trim() returns every page that is free. It holds the lock of one
 * arena at a time, for some milliseconds with tens of MB, so it is called when nothing is freed for a moment, for
 * WORTH_IT freed sessions, or for fewer if none is left at all (0.2 to 0.8 ms with 8 MB); every TRIM_INTERVAL_NS while
 * sessions are freed all the time, and never more often for a few.
 *
 * What is counted is sessions that were freed, never the time that they should take (a ticket window may be stretched
 * by a loaded machine). Fewer than WORTH_IT may be kept while other sessions live on (those whose TLS is not the
 * kernel's): 2.5 MB.
 */
#ifndef POSTERN_CONTROL_HEAP_TRIM_H
#define POSTERN_CONTROL_HEAP_TRIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "tls/session.h"

struct heap_trim {
	struct loop *loop;
	struct loop_timer timer;
	uint64_t freed; /* as they were seen last */
	uint64_t last_freed_ns;
	uint64_t trimmed; /* of these, at the last trim */
	uint64_t trimmed_ns;
};

/* 0 or -ENOMEM. */
int heap_trim_start(struct heap_trim *trim, struct loop *loop);
void heap_trim_stop(struct heap_trim *trim);
/* So many sessions there were by now: is it time? Then it is taken as done. */
bool heap_trim_is_due(struct heap_trim *trim, const struct tls_session_counts *counts, uint64_t now_ns);

#endif
