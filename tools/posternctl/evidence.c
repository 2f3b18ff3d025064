/* SPDX-License-Identifier: GPL-2.0-only */
/* posternctl evidence [--since 24h]: for the auditor, as a page or as JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent_client.h"
#include "posternctl.h"
#include "print.h"
#include "status.h"
#include "terminal.h"

#define INDENT 2

/* "90s", "30m", "24h", "7d" -> Unix time; 0: all there is; -1: nonsense. */
static long long since_of(const char *text)
{
	static const struct {
		char letter;
		long long seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	char *end;
	long long number;

	if (!text)
		return 0;
	number = strtoll(text, &end, 10);
	if (end == text || number < 0 || number > 1000000 || !end[0] || end[1])
		return -1;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (units[i].letter == end[0])
			return (long long)time(NULL) - number * units[i].seconds;
	return -1;
}

static void print_intervals(const json_t *rows)
{
	static const char *const headings[] = {"GATEWAY", "WAS", "FROM", "UNTIL", NULL};
	struct table *table = table_new(headings);
	size_t index;
	json_t *row;

	puts("\nGateways: what each was, and when");
	json_array_foreach (rows, index, row) {
		bool enforced = strcmp(text_of(row, "mode"), "enforce") == 0;

		table_cell(table, COLOUR_BOLD, "%s", text_of(row, "gateway"));
		table_cell(table, enforced ? COLOUR_GOOD : COLOUR_WARN, "%s", text_of(row, "mode"));
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "from"));
		table_cell(table, COLOUR_NONE, "%s%s", text_of(row, "until"), truth_of(row, "open") ? " (still)" : "");
	}
	table_print(table, INDENT);
}

/* The hours summed up: JSON has them one by one. */
static json_t *sum_up(const json_t *rows)
{
	json_t *sums = json_object();
	size_t index;
	json_t *row;

	json_array_foreach (rows, index, row) {
		char key[800];
		json_t *sum;

		(void)snprintf(key, sizeof(key), "%.128s\n%.256s\n%.16s %.64s\n%.256s", text_of(row, "gateway"),
		               text_of(row, "policy"), text_of(row, "version"), text_of(row, "cipher"),
		               text_of(row, "peer"));
		sum = json_object_get(sums, key);
		if (!sum) {
			sum = json_deep_copy(row);
			if (json_object_set_new(sums, key, sum) == -1)
				continue;
			continue;
		}
		(void)json_object_set_new(sum, "connections",
		                          json_integer(number_of(sum, "connections") + number_of(row, "connections")));
		(void)json_object_set_new(sum, "resumed",
		                          json_integer(number_of(sum, "resumed") + number_of(row, "resumed")));
	}
	return sums;
}

static void print_connections(const json_t *rows)
{
	static const char *const headings[] = {"GATEWAY", "POLICY", "TLS", "PEER", "CONNECTIONS", "RESUMED", NULL};
	json_t *sums = sum_up(rows);
	struct table *table = table_new(headings);
	const char *key;
	json_t *row;

	puts("\nConnections, by what was negotiated and who answered");
	json_object_foreach (sums, key, row) {
		bool tls = text_of(row, "version")[0];

		table_cell(table, COLOUR_BOLD, "%s", text_of(row, "gateway"));
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "policy"));
		table_cell(table, tls ? COLOUR_NONE : COLOUR_WARN, "%s %s", tls ? text_of(row, "version") : "plain",
		           text_of(row, "cipher"));
		table_cell(table, COLOUR_NONE, "%s", text_of(row, "peer"));
		table_cell(table, COLOUR_NONE, "%lld", number_of(row, "connections"));
		table_cell(table, COLOUR_NONE, "%lld", number_of(row, "resumed"));
	}
	table_print(table, INDENT);
	json_decref(sums);
}

static void print_never(const json_t *document, const char *key, const char *what)
{
	long long count = number_of(document, key);

	printf("  ");
	terminal_printf(count ? COLOUR_BAD : COLOUR_GOOD, "%8lld", count);
	printf("  %s: %s\n", key, what);
}

static bool is_clean(const json_t *document)
{
	return number_of(document, "wire_not_tls") == 0 && number_of(document, "escaped") == 0;
}

static void print_page(const json_t *document, bool from_the_first)
{
	terminal_printf(COLOUR_BOLD, "Evidence of postern %s on Linux %s", text_of(document, "version"),
	                text_of(document, "kernel"));
	printf("\n  from %s until %s\n", from_the_first ? "the first record" : text_of(document, "since"),
	       text_of(document, "now"));
	printf("  policy in force, SHA-256 over every destination and its settings: %s\n",
	       text_of(document, "policy_digest"));
	printf("  configuration in force, SHA-256 over every setting: %s\n", text_of(document, "configuration_digest"));
	if (text_of(document, "problem")[0]) {
		printf("  ");
		terminal_printf(COLOUR_BAD, "%s", text_of(document, "problem"));
		printf("\n  remedy: make room in the run directory; until then a restart loses what was counted\n");
	}
	print_intervals(json_object_get(document, "intervals"));
	print_connections(json_object_get(document, "connections"));
	puts("\nWhat must never be (since the hooks were pinned; escaped: since the agent started)");
	print_never(document, "wire_not_tls", "a packet of a backend's connection that was no TLS, dropped");
	print_never(document, "escaped", "a covered connection that was not ours, destroyed");
	print_never(document, "guard_payload_dropped", "payload towards a covered address, dropped at the gateway");
	putchar('\n');
	print_proof(json_object_get(document, "proof"));
}

int command_evidence(const struct options *options)
{
	long long since = since_of(options->since);
	char command[64];
	json_t *document = NULL;
	int status;

	if (since < 0) {
		fprintf(stderr, "posternctl: --since takes such as 90s, 30m, 24h or 7d\n");
		return EXIT_USAGE;
	}
	(void)snprintf(command, sizeof(command), "evidence %lld", since);
	status = ask_or_complain(options, command, JSON_OBJECT, &document);
	if (status)
		return status;
	status = is_clean(document) && !text_of(document, "problem")[0] ? EXIT_FINE : EXIT_WRONG;
	if (options->json)
		return print_json(options, document) == EXIT_FINE ? status : EXIT_WRONG;
	print_page(document, since == 0);
	json_decref(document);
	return status;
}
