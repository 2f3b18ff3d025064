/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <string.h>

#include "posternctl.h"

const struct command commands[] = {
        {"status", command_status, "what the agent and the kernel do now (the default)"},
        {"connections", command_connections, "the live connections and how each is encrypted"},
        {"failures", command_failures, "the last refusals and resets, each with its reason and remedy"},
        {"uninstall", command_uninstall,
         "take every hook, link and map out of the kernel (--force: under a live agent)"},
        {"version", command_version, "the version of posternctl"},
        {"help", command_help, "this text"},
        {NULL, NULL, NULL},
};

/* A command by its name or by a prefix that fits one only. */
static const struct command *find_command(const char *word)
{
	const struct command *found = NULL;
	size_t length = strlen(word);

	for (const struct command *command = commands; command->name; command++) {
		if (strcmp(command->name, word) == 0)
			return command;
		if (length == 0 || strncmp(command->name, word, length) != 0)
			continue;
		if (found) {
			fprintf(stderr, "posternctl: \"%s\" fits %s and %s\n", word, found->name, command->name);
			return NULL;
		}
		found = command;
	}
	if (!found)
		fprintf(stderr, "posternctl: no such command; see posternctl help\n");
	return found;
}

/* "--name VALUE" or "--name=VALUE". 1 = taken, 0 = another option, -1 = the value is missing. */
static int take_value(const char *name, int argc, char **argv, int *index, const char **value)
{
	size_t length = strlen(name);
	const char *argument = argv[*index];

	if (strncmp(argument, name, length) != 0)
		return 0;
	if (argument[length] == '=') {
		*value = argument + length + 1;
	} else if (argument[length] == '\0') {
		*value = *index + 1 < argc ? argv[++*index] : "";
	} else {
		return 0;
	}
	if ((*value)[0])
		return 1;
	fprintf(stderr, "posternctl: %s needs a value\n", name);
	return -1;
}

/* Options may stand before and after the command. */
static int parse(int argc, char **argv, struct options *options, const struct command **command)
{
	for (int i = 1; i < argc; i++) {
		const char *argument = argv[i];
		int taken;

		if (strcmp(argument, "--json") == 0 || strcmp(argument, "-j") == 0) {
			options->json = true;
			continue;
		}
		if (strcmp(argument, "--force") == 0) {
			options->force = true;
			continue;
		}
		if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
			*command = find_command("help");
			return EXIT_FINE;
		}
		if (strcmp(argument, "--version") == 0 || strcmp(argument, "-V") == 0) {
			*command = find_command("version");
			return EXIT_FINE;
		}
		taken = take_value("--run-dir", argc, argv, &i, &options->run_dir);
		if (taken == 0)
			taken = take_value("--bpffs", argc, argv, &i, &options->bpffs);
		if (taken == -1)
			return EXIT_USAGE;
		if (taken == 1)
			continue;
		if (argument[0] == '-') {
			fprintf(stderr, "posternctl: no such option; see posternctl help\n");
			return EXIT_USAGE;
		}
		if (*command) {
			fprintf(stderr, "posternctl: one command at a time; see posternctl help\n");
			return EXIT_USAGE;
		}
		*command = find_command(argument);
		if (!*command)
			return EXIT_USAGE;
	}
	if (options->force && (!*command || (*command)->run != command_uninstall)) {
		fprintf(stderr, "posternctl: --force belongs to uninstall\n");
		return EXIT_USAGE;
	}
	return EXIT_FINE;
}

int main(int argc, char **argv)
{
	struct options options = {.run_dir = "/run/postern", .bpffs = "/sys/fs/bpf/postern"};
	const struct command *command = NULL;
	int status = parse(argc, argv, &options, &command);

	if (status)
		return status;
	status = (command ? command : &commands[0])->run(&options);
	if (fflush(stdout) == EOF || ferror(stdout)) {
		fprintf(stderr, "posternctl: the output could not be written\n");
		return EXIT_WRONG;
	}
	return status;
}
