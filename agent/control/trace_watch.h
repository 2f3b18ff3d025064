/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace_watch.h: the kernel's side of `posternctl trace`. While somebody looks, the BPF programs are told what is
 * wanted (the widest of all filters) and their ring is read into the events of the workers (base/trace.h); when the
 * last one is gone, the programs are told so. Control thread.
 */
#ifndef POSTERN_CONTROL_TRACE_WATCH_H
#define POSTERN_CONTROL_TRACE_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "postern/abi.h"

struct agent;

#define TRACE_ANNOUNCED 256

/* What G announced: the SYN that the listener's filter sees tells nothing of it but its end of the tuple. */
struct trace_announced {
	uint32_t gateway_id; /* 0: none */
	uint32_t verdict;
	uint64_t cookie;
	struct postern_tuple tuple;
	struct postern_destination_key destination;
};

struct trace_watch {
	struct agent *agent; /* NULL: nobody looked yet */
	struct loop_source ring;
	struct loop_timer timer;
	uint64_t lost; /* of the programs' count: what was said */
	struct trace_announced announced[TRACE_ANNOUNCED];
	size_t announced_next;
};

/* Before a look: all that the programs have told until now is among the events. */
void trace_watch_read(struct agent *agent);
/* After a look: somebody wants other things than before. */
void trace_watch_ask(struct agent *agent);
/* About how many events the programs had until now, told or not. */
uint64_t trace_watch_counted(const struct agent *agent);
/* Before the hooks go. Idempotent. */
void trace_watch_stop(struct agent *agent);

#endif
