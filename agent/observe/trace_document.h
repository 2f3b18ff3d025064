/* SPDX-License-Identifier: GPL-2.0-only */
/* trace_document.h: the status socket's `trace READER AFTER [GATEWAY|- [ADDRESS|- [PORT|0 [VERDICTS]]]]`
 * (base/trace.h). */
#ifndef POSTERN_OBSERVE_TRACE_DOCUMENT_H
#define POSTERN_OBSERVE_TRACE_DOCUMENT_H

#include <jansson.h>
#include <stdint.h>

struct trace;
struct trace_programs;

/*
 * {"last": n, "lost": n, "known": bool, "away_seconds": x, "events": [{"number", "time", "source", "event", "gateway",
 * "gateway_port", "destination", "verdict", "reason", "cookie", "local", "remote", "error", "detail"}]}, or {"error"}.
 * VERDICTS is a number: bit n is enum postern_verdict n; 0 is any. programs: as trace_look() takes it. Control thread.
 * NULL: no memory.
 */
json_t *trace_document(struct trace *trace, const char *arguments, const struct trace_programs *programs);

#endif
