/* SPDX-License-Identifier: GPL-2.0-only */
/* posternctl log-level [[SUBSYSTEM] LEVEL]: of the running agent, until it ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent_client.h"
#include "base/cleanup.h"
#include "observe/control_socket.h"
#include "observe/log_levels.h"
#include "posternctl.h"
#include "print.h"
#include "terminal.h"

int command_log_level(const struct options *options)
{
	static const char *const headings[] = {"SUBSYSTEM", "LEVEL", NULL};
	char command[CONTROL_COMMAND_MAX] = "log-level";
	_cleanup_free_ char *refusal = NULL;
	json_t *document = NULL;
	const char *name;
	json_t *level;
	struct table *table;
	int status;

	for (size_t i = 0; i < options->operand_count; i++) {
		size_t used = strlen(command);

		if (used + strlen(options->operands[i]) + 2 > sizeof(command) || strchr(options->operands[i], '\n')) {
			fprintf(stderr, "posternctl: log-level takes [[SUBSYSTEM] LEVEL]\n");
			return EXIT_USAGE;
		}
		(void)snprintf(command + used, sizeof(command) - used, " %s", options->operands[i]);
	}
	refusal = log_levels_refusal(command);
	if (refusal) {
		fprintf(stderr, "posternctl: %s\n", refusal);
		return EXIT_USAGE;
	}
	status = ask_or_complain(options, command, JSON_OBJECT, &document);
	if (status)
		return status;
	if (options->json)
		return print_json(options, document);
	table = table_new(headings);
	json_object_foreach (json_object_get(document, "levels"), name, level) {
		table_cell(table, COLOUR_BOLD, "%s", name);
		table_cell(table, COLOUR_NONE, "%s", json_string_value(level) ? json_string_value(level) : "");
	}
	table_print(table, 0);
	json_decref(document);
	return EXIT_FINE;
}
