/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/worker_trace.h"

#include <stdarg.h>
#include <stdio.h>

#include "datapath/worker_internal.h"

void worker_trace(struct worker *worker, enum trace_kind kind, struct trace_subject subject, enum postern_reason reason,
                  const char *format, ...)
{
	struct trace_event event = {
	        .kind = kind,
	        .gateway_port = subject.gateway_port,
	        .destination = *subject.destination,
	        .reason = reason,
	        .counter = TRACE_NO_COUNTER,
	        .verdict = subject.verdict,
	        .cookie = subject.cookie,
	};
	va_list arguments;

	if (!trace_active(worker->options.trace))
		return;
	(void)snprintf(event.gateway, sizeof(event.gateway), "%s", subject.gateway->gateway->name);
	va_start(arguments, format);
	(void)vsnprintf(event.detail, sizeof(event.detail), format, arguments);
	va_end(arguments);
	trace_add(worker->options.trace, &event);
}
