/* SPDX-License-Identifier: GPL-2.0-only */
/* Frames between an agent and its successor: whole, byte by byte, larger than the socket, nonsense, and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "control/handover_channel.h"
#include "datapath/connection_state.h"
#include "descriptors.h"

struct fixture {
	int ours;
	int theirs;
	struct handover_reader reader;
	size_t descriptors; /* of the process, before the test's own */
};

static struct fixture *fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	assert_non_null(f);
	f->descriptors = count_descriptors();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	f->ours = pair[0];
	f->theirs = pair[1];
	handover_reader_init(&f->reader);
	return f;
}

static void fixture_free(struct fixture *f)
{
	close(f->ours);
	if (f->theirs >= 0)
		close(f->theirs);
	handover_reader_release(&f->reader);
	assert_int_equal(count_descriptors(), f->descriptors); /* none leaks, whatever came */
	free(f);
}

static bool same_file(int left, int right)
{
	char buffer = 'x';

	/* A byte that is written to one end of a pipe comes out of the other, whoever's descriptor it is. */
	return write(right, &buffer, 1) == 1 && read(left, &buffer, 1) == 1;
}

static void test_a_connection(void **unused)
{
	struct fixture *f = fixture_new();
	struct handover_frame frame;
	int pipe_ends[2];

	(void)unused;
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	assert_int_equal(handover_read(&f->reader, f->theirs, &frame), 0);
	assert_int_equal(handover_send(f->ours, HANDOVER_FREEZE, NULL, 0, NULL), 0);
	assert_int_equal(handover_send(f->ours, HANDOVER_CONNECTION, "state", 5, pipe_ends), 0);
	assert_int_equal(handover_read(&f->reader, f->theirs, &frame), 1);
	assert_int_equal(frame.type, HANDOVER_FREEZE);
	assert_int_equal(frame.fds[0], -1);
	assert_int_equal(handover_read(&f->reader, f->theirs, &frame), 1);
	assert_int_equal(frame.type, HANDOVER_CONNECTION);
	assert_int_equal(frame.size, 5);
	assert_memory_equal(frame.bytes, "state", 5);
	assert_true(frame.fds[0] != pipe_ends[0] && same_file(frame.fds[0], pipe_ends[1]));
	assert_true(fcntl(frame.fds[0], F_GETFD) & FD_CLOEXEC);
	handover_frame_release(&frame);
	assert_int_equal(handover_read(&f->reader, f->theirs, &frame), 0);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	fixture_free(f);
}

static void test_byte_by_byte(void **unused)
{
	struct fixture *f = fixture_new();
	struct handover_frame frame;
	uint8_t bytes[64];
	ssize_t size;

	(void)unused;
	assert_int_equal(handover_send(f->ours, HANDOVER_HELLO, "{\"a\":1}", 7, NULL), 0);
	size = recv(f->theirs, bytes, sizeof(bytes), 0);
	assert_int_equal(size, 16 + 7);
	for (ssize_t i = 0; i < size; i++) {
		assert_int_equal(handover_read(&f->reader, f->theirs, &frame), 0);
		assert_int_equal(send(f->ours, bytes + i, 1, 0), 1);
	}
	assert_int_equal(handover_read(&f->reader, f->theirs, &frame), 1);
	assert_memory_equal(frame.bytes, "{\"a\":1}", 7);
	handover_frame_release(&frame);
	fixture_free(f);
}

static void *send_large(void *argument)
{
	struct fixture *f = argument;
	uint8_t *bytes = calloc(1, 1 << 20);

	bytes[(1 << 20) - 1] = 7;
	assert_int_equal(handover_send(f->ours, HANDOVER_WELCOME, bytes, 1 << 20, NULL), 0);
	free(bytes);
	return NULL;
}

static void test_larger_than_the_socket(void **unused)
{
	struct fixture *f = fixture_new();
	struct handover_frame frame;
	pthread_t sender;

	(void)unused;
	assert_int_equal(pthread_create(&sender, NULL, send_large, f), 0);
	assert_int_equal(handover_expect(&f->reader, f->theirs, HANDOVER_WELCOME, 10000, &frame), 0);
	assert_int_equal(frame.size, 1 << 20);
	assert_int_equal(frame.bytes[(1 << 20) - 1], 7);
	handover_frame_release(&frame);
	pthread_join(sender, NULL);
	fixture_free(f);
}

struct raw_header {
	uint32_t magic;
	uint16_t type;
	uint16_t descriptors;
	uint64_t size;
};

static void send_raw(int socket, const struct raw_header *header, const int *fds, size_t count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(3 * sizeof(int))];
	} rights = {0};
	struct iovec part = {(void *)header, sizeof(*header)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (count) {
		message.msg_control = &rights;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, count * sizeof(int));
	}
	assert_int_equal(sendmsg(socket, &message, 0), sizeof(*header));
}

static void test_nonsense(void **unused)
{
	static const struct {
		const char *name;
		struct raw_header header;
		size_t descriptors;
	} cases[] = {
	        {"another magic", {0x12345678, HANDOVER_FREEZE, 0, 0}, 0},
	        {"type 0", {0x726f7664, 0, 0, 0}, 0},
	        {"a type that there is not", {0x726f7664, HANDOVER_CONNECTION + 1, 0, 0}, 0},
	        {"a body beyond all measure", {0x726f7664, HANDOVER_HELLO, 0, CONNECTION_STATE_MAX + 1}, 0},
	        {"a connection without descriptors", {0x726f7664, HANDOVER_CONNECTION, 2, 0}, 0},
	        {"a connection that says it has none", {0x726f7664, HANDOVER_CONNECTION, 0, 0}, 2},
	        {"descriptors with a frame that has none", {0x726f7664, HANDOVER_HELLO, 0, 0}, 2},
	        {"one descriptor", {0x726f7664, HANDOVER_CONNECTION, 2, 0}, 1},
	        {"three descriptors", {0x726f7664, HANDOVER_CONNECTION, 2, 0}, 3},
	};
	const int fds[3] = {0, 1, 2};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f = fixture_new();
		struct handover_frame frame;
		int result;

		send_raw(f->ours, &cases[i].header, fds, cases[i].descriptors);
		result = handover_read(&f->reader, f->theirs, &frame);
		if (result != -EBADMSG)
			fail_msg("%s: expected -EBADMSG, seen %d", cases[i].name, result);
		fixture_free(f);
	}
}

static void test_ends(void **unused)
{
	struct fixture *f = fixture_new();
	struct handover_frame frame;
	int fds[2];

	(void)unused;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	/* An answer that is another one. */
	assert_int_equal(handover_send(f->ours, HANDOVER_FROZEN, NULL, 0, NULL), 0);
	assert_int_equal(handover_expect(&f->reader, f->theirs, HANDOVER_COMMITTED, 1000, &frame), -EBADMSG);
	assert_int_equal(handover_expect(&f->reader, f->theirs, HANDOVER_COMMITTED, 10, &frame), -ETIMEDOUT);
	/* Nobody is there any more: what was not sent stays the sender's. */
	close(f->theirs);
	f->theirs = -1;
	assert_int_equal(handover_send(f->ours, HANDOVER_CONNECTION, "state", 5, fds), -EAGAIN);
	assert_int_equal(handover_read(&f->reader, f->ours, &frame), -ECONNRESET);
	assert_int_equal(close(fds[0]) | close(fds[1]), 0);
	fixture_free(f);
}

static void test_our_own_user_is_trusted(void **unused)
{
	struct fixture *f = fixture_new();

	(void)unused;
	assert_true(handover_peer_is_trusted(f->ours));
	assert_false(handover_peer_is_trusted(STDIN_FILENO)); /* no UNIX socket: nobody can be asked about */
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_a_connection),
	        cmocka_unit_test(test_byte_by_byte),
	        cmocka_unit_test(test_larger_than_the_socket),
	        cmocka_unit_test(test_nonsense),
	        cmocka_unit_test(test_ends),
	        cmocka_unit_test(test_our_own_user_is_trusted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
