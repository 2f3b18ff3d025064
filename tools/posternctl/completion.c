/* SPDX-License-Identifier: GPL-2.0-only */
/* posternctl completion bash|zsh: made from the tables of commands.c, so it knows what this posternctl knows. */
#include <stdio.h>
#include <string.h>

#include "posternctl.h"

static void put_options_of(const struct command *command)
{
	for (const struct option_form *form = option_forms; form->name; form++) {
		bool unwatched = form->flag_member && !command->watch;

		if (form->commands ? option_belongs(form, command) : (!form->agent || command->agent) && !unwatched)
			printf(" %s", form->name);
	}
	printf(" --help");
}

static void put_commands(const char *separator)
{
	for (const struct command *command = commands; command->name; command++)
		printf("%s%s", command == commands ? "" : separator, command->name);
}

/* What follows an operand-taking command; shells complete files by themselves. */
static const char *operands_of(const struct command *command)
{
	return strcmp(command->name, "completion") == 0 ? "bash zsh" : "";
}

static void bash(void)
{
	printf("# bash completion for posternctl: posternctl completion bash > "
	       "/usr/share/bash-completion/completions/posternctl\n"
	       "_posternctl() {\n"
	       "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= i\n"
	       "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\t[[ ${COMP_WORDS[i]} == -* ]] || { command=${COMP_WORDS[i]}; break; }\n"
	       "\tdone\n"
	       "\tcase $before in\n"
	       "\t--run-dir | --bpffs) COMPREPLY=($(compgen -d -- \"$word\")); return ;;\n"
	       "\t--bpftool | --system-ca | --output) COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n"
	       "\tesac\n"
	       "\tlocal options= operands=\n"
	       "\tcase $command in\n");
	for (const struct command *command = commands; command->name; command++) {
		printf("\t%s) options='", command->name);
		put_options_of(command);
		printf("' operands='%s' ;;\n", operands_of(command));
	}
	printf("\t'') operands='");
	put_commands(" ");
	printf("' options='--json --help --version' ;;\n"
	       "\tesac\n"
	       "\t[[ $command == help ]] && operands='");
	put_commands(" ");
	printf("'\n"
	       "\tif [[ $word == -* ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
	       "\telif [[ $command == check ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -f -- \"$word\"))\n"
	       "\telse\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$operands\" -- \"$word\"))\n"
	       "\tfi\n"
	       "}\n"
	       "complete -F _posternctl posternctl\n");
}

/* In single quotes, for _describe: a colon would end the word, an apostrophe the string. */
static void put_quoted(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			printf("'\\''");
		else if (*text == ':' || *text == '[' || *text == ']')
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void zsh(void)
{
	printf("#compdef posternctl\n"
	       "# zsh completion: posternctl completion zsh > \"${fpath[1]}/_posternctl\"\n"
	       "_posternctl() {\n"
	       "\tlocal -a commands\n"
	       "\tcommands=(\n");
	for (const struct command *command = commands; command->name; command++) {
		printf("\t\t'%s:", command->name);
		put_quoted(command->summary);
		printf("'\n");
	}
	printf("\t)\n"
	       "\tif (( CURRENT == 2 )); then\n"
	       "\t\t_describe command commands\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tcase $words[2] in\n");
	for (const struct command *command = commands; command->name; command++) {
		printf("\t%s) _values -w option", command->name);
		put_options_of(command);
		printf("%s%s%s ;;\n", operands_of(command)[0] ? " " : "", operands_of(command),
		       strcmp(command->name, "check") == 0 ? "; _files" : "");
	}
	printf("\tesac\n"
	       "}\n"
	       "_posternctl \"$@\"\n");
}

int command_completion(const struct options *options)
{
	const char *shell = options->operand_count == 1 ? options->operands[0] : "";

	if (strcmp(shell, "bash") == 0) {
		bash();
	} else if (strcmp(shell, "zsh") == 0) {
		zsh();
	} else {
		fprintf(stderr, "posternctl: completion of which shell: bash or zsh?\n");
		return EXIT_USAGE;
	}
	return EXIT_FINE;
}
