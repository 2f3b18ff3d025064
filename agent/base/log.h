/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * log.h: one line an event on stderr, logfmt or JSON, with a journald priority prefix when stderr is the journal.
 *
 *   log_info("gateway enrolled", "gateway=%s cgroup=%s", name, path);
 *
 * The first argument is the event, a constant; the second a printf format of key=value pairs, "" for none. Values that
 * came from outside are quoted with log_quote(). Never pass a key, a secret or a certificate's private part. JSON is
 * made of the same pairs (log_json.h), so that both say the same.
 *
 * Each subsystem (the directory that the caller's file is in) has a level of its own, which may be changed at any time.
 * One place in the code writes at most LOG_LINES_PER_SECOND; the next line from there says how many were suppressed.
 * Any thread; lines are written whole by one write(2). No line is waited for: what finds no room is lost, and counted
 * in a line of its own as soon as there is room again.
 */
#ifndef POSTERN_BASE_LOG_H
#define POSTERN_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINES_PER_SECOND        50
#define LOG_ACCESS_LINES_PER_SECOND 1000

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

enum log_format {
	LOG_FORMAT_LOGFMT,
	LOG_FORMAT_JSON,
};

enum log_subsystem {
	LOG_AGENT, /* control, configuration, and what is common to all */
	LOG_POLICY,
	LOG_SOURCE, /* manifests, the Kubernetes API */
	LOG_TLS,
	LOG_DATAPATH,
	LOG_OBSERVE,
	LOG_CONTROLLER,
	LOG_ACCESS, /* a line for each connection, if that is asked for */
	LOG_SUBSYSTEMS,
};
/* "agent", "policy", ...; NULL out of range. */
const char *log_subsystem_name(enum log_subsystem subsystem);
/* 0, or -EINVAL for an unknown name. */
int log_parse_subsystem(const char *name, enum log_subsystem *subsystem);

void log_set_level(enum log_level level); /* of every subsystem */
void log_set_subsystem_level(enum log_subsystem subsystem, enum log_level level);
enum log_level log_subsystem_level(enum log_subsystem subsystem);
bool log_subsystem_enabled(enum log_subsystem subsystem, enum log_level level);
void log_set_format(enum log_format format);

const char *log_level_name(enum log_level level);
/* 0, or -EINVAL for an unknown name ("error", "warning", "info", "debug"). */
int log_parse_level(const char *name, enum log_level *level);

struct log_statistics { /* since start */
	uint64_t lines;
	uint64_t suppressed; /* by the limit of their place */
	uint64_t lost;       /* nobody read them */
};
void log_statistics(struct log_statistics *statistics);

/* One place in the code; zero at first. */
struct log_site {
	_Atomic uint64_t window;     /* the second (CLOCK_MONOTONIC), and how many lines it has had */
	_Atomic uint32_t suppressed; /* since the last line */
};

/* Use the macros below. site NULL: without a limit. */
void log_write(struct log_site *site, unsigned int limit, enum log_subsystem subsystem, enum log_level level,
               const char *event, const char *format, ...) __attribute__((format(printf, 6, 7)));

/* A value made safe for one log line: quoted, control characters escaped, cut at the buffer. Returns the buffer. */
const char *log_quote(const char *value, char *buffer, size_t size);

/* The subsystem of a file: a constant, once compiled. */
static inline __attribute__((always_inline)) enum log_subsystem log_subsystem_of_(const char *file)
{
#define LOG_FILE_IN_(directory) (__builtin_strncmp(file, directory, sizeof(directory) - 1) == 0)
	if (LOG_FILE_IN_("agent/policy/"))
		return LOG_POLICY;
	if (LOG_FILE_IN_("agent/source/") || LOG_FILE_IN_("agent/kubernetes/"))
		return LOG_SOURCE;
	if (LOG_FILE_IN_("agent/tls/"))
		return LOG_TLS;
	if (LOG_FILE_IN_("agent/datapath/"))
		return LOG_DATAPATH;
	if (LOG_FILE_IN_("agent/observe/"))
		return LOG_OBSERVE;
	if (LOG_FILE_IN_("agent/controller/"))
		return LOG_CONTROLLER;
	return LOG_AGENT;
#undef LOG_FILE_IN_
}
/* That of the file that asks. */
#define LOG_HERE log_subsystem_of_(__FILE__)

#define LOG_LIMITED_(limit, subsystem, level, event, ...)                                                              \
	do {                                                                                                           \
		static struct log_site site_;                                                                          \
                                                                                                                       \
		if (log_subsystem_enabled(subsystem, level))                                                           \
			log_write(&site_, limit, subsystem, level, event, __VA_ARGS__);                                \
	} while (0)

#define log_error(event, ...)   LOG_LIMITED_(LOG_LINES_PER_SECOND, LOG_HERE, LOG_LEVEL_ERROR, event, __VA_ARGS__)
#define log_warning(event, ...) LOG_LIMITED_(LOG_LINES_PER_SECOND, LOG_HERE, LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define log_info(event, ...)    LOG_LIMITED_(LOG_LINES_PER_SECOND, LOG_HERE, LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(event, ...)   LOG_LIMITED_(LOG_LINES_PER_SECOND, LOG_HERE, LOG_LEVEL_DEBUG, event, __VA_ARGS__)
/* For who has a limit of his own. */
#define log_info_unlimited(event, ...)                                                                                 \
	do {                                                                                                           \
		if (log_subsystem_enabled(LOG_HERE, LOG_LEVEL_INFO))                                                   \
			log_write(NULL, 0, LOG_HERE, LOG_LEVEL_INFO, event, __VA_ARGS__);                              \
	} while (0)
#define log_access(event, ...) LOG_LIMITED_(LOG_ACCESS_LINES_PER_SECOND, LOG_ACCESS, LOG_LEVEL_INFO, event, __VA_ARGS__)

#define log_enabled(level) log_subsystem_enabled(LOG_HERE, level)

#endif
