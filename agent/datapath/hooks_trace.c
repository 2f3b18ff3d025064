// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/hooks_trace.h"

#include <bpf/libbpf.h>
#include <errno.h>

#include "datapath/hooks_internal.h"
#include "postern.skel.h"

#define READ_MAX 512 /* the control thread has other things to do */

static int on_record(void *context, void *data, size_t size)
{
	struct hooks_trace *trace = context;

	if (size >= sizeof(struct postern_trace_record))
		trace->each(trace->context, data);
	return ++trace->count < READ_MAX ? 0 : -EAGAIN;
}

int hooks_trace_open(struct hooks *hooks, void (*each)(void *context, const struct postern_trace_record *record),
                     void *context)
{
	struct hooks_trace *trace = &hooks->trace;

	trace->each = each;
	trace->context = context;
	trace->ring = ring_buffer__new(bpf_map__fd(hooks->skeleton->maps.trace_ring), on_record, trace, NULL);
	return trace->ring ? ring_buffer__epoll_fd(trace->ring) : -errno;
}

int hooks_trace_read(struct hooks *hooks)
{
	int result;

	hooks->trace.count = 0;
	result = ring_buffer__consume(hooks->trace.ring);
	return result < 0 && result != -EAGAIN ? result : (int)hooks->trace.count;
}

/*
 * Programs run meanwhile. What is compared is not compared at all while it is written: rather too much is told for that
 * moment than too little, and the agent sorts it out.
 */
void hooks_trace_ask(struct hooks *hooks, const struct postern_trace_filter *filter)
{
	struct postern_trace_filter *there = (struct postern_trace_filter *)&hooks->skeleton->bss->trace_filter;

	__atomic_store_n(&there->match, 0, __ATOMIC_SEQ_CST);
	there->gateway_id = filter->gateway_id;
	there->destination = filter->destination;
	there->verdicts = filter->verdicts;
	__atomic_store_n(&there->match, filter->match, __ATOMIC_SEQ_CST);
	__atomic_store_n(&there->until_ns, filter->until_ns, __ATOMIC_SEQ_CST);
}

uint64_t hooks_trace_lost(const struct hooks *hooks)
{
	return __atomic_load_n(&hooks->skeleton->bss->trace_lost, __ATOMIC_RELAXED);
}

void hooks_trace_close(struct hooks *hooks)
{
	static const struct postern_trace_filter nothing;

	/* The programs stay, and nobody reads any more. */
	if (hooks->skeleton && hooks->skeleton->bss)
		hooks_trace_ask(hooks, &nothing);
	ring_buffer__free(hooks->trace.ring);
	hooks->trace.ring = NULL;
}
