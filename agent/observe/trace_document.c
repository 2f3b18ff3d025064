/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/trace_document.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/trace.h"
#include "observe/json.h"
#include "observe/status.h"

static bool key_is_zero(const struct postern_destination_key *key)
{
	static const struct postern_destination_key zero;

	return memcmp(key, &zero, sizeof(zero)) == 0;
}

/* "": not known. */
static json_t *end_of(const struct postern_address *address, uint16_t port)
{
	const struct postern_destination_key key = {.address = *address, .port = htons(port)};

	return key_is_zero(&key) ? json_string("") : json_destination(&key);
}

/* Microseconds: a connect is over in less than a millisecond. */
static json_t *precise_time(const struct timespec *time)
{
	struct tm parts;
	char text[64];
	size_t length;

	if (!gmtime_r(&time->tv_sec, &parts))
		return json_string("");
	length = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
	(void)snprintf(text + length, sizeof(text) - length, ".%06ldZ", time->tv_nsec / 1000);
	return json_string(text);
}

static json_t *event_row(const struct trace_event *event)
{
	const char *counted = counter_name(event->counter);
	bool known = !key_is_zero(&event->destination);

	return json_pack("{s:I, s:o, s:s, s:s, s:o, s:i, s:o, s:s, s:s, s:I, s:o, s:o, s:o, s:o}", "number",
	                 (json_int_t)event->number, "time", precise_time(&event->time), "source",
	                 event->counter == TRACE_NO_COUNTER ? "agent" : "kernel", "event", trace_kind_name(event->kind),
	                 "gateway", json_text(event->gateway), "gateway_port", (int)event->gateway_port, "destination",
	                 known ? json_destination(&event->destination) : json_string(""), "verdict",
	                 event->verdict == TRACE_NO_VERDICT ? "" : verdict_name(event->verdict), "reason",
	                 counted ? counted : reason_name(event->reason), "cookie", (json_int_t)event->cookie, "local",
	                 end_of(&event->tuple.local, event->tuple.local_port), "remote",
	                 end_of(&event->tuple.remote, event->tuple.remote_port), "error",
	                 event->error ? json_errno((uint32_t)event->error) : json_string(""), "detail",
	                 json_text(event->detail));
}

/* False: it cannot be used. */
static bool read_arguments(const char *arguments, uint64_t *reader, uint64_t *after, struct trace_filter *filter)
{
	char gateway[TRACE_NAME_MAX] = "-";
	char address[ADDRESS_TEXT_MAX] = "-";
	unsigned int port = 0;
	unsigned int verdicts = 0;

	if (sscanf(arguments, "%" SCNu64 " %" SCNu64 " %127s %47s %u %u", reader, after, gateway, address, &port,
	           &verdicts) < 2 ||
	    *reader == 0 || port > 65535)
		return false;
	*filter = (struct trace_filter){.port = htons((uint16_t)port), .verdicts = verdicts};
	if (strcmp(gateway, "-") != 0)
		(void)snprintf(filter->gateway, sizeof(filter->gateway), "%s", gateway);
	return strcmp(address, "-") == 0 || address_parse(address, &filter->address) == 0;
}

json_t *trace_document(struct trace *trace, const char *arguments, const struct trace_programs *programs)
{
	_cleanup_free_ struct trace_event *events = calloc(TRACE_KEPT, sizeof(*events));
	struct trace_filter filter;
	struct trace_answer seen;
	uint64_t reader, after;
	json_t *rows = json_array();

	if (!read_arguments(arguments, &reader, &after, &filter) || !events) {
		json_decref(rows);
		return json_pack("{s:s}", "error", "trace READER AFTER [GATEWAY|- [ADDRESS|- [PORT|0 [VERDICTS]]]]");
	}
	if (trace_look(trace, reader, &filter, after, programs, events, TRACE_KEPT, &seen) != 0) {
		json_decref(rows);
		return json_pack("{s:s}", "error", "too many look on already");
	}
	for (size_t i = 0; i < seen.count; i++)
		json_append(&rows, event_row(&events[i]));
	return json_pack("{s:I, s:I, s:b, s:f, s:o}", "last", (json_int_t)seen.last, "lost", (json_int_t)seen.lost,
	                 "known", (int)seen.known, "away_seconds", (double)seen.away_ns / 1e9, "events", rows);
}
