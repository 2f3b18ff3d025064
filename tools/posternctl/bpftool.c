/* SPDX-License-Identifier: GPL-2.0-only */
#include "bpftool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define WORDS_MAX   12
#define BUFFER_SIZE ((size_t)64 << 10)

/* What is left of the child's output, one byte at a time. */
struct reader {
	int fd;
	char buffer[BUFFER_SIZE];
	size_t used;
	size_t next;
	int pushed; /* a byte that was looked at, or -1 */
	size_t total;
	size_t element_left; /* of the element that is being read */
	time_t deadline;
	int problem; /* negative errno: why there are no more bytes, but for the end */
};

__attribute__((format(printf, 3, 4))) static int fail(int number, char error[static BPFTOOL_ERROR_MAX],
                                                      const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(error, BPFTOOL_ERROR_MAX, format, arguments);
	va_end(arguments);
	return number;
}

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static int try_path(const char *directory, size_t length, char path[static PATH_MAX])
{
	int written = snprintf(path, PATH_MAX, "%.*s/bpftool", (int)length, directory);

	return written > 0 && written < PATH_MAX && access(path, X_OK) == 0 ? 0 : -ENOENT;
}

int bpftool_find(const char *wanted, char path[static PATH_MAX])
{
	static const char sbin[] = "/usr/sbin:/sbin:/usr/local/sbin";
	const char *const lists[] = {getenv("PATH"), sbin};

	if (wanted) {
		(void)snprintf(path, PATH_MAX, "%s", wanted);
		return access(path, X_OK) == 0 ? 0 : -ENOENT;
	}
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		for (const char *entry = lists[i]; entry && *entry;) {
			size_t length = strcspn(entry, ":");

			/* A relative entry would run what lies in the directory that root happens to be in. */
			if (entry[0] == '/' && try_path(entry, length, path) == 0)
				return 0;
			entry += length + (entry[length] == ':');
		}
	}
	(void)snprintf(path, PATH_MAX, "bpftool");
	return -ENOENT;
}

/* ---- bytes ---- */

static bool fill(struct reader *reader)
{
	struct pollfd event = {.fd = reader->fd, .events = POLLIN};
	ssize_t got = -1;

	while (got == -1) {
		time_t left = reader->deadline - seconds_now();
		int ready = left > 0 ? poll(&event, 1, (int)left * 1000) : 0;

		if (ready == 0)
			reader->problem = -ETIMEDOUT;
		else if (ready == -1 && errno != EINTR)
			reader->problem = -errno;
		if (reader->problem)
			return false;
		got = ready == 1 ? read(reader->fd, reader->buffer, sizeof(reader->buffer)) : -1;
		if (got == -1 && ready == 1 && errno != EINTR && errno != EAGAIN) {
			reader->problem = -errno;
			return false;
		}
	}
	reader->used = (size_t)got;
	reader->next = 0;
	reader->total += (size_t)got;
	if (reader->total > BPFTOOL_OUTPUT_MAX)
		reader->problem = -EFBIG;
	return got > 0 && !reader->problem;
}

/* The next byte, or -1 at the end. */
static int take(struct reader *reader)
{
	int byte = reader->pushed;

	reader->pushed = -1;
	if (byte >= 0)
		return byte;
	if (reader->problem || (reader->next == reader->used && !fill(reader)))
		return -1;
	return (unsigned char)reader->buffer[reader->next++];
}

static int take_after_blanks(struct reader *reader)
{
	int byte;

	do
		byte = take(reader);
	while (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t');
	return byte;
}

/* jansson's source: a byte at a time, so that nothing behind the element is taken. */
static size_t give_byte(void *buffer, size_t size, void *context)
{
	struct reader *reader = context;
	int byte;

	(void)size;
	if (reader->element_left == 0) {
		reader->problem = -EFBIG;
		return (size_t)-1;
	}
	byte = take(reader);
	if (byte < 0)
		return reader->problem ? (size_t)-1 : 0;
	reader->element_left--;
	*(char *)buffer = (char)byte;
	return 1;
}

/* ---- elements ---- */

static void cleanup_json(json_t **value)
{
	json_decref(*value);
}

static int read_element(struct reader *reader, bpftool_each each, void *context, char error[static BPFTOOL_ERROR_MAX])
{
	json_error_t json_error;
	_cleanup_(cleanup_json) json_t *element = NULL;

	reader->element_left = BPFTOOL_ELEMENT_MAX;
	element = json_load_callback(give_byte, reader, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &json_error);
	if (!element)
		return reader->problem ? reader->problem
		                       : fail(-EBADMSG, error, "bpftool's answer is not JSON: %.120s", json_error.text);
	if (json_is_string(json_object_get(element, "error")))
		return fail(-EIO, error, "bpftool says: %.200s", json_string_value(json_object_get(element, "error")));
	return each(context, element);
}

static int read_array(struct reader *reader, bpftool_each each, void *context, char error[static BPFTOOL_ERROR_MAX])
{
	int byte = take_after_blanks(reader);

	if (byte == ']')
		return 0;
	reader->pushed = byte;
	for (;;) {
		int result = read_element(reader, each, context, error);

		if (result)
			return result;
		byte = take_after_blanks(reader);
		if (byte == ']')
			return 0;
		if (byte != ',')
			return reader->problem ? reader->problem
			                       : fail(-EBADMSG, error, "bpftool's answer is cut short");
		reader->pushed = take_after_blanks(reader);
	}
}

static int read_answer(struct reader *reader, bpftool_each each, void *context, char error[static BPFTOOL_ERROR_MAX])
{
	int byte = take_after_blanks(reader);
	int result;

	if (byte == '[') {
		result = read_array(reader, each, context, error);
	} else if (byte < 0) {
		result = reader->problem ? reader->problem : fail(-EIO, error, "bpftool says nothing");
	} else {
		reader->pushed = byte;
		result = read_element(reader, each, context, error);
	}
	/* To its end, so that the child is not stopped in its last word; more than blanks is no answer of bpftool's. */
	if (result == 0 && take_after_blanks(reader) >= 0)
		result = fail(-EBADMSG, error, "bpftool's answer goes on after its end");
	if (result == 0)
		result = reader->problem;
	if (result == -EFBIG)
		return fail(result, error, "bpftool's answer is too large");
	if (result == -ETIMEDOUT)
		return fail(result, error, "bpftool does not answer within %d s", BPFTOOL_SECONDS);
	return result;
}

/* ---- the child ---- */

static int spawn(const char *path, const char *const *words, int output, pid_t *child)
{
	static char *environment[] = {"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	const char *arguments[WORDS_MAX + 3] = {path, "--json"};
	posix_spawn_file_actions_t actions;
	int error = posix_spawn_file_actions_init(&actions);

	for (size_t i = 0; words[i] && i < WORDS_MAX; i++)
		arguments[i + 2] = words[i];
	if (error)
		return -error;
	error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	if (!error)
		error = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	if (!error)
		error = posix_spawn(child, path, &actions, NULL, (char *const *)arguments, environment);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -error;
}

/* It has closed its output: what is left is to exit, in whatever time is left. */
static int end_child(pid_t child, bool at_once, time_t deadline)
{
	_cleanup_close_ int process = pidfd_open(child, 0);
	struct pollfd event = {.fd = process, .events = POLLIN};
	time_t left = deadline - seconds_now();
	int status = 0;

	if (at_once || process == -1 || poll(&event, 1, left > 0 ? (int)left * 1000 : 0) != 1)
		(void)kill(child, SIGKILL);
	while (waitpid(child, &status, 0) == -1 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int bpftool_run(const char *path, const char *const *words, bpftool_each each, void *context,
                char error[static BPFTOOL_ERROR_MAX])
{
	_cleanup_free_ struct reader *reader = calloc(1, sizeof(*reader));
	_cleanup_close_ int output = -1;
	_cleanup_close_ int input = -1;
	int ends[2];
	pid_t child = 0;
	int result;
	int status;

	error[0] = '\0';
	if (!reader)
		return fail(-ENOMEM, error, "out of memory");
	if (pipe2(ends, O_CLOEXEC) == -1)
		return fail(-errno, error, "pipe: %s", strerror(errno));
	input = ends[0];
	output = ends[1];
	result = spawn(path, words, output, &child);
	if (result)
		return fail(-EIO, error, "%.150s: %s", path, strerror(-result));
	close(TAKE_FD(output));
	reader->fd = input;
	reader->pushed = -1;
	reader->deadline = seconds_now() + BPFTOOL_SECONDS;
	result = read_answer(reader, each, context, error);
	status = end_child(child, result != 0, reader->deadline);
	if (result == 0 && status != 0)
		return fail(-EIO, error, "bpftool %s %s ended with status %d", words[0], words[1] ? words[1] : "",
		            status);
	return result;
}

/* ---- fields ---- */

int bpftool_bytes(const json_t *value, void *bytes, size_t size)
{
	unsigned char *out = bytes;

	if (!json_is_array(value) || json_array_size(value) != size)
		return -EBADMSG;
	for (size_t i = 0; i < size; i++) {
		const char *text = json_string_value(json_array_get(value, i));
		unsigned long number;
		char *end;

		if (!text || strlen(text) != 4 || strncmp(text, "0x", 2) != 0)
			return -EBADMSG;
		number = strtoul(text + 2, &end, 16);
		if (*end || number > 0xff)
			return -EBADMSG;
		out[i] = (unsigned char)number;
	}
	return 0;
}

int bpftool_number(const json_t *object, const char *key, uint64_t most, uint64_t *number)
{
	const json_t *value = json_object_get(object, key);
	json_int_t seen = json_integer_value(value);

	if (!json_is_integer(value) || seen < 0 || (uint64_t)seen > most)
		return -EBADMSG;
	*number = (uint64_t)seen;
	return 0;
}
