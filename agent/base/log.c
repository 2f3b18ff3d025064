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

#define LINE_MAX_BYTES 2048

/*
 * The one process-wide state: the level, an atomic that every thread reads, and what the writing of lines needs. It is
 * not in the agent's struct because the log must work before there is an agent, and after.
 */
static _Atomic int threshold = LOG_LEVEL_INFO;
static struct {
	pthread_mutex_t lock;
	unsigned long lost; /* lines, since the last one that was written */
} output = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct {
	const char *name;
	enum log_level level;
} levels[] = {
        {"error", LOG_LEVEL_ERROR},
        {"warning", LOG_LEVEL_WARNING},
        {"info", LOG_LEVEL_INFO},
        {"debug", LOG_LEVEL_DEBUG},
};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&threshold, memory_order_relaxed);
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

static const char *level_name(enum log_level level)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (levels[i].level == level)
			return levels[i].name;
	}
	return "unknown";
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

static size_t put_head(char *line, size_t size, enum log_level level, const char *event)
{
	size_t used = 0;

	if (stderr_is_journal()) {
		used += append_format(line, size, "<%d>", (int)level);
	} else {
		struct timespec now;
		struct tm parts;

		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &parts);
		used += append_format(line, size, "time=%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ ", parts.tm_year + 1900,
		                      parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
		                      now.tv_nsec / 1000000);
	}
	return used + append_format(line + used, size - used, "level=%s event=\"%s\"", level_name(level), event);
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

static void write_line(const char *line, size_t length)
{
	pthread_mutex_lock(&output.lock);
	if (has_room() && output.lost) {
		char note[160];
		size_t used = put_head(note, sizeof(note), LOG_LEVEL_WARNING, "log lines lost");

		used += append_format(note + used, sizeof(note) - used, " count=%lu cause=\"nobody read them\"\n",
		                      output.lost);
		if (write(STDERR_FILENO, note, used) == (ssize_t)used)
			output.lost = 0;
	}
	if (!has_room() || write(STDERR_FILENO, line, length) == -1)
		output.lost++;
	pthread_mutex_unlock(&output.lock);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	size_t room = sizeof(line) - 1; /* the line break has a place of its own */
	size_t used;
	va_list args;

	if (!log_enabled(level))
		return;
	used = put_head(line, room, level, event);
	if (format[0] != '\0') {
		used += append_format(line + used, room - used, " ");
		va_start(args, format);
		used += append(line + used, room - used, format, args);
		va_end(args);
	}
	/* A value with a line break would forge a line of its own. */
	for (size_t i = 0; i < used; i++) {
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	}
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
