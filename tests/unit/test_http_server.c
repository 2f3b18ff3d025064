/* SPDX-License-Identifier: GPL-2.0-only */
/* The HTTP server in its loop, with real sockets on loopback: answers at once and later, bounds, and its end. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "observe/http_server.h"

#define PATIENCE_NS 30000000000ull

struct world {
	struct loop *loop;
	struct http_server *server;
	struct http_request *kept; /* of "/later" */
	unsigned int forgotten;
	char accept[64];
};

static bool answer(void *context, struct http_request *request, const char *path, const char *accept)
{
	struct world *world = context;

	(void)snprintf(world->accept, sizeof(world->accept), "%s", accept ? accept : "none");
	if (strcmp(path, "/now") == 0) {
		http_reply_text(request, 200, "here\n");
	} else if (strcmp(path, "/large") == 0) {
		char *body = malloc(4 << 20);

		assert_non_null(body);
		memset(body, 'x', 4 << 20);
		http_reply(request, 200, "text/plain", body, 4 << 20);
	} else if (strcmp(path, "/later") == 0) {
		world->kept = request;
	} else if (strcmp(path, "/no-memory") == 0) {
		http_reply(request, 200, "text/plain", NULL, 0);
	} else {
		return false;
	}
	return true;
}

static void forget(void *context, struct http_request *request)
{
	struct world *world = context;

	assert_ptr_equal(world->kept, request);
	world->kept = NULL;
	world->forgotten++;
}

/*
 * The short times only where they are waited for: a client of ours that another process keeps off the CPU for so long
 * is cut off, rightly, and is no failure of the server.
 */
static int set_up_with(void **state, unsigned int timeout_seconds, unsigned int request_seconds)
{
	struct world *world = calloc(1, sizeof(*world));
	struct http_options options = {
	        .answer = answer,
	        .forget = forget,
	        .context = world,
	        .timeout_seconds = timeout_seconds,
	        .request_seconds = request_seconds,
	};

	assert_non_null(world);
	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(address_parse("127.0.0.1", &options.address), 0);
	assert_int_equal(loop_new(&world->loop), 0);
	assert_int_equal(http_server_open(world->loop, &options, &world->server), 0);
	*state = world;
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, 600, 600);
}

static int set_up_impatient(void **state)
{
	return set_up_with(state, 1, 2);
}

static int tear_down(void **state)
{
	struct world *world = *state;

	http_server_close(world->server);
	loop_free(world->loop);
	free(world);
	return 0;
}

static int dial(struct world *world)
{
	struct sockaddr_in address = {
	        .sin_family = AF_INET,
	        .sin_port = htons(http_server_port(world->server)),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static int ask(struct world *world, const char *request)
{
	int fd = dial(world);

	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	return fd;
}

static int get(struct world *world, const char *path)
{
	char request[128];

	(void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", path);
	return ask(world, request);
}

/* Turns the loop until the server has ended the connection. How many bytes came; text holds the first ones. */
static size_t read_all(struct world *world, int fd, char *text, size_t size)
{
	uint64_t end = monotonic_ns() + PATIENCE_NS;
	size_t total = 0;

	memset(text, 0, size);
	while (monotonic_ns() < end) {
		char bytes[65536];
		ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (got == 0 || (got == -1 && errno != EAGAIN)) {
			close(fd);
			return total;
		}
		if (got == -1) {
			assert_int_equal(loop_step(world->loop, 20), 0);
			continue;
		}
		if (total < size - 1)
			memcpy(text + total, bytes, (size_t)got < size - 1 - total ? (size_t)got : size - 1 - total);
		total += (size_t)got;
	}
	fail_msg("expected the end of the connection");
	return 0;
}

static void expect_status(struct world *world, int fd, const char *status, const char *body)
{
	char text[2048];

	(void)read_all(world, fd, text, sizeof(text));
	if (strncmp(text, "HTTP/1.1 ", 9) != 0 || strncmp(text + 9, status, 3) != 0 || !strstr(text, body))
		fail_msg("expected %s with \"%s\", seen %s", status, body, text);
}

static void answers_at_once(void **state)
{
	struct world *world = *state;
	char text[256];

	expect_status(world, get(world, "/now"), "200", "\r\n\r\nhere\n");
	expect_status(world, get(world, "/nowhere"), "404", "/metrics");
	expect_status(world, get(world, "/no-memory"), "500", "out of memory");
	expect_status(world,
	              ask(world, "PUT /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
	              "405", "Allow: GET, HEAD");
	expect_status(world,
	              ask(world, "GET /now HTTP/1.1\r\nHost: a\r\nAccept: a/b\r\nContent-Length: 4\r\nConnection: "
	                         "close\r\n\r\nbody"),
	              "200", "here");
	assert_string_equal(world->accept, "a/b");
	/* Larger than any socket buffer: the loop goes on meanwhile. */
	assert_true(read_all(world, get(world, "/large"), text, sizeof(text)) > 4u << 20);
}

static void answers_later(void **state)
{
	struct world *world = *state;
	int fd = get(world, "/later");
	uint64_t end = monotonic_ns() + PATIENCE_NS;

	while (!world->kept && monotonic_ns() < end)
		assert_int_equal(loop_step(world->loop, 20), 0);
	assert_non_null(world->kept);
	expect_status(world, get(world, "/now"), "200", "here"); /* others do not wait for it */
	http_reply_text(world->kept, 503, "not yet\n");
	world->kept = NULL;
	expect_status(world, fd, "503", "not yet");
	assert_int_equal(world->forgotten, 0);
}

static void closes_with_a_request_kept(void **state)
{
	struct world *world = *state;
	int fd = get(world, "/later");
	uint64_t end = monotonic_ns() + PATIENCE_NS;

	while (!world->kept && monotonic_ns() < end)
		assert_int_equal(loop_step(world->loop, 20), 0);
	http_server_close(world->server);
	world->server = NULL;
	assert_int_equal(world->forgotten, 1);
	assert_null(world->kept);
	close(fd);
}

static void silent_and_slow_clients_end(void **state)
{
	struct world *world = *state;
	int silent = dial(world);
	int slow = ask(world, "GET /now HTTP/1.1\r\nHost: a\r\nX: ");
	uint64_t end = monotonic_ns() + PATIENCE_NS;
	char text[2048];
	char byte;

	/* It is never silent for as long as the time without a byte; the time for a request ends it. */
	while (monotonic_ns() < end) {
		if (send(slow, "a", 1, MSG_NOSIGNAL) == -1 || recv(slow, &byte, 1, MSG_DONTWAIT) == 0)
			break;
		assert_int_equal(loop_step(world->loop, 100), 0);
	}
	assert_true(monotonic_ns() < end);
	close(slow);
	assert_int_equal(read_all(world, silent, text, sizeof(text)), 0);
}

/* Those that the server has ended. */
static unsigned int count_ended(const int *fds, size_t count)
{
	unsigned int ended = 0;
	char byte;

	for (size_t i = 0; i < count; i++) {
		ssize_t got = recv(fds[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK);

		ended += got == 0 || (got == -1 && errno != EAGAIN);
	}
	return ended;
}

static void connections_are_bounded(void **state)
{
	struct world *world = *state;
	int fds[HTTP_CONNECTIONS_OF_ADDRESS + 8];
	uint64_t end = monotonic_ns() + PATIENCE_NS;
	unsigned int ended;
	char text[2048];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial(world);
		assert_int_equal(loop_step(world->loop, 20), 0);
	}
	/* connect() may be back a moment before the listener has the connection. */
	while ((ended = count_ended(fds, ARRAY_SIZE(fds))) < 8 && monotonic_ns() < end)
		assert_int_equal(loop_step(world->loop, 20), 0);
	assert_in_range(ended, 8, ARRAY_SIZE(fds) - 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	/* Those that were let in are seen to be gone, and there is room again. */
	do
		(void)read_all(world, get(world, "/now"), text, sizeof(text));
	while (text[0] == '\0' && monotonic_ns() < end);
	assert_non_null(strstr(text, "here"));
}

static void large_heads_are_refused(void **state)
{
	struct world *world = *state;
	size_t size = 2 * HTTP_CONNECTION_MEMORY;
	_cleanup_free_ char *request = calloc(1, size + 128);
	size_t used;

	assert_non_null(request);
	used = (size_t)snprintf(request, 128, "GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ");
	memset(request + used, 'a', size);
	memcpy(request + used + size, "\r\n\r\n", 5);
	expect_status(world, ask(world, request), "431", "");
}

static void a_taken_address_is_said(void **state)
{
	struct world *world = *state;
	struct http_options options = {.answer = answer, .port = http_server_port(world->server)};
	struct http_server *second = NULL;

	assert_int_equal(address_parse("127.0.0.1", &options.address), 0);
	assert_int_equal(http_server_open(world->loop, &options, &second), -EADDRINUSE);
	assert_null(second);
}

static void every_address_is_both_families(void **state)
{
	struct world *world = *state;
	struct http_options options = {.answer = answer, .context = world}; /* :: */
	struct http_server *first = world->server;

	assert_int_equal(http_server_open(world->loop, &options, &world->server), 0);
	expect_status(world, get(world, "/now"), "200", "here");
	http_server_close(world->server);
	world->server = first;
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	        EACH(answers_at_once),
	        EACH(answers_later),
	        EACH(closes_with_a_request_kept),
	        cmocka_unit_test_setup_teardown(silent_and_slow_clients_end, set_up_impatient, tear_down),
	        EACH(connections_are_bounded),
	        EACH(large_heads_are_refused),
	        EACH(a_taken_address_is_said),
	        EACH(every_address_is_both_families),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
