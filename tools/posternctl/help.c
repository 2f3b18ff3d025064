/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "posternctl.h"

static void print_option(const struct option_form *form)
{
	char shown[64];

	(void)snprintf(shown, sizeof(shown), "%s%s%s", form->name, form->value ? " " : "",
	               form->value ? form->value : "");
	printf("  %-30s %s\n", shown, form->help);
}

static void help_all(void)
{
	printf("usage: posternctl [COMMAND] [OPTION]...\n\n"
	       "A command may be cut short as long as it is clear: `posternctl conn`.\n\n");
	for (const struct command *command = commands; command->name; command++) {
		char shown[64];

		(void)snprintf(shown, sizeof(shown), "%s%s%s", command->name, command->operands ? " " : "",
		               command->operands ? command->operands : "");
		printf("  %-30s %s\n", shown, command->summary);
	}
	printf("\n");
	for (const struct option_form *form = option_forms; form->name; form++)
		if (!form->commands)
			print_option(form);
	printf("\n"
	       "Exit status: 0 all is well; 1 something is wrong: the agent is not ready, a gateway is not ready, a\n"
	       "policy is not accepted or has unresolved references, a source has errors, or the command failed;\n"
	       "2 wrong usage; 3 the agent is not running or cannot be asked; 4 kernel and agent disagree.\n"
	       "Lists (connections, failures, ...) give 0 if they could be read, whatever they say.\n");
}

static void help_command(const struct command *command)
{
	printf("usage: posternctl %s [OPTION]...%s%s\n\n%s.\n", command->name, command->operands ? " " : "",
	       command->operands ? command->operands : "", command->summary);
	if (command->help)
		printf("\n%s", command->help);
	printf("\n");
	for (const struct option_form *form = option_forms; form->name; form++) {
		bool unwatched = form->flag_member && !command->watch;

		if (form->commands ? option_belongs(form, command) : (!form->agent || command->agent) && !unwatched)
			print_option(form);
	}
}

int command_help(const struct options *options)
{
	const struct command *command;

	if (options->operand_count > 1) {
		fprintf(stderr, "posternctl: one command at a time; see posternctl help\n");
		return EXIT_USAGE;
	}
	if (options->operand_count == 0) {
		help_all();
		return EXIT_FINE;
	}
	command = find_command(options->operands[0]);
	if (!command)
		return EXIT_USAGE;
	help_command(command);
	return EXIT_FINE;
}
