// SPDX-License-Identifier: GPL-2.0-only
/* The status socket with hostile, slow and vanishing clients, all in one thread: the test turns the loop itself. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static json_t *answer(void *context, const char *command)
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

static int open_socket(struct fixture *fixture, struct control_socket **socket, char error[256])
{
	const struct control_socket_options options = {
	        .run_dir = fixture->run_dir,
	        .answer = answer,
	        .context = fixture,
	        .timeout_ms = fixture->timeout_ms,
	};

	return control_socket_open(fixture->loop, &options, socket, error, 256);
}

static int setup_with(void **state, unsigned int timeout_ms)
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

static int setup(void **state)
{
	return setup_with(state, NO_TIMEOUT_MS);
}

static int setup_impatient(void **state)
{
	return setup_with(state, TIMEOUT_MS);
}

static int teardown(void **state)
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

static int connect_client(const struct fixture *fixture)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, fixture->path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == -1)
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

static void send_all(int fd, const void *bytes, size_t size)
{
	assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

/* Everything until the agent closes, at most size - 1 bytes. -1: it did not close in time. */
static ssize_t read_answer(struct fixture *fixture, int fd, char *buffer, size_t size)
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

static void assert_answer(struct fixture *fixture, int fd, const char *expected)
{
	char buffer[512];
	ssize_t got = read_answer(fixture, fd, buffer, sizeof(buffer));

	if (got == -1)
		fail_msg("expected \"%s\", seen no end of the answer", expected);
	if (strcmp(buffer, expected) != 0)
		fail_msg("expected \"%s\", seen \"%s\"", expected, buffer);
}

static void assert_served(struct fixture *fixture)
{
	_cleanup_close_ int fd = connect_client(fixture);

	send_all(fd, "status\n", 7);
	assert_answer(fixture, fd, "{\"ready\":true}\n");
}

static void file_modes(void **state)
{
	struct fixture *fixture = *state;
	struct stat status;

	assert_int_equal(stat(fixture->run_dir, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0755);
	assert_int_equal(stat(fixture->path, &status), 0);
	assert_true(S_ISSOCK(status.st_mode));
	assert_int_equal(status.st_mode & 07777, 0600);
}

static void answers_and_errors(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *answer;
		unsigned int commands; /* how often the handler may have been asked */
	} rows[] = {
	        {"status\n", 7, "{\"ready\":true}\n", 1},
	        {"status\nconnections\n", 19, "{\"ready\":true}\n", 1}, /* one command a connection */
	        {"nonsense\n", 9, "{\"error\":\"unknown command\"}\n", 1},
	        {"\n", 1, "{\"error\":\"unknown command\"}\n", 1},
	        {"status\r\n", 8, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"sta\0tus\n", 8, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"status\0\n", 8, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"\xff\xfe\n", 3, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	        {"\x1b[2J\n", 5, "{\"error\":\"a command is printable ASCII\"}\n", 0},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_close_ int fd = connect_client(fixture);

		fixture->commands = 0;
		send_all(fd, rows[i].bytes, rows[i].size);
		assert_answer(fixture, fd, rows[i].answer);
		if (fixture->commands != rows[i].commands)
			fail_msg("row %zu: expected %u commands, seen %u", i, rows[i].commands, fixture->commands);
	}
}

static void command_lengths(void **state)
{
	struct fixture *fixture = *state;
	char bytes[4096];

	memset(bytes, 'a', sizeof(bytes));
	for (size_t length = CONTROL_COMMAND_MAX - 1; length <= CONTROL_COMMAND_MAX + 2; length++) {
		_cleanup_close_ int fd = connect_client(fixture);

		fixture->commands = 0;
		send_all(fd, bytes, length);
		send_all(fd, "\n", 1);
		if (length <= CONTROL_COMMAND_MAX) {
			assert_answer(fixture, fd, "{\"error\":\"unknown command\"}\n");
			assert_int_equal(strlen(fixture->last_command), length);
		} else {
			assert_answer(fixture, fd, "{\"error\":\"the command is too long\"}\n");
			assert_int_equal(fixture->commands, 0);
		}
	}
	/* A flood without a line break. */
	{
		_cleanup_close_ int fd = connect_client(fixture);

		send_all(fd, bytes, sizeof(bytes));
		assert_answer(fixture, fd, "{\"error\":\"the command is too long\"}\n");
	}
}

static void one_byte_at_a_time(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int fd = connect_client(fixture);

	for (const char *byte = "status\n"; *byte; byte++) {
		send_all(fd, byte, 1);
		for (int i = 0; i < 3; i++)
			assert_int_equal(loop_step(fixture->loop, 0), 0);
	}
	assert_answer(fixture, fd, "{\"ready\":true}\n");
}

static void large_answer_is_whole(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int fd = connect_client(fixture);
	const size_t size = LARGE_DOCUMENT + 64;
	_cleanup_free_ char *buffer = malloc(size);
	json_error_t error;
	json_t *document;

	assert_non_null(buffer);
	send_all(fd, "large\n", 6);
	assert_int_equal(read_answer(fixture, fd, buffer, size), LARGE_DOCUMENT + strlen("{\"text\":\"\"}\n"));
	document = json_loads(buffer, 0, &error);
	assert_non_null(document);
	assert_int_equal(json_string_length(json_object_get(document, "text")), LARGE_DOCUMENT);
	json_decref(document);
}

static void slow_reader_keeps_nobody_waiting(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int slow = connect_client(fixture);

	send_all(slow, "large\n", 6);
	while (fixture->commands == 0)
		assert_int_equal(loop_step(fixture->loop, 10), 0);
	assert_served(fixture);
}

/* Has asked for much, and read nothing. It may be cut off before its command is read: then it comes again. */
static int connect_slow(struct fixture *fixture)
{
	for (;;) {
		int fd = connect_client(fixture);
		char byte;

		send_all(fd, "large\n", 6);
		while (fixture->commands == 0 && recv(fd, &byte, 1, MSG_PEEK) == -1 && errno == EAGAIN)
			assert_int_equal(loop_step(fixture->loop, 10), 0);
		if (fixture->commands)
			return fd;
		close(fd);
	}
}

/* A client that asks for much and reads nothing is cut off. */
static void slow_reader_is_cut_off(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int slow = connect_slow(fixture);
	const size_t size = LARGE_DOCUMENT + 64;
	_cleanup_free_ char *buffer = malloc(size);
	uint64_t end;
	ssize_t got;

	assert_non_null(buffer);
	for (end = monotonic_ns() + 2ull * TIMEOUT_MS * 1000000; monotonic_ns() < end;)
		assert_int_equal(loop_step(fixture->loop, 10), 0);
	assert_int_equal(loop_step(fixture->loop, 0), 0); /* there may have been no round since the time was over */
	got = read_answer(fixture, slow, buffer, size);
	if (got == -1 || got >= (ssize_t)LARGE_DOCUMENT)
		fail_msg("expected a part of the document and an end, seen %zd bytes", got);
}

static void silent_client_is_cut_off(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int silent = connect_client(fixture);
	uint64_t start = monotonic_ns();

	send_all(silent, "stat", 4);
	assert_answer(fixture, silent, "");
	assert_in_range((monotonic_ns() - start) / 1000000, TIMEOUT_MS - 1, PATIENCE_NS / 1000000 - 1);
	assert_int_equal(fixture->commands, 0);
}

/* A drip of bytes does not buy time before the command is whole. */
static void dripping_client_is_cut_off(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int drip = connect_client(fixture);
	uint64_t start = monotonic_ns();

	while (send(drip, "a", 1, MSG_NOSIGNAL) == 1) {
		uint64_t pause = monotonic_ns() + TIMEOUT_MS * 1000000ull / 10;

		while (monotonic_ns() < pause)
			assert_int_equal(loop_step(fixture->loop, 5), 0);
		if (monotonic_ns() - start > PATIENCE_NS)
			fail_msg("still connected after %d times the timeout",
			         (int)(PATIENCE_NS / 1000000 / TIMEOUT_MS));
	}
	assert_int_equal(fixture->commands, 0);
}

struct stall {
	struct loop_source source;
	int client;
};

/* One turn of the loop that lasts longer than the limit; the client asks when it has begun. */
static void stand_still(struct loop_source *source, uint32_t events)
{
	const struct stall *stall = container_of(source, struct stall, source);
	uint64_t end = monotonic_ns() + 2 * TIMEOUT_MS * 1000000ull;
	uint64_t count;

	(void)events;
	assert_int_equal(read(source->fd, &count, sizeof(count)), sizeof(count));
	send_all(stall->client, "status\n", 7);
	while (monotonic_ns() < end)
		(void)poll(NULL, 0, TIMEOUT_MS);
}

/* Accepted, and not cut off yet: a test that another process kept off the CPU tries again. */
static int accepted_client(struct fixture *fixture)
{
	for (;;) {
		int fd = connect_client(fixture);
		char byte;

		assert_int_equal(loop_step(fixture->loop, 0), 0);
		if (recv(fd, &byte, 1, MSG_PEEK) == -1)
			return fd;
		close(fd);
	}
}

static void a_stall_of_the_agent_is_not_the_clients(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int event = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	_cleanup_close_ int client = accepted_client(fixture);
	struct stall stall = {.source.on_event = stand_still, .client = client};

	assert_int_equal(loop_add(fixture->loop, &stall.source, event, EPOLLIN), 0);
	assert_int_equal(loop_step(fixture->loop, 0), 0);
	loop_remove(fixture->loop, &stall.source);
	assert_answer(fixture, client, "{\"ready\":true}\n");
}

static void vanishing_clients(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < 40; i++) {
		int fd = connect_client(fixture);

		if (i % 2)
			send_all(fd, "large\n", 6);
		for (int turn = 0; turn < i % 3; turn++)
			assert_int_equal(loop_step(fixture->loop, 0), 0);
		close(fd);
		for (int turn = 0; turn < 3; turn++)
			assert_int_equal(loop_step(fixture->loop, 0), 0);
	}
	assert_served(fixture);
}

static void fill_slots(struct fixture *fixture, int idle[static CONTROL_CLIENTS_MAX])
{
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		idle[i] = connect_client(fixture);
		assert_int_equal(loop_step(fixture->loop, 0), 0);
	}
}

/* More than the slots: the rest waits in the backlog, and is served when one has gone. */
static void more_clients_than_slots(void **state)
{
	struct fixture *fixture = *state;
	int idle[CONTROL_CLIENTS_MAX];
	_cleanup_close_ int waiting = -1;

	fill_slots(fixture, idle);
	waiting = connect_client(fixture);
	send_all(waiting, "status\n", 7);
	for (int turn = 0; turn < 10; turn++)
		assert_int_equal(loop_step(fixture->loop, 0), 0);
	assert_int_equal(fixture->commands, 0);
	close(idle[0]);
	assert_answer(fixture, waiting, "{\"ready\":true}\n");
	for (size_t i = 1; i < CONTROL_CLIENTS_MAX; i++)
		close(idle[i]);
	assert_served(fixture);
}

/* Or when the idle ones are cut off. */
static void idle_clients_make_room(void **state)
{
	struct fixture *fixture = *state;
	int idle[CONTROL_CLIENTS_MAX];

	fill_slots(fixture, idle);
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		assert_answer(fixture, idle[i], "");
		close(idle[i]);
	}
	assert_int_equal(fixture->commands, 0);
}

/* Without descriptors accept4() fails; the socket must neither spin nor stay deaf. */
static void out_of_descriptors(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int fd = connect_client(fixture);
	struct rlimit before;
	struct rlimit none;
	int turns = 0;
	uint64_t end;

	send_all(fd, "status\n", 7);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (end = monotonic_ns() + 50000000; monotonic_ns() < end; turns++)
		assert_int_equal(loop_step(fixture->loop, 20), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	if (turns > 20)
		fail_msg("expected a pause, seen %d turns of the loop in 50 ms", turns);
	assert_answer(fixture, fd, "{\"ready\":true}\n");
}

static size_t open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static void no_descriptor_is_left(void **state)
{
	struct fixture *fixture = *state;
	size_t before = open_descriptors();

	for (int i = 0; i < 50; i++)
		assert_served(fixture);
	assert_int_equal(open_descriptors(), before);
}

static void living_socket_is_not_replaced(void **state)
{
	struct fixture *fixture = *state;
	struct control_socket *second = NULL;
	char expected[160];
	char error[256];

	(void)snprintf(expected, sizeof(expected), "%s: another posternd listens there", fixture->path);
	assert_int_equal(open_socket(fixture, &second, error), -EADDRINUSE);
	assert_string_equal(error, expected);
	assert_null(second);
	assert_served(fixture);
}

static void stale_socket_is_replaced(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char error[256];
	int dead;

	control_socket_close(fixture->socket);
	fixture->socket = NULL;
	assert_int_equal(access(fixture->path, F_OK), -1);
	/* What a killed agent leaves: a bound name that nobody listens on. */
	dead = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(address.sun_path, fixture->path);
	assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dead);
	if (open_socket(fixture, &fixture->socket, error))
		fail_msg("%s", error);
	assert_served(fixture);
}

static void other_files_are_not_replaced(void **state)
{
	struct fixture *fixture = *state;
	char expected[160];
	char error[256];
	int fd;

	control_socket_close(fixture->socket);
	fixture->socket = NULL;
	fd = open(fixture->path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	(void)snprintf(expected, sizeof(expected), "%s: exists and is no socket", fixture->path);
	assert_int_equal(open_socket(fixture, &fixture->socket, error), -EADDRINUSE);
	assert_string_equal(error, expected);
	fixture->socket = NULL;
	assert_int_equal(unlink(fixture->path), 0);
}

/* Closing removes our own socket only: a successor's stays. */
static void a_successors_socket_stays(void **state)
{
	struct fixture *fixture = *state;
	struct control_socket *second = NULL;
	char error[256];

	assert_int_equal(unlink(fixture->path), 0);
	if (open_socket(fixture, &second, error))
		fail_msg("%s", error);
	control_socket_close(fixture->socket);
	fixture->socket = second;
	assert_served(fixture);
}

static void impossible_places(void **state)
{
	struct fixture *fixture = *state;
	struct control_socket *socket = NULL;
	char saved[sizeof(fixture->run_dir)];
	char long_path[201];
	struct control_socket_options options = {.answer = answer, .context = fixture};
	char error[256];

	strcpy(saved, fixture->run_dir);
	strcpy(fixture->run_dir, "/nonexistent/run");
	assert_int_equal(open_socket(fixture, &socket, error), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent/run"));
	strcpy(fixture->run_dir, "/proc/version");
	assert_int_equal(open_socket(fixture, &socket, error), -ENOTDIR);
	strcpy(fixture->run_dir, saved);

	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[0] = '/';
	long_path[sizeof(long_path) - 1] = '\0';
	options.run_dir = long_path;
	assert_int_equal(control_socket_open(fixture->loop, &options, &socket, error, sizeof(error)), -ENAMETOOLONG);
	assert_non_null(strstr(error, "at most 107 bytes"));
}

int main(void)
{
#define TEST(function)      cmocka_unit_test_setup_teardown(function, setup, teardown)
#define IMPATIENT(function) cmocka_unit_test_setup_teardown(function, setup_impatient, teardown)
	const struct CMUnitTest tests[] = {
	        TEST(file_modes),
	        TEST(answers_and_errors),
	        TEST(command_lengths),
	        TEST(one_byte_at_a_time),
	        TEST(large_answer_is_whole),
	        TEST(slow_reader_keeps_nobody_waiting),
	        IMPATIENT(slow_reader_is_cut_off),
	        IMPATIENT(silent_client_is_cut_off),
	        IMPATIENT(dripping_client_is_cut_off),
	        IMPATIENT(a_stall_of_the_agent_is_not_the_clients),
	        TEST(vanishing_clients),
	        TEST(more_clients_than_slots),
	        IMPATIENT(idle_clients_make_room),
	        TEST(out_of_descriptors),
	        TEST(no_descriptor_is_left),
	        TEST(living_socket_is_not_replaced),
	        TEST(stale_socket_is_replaced),
	        TEST(other_files_are_not_replaced),
	        TEST(a_successors_socket_stays),
	        TEST(impossible_places),
	};
#undef TEST
#undef IMPATIENT

	return cmocka_run_group_tests(tests, NULL, NULL);
}
