/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/heap_trim.h"

#include <malloc.h>

#include "base/cleanup.h"

#define LOOK_NS          UINT64_C(200000000)
#define REST_NS          UINT64_C(300000000) /* without a session that is freed */
#define TRIM_INTERVAL_NS UINT64_C(2000000000)
#define WORTH_IT         64 /* sessions: some MB */

bool heap_trim_is_due(struct heap_trim *trim, const struct tls_session_counts *counts, uint64_t now_ns)
{
	uint64_t kept = counts->freed - trim->trimmed;
	bool interval_over = now_ns - trim->trimmed_ns >= TRIM_INTERVAL_NS;
	bool none_left = counts->freed == counts->begun;
	bool rests, burst, last;

	if (counts->freed != trim->freed) {
		trim->freed = counts->freed;
		trim->last_freed_ns = now_ns;
	}
	rests = now_ns - trim->last_freed_ns >= REST_NS;
	burst = kept >= WORTH_IT && (rests || interval_over);
	last = kept > 0 && none_left && rests && interval_over;
	if (!burst && !last)
		return false;
	trim->trimmed = counts->freed;
	trim->trimmed_ns = now_ns;
	return true;
}

static void on_look(struct loop_timer *timer)
{
	struct heap_trim *trim = container_of(timer, struct heap_trim, timer);
	struct tls_session_counts counts;

	tls_session_count(&counts);
	if (heap_trim_is_due(trim, &counts, loop_now_ns(trim->loop)))
		(void)malloc_trim(0);
	/* Without memory for a timer there is nothing to give back either. */
	(void)loop_timer_set(trim->loop, &trim->timer, LOOK_NS);
}

int heap_trim_start(struct heap_trim *trim, struct loop *loop)
{
	*trim = (struct heap_trim){.loop = loop};
	trim->timer.on_expire = on_look;
	return loop_timer_set(loop, &trim->timer, LOOK_NS);
}

void heap_trim_stop(struct heap_trim *trim)
{
	if (trim->loop)
		loop_timer_cancel(trim->loop, &trim->timer);
	*trim = (struct heap_trim){0};
}
