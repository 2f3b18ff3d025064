/* SPDX-License-Identifier: GPL-2.0-only */
/* The mock kernel tells the truth: a fault of the mock would hide a fault of the relay. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <linux/tls.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "mock_kernel_io.h"
#include "tls/record.h"

#define FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

struct setting {
	struct loop *loop;
	struct relay_worker worker;
	struct mock_kernel kernel;
	uint8_t buffer[64];
};

static int set_up(void **state)
{
	struct setting *s = calloc(1, sizeof(*s));

	if (!s || loop_new(&s->loop))
		return -1;
	mock_kernel_init(&s->kernel, s->loop, &s->worker);
	*state = s;
	return relay_worker_init(&s->worker, s->loop, &mock_kernel_io);
}

static int tear_down(void **state)
{
	struct setting *s = *state;

	relay_worker_destroy(&s->worker);
	mock_kernel_destroy(&s->kernel);
	loop_free(s->loop);
	free(s);
	return 0;
}

/* recvmsg() with room for a record type; -1 in type when none came. */
static ssize_t receive_record(struct setting *s, size_t size, int *type)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(1)];
	} control;
	struct iovec vector = {s->buffer, size};
	struct msghdr message = {
	        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t got = mock_kernel_io.recvmsg(s->kernel.b.fd, &message, MSG_DONTWAIT);

	*type = got >= 0 && CMSG_FIRSTHDR(&message) ? *CMSG_DATA(CMSG_FIRSTHDR(&message)) : -1;
	return got;
}

static ssize_t send_alert(struct setting *s)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(1)];
	} control = {0};
	uint8_t alert[2] = {1, 0};
	struct iovec vector = {alert, 2};
	struct msghdr message = {
	        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = 282;
	header->cmsg_type = TLS_SET_RECORD_TYPE;
	header->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(header) = 21;
	return mock_kernel_io.sendmsg(s->kernel.b.fd, &message, FLAGS);
}

struct spinner {
	struct loop_source source;
	unsigned int events;
	uint32_t last;
};

static void count_event(struct loop_source *source, uint32_t events)
{
	struct spinner *spinner = container_of(source, struct spinner, source);

	spinner->events++;
	spinner->last = events;
}

static void stream_is_read_across_pieces(void **state)
{
	struct setting *s = *state;
	int fd = s->kernel.a.fd;

	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 4, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	mock_feed(&s->kernel.a, "abc", 3);
	mock_feed(&s->kernel.a, "def", 3);
	mock_feed_fin(&s->kernel.a);
	assert_int_equal(mock_unread(&s->kernel.a), 6);
	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 4, MSG_DONTWAIT), 4);
	assert_memory_equal(s->buffer, "abcd", 4);
	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 4, MSG_DONTWAIT), 2);
	assert_memory_equal(s->buffer, "ef", 2);
	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 4, MSG_DONTWAIT), 0);
	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 4, MSG_DONTWAIT), 0); /* the end stays the end */
}

static void records_keep_their_types(void **state)
{
	struct setting *s = *state;
	int type;

	s->kernel.b.kernel_tls = true;
	mock_feed(&s->kernel.b, "abc", 3);
	mock_feed(&s->kernel.b, "de", 2);
	mock_feed_record(&s->kernel.b, 22, "ticket", 6);
	mock_feed_record(&s->kernel.b, 22, "another", 7);
	mock_feed(&s->kernel.b, "fghi", 4);
	mock_feed_error(&s->kernel.b, EBADMSG);
	assert_int_equal(receive_record(s, 64, &type), 5); /* data is joined */
	assert_int_equal(type, 23);
	assert_memory_equal(s->buffer, "abcde", 5);
	assert_int_equal(receive_record(s, 64, &type), 6); /* control records are not */
	assert_int_equal(type, 22);
	assert_int_equal(receive_record(s, 64, &type), 7);
	assert_int_equal(receive_record(s, 3, &type), 3);
	assert_int_equal(receive_record(s, 3, &type), 1);
	assert_int_equal(type, 23);
	assert_int_equal(receive_record(s, 64, &type), -1);
	assert_int_equal(errno, EBADMSG);
	assert_string_equal(s->kernel.misuse, "");
}

static void end_has_no_type_and_an_empty_record_has_one(void **state)
{
	struct setting *s = *state;
	int type;

	s->kernel.b.kernel_tls = true;
	mock_feed(&s->kernel.b, "", 0);
	mock_feed_fin(&s->kernel.b);
	assert_int_equal(receive_record(s, 64, &type), 0);
	assert_int_equal(type, 23);
	assert_int_equal(receive_record(s, 64, &type), 0);
	assert_int_equal(type, -1);
}

static void key_update_behind_data_is_hidden(void **state)
{
	struct setting *s = *state;
	struct spinner spinner = {.source.on_event = count_event};
	int type;

	s->kernel.b.kernel_tls = true;
	s->kernel.b.hides_key_update = true;
	s->kernel.b.source = &spinner.source;
	assert_int_equal(loop_add(s->loop, &spinner.source, s->kernel.b.fd, EPOLLIN), 0);
	mock_feed(&s->kernel.b, "abc", 3);
	mock_feed_record(&s->kernel.b, 22, "\30\0\0\1\0", 5);
	assert_int_equal(receive_record(s, 64, &type), 3);
	assert_true(mock_run(&s->kernel));                 /* no event */
	assert_int_equal(receive_record(s, 64, &type), 5); /* but it is there */
	assert_int_equal(type, 22);
	loop_remove(s->loop, &spinner.source);
}

static void splice_goes_through_the_pipe(void **state)
{
	struct setting *s = *state;
	int *ends = s->worker.pipe;

	mock_feed(&s->kernel.a, "abcdef", 6);
	s->kernel.b.room = 4;
	assert_int_equal(mock_kernel_io.splice(s->kernel.a.fd, ends[1], 64, 2), 6);
	assert_int_equal(mock_kernel_io.splice(ends[0], s->kernel.b.fd, 6, 2), 4);
	assert_int_equal(mock_kernel_io.splice(ends[0], s->kernel.b.fd, 2, 2), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(mock_kernel_io.read(ends[0], s->buffer, 64), 2);
	assert_memory_equal(s->buffer, "ef", 2);
	assert_int_equal(mock_kernel_io.read(ends[0], s->buffer, 64), -1);
	assert_string_equal(s->kernel.misuse, "");
}

static void splice_takes_one_record_and_no_control_record(void **state)
{
	struct setting *s = *state;
	int *ends = s->worker.pipe;
	int type;

	s->kernel.b.kernel_tls = true;
	mock_feed(&s->kernel.b, "abc", 3);
	mock_feed(&s->kernel.b, "de", 2);
	mock_feed_record(&s->kernel.b, 21, "\1\0", 2);
	assert_int_equal(mock_kernel_io.splice(s->kernel.b.fd, ends[1], 64, 2), 3);
	assert_int_equal(mock_kernel_io.read(ends[0], s->buffer, 64), 3);
	assert_int_equal(mock_kernel_io.splice(s->kernel.b.fd, ends[1], 64, 2), 2);
	assert_int_equal(mock_kernel_io.read(ends[0], s->buffer, 64), 2);
	assert_int_equal(mock_kernel_io.splice(s->kernel.b.fd, ends[1], 64, 2), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(receive_record(s, 64, &type), 2); /* it is still there */
	assert_int_equal(type, 21);
}

static void refill_of_a_full_pipe_is_noticed(void **state)
{
	struct setting *s = *state;

	mock_feed(&s->kernel.a, "abc", 3);
	assert_int_equal(mock_kernel_io.splice(s->kernel.a.fd, s->worker.pipe[1], 2, 2), 2);
	assert_string_equal(s->kernel.misuse, "");
	(void)mock_kernel_io.splice(s->kernel.a.fd, s->worker.pipe[1], 2, 2);
	assert_string_not_equal(s->kernel.misuse, "");
}

static void writes_are_short_then_blocked(void **state)
{
	struct setting *s = *state;
	struct mock_socket *a = &s->kernel.a;

	a->room = 5;
	a->call_limit = 3;
	assert_int_equal(mock_kernel_io.send(a->fd, "abcdefgh", 8, FLAGS), 3);
	assert_int_equal(mock_kernel_io.send(a->fd, "defgh", 5, FLAGS), 2);
	assert_int_equal(mock_kernel_io.send(a->fd, "fgh", 3, FLAGS), -1);
	assert_int_equal(errno, EAGAIN);
	a->write_error = ENOMEM;
	a->room = 8;
	assert_int_equal(mock_kernel_io.send(a->fd, "fgh", 3, FLAGS), -1);
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(mock_kernel_io.send(a->fd, "fgh", 3, FLAGS), 3);
	assert_int_equal(a->out_size, 8);
	assert_memory_equal(a->out, "abcdefgh", 8);
}

static void ktls_holds_a_tail_back(void **state)
{
	struct setting *s = *state;
	struct mock_socket *b = &s->kernel.b;

	b->kernel_transmit = true;
	b->room = 2;
	assert_int_equal(mock_kernel_io.send(b->fd, "abcdef", 6, FLAGS), 6); /* the whole record */
	assert_int_equal(b->withheld, 4);
	assert_int_equal(send_alert(s), -1);
	assert_int_equal(errno, EAGAIN);
	b->room = 5;
	assert_int_equal(send_alert(s), 2);
	assert_int_equal(b->withheld, 1);
	assert_int_equal(b->control_count, 1);
	assert_int_equal(b->controls[0].at, 6);
	assert_int_equal(mock_kernel_io.shutdown(b->fd, SHUT_WR), 0);
	assert_int_equal(b->lost, 1);
}

static void raised_send_buffer_gives_room(void **state)
{
	struct setting *s = *state;
	struct mock_socket *b = &s->kernel.b;
	int size = 0;
	socklen_t length = sizeof(size);

	b->room = 0;
	assert_int_equal(mock_kernel_io.getsockopt(b->fd, SOL_SOCKET, SO_SNDBUF, &size, &length), 0);
	assert_int_equal(size, b->send_buffer);
	size = (size + 100) / 2; /* the kernel doubles */
	assert_int_equal(mock_kernel_io.setsockopt(b->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), 0);
	assert_int_equal(b->room, 100);
	b->send_buffer_error = EPERM;
	assert_int_equal(mock_kernel_io.setsockopt(b->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), -1);
	assert_int_equal(errno, EPERM);
}

static void reset_is_reported_once_and_stays(void **state)
{
	struct setting *s = *state;
	int fd = s->kernel.a.fd;

	mock_feed(&s->kernel.a, "abc", 3);
	mock_reset(&s->kernel.a, ECONNRESET);
	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 64, MSG_DONTWAIT), 3); /* what came before can be read */
	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 64, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(mock_kernel_io.recv(fd, s->buffer, 64, MSG_DONTWAIT), 0);
	assert_int_equal(mock_kernel_io.send(fd, "a", 1, FLAGS), -1);
	assert_int_equal(errno, EPIPE);
}

static void misuse_is_named(void **state)
{
	struct setting *s = *state;

	s->kernel.b.kernel_tls = true;
	(void)mock_kernel_io.recv(s->kernel.b.fd, s->buffer, 64, MSG_DONTWAIT);
	assert_non_null(strstr(s->kernel.misuse, "kTLS"));
	assert_int_equal(mock_kernel_io.close(s->kernel.b.fd), 0);
	memset(s->kernel.misuse, 0, sizeof(s->kernel.misuse));
	assert_int_equal(mock_kernel_io.close(s->kernel.b.fd), -1);
	assert_non_null(strstr(s->kernel.misuse, "closed"));
}

static void run_delivers_what_was_asked_for_and_sees_spinning(void **state)
{
	struct setting *s = *state;
	struct spinner spinner = {.source.on_event = count_event};

	assert_int_equal(loop_add(s->loop, &spinner.source, s->kernel.a.fd, EPOLLIN), 0);
	s->kernel.a.source = &spinner.source;
	assert_true(mock_run(&s->kernel)); /* writable, but nobody asked */
	assert_int_equal(spinner.events, 0);
	mock_feed(&s->kernel.a, "abc", 3);
	assert_false(mock_run(&s->kernel)); /* nobody reads */
	assert_true(spinner.events > 1000);
	assert_int_equal(spinner.last, EPOLLIN);
	assert_int_equal(loop_set_events(s->loop, &spinner.source, 0), 0);
	spinner.events = 0;
	assert_true(mock_run(&s->kernel));
	s->kernel.a.shut_for_writing = true;
	mock_feed_fin(&s->kernel.a);
	assert_false(mock_run(&s->kernel)); /* EPOLLHUP comes unasked */
	assert_int_equal(spinner.last, EPOLLHUP);
	loop_remove(s->loop, &spinner.source);
	assert_true(mock_run(&s->kernel));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	        TEST(stream_is_read_across_pieces),
	        TEST(records_keep_their_types),
	        TEST(end_has_no_type_and_an_empty_record_has_one),
	        TEST(key_update_behind_data_is_hidden),
	        TEST(splice_goes_through_the_pipe),
	        TEST(splice_takes_one_record_and_no_control_record),
	        TEST(refill_of_a_full_pipe_is_noticed),
	        TEST(writes_are_short_then_blocked),
	        TEST(ktls_holds_a_tail_back),
	        TEST(raised_send_buffer_gives_room),
	        TEST(reset_is_reported_once_and_stays),
	        TEST(misuse_is_named),
	        TEST(run_delivers_what_was_asked_for_and_sees_spinning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
