/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/log_levels.h"

#include <stdio.h>
#include <string.h>

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

static json_t *refuse(const char *what, const char *known)
{
	return json_pack("{s:o}", "error", json_sprintf("unknown %s; known are %s", what, known));
}

json_t *log_levels_command(const char *command)
{
	const char *rest = command + strlen(COMMAND);
	struct words words = {.count = 0};
	enum log_subsystem subsystem;
	enum log_level level;

	if (strncmp(command, COMMAND, strlen(COMMAND)) != 0 || (*rest && *rest != ' '))
		return NULL;
	if (!split(rest, &words))
		return json_pack("{s:s}", "error", "log-level takes [SUBSYSTEM] LEVEL");
	if (words.count == 0)
		return levels();
	if (log_parse_level(words.at[words.count - 1], &level) != 0)
		return refuse("level", "error, warning, info, debug");
	if (words.count == 1) {
		log_set_level(level);
	} else {
		if (log_parse_subsystem(words.at[0], &subsystem) != 0)
			return refuse("subsystem", "agent, policy, source, tls, datapath, observe, controller, access");
		log_set_subsystem_level(subsystem, level);
	}
	return levels();
}
