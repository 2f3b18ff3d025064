/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * log.h: one line an event, logfmt on stderr, with a journald priority prefix when stderr is the journal.
 *
 *   log_info("gateway enrolled", "gateway=%s cgroup=%s", name, path);
 *
 * The first argument is the event, a constant; the second a printf format of key=value pairs, "" for none. Values that
 * came from outside are quoted with log_quote(). Never pass a key, a secret or a certificate's private part. Any
 * thread; lines are written whole by one write(2). No line is waited for: what finds no room is lost, and counted in a
 * line of its own as soon as there is room again.
 */
#ifndef POSTERN_BASE_LOG_H
#define POSTERN_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
/* 0, or -EINVAL for an unknown name ("error", "warning", "info", "debug"). */
int log_parse_level(const char *name, enum log_level *level);

void log_event(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A value made safe for one log line: quoted, control characters escaped, cut at the buffer. Returns the buffer. */
const char *log_quote(const char *value, char *buffer, size_t size);

#define log_error(event, ...)   log_event(LOG_LEVEL_ERROR, event, __VA_ARGS__)
#define log_warning(event, ...) log_event(LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define log_info(event, ...)    log_event(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(event, ...)                                                                                          \
	do {                                                                                                           \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                                      \
			log_event(LOG_LEVEL_DEBUG, event, __VA_ARGS__);                                                \
	} while (0)

#endif
