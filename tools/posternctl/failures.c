/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>

#include "agent_client.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

int command_failures(const struct options *options)
{
	static const char *const headings[] = {"TIME", "GATEWAY", "PORT", "DESTINATION", "POLICY", "REASON", NULL};
	json_t *rows = NULL;
	struct table *table;
	size_t index;
	json_t *row;

	if (ask_or_complain(options, "failures", JSON_ARRAY, &rows))
		return EXIT_WRONG;
	if (options->json)
		return print_json(rows);
	if (json_array_size(rows) == 0) {
		puts("no connection was refused or reset since the agent started");
		json_decref(rows);
		return EXIT_FINE;
	}
	table = table_new(headings);
	json_array_foreach (rows, index, row) {
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
	table_print(table, 0);
	json_decref(rows);
	return EXIT_FINE;
}
