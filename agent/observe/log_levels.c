/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/log_levels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "observe/json.h"

#define COMMAND   "log-level"
#define WORDS_MAX 2
#define WORD_MAX  32

struct words {
	char at[WORDS_MAX][WORD_MAX];
	size_t count;
};

/* What follows the command's name, word by word. False: more words, or longer ones, than it knows. */
static bool split(const char *text, struct words *words)
{
	while (*text) {
		size_t length = strcspn(text, " ");

		if (length == 0) {
			text++;
			continue;
		}
		if (words->count == WORDS_MAX || length >= WORD_MAX)
			return false;
		(void)snprintf(words->at[words->count++], WORD_MAX, "%.*s", (int)length, text);
		text += length;
	}
	return true;
}

static json_t *levels(void)
{
	json_t *object = json_object();

	for (unsigned int i = 0; i < LOG_SUBSYSTEMS; i++)
		json_set(&object, log_subsystem_name((enum log_subsystem)i),
		         json_text(log_level_name(log_subsystem_level((enum log_subsystem)i))));
	return json_pack("{s:o}", "levels", object);
}

/* Takes the list; NULL: no memory. */
static char *add_word(char *list, const char *word)
{
	_cleanup_free_ char *before = list;
	char *longer;

	if (!before || asprintf(&longer, "%s%s%s", before, before[0] ? ", " : "", word) == -1)
		return NULL;
	return longer;
}

/* Of the log's own tables; free(). NULL: no memory. */
static char *known_levels(void)
{
	char *known = strdup("");

	for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
		const char *name = log_level_name((enum log_level)i);
		enum log_level level;

		if (log_parse_level(name, &level) == 0) /* not every number is one */
			known = add_word(known, name);
	}
	return known;
}

static char *known_subsystems(void)
{
	char *known = strdup("");

	for (unsigned int i = 0; i < LOG_SUBSYSTEMS; i++)
		known = add_word(known, log_subsystem_name((enum log_subsystem)i));
	return known;
}

/* Takes the words that are known. */
static char *unknown(const char *what, char *known)
{
	_cleanup_free_ char *words = known;
	char *text;

	return asprintf(&text, "unknown %s; known are %s", what, words ? words : "others") == -1 ? NULL : text;
}

struct request {
	size_t words;
	enum log_subsystem subsystem;
	enum log_level level;
};

/* 0; -EINVAL with the reason in words, for free() (NULL: no memory). */
static int understand(const char *text, struct request *request, char **reason)
{
	struct words words = {.count = 0};

	if (!split(text, &words)) {
		*reason = strdup("log-level takes [[SUBSYSTEM] LEVEL]");
		return -EINVAL;
	}
	request->words = words.count;
	if (words.count && log_parse_level(words.at[words.count - 1], &request->level) != 0) {
		*reason = unknown("level", known_levels());
		return -EINVAL;
	}
	if (words.count == WORDS_MAX && log_parse_subsystem(words.at[0], &request->subsystem) != 0) {
		*reason = unknown("subsystem", known_subsystems());
		return -EINVAL;
	}
	return 0;
}

/* What stands behind the command's name; NULL: it is another command. */
static const char *arguments_of(const char *command)
{
	const char *rest = command + strlen(COMMAND);

	return strncmp(command, COMMAND, strlen(COMMAND)) != 0 || (*rest && *rest != ' ') ? NULL : rest;
}

char *log_levels_refusal(const char *command)
{
	const char *arguments = arguments_of(command);
	struct request request;
	char *reason = NULL;

	if (arguments)
		(void)understand(arguments, &request, &reason);
	return reason;
}

json_t *log_levels_command(const char *command)
{
	const char *arguments = arguments_of(command);
	_cleanup_free_ char *reason = NULL;
	struct request request;

	if (!arguments)
		return NULL;
	if (understand(arguments, &request, &reason) != 0)
		return json_pack("{s:s}", "error", reason ? reason : "no memory");
	if (request.words == 1)
		log_set_level(request.level);
	else if (request.words)
		log_set_subsystem_level(request.subsystem, request.level);
	return levels();
}
