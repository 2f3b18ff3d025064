/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log_json.h"

#define LINE_MAX_BYTES 2048
#define JSON_MAX_BYTES 8192 /* each byte of a line may become several */
#define LINES_BITS     20   /* of a site's window */

/*
 * The one process-wide state: the levels and the format, atomics that every thread reads, and what the writing of lines
 * needs. It is not in the agent's struct because the log must work before there is an agent, and after.
 */
static _Atomic int thresholds[LOG_SUBSYSTEMS] = {
        [0 ... LOG_SUBSYSTEMS - 1] = LOG_LEVEL_INFO,
};
static _Atomic int line_format = LOG_FORMAT_LOGFMT;
static struct {
	pthread_mutex_t lock;
	unsigned long lost; /* lines, since the last one that was written */
} output = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct {
	_Atomic uint64_t lines;
	_Atomic uint64_t suppressed;
	_Atomic uint64_t lost;
} totals;

static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
        {"error", LOG_LEVEL_ERROR},
        {"warning", LOG_LEVEL_WARNING},
        {"info", LOG_LEVEL_INFO},
        {"debug", LOG_LEVEL_DEBUG},
};

static const char *const subsystems[LOG_SUBSYSTEMS] = {
        [LOG_AGENT] = "agent",           [LOG_POLICY] = "policy",
        [LOG_SOURCE] = "source",         [LOG_TLS] = "tls",
        [LOG_DATAPATH] = "datapath",     [LOG_OBSERVE] = "observe",
        [LOG_CONTROLLER] = "controller", [LOG_ACCESS] = "access",
};

const char *log_subsystem_name(enum log_subsystem subsystem)
{
	return (unsigned int)subsystem < LOG_SUBSYSTEMS ? subsystems[subsystem] : NULL;
}

int log_parse_subsystem(const char *name, enum log_subsystem *subsystem)
{
	for (unsigned int i = 0; i < LOG_SUBSYSTEMS; i++) {
		if (strcmp(subsystems[i], name) == 0) {
			*subsystem = (enum log_subsystem)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_set_subsystem_level(enum log_subsystem subsystem, enum log_level level)
{
	atomic_store_explicit(&thresholds[subsystem], (int)level, memory_order_relaxed);
}

enum log_level log_subsystem_level(enum log_subsystem subsystem)
{
	return (enum log_level)atomic_load_explicit(&thresholds[subsystem], memory_order_relaxed);
}

void log_set_level(enum log_level level)
{
	for (unsigned int i = 0; i < LOG_SUBSYSTEMS; i++)
		log_set_subsystem_level((enum log_subsystem)i, level);
}

bool log_subsystem_enabled(enum log_subsystem subsystem, enum log_level level)
{
	return (int)level <= atomic_load_explicit(&thresholds[subsystem], memory_order_relaxed);
}

void log_set_format(enum log_format format)
{
	atomic_store_explicit(&line_format, (int)format, memory_order_relaxed);
}

void log_statistics(struct log_statistics *statistics)
{
	*statistics = (struct log_statistics){
	        .lines = atomic_load_explicit(&totals.lines, memory_order_relaxed),
	        .suppressed = atomic_load_explicit(&totals.suppressed, memory_order_relaxed),
	        .lost = atomic_load_explicit(&totals.lost, memory_order_relaxed),
	};
}

int log_parse_level(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(levels[i].name, name) == 0) {
			*level = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (levels[i].level == level)
			return levels[i].name;
	}
	return "unknown";
}

/* May this place write a line now? *suppressed: how many it could not since the last one. */
static bool take_line(struct log_site *site, unsigned int limit, uint32_t *suppressed)
{
	const uint64_t lines_mask = (UINT64_C(1) << LINES_BITS) - 1;
	uint64_t seen = atomic_load_explicit(&site->window, memory_order_relaxed);
	struct timespec now;
	uint64_t next;

	clock_gettime(CLOCK_MONOTONIC, &now);
	do {
		bool same = seen >> LINES_BITS == (uint64_t)now.tv_sec;

		if (same && (seen & lines_mask) >= limit) {
			atomic_fetch_add_explicit(&site->suppressed, 1, memory_order_relaxed);
			atomic_fetch_add_explicit(&totals.suppressed, 1, memory_order_relaxed);
			return false;
		}
		next = same ? seen + 1 : (uint64_t)now.tv_sec << LINES_BITS | 1;
	} while (!atomic_compare_exchange_weak_explicit(&site->window, &seen, next, memory_order_relaxed,
	                                                memory_order_relaxed));
	*suppressed = atomic_exchange_explicit(&site->suppressed, 0, memory_order_relaxed);
	return true;
}

/* systemd sets JOURNAL_STREAM to device:inode of the stream: only then the <N> prefix means something. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long device;
	unsigned long inode;
	struct stat status;

	if (!stream || sscanf(stream, "%lu:%lu", &device, &inode) != 2 || fstat(STDERR_FILENO, &status) == -1)
		return false;
	return status.st_dev == device && status.st_ino == inode;
}

/* vsnprintf() that reports how much really lies in the buffer. */
__attribute__((format(printf, 3, 0))) static size_t append(char *buffer, size_t size, const char *format, va_list args)
{
	int written = vsnprintf(buffer, size, format, args);

	if (written < 0)
		return 0;
	return (size_t)written < size ? (size_t)written : size - 1;
}

__attribute__((format(printf, 3, 4))) static size_t append_format(char *buffer, size_t size, const char *format, ...)
{
	va_list args;
	size_t written;

	va_start(args, format);
	written = append(buffer, size, format, args);
	va_end(args);
	return written;
}

static size_t put_time(char *line, size_t size, const char *format)
{
	struct timespec now;
	struct tm parts;
	char text[64];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	(void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", parts.tm_year + 1900,
	               parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
	               now.tv_nsec / 1000000);
	return append_format(line, size, strcmp(format, "json") == 0 ? "\"time\":\"%s\"," : "time=%s ", text);
}

/* What stands before the pairs; event and names are ours, and need no escapes. */
static size_t put_head(char *line, size_t size, enum log_subsystem subsystem, enum log_level level, const char *event)
{
	bool journal = stderr_is_journal();
	size_t used = 0;

	if (journal)
		used += append_format(line, size, "<%d>", (int)level);
	else
		used += put_time(line, size, "logfmt");
	return used + append_format(line + used, size - used, "level=%s subsystem=%s event=\"%s\"",
	                            log_level_name(level), log_subsystem_name(subsystem), event);
}

static size_t put_json_head(char *line, size_t size, enum log_subsystem subsystem, enum log_level level,
                            const char *event)
{
	bool journal = stderr_is_journal();
	size_t used = 0;

	if (journal)
		used += append_format(line, size, "<%d>", (int)level);
	used += append_format(line + used, size - used, "{");
	if (!journal)
		used += put_time(line + used, size - used, "json");
	return used + append_format(line + used, size - used, "\"level\":\"%s\",\"subsystem\":\"%s\",\"event\":\"%s\"",
	                            log_level_name(level), log_subsystem_name(subsystem), event);
}

/*
 * Who reads the log may stop reading, and a worker that waits for him serves nobody. Room for one line is what POLLOUT
 * stands for on pipes and sockets; the lock keeps another thread from taking it in between.
 */
static bool has_room(void)
{
	struct pollfd wait = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&wait, 1, 0) != 0;
}

/* A whole line, without its break, of pairs that are made. Returns its length. */
static size_t render(char *line, size_t size, enum log_subsystem subsystem, enum log_level level, const char *event,
                     const char *pairs, size_t length)
{
	size_t used;

	if (atomic_load_explicit(&line_format, memory_order_relaxed) == LOG_FORMAT_JSON) {
		used = put_json_head(line, size, subsystem, level, event);
		used += log_json_members(pairs, length, line + used, size - used - 1);
		line[used++] = '}';
		return used;
	}
	used = put_head(line, size < LINE_MAX_BYTES ? size : LINE_MAX_BYTES - 1, subsystem, level, event);
	if (length)
		used += append_format(line + used, (size < LINE_MAX_BYTES ? size : LINE_MAX_BYTES - 1) - used, " %.*s",
		                      (int)length, pairs);
	return used;
}

static void write_line(const char *line, size_t length)
{
	pthread_mutex_lock(&output.lock);
	if (has_room() && output.lost) {
		char note[320];
		char pairs[96];
		size_t used = append_format(pairs, sizeof(pairs), "count=%lu cause=\"nobody read them\"", output.lost);

		used = render(note, sizeof(note) - 1, LOG_AGENT, LOG_LEVEL_WARNING, "log lines lost", pairs, used);
		note[used++] = '\n';
		if (write(STDERR_FILENO, note, used) == (ssize_t)used)
			output.lost = 0;
	}
	if (!has_room() || write(STDERR_FILENO, line, length) == -1) {
		output.lost++;
		atomic_fetch_add_explicit(&totals.lost, 1, memory_order_relaxed);
	} else {
		atomic_fetch_add_explicit(&totals.lines, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&output.lock);
}

void log_write(struct log_site *site, unsigned int limit, enum log_subsystem subsystem, enum log_level level,
               const char *event, const char *format, ...)
{
	char pairs[LINE_MAX_BYTES];
	char line[JSON_MAX_BYTES];
	uint32_t suppressed = 0;
	size_t used = 0;
	va_list args;

	if (site && !take_line(site, limit, &suppressed))
		return;
	if (suppressed)
		used = append_format(pairs, sizeof(pairs), "suppressed=%u%s", suppressed, format[0] ? " " : "");
	va_start(args, format);
	used += append(pairs + used, sizeof(pairs) - used, format, args);
	va_end(args);
	/* A value with a line break would forge a line of its own. */
	for (size_t i = 0; i < used; i++) {
		if (pairs[i] == '\n' || pairs[i] == '\r')
			pairs[i] = ' ';
	}
	used = render(line, sizeof(line) - 1, subsystem, level, event, pairs, used);
	line[used++] = '\n';
	write_line(line, used);
}

const char *log_quote(const char *value, char *buffer, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	size_t used = 0;

	if (size < 3) {
		if (size)
			buffer[0] = '\0';
		return buffer;
	}
	buffer[used++] = '"';
	/* Room is kept for one escape of four bytes, the closing quote and the NUL. */
	for (const unsigned char *byte = (const unsigned char *)value; *byte && used + 6 <= size; byte++) {
		if (*byte == '"' || *byte == '\\') {
			buffer[used++] = '\\';
			buffer[used++] = (char)*byte;
		} else if (*byte < 0x20 || *byte == 0x7f) {
			buffer[used++] = '\\';
			buffer[used++] = 'x';
			buffer[used++] = digits[*byte >> 4];
			buffer[used++] = digits[*byte & 15];
		} else {
			buffer[used++] = (char)*byte;
		}
	}
	buffer[used++] = '"';
	buffer[used] = '\0';
	return buffer;
}
