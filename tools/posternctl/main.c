/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/wiping.h"
#include "posternctl.h"

int main(int argc, char **argv)
{
	_cleanup_free_ const char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	_cleanup_free_ const char **values = calloc((size_t)argc + 1, sizeof(*values));
	struct command_line line = {
	        .options = {.run_dir = DEFAULT_RUN_DIR,
	                    .bpffs = DEFAULT_BPFFS,
	                    .system_ca = DEFAULT_SYSTEM_CA,
	                    .operands = operands},
	        .operands = operands,
	        .values = values,
	};
	int status;

	wiping_use_for_json(); /* `check` may read Secrets */
	if (!operands || !values) {
		fprintf(stderr, "posternctl: out of memory\n");
		return EXIT_WRONG;
	}
	if (!command_line_parse(&line, argc, argv))
		return EXIT_USAGE;
	status = line.options.watch && !line.command->follows ? watch_command(line.command, &line.options)
	                                                      : line.command->run(&line.options);
	if (fflush(stdout) == EOF || ferror(stdout)) {
		fprintf(stderr, "posternctl: the output could not be written\n");
		return EXIT_WRONG;
	}
	return status;
}
