/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * control_socket_world.h: a status socket in a directory of its own, with a loop that the test turns itself, and its
 * clients.
 */
#ifndef POSTERN_TESTS_CONTROL_SOCKET_WORLD_H
#define POSTERN_TESTS_CONTROL_SOCKET_WORLD_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "observe/control_socket.h"

/*
 * The short one only where it is waited for: a client of ours that another process keeps off the CPU for so long is cut
 * off, rightly, and is no failure of the socket.
 */
#define TIMEOUT_MS     100
#define NO_TIMEOUT_MS  600000
#define LARGE_DOCUMENT (1u << 20) /* more than a socket buffer takes */
#define PATIENCE_NS    10000000000ull

struct fixture {
	char parent[64];
	char run_dir[80];
	char path[112];
	struct loop *loop;
	struct control_socket *socket;
	char last_command[CONTROL_COMMAND_MAX + 1];
	unsigned int commands;
	unsigned int timeout_ms;
};

static inline json_t *answer(void *context, const char *command)
{
	struct fixture *fixture = context;

	fixture->commands++;
	assert_true(strlen(command) <= CONTROL_COMMAND_MAX);
	strcpy(fixture->last_command, command);
	if (strcmp(command, "status") == 0)
		return json_pack("{s:b}", "ready", 1);
	if (strcmp(command, "large") == 0) {
		_cleanup_free_ char *text = malloc(LARGE_DOCUMENT);

		assert_non_null(text);
		memset(text, 'x', LARGE_DOCUMENT);
		return json_pack("{s:s%}", "text", text, (size_t)LARGE_DOCUMENT);
	}
	return NULL;
}

static inline int open_socket(struct fixture *fixture, struct control_socket **socket, char error[256])
{
	const struct control_socket_options options = {
	        .run_dir = fixture->run_dir,
	        .answer = answer,
	        .context = fixture,
	        .timeout_ms = fixture->timeout_ms,
	};

	return control_socket_open(fixture->loop, &options, socket, error, 256);
}

static inline int setup_with(void **state, unsigned int timeout_ms)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	char error[256];

	assert_non_null(fixture);
	fixture->timeout_ms = timeout_ms;
	log_set_level(LOG_LEVEL_ERROR);
	strcpy(fixture->parent, "/tmp/postern-test-control-XXXXXX");
	assert_non_null(mkdtemp(fixture->parent));
	(void)snprintf(fixture->run_dir, sizeof(fixture->run_dir), "%s/run", fixture->parent);
	(void)snprintf(fixture->path, sizeof(fixture->path), "%s/" CONTROL_SOCKET_NAME, fixture->run_dir);
	assert_int_equal(loop_new(&fixture->loop), 0);
	if (open_socket(fixture, &fixture->socket, error))
		fail_msg("%s", error);
	*state = fixture;
	return 0;
}

static inline int setup(void **state)
{
	return setup_with(state, NO_TIMEOUT_MS);
}

static inline int setup_impatient(void **state)
{
	return setup_with(state, TIMEOUT_MS);
}

static inline int teardown(void **state)
{
	struct fixture *fixture = *state;
	char lock[128];

	control_socket_close(fixture->socket);
	loop_free(fixture->loop);
	(void)snprintf(lock, sizeof(lock), "%s.lock", fixture->path);
	assert_int_equal(unlink(lock), 0);
	assert_int_equal(rmdir(fixture->run_dir), 0); /* fails if the socket was left behind */
	assert_int_equal(rmdir(fixture->parent), 0);
	free(fixture);
	return 0;
}

static inline int connect_client(const struct fixture *fixture)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, fixture->path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == -1)
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

static inline void send_all(int fd, const void *bytes, size_t size)
{
	assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

/* Everything until the agent closes, at most size - 1 bytes. -1: it did not close in time. */
static inline ssize_t read_answer(struct fixture *fixture, int fd, char *buffer, size_t size)
{
	uint64_t end = monotonic_ns() + PATIENCE_NS;
	size_t used = 0;

	while (monotonic_ns() < end && used < size - 1) {
		ssize_t got = recv(fd, buffer + used, size - 1 - used, 0);

		if (got == 0 || (got == -1 && errno == ECONNRESET)) {
			buffer[used] = '\0';
			return (ssize_t)used;
		}
		if (got > 0) {
			used += (size_t)got;
			continue;
		}
		assert_int_equal(errno, EAGAIN);
		assert_int_equal(loop_step(fixture->loop, 10), 0);
	}
	return -1;
}

static inline void assert_answer(struct fixture *fixture, int fd, const char *expected)
{
	char buffer[512];
	ssize_t got = read_answer(fixture, fd, buffer, sizeof(buffer));

	if (got == -1)
		fail_msg("expected \"%s\", seen no end of the answer", expected);
	if (strcmp(buffer, expected) != 0)
		fail_msg("expected \"%s\", seen \"%s\"", expected, buffer);
}

static inline void assert_served(struct fixture *fixture)
{
	_cleanup_close_ int fd = connect_client(fixture);

	send_all(fd, "status\n", 7);
	assert_answer(fixture, fd, "{\"ready\":true}\n");
}

#define CONTROL_TEST(function)      cmocka_unit_test_setup_teardown(function, setup, teardown)
#define CONTROL_IMPATIENT(function) cmocka_unit_test_setup_teardown(function, setup_impatient, teardown)

#endif
