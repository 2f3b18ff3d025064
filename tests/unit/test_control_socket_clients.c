/* SPDX-License-Identifier: GPL-2.0-only */
/* The status socket with slow, silent, vanishing and many clients, all in one thread. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "control_socket_world.h"
#include "descriptors.h"

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

static void no_descriptor_is_left(void **state)
{
	struct fixture *fixture = *state;
	size_t before = count_descriptors();

	for (int i = 0; i < 50; i++)
		assert_served(fixture);
	assert_int_equal(count_descriptors(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CONTROL_TEST(large_answer_is_whole),
	        CONTROL_TEST(slow_reader_keeps_nobody_waiting),
	        CONTROL_IMPATIENT(slow_reader_is_cut_off),
	        CONTROL_IMPATIENT(silent_client_is_cut_off),
	        CONTROL_IMPATIENT(dripping_client_is_cut_off),
	        CONTROL_IMPATIENT(a_stall_of_the_agent_is_not_the_clients),
	        CONTROL_TEST(vanishing_clients),
	        CONTROL_TEST(more_clients_than_slots),
	        CONTROL_IMPATIENT(idle_clients_make_room),
	        CONTROL_TEST(out_of_descriptors),
	        CONTROL_TEST(no_descriptor_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
