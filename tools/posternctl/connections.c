/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "agent_client.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

static bool is_kernel_mode(const char *mode)
{
	return strncmp(mode, "ktls", 4) == 0;
}

static enum colour mode_colour(const char *mode)
{
	if (is_kernel_mode(mode))
		return COLOUR_GOOD;
	return strcmp(mode, "plain") == 0 ? COLOUR_BAD : COLOUR_WARN;
}

static void add_row(struct table *table, const json_t *row)
{
	const char *reason = text_of(row, "mode_reason");
	char sent[AMOUNT_TEXT_MAX];
	char received[AMOUNT_TEXT_MAX];
	char age[AMOUNT_TEXT_MAX];

	table_cell(table, COLOUR_BOLD, "%s", text_of(row, "gateway"));
	table_cell(table, COLOUR_NONE, "%lld", number_of(row, "gateway_port"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "destination"));
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "policy"));
	table_cell(table, COLOUR_NONE, "%s%s%s%s", text_of(row, "tls_version"), text_of(row, "cipher")[0] ? " " : "",
	           text_of(row, "cipher"), truth_of(row, "resumed") ? " resumed" : "");
	table_cell(table, COLOUR_NONE, "%s", text_of(row, "alpn"));
	table_cell(table, mode_colour(text_of(row, "to_backend")), "%s%s", truth_of(row, "lane") ? "lane+" : "",
	           text_of(row, "to_backend"));
	table_cell(table, mode_colour(text_of(row, "to_gateway")), "%s", text_of(row, "to_gateway"));
	table_cell(table, COLOUR_NONE, "%s", format_bytes(number_of(row, "bytes_to_backend"), sent));
	table_cell(table, COLOUR_NONE, "%s", format_bytes(number_of(row, "bytes_to_gateway"), received));
	table_cell(table, COLOUR_NONE, "%s", format_age(real_of(row, "age_seconds"), age));

	if (text_of(row, "sni")[0] || text_of(row, "peer")[0])
		table_note(table, COLOUR_DIM, "sni %s, verified as %s", text_of(row, "sni"), text_of(row, "peer"));
	if (text_of(row, "ulp")[0])
		table_note(table, COLOUR_DIM, "kernel says: %s", text_of(row, "ulp"));
	if (reason[0] && strcmp(reason, "none") != 0)
		table_note(table, COLOUR_WARN, "%s: %s", reason, remedy_of(reason));
}

int command_connections(const struct options *options)
{
	static const char *const headings[] = {"GATEWAY",    "PORT",       "DESTINATION", "POLICY",   "TLS", "ALPN",
	                                       "TO BACKEND", "TO GATEWAY", "SENT",        "RECEIVED", "AGE", NULL};
	json_t *rows = NULL;
	struct table *table;
	size_t index;
	json_t *row;

	if (ask_or_complain(options, "connections", JSON_ARRAY, &rows))
		return EXIT_WRONG;
	if (options->json)
		return print_json(rows);
	if (json_array_size(rows) == 0) {
		puts("no live connection");
		json_decref(rows);
		return EXIT_FINE;
	}
	table = table_new(headings);
	json_array_foreach (rows, index, row)
		add_row(table, row);
	table_print(table, 0);
	json_decref(rows);
	return EXIT_FINE;
}
