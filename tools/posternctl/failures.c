/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl failures: so that "111: Connection refused" in a gateway's log leads to its reason: the row has the time
 * and the gateway's own port. --watch prints what is new, the oldest first, a line each.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_client.h"
#include "posternctl.h"
#include "print.h"
#include "rows.h"
#include "terminal.h"

static void add_row(struct table *table, const json_t *row)
{
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "time"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "gateway"));
	table_cell(table, COLOUR_NONE, "%lld", number_of(row, "gateway_port"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "destination"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "policy"));
	table_cell(table, COLOUR_BAD, "%s", text_of(row, "reason"));
	if (text_of(row, "detail")[0])
		table_note(table, COLOUR_NONE, "%s", text_of(row, "detail"));
	if (text_of(row, "remedy")[0])
		table_note(table, COLOUR_DIM, "remedy: %s", text_of(row, "remedy"));
}

static void print_page(const json_t *rows, size_t before)
{
	static const char *const headings[] = {"TIME", "GATEWAY", "PORT", "DESTINATION", "POLICY", "REASON", NULL};
	struct table *table;
	size_t index;
	json_t *row;

	if (json_array_size(rows) == 0) {
		char none[NONE_TEXT_MAX];

		puts(before ? none_text("no failure", before, none)
		            : "no connection was refused or reset since the agent started");
		return;
	}
	table = table_new(headings);
	json_array_foreach (rows, index, row)
		add_row(table, row);
	table_print(table, 0);
}

static void print_line(const struct options *options, const json_t *row)
{
	if (options->json) {
		(void)print_json(options, json_deep_copy(row));
		return;
	}
	terminal_printf(COLOUR_NONE, "%s %s:%lld -> %s %s ", text_of(row, "time"), text_of(row, "gateway"),
	                number_of(row, "gateway_port"), text_of(row, "destination"), text_of(row, "policy"));
	terminal_put(COLOUR_BAD, text_of(row, "reason"));
	if (text_of(row, "detail")[0])
		terminal_printf(COLOUR_NONE, ": %s", text_of(row, "detail"));
	if (text_of(row, "remedy")[0])
		terminal_printf(COLOUR_DIM, " (%s)", text_of(row, "remedy"));
	putchar('\n');
}

/* Newest first in the list: what stands before the last one that was printed is new. */
static size_t count_new(const json_t *rows, const json_t *last)
{
	size_t count = 0;

	while (count < json_array_size(rows) && !json_equal(json_array_get(rows, count), last))
		count++;
	return count;
}

static int follow(const struct options *options)
{
	json_t *last = NULL;
	bool first = true;
	int status;

	do {
		json_t *rows = NULL;
		size_t count;

		status = ask_or_complain(options, "failures", JSON_ARRAY, &rows);
		count = count_new(rows, last);
		if (last && count && count == json_array_size(rows))
			fputs("posternctl: the agent does not know any more what came before these; some may be "
			      "missing\n",
			      stderr);
		for (size_t i = count; i > 0 && !first; i--)
			if (row_wanted(options, json_array_get(rows, i - 1)))
				print_line(options, json_array_get(rows, i - 1));
		if (json_array_size(rows)) {
			json_decref(last);
			last = json_incref(json_array_get(rows, 0));
		}
		first &= status != EXIT_FINE;
		json_decref(rows);
	} while (watch_wait(options));
	json_decref(last);
	return status;
}

int command_failures(const struct options *options)
{
	json_t *rows = NULL;
	size_t before;
	int status;

	if (!filters_make_sense(options))
		return EXIT_USAGE;
	if (options->watch)
		return follow(options);
	status = ask_or_complain(options, "failures", JSON_ARRAY, &rows);
	if (status)
		return status;
	before = json_array_size(rows);
	rows = rows_wanted(options, rows);
	if (options->json)
		return print_json(options, rows);
	print_page(rows, before);
	json_decref(rows);
	return EXIT_FINE;
}
