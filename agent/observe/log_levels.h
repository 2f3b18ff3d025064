/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * log_levels.h: the command `log-level [[SUBSYSTEM] LEVEL]` of the status socket: shows the levels of the log, after it
 * has set one or all. Control thread; levels take effect in every thread at once, and last until the agent ends.
 */
#ifndef POSTERN_OBSERVE_LOG_LEVELS_H
#define POSTERN_OBSERVE_LOG_LEVELS_H

#include <jansson.h>

/*
 * {"levels": {"agent": "info", ...}}, or {"error": "..."} and nothing has changed. command is the whole line. NULL: it
 * is another command, or no memory.
 */
json_t *log_levels_command(const char *command);
/*
 * Why that command line would be refused, in words that name those that are known; free(). NULL: it would not, or no
 * memory. Needs no agent: posternctl asks before it looks for one.
 */
char *log_levels_refusal(const char *command);

#endif
