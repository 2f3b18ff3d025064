/* SPDX-License-Identifier: GPL-2.0-only */
/* At the top of the status: what makes its exit status 1. The tables below it have the details. */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "status.h"
#include "terminal.h"

#define LINES_MAX 10

struct lines {
	size_t count;
};

/* False: it is counted only. The caller prints the line's text, and ends it. */
static bool begin_line(struct lines *lines)
{
	if (lines->count++ == 0) {
		putchar('\n');
		terminal_put(COLOUR_BAD, "Needs attention");
		putchar('\n');
	}
	if (lines->count > LINES_MAX)
		return false;
	printf("  ");
	return true;
}

static void tell_gateways(struct lines *lines, const json_t *document)
{
	size_t index;
	json_t *gateway;

	json_array_foreach (json_object_get(document, "gateways"), index, gateway) {
		const char *reason = text_of(gateway, "reason");

		if (strcmp(text_of(gateway, "state"), "ready") == 0 || !begin_line(lines))
			continue;
		terminal_printf(COLOUR_BAD, "gateway %s is %s%s%s: its covered connects are refused",
		                text_of(gateway, "name"), text_of(gateway, "state"), reason[0] ? ": " : "", reason);
		putchar('\n');
	}
}

static void tell_policies(struct lines *lines, const json_t *document)
{
	size_t index;
	json_t *policy;

	json_array_foreach (json_object_get(document, "policies"), index, policy) {
		const json_t *accepted = json_object_get(policy, "accepted");
		const json_t *references = json_object_get(policy, "resolvedRefs");
		const char *namespace_ = text_of(policy, "namespace");
		const char *name = text_of(policy, "name");
		bool refused = !truth_of(accepted, "status");

		if ((!refused && truth_of(references, "status")) || !begin_line(lines))
			continue;
		terminal_printf(COLOUR_BAD, "policy %s/%s: %s: %s", namespace_, name,
		                refused ? "not accepted" : "references not resolved",
		                text_of(refused ? accepted : references, "reason"));
		terminal_printf(COLOUR_DIM, "  (posternctl policies --policy %s/%s)", namespace_, name);
		putchar('\n');
	}
}

static void tell_source(struct lines *lines, const json_t *document)
{
	size_t index;
	json_t *row;

	json_array_foreach (json_object_get(document, "source_errors"), index, row) {
		if (!begin_line(lines))
			continue;
		terminal_printf(COLOUR_BAD, "source: %s cannot be used: see Source errors", text_of(row, "object"));
		putchar('\n');
	}
	json_array_foreach (json_object_get(document, "source_watches"), index, row) {
		if (!json_is_number(json_object_get(row, "failing_seconds")) || !begin_line(lines))
			continue;
		terminal_printf(COLOUR_BAD, "source: the watch of %s fails: the last state counts",
		                text_of(row, "resource"));
		putchar('\n');
	}
}

void print_what_is_wrong(const json_t *document)
{
	struct lines lines = {0};

	tell_gateways(&lines, document);
	tell_policies(&lines, document);
	tell_source(&lines, document);
	if (lines.count > LINES_MAX)
		printf("  and %zu more: see below\n", lines.count - LINES_MAX);
}
