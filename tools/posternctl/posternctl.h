/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl.h: one program, a table of subcommands (main.c), one file per subcommand. Each prints for people, or with
 * --json the same data for scripts. Everything that is printed for people came from manifests, certificates or the
 * network and goes through terminal.h.
 */
#ifndef POSTERNCTL_H
#define POSTERNCTL_H

#include <stdbool.h>

enum exit_status {
	EXIT_FINE = 0,
	EXIT_WRONG = 1, /* the agent is dead or not ready, a gateway or policy is not served, the command failed */
	EXIT_USAGE = 2,
};

struct options {
	const char *run_dir;
	const char *bpffs;
	bool json;
	bool force; /* uninstall only */
};

struct command {
	const char *name;
	int (*run)(const struct options *options);
	const char *help;
};

/* Ends with a NULL name. The first one is the default. */
extern const struct command commands[];

int command_status(const struct options *options);
int command_connections(const struct options *options);
int command_failures(const struct options *options);
int command_uninstall(const struct options *options);
int command_version(const struct options *options);
int command_help(const struct options *options);

#endif
