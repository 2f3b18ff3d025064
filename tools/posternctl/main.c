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

static bool is_one_of(const char *argument, const char *short_form, const char *long_form)
{
	return strcmp(argument, short_form) == 0 || strcmp(argument, long_form) == 0;
}

/* --force, --json, --run-dir, --bpffs. EXIT_FINE, or EXIT_USAGE after a message. */
static int take_option(int argc, char **argv, int *index, struct options *options)
{
	int taken;

	if (is_one_of(argv[*index], "-j", "--json")) {
		options->json = true;
		return EXIT_FINE;
	}
	if (strcmp(argv[*index], "--force") == 0) {
		options->force = true;
		return EXIT_FINE;
	}
	taken = take_value("--run-dir", argc, argv, index, &options->run_dir);
	if (taken == 0)
		taken = take_value("--bpffs", argc, argv, index, &options->bpffs);
	if (taken == 0)
		fprintf(stderr, "posternctl: no such option; see posternctl help\n");
	return taken == 1 ? EXIT_FINE : EXIT_USAGE;
}

/* Options may stand before and after the command. */
static int parse(int argc, char **argv, struct options *options, const struct command **command)
{
	for (int i = 1; i < argc; i++) {
		if (is_one_of(argv[i], "-h", "--help") || is_one_of(argv[i], "-V", "--version")) {
			*command = find_command(is_one_of(argv[i], "-h", "--help") ? "help" : "version");
			return EXIT_FINE;
		}
		if (argv[i][0] == '-') {
			if (take_option(argc, argv, &i, options) != EXIT_FINE)
				return EXIT_USAGE;
			continue;
		}
		if (*command) {
			fprintf(stderr, "posternctl: one command at a time; see posternctl help\n");
			return EXIT_USAGE;
		}
		*command = find_command(argv[i]);
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
