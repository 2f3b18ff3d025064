/* SPDX-License-Identifier: GPL-2.0-only */
#include "agent_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "observe/control_socket.h"

#define ANSWER_TIMEOUT_SECONDS 10
#define ANSWER_MAX             (256u << 20)
#define ANSWER_FIRST           (64u << 10)

__attribute__((format(printf, 4, 5))) static enum agent_answer fail(enum agent_answer answer, char *error,
                                                                    size_t error_size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(error, error_size, format, args);
	va_end(args);
	return answer;
}

static enum agent_answer connect_agent(const char *run_dir, int *result, char *error, size_t error_size)
{
	const struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_SECONDS};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/" CONTROL_SOCKET_NAME, run_dir);
	_cleanup_close_ int fd = -1;

	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return fail(AGENT_UNKNOWN, error, error_size, "the path of --run-dir is too long for a socket");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == -1)
		return fail(AGENT_UNKNOWN, error, error_size, "socket: %s", strerror(errno));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == -1) {
		int number = errno;
		bool nobody = number == ENOENT || number == ECONNREFUSED || number == ENOTDIR;

		return fail(nobody ? AGENT_DEAD : AGENT_UNKNOWN, error, error_size, "%s: %s%s", address.sun_path,
		            strerror(number), number == EACCES ? " (it takes root)" : "");
	}
	*result = TAKE_FD(fd);
	return AGENT_ANSWERED;
}

static enum agent_answer read_answer(int fd, char **text, size_t *size, char *error, size_t error_size)
{
	_cleanup_free_ char *buffer = NULL;
	size_t capacity = 0;
	size_t used = 0;

	for (;;) {
		ssize_t got;

		if (used == capacity) {
			char *grown;

			if (capacity >= ANSWER_MAX)
				return fail(AGENT_UNKNOWN, error, error_size, "the agent's answer is too large");
			capacity = capacity ? 2 * capacity : ANSWER_FIRST;
			grown = realloc(buffer, capacity);
			if (!grown)
				return fail(AGENT_UNKNOWN, error, error_size, "out of memory");
			buffer = grown;
		}
		got = recv(fd, buffer + used, capacity - used, 0);
		if (got == 0)
			break;
		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1 && errno == EAGAIN)
			return fail(AGENT_HUNG, error, error_size, "the agent does not answer within %d s",
			            ANSWER_TIMEOUT_SECONDS);
		if (got == -1)
			return fail(AGENT_UNKNOWN, error, error_size, "the agent's answer: %s", strerror(errno));
		used += (size_t)got;
	}
	*text = TAKE_PTR(buffer);
	*size = used;
	return AGENT_ANSWERED;
}

static char given_up[256];

void agent_give_up(const char *reason)
{
	(void)snprintf(given_up, sizeof(given_up), "%s", reason);
}

enum agent_answer agent_ask(const char *run_dir, const char *command, json_type expected, json_t **answer, char *error,
                            size_t error_size)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	char line[CONTROL_COMMAND_MAX + 2];
	json_error_t json_error;
	size_t size = 0;
	json_t *document;
	int length = snprintf(line, sizeof(line), "%s\n", command);
	enum agent_answer result;

	if (given_up[0])
		return fail(AGENT_HUNG, error, error_size, "%s", given_up);
	result = connect_agent(run_dir, &fd, error, error_size);
	if (result != AGENT_ANSWERED)
		return result;
	if (send(fd, line, (size_t)length, MSG_NOSIGNAL) != length)
		return fail(AGENT_UNKNOWN, error, error_size, "the agent does not take a command: %s", strerror(errno));
	result = read_answer(fd, &text, &size, error, error_size);
	if (result != AGENT_ANSWERED)
		return result;
	document = json_loadb(text, size, 0, &json_error);
	if (document && json_typeof(document) == expected && !json_is_string(json_object_get(document, "error"))) {
		*answer = document;
		return AGENT_ANSWERED;
	}
	if (json_is_string(json_object_get(document, "error")))
		result = fail(AGENT_REFUSED, error, error_size, "the agent says: %s", text_of(document, "error"));
	else
		result = fail(AGENT_UNKNOWN, error, error_size, "the agent's answer is cut short or not understood");
	json_decref(document);
	return result;
}

const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

long long number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

double real_of(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

bool truth_of(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}
