/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "posternctl.h"
#include "terminal.h"

/* A word from the command line may be anything. */
static void complain(const char *word, const char *after)
{
	_cleanup_free_ char *safe = terminal_safe(word, NULL);

	fprintf(stderr, "posternctl: \"%s\" %s\n", safe, after);
}

static bool fits(const struct command *command, const char *word)
{
	return word[0] && strncmp(command->name, word, strlen(word)) == 0;
}

/* "c" fits check, connections and completion: every one is named, the last after "and". */
static void complain_of_several(const char *word, size_t count)
{
	size_t named = 0;

	fprintf(stderr, "posternctl: \"%s\" fits ", word);
	for (const struct command *command = commands; command->name; command++) {
		if (!fits(command, word))
			continue;
		named++;
		fprintf(stderr, "%s%s", named == 1 ? "" : named == count ? " and " : ", ", command->name);
	}
	fputc('\n', stderr);
}

const struct command *find_command(const char *word)
{
	const struct command *found = NULL;
	size_t count = 0;

	for (const struct command *command = commands; command->name; command++) {
		if (strcmp(command->name, word) == 0)
			return command;
		if (!fits(command, word))
			continue;
		found = command;
		count++;
	}
	if (count == 1)
		return found;
	if (count)
		complain_of_several(word, count);
	else
		complain(word, "is no command; see posternctl help");
	return NULL;
}

bool option_belongs(const struct option_form *form, const struct command *command)
{
	size_t length = strlen(command->name);

	for (const char *word = form->commands; word; word = strchr(word, ' ')) {
		word += *word == ' ';
		if (strncmp(word, command->name, length) == 0 && (word[length] == ' ' || word[length] == '\0'))
			return true;
	}
	return false;
}

static bool is_help(const char *argument)
{
	return strcmp(argument, "-h") == 0 || strcmp(argument, "--help") == 0;
}

static bool is_version(const char *argument)
{
	return strcmp(argument, "-V") == 0 || strcmp(argument, "--version") == 0;
}

/* "--name", "--name=VALUE" or "-n"; *value is what follows '='. */
static const struct option_form *find_option(const char *argument, const char **value)
{
	*value = NULL;
	for (const struct option_form *form = option_forms; form->name; form++) {
		size_t length = strlen(form->name);

		if (form->letter && argument[1] == form->letter && argument[2] == '\0')
			return form;
		if (strncmp(argument, form->name, length) != 0)
			continue;
		if (argument[length] == '\0')
			return form;
		if (argument[length] == '=' && form->value) {
			*value = argument + length + 1;
			return form;
		}
	}
	complain(argument, "is no option; see posternctl help");
	return NULL;
}

static void *member_of(struct command_line *line, size_t offset)
{
	return (char *)&line->options + offset;
}

static void set_option(struct command_line *line, const struct option_form *form, const char *value)
{
	void *member = member_of(line, form->member);

	if (!form->value) {
		*(bool *)member = true;
	} else if (!form->count_member) {
		*(const char **)member = value;
	} else {
		size_t *count = member_of(line, form->count_member);

		line->values[(*count)++] = value;
		*(const char *const **)member = line->values;
	}
	if (form->flag_member)
		*(bool *)member_of(line, form->flag_member) = true;
	if (form->commands)
		line->owned = form;
}

static bool is_number(const char *word)
{
	return word && word[0] && strspn(word, "0123456789.") == strlen(word);
}

static bool take_option(struct command_line *line, int argc, char **argv, int *index)
{
	const char *value;
	const struct option_form *form = find_option(argv[*index], &value);
	const char *next = *index + 1 < argc ? argv[*index + 1] : NULL;
	bool may_be_left_out;

	if (!form)
		return false;
	may_be_left_out = form->value && form->value[0] == '[';
	if (form->value && !value && next && (!may_be_left_out || is_number(next))) {
		value = next;
		(*index)++;
	}
	if (form->value && !may_be_left_out && (!value || !value[0])) {
		fprintf(stderr, "posternctl: %s needs a value\n", form->name);
		return false;
	}
	if (may_be_left_out && value && !is_number(value)) {
		complain(value, "is no number of seconds");
		return false;
	}
	set_option(line, form, value);
	return true;
}

static bool take_word(struct command_line *line, const char *word)
{
	if (!line->command) {
		line->command = find_command(word);
		return line->command;
	}
	if (!line->command->operands) {
		fprintf(stderr, "posternctl: %s takes no words; see posternctl help %s\n", line->command->name,
		        line->command->name);
		return false;
	}
	line->operands[line->options.operand_count++] = word;
	return true;
}

/* posternctl COMMAND --help is posternctl help COMMAND. */
static void ask_help(struct command_line *line)
{
	line->options.operand_count = line->command != NULL;
	if (line->command)
		line->operands[0] = line->command->name;
	line->command = find_command("help");
}

/* "--reason belongs to failures and trace" */
static void complain_of_owner(const struct option_form *form)
{
	const char *last = strrchr(form->commands, ' ');

	fprintf(stderr, "posternctl: %s belongs to ", form->name);
	for (const char *at = form->commands; *at; at++) {
		if (at == last)
			fputs(" and ", stderr);
		else if (*at == ' ')
			fputs(", ", stderr);
		else
			fputc(*at, stderr);
	}
	fputc('\n', stderr);
}

/* What goes with some commands only must have been given with one of them. */
static bool options_suit(const struct command_line *line)
{
	if (line->owned && !option_belongs(line->owned, line->command)) {
		complain_of_owner(line->owned);
		return false;
	}
	if (line->options.watch && !line->command->watch) {
		fprintf(stderr, "posternctl: %s cannot be watched\n", line->command->name);
		return false;
	}
	return true;
}

bool timeout_of(const char *seconds, long long fallback_ms, long long *milliseconds)
{
	char *end;
	double number;

	*milliseconds = fallback_ms;
	if (!seconds)
		return true;
	number = strtod(seconds, &end);
	if (*end || end == seconds || !(number >= 0) || number > 86400.0 * 365) {
		fprintf(stderr, "posternctl: --timeout: needs a number of seconds\n");
		return false;
	}
	*milliseconds = (long long)(number * 1000);
	return true;
}

bool command_line_parse(struct command_line *line, int argc, char **argv)
{
	bool words_only = false;

	for (int i = 1; i < argc; i++) {
		bool is_word = words_only || argv[i][0] != '-' || argv[i][1] == '\0';

		if (!is_word && is_help(argv[i])) {
			ask_help(line);
			return true;
		}
		if (!is_word && is_version(argv[i])) {
			line->command = find_command("version");
			return true;
		}
		if (!is_word && strcmp(argv[i], "--") == 0)
			words_only = true;
		else if (!(is_word ? take_word(line, argv[i]) : take_option(line, argc, argv, &i)))
			return false;
	}
	if (!line->command)
		line->command = &commands[0];
	return options_suit(line);
}
