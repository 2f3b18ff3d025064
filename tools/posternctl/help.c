/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>

#include "posternctl.h"

int command_help(const struct options *options)
{
	(void)options;
	printf("usage: posternctl [COMMAND] [OPTION]...\n\n"
	       "A command may be cut short as long as it is clear: `posternctl conn`.\n\n");
	for (const struct command *command = commands; command->name; command++)
		printf("  %-13s %s\n", command->name, command->help);
	printf("\n"
	       "  --json            the same data as JSON\n"
	       "  --run-dir DIR     where the agent's socket is (default /run/postern)\n"
	       "  --bpffs DIR       where its programs and maps are pinned (default /sys/fs/bpf/postern)\n"
	       "\n"
	       "Exit status: 0 all is well; 1 something is wrong: the agent is dead or not ready, a gateway is not\n"
	       "ready, a policy is not accepted or has unresolved references, a source has errors, or the command\n"
	       "failed; 2 wrong usage. connections and failures give 1 only if they could not be read.\n");
	return EXIT_FINE;
}
