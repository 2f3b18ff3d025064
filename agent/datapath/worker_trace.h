/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * worker_trace.h: a worker's events for `posternctl trace` (base/trace.h). Worker's thread; costs a load if nobody
 * looks.
 */
#ifndef POSTERN_DATAPATH_WORKER_TRACE_H
#define POSTERN_DATAPATH_WORKER_TRACE_H

#include "base/trace.h"

struct worker;
struct worker_gateway;

/* Whose event it is: an attempt's, or a connection's. */
struct trace_subject {
	const struct worker_gateway *gateway;
	uint16_t gateway_port;
	const struct postern_destination_key *destination;
	uint32_t verdict; /* enum postern_verdict, or TRACE_NO_VERDICT */
	uint64_t cookie;  /* of G; 0: not known */
};

void worker_trace(struct worker *worker, enum trace_kind kind, struct trace_subject subject, enum postern_reason reason,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
