/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/heap_trim.h"

#include <malloc.h>

#include "base/cleanup.h"
#include "datapath/worker.h"

#define LOOK_NS          UINT64_C(200000000)
#define REST_NS          UINT64_C(300000000)  /* without a handshake */
#define TICKETS_NS       UINT64_C(1300000000) /* the last session is freed by then */
#define TRIM_INTERVAL_NS UINT64_C(2000000000)
#define WORTH_IT         64 /* handshakes: some MB */

bool heap_trim_is_due(struct heap_trim *trim, uint64_t handshakes, uint64_t now_ns)
{
	bool rests, due;

	if (handshakes != trim->handshakes) {
		trim->unsettled += handshakes - trim->handshakes;
		trim->handshakes = handshakes;
		trim->last_seen_ns = now_ns;
	}
	rests = now_ns - trim->last_seen_ns >= REST_NS;
	due = trim->unsettled >= WORTH_IT && (rests || now_ns - trim->trimmed_ns >= TRIM_INTERVAL_NS);
	if (due) {
		trim->once_more = true;
	} else if (trim->once_more && now_ns - trim->last_seen_ns >= TICKETS_NS) {
		trim->once_more = false;
		due = true;
	}
	if (due) {
		trim->unsettled = 0;
		trim->trimmed_ns = now_ns;
	}
	return due;
}

static void on_look(struct loop_timer *timer)
{
	struct heap_trim *trim = container_of(timer, struct heap_trim, timer);
	uint64_t handshakes = 0;

	for (unsigned int i = 0; i < trim->worker_count; i++) {
		struct worker_statistics statistics;

		worker_statistics(trim->workers[i], &statistics);
		handshakes += statistics.handshakes_full + statistics.handshakes_resumed;
	}
	if (heap_trim_is_due(trim, handshakes, loop_now_ns(trim->loop)))
		(void)malloc_trim(0);
	/* Without memory for a timer there is nothing to give back either. */
	(void)loop_timer_set(trim->loop, &trim->timer, LOOK_NS);
}

int heap_trim_start(struct heap_trim *trim, struct loop *loop, struct worker *const *workers, unsigned int count)
{
	*trim = (struct heap_trim){.loop = loop, .workers = workers, .worker_count = count};
	trim->timer.on_expire = on_look;
	return loop_timer_set(loop, &trim->timer, LOOK_NS);
}

void heap_trim_stop(struct heap_trim *trim)
{
	if (trim->loop)
		loop_timer_cancel(trim->loop, &trim->timer);
	*trim = (struct heap_trim){0};
}
