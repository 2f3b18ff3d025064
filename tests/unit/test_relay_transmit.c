/* SPDX-License-Identifier: GPL-2.0-only */
/* G->A->B on the mock kernel: order of bytes, short writes, back-pressure, splice, lane credit, key limit. */
#include "relay_fixture.h"

#include <errno.h>

static const struct {
	const char *name;
	enum relay_mode mode;
} every_mode[] = {
        {"plain", RELAY_PLAIN},
        {"user_tls", RELAY_USER_TLS},
        {"ktls_copy", RELAY_KTLS_COPY},
        {"ktls_splice", RELAY_KTLS_SPLICE},
};

static void assert_arrived(const struct fixture *f, const char *name, const uint8_t *expected, size_t size)
{
	const struct mock_socket *b = &f->kernel.b;

	if (b->out_size != size || (size && memcmp(b->out, expected, size) != 0))
		fail_msg("%s: expected %zu bytes, seen %zu, or others", name, size, b->out_size);
}

static void small_messages_go_through_in_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(every_mode); i++) {
		struct fixture *f = fixture_new(every_mode[i].mode, TLS_VERSION_1_3);

		fixture_start(f);
		mock_feed(&f->kernel.a, "GET ", 4);
		fixture_run(f);
		assert_arrived(f, every_mode[i].name, (const uint8_t *)"GET ", 4);
		mock_feed(&f->kernel.a, "/ ", 2);
		mock_feed(&f->kernel.a, "HTTP/1.1", 8);
		fixture_run(f);
		assert_arrived(f, every_mode[i].name, (const uint8_t *)"GET / HTTP/1.1", 14);
		assert_alive(f);
		fixture_free(f);
	}
}

/* Every mode x how much a write takes x how much room there is at a time. */
static void short_writes_lose_nothing(void **state)
{
	static const size_t limits[] = {0, 1000, 16384, 70001};
	static const size_t rooms[] = {1, 4097, 100003, 300000};
	const size_t size = 700001;
	uint8_t *sent = pattern(size);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(every_mode); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(limits) * ARRAY_SIZE(rooms); j++) {
			struct fixture *f = fixture_new(every_mode[i].mode, TLS_VERSION_1_3);
			size_t step = rooms[j / ARRAY_SIZE(limits)];
			size_t given = 0;

			fixture_start(f);
			f->kernel.b.call_limit = limits[j % ARRAY_SIZE(limits)];
			mock_feed(&f->kernel.a, sent, 100000);
			mock_feed(&f->kernel.a, sent + 100000, size - 100000);
			/* Byte by byte only at first: the rest of the way is the same. */
			for (int round = 0; given < size + 65536; round++) {
				f->kernel.b.room = round < 3 ? step : step < 4097 ? 50021 : step;
				given += f->kernel.b.room;
				fixture_run(f);
				assert_alive(f);
			}
			f->kernel.b.room = SIZE_MAX;
			fixture_run(f);
			assert_arrived(f, every_mode[i].name, sent, size);
			assert_int_equal(f->relay->to_backend.bytes, size);
			assert_null(f->relay->to_backend.rest.bytes);
			assert_false(f->session.changed_bytes);
			fixture_free(f);
		}
	}
	free(sent);
}

static void blocked_backend_holds_the_gateway_back(void **state)
{
	const size_t size = 1000000;
	uint8_t *sent = pattern(size);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(every_mode); i++) {
		struct fixture *f = fixture_new(every_mode[i].mode, TLS_VERSION_1_3);

		fixture_start(f);
		f->kernel.b.room = 10;
		f->kernel.b.call_limit = 16384;
		mock_feed(&f->kernel.a, sent, size);
		fixture_run(f);
		/* One read is held, the rest stays in A's queue and fills the gateway's window. */
		if (mock_unread(&f->kernel.a) < size - RELAY_BUFFER_SIZE)
			fail_msg("%s: %zu bytes were taken from the gateway", every_mode[i].name,
			         size - mock_unread(&f->kernel.a));
		assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
		assert_int_equal(f->relay->a.events, 0);
		assert_int_equal(f->relay->b.events, EPOLLIN | EPOLLOUT);
		f->kernel.b.room = SIZE_MAX;
		fixture_run(f);
		assert_arrived(f, every_mode[i].name, sent, size);
		assert_int_equal(f->relay->transmit, TRANSMIT_FLOWING);
		assert_int_equal(f->relay->b.events, EPOLLIN);
		assert_int_equal(f->relay->a.events, EPOLLIN);
		fixture_free(f);
	}
	free(sent);
}

/* The other direction moves on while this one is blocked. */
static void directions_do_not_wait_for_each_other(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)state;
	fixture_start(f);
	f->kernel.b.room = 0;
	mock_feed(&f->kernel.a, "upload", 6);
	mock_feed(&f->kernel.b, "download", 8);
	fixture_run(f);
	assert_out(&f->kernel.a, "download", 8);
	assert_out(&f->kernel.b, "", 0);
	f->kernel.b.room = SIZE_MAX;
	fixture_run(f);
	assert_out(&f->kernel.b, "upload", 6);
	fixture_free(f);
}

/* Only what has been quiet, with the backend's word last and nothing in hand, may be thought to be between requests. */
static void idle_is_between_requests(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	uint64_t before = monotonic_ns();

	(void)state;
	fixture_start(f);
	assert_false(relay_is_idle(f->relay, before));
	assert_true(relay_is_idle(f->relay, monotonic_ns()));
	mock_feed(&f->kernel.a, "request", 7);
	fixture_run(f);
	assert_false(relay_is_idle(f->relay, monotonic_ns()));
	mock_feed(&f->kernel.b, "response", 8);
	before = monotonic_ns();
	fixture_run(f);
	assert_false(relay_is_idle(f->relay, before));
	assert_true(relay_is_idle(f->relay, monotonic_ns()));
	f->kernel.a.room = 2;
	mock_feed(&f->kernel.b, "response", 8);
	fixture_run(f);
	assert_false(relay_is_idle(f->relay, monotonic_ns()));
	fixture_free(f);
}

static void splice_begins_with_a_stream_and_ends_with_small_messages(void **state)
{
	const size_t big = 100000;
	uint8_t *sent = pattern(big);
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);
	struct relay_stats stats;

	(void)state;
	fixture_start(f);
	mock_feed(&f->kernel.a, sent, 1000);
	fixture_run(f);
	assert_int_equal(f->kernel.a.splice_in_calls, 0);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM - 1);
	fixture_run(f);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	assert_int_equal(f->kernel.a.splice_in_calls, 0);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.to_backend, RELAY_KTLS_SPLICE);
	mock_feed(&f->kernel.a, sent, big);
	fixture_run(f);
	assert_int_equal(f->kernel.a.splice_in_calls, 1);
	assert_int_equal(f->kernel.a.recv_calls, 3);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_UNTIL - 1); /* the last that is spliced */
	fixture_run(f);
	assert_int_equal(f->kernel.a.splice_in_calls, 2);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.to_backend, RELAY_KTLS_COPY);
	mock_feed(&f->kernel.a, sent, 10);
	fixture_run(f);
	assert_int_equal(f->kernel.a.splice_in_calls, 2);
	assert_int_equal(f->kernel.a.recv_calls, 4);
	assert_int_equal(f->kernel.b.out_size, 1000 + 2 * RELAY_SPLICE_FROM - 1 + big + RELAY_SPLICE_UNTIL - 1 + 10);
	fixture_free(f);
	free(sent);
}

/* The rest of a blocked splice leaves the worker's pipe, so that another connection can use it meanwhile. */
static void blocked_splice_leaves_the_pipe_empty(void **state)
{
	const size_t size = 4 * RELAY_SPLICE_FROM;
	uint8_t *sent = pattern(size);
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

	(void)state;
	fixture_start(f);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	f->kernel.b.room = 20000;
	f->kernel.b.call_limit = 16384;
	mock_feed(&f->kernel.a, sent + RELAY_SPLICE_FROM, size - RELAY_SPLICE_FROM);
	fixture_run(f); /* checks that the pipe is empty */
	assert_true(f->kernel.b.splice_out_calls >= 2);
	assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
	assert_true(f->relay->to_backend.rest.size > 0);
	assert_int_equal(mock_unread(&f->kernel.a), 0);
	f->kernel.b.room = SIZE_MAX;
	fixture_run(f);
	assert_out(&f->kernel.b, sent, size);
	fixture_free(f);
	free(sent);
}

static void splice_that_fails_is_left_for_copying(void **state)
{
	const size_t size = 3 * RELAY_SPLICE_FROM;
	uint8_t *sent = pattern(size);

	(void)state;
	for (int out = 0; out < 2; out++) {
		struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

		fixture_start(f);
		if (out)
			f->kernel.b.splice_out_error = EINVAL;
		else
			f->kernel.a.splice_in_error = EINVAL;
		for (size_t at = 0; at < size; at += RELAY_SPLICE_FROM) {
			mock_feed(&f->kernel.a, sent + at, RELAY_SPLICE_FROM);
			fixture_run(f);
		}
		assert_out(&f->kernel.b, sent, size);
		assert_int_equal(f->kernel.a.splice_in_calls, 1);
		assert_false(f->relay->to_backend.may_splice);
		fixture_free(f);
	}
	free(sent);
}

/* Bytes of one connection must never come out of the pipe into another. */
static void pipe_that_cannot_be_emptied_is_replaced(void **state)
{
	uint8_t *sent = pattern(RELAY_SPLICE_FROM);
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);
	int old[2] = {f->worker.pipe[0], f->worker.pipe[1]};

	(void)state;
	fixture_start(f);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	f->kernel.b.room = 0;
	f->kernel.pipe_read_error = EIO;
	assert_int_equal(write(old[1], "left behind", 11), 11);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	assert_reset(f, REASON_RELAY_ERROR);
	/* A new pipe: nothing in it. */
	assert_int_equal(read(f->worker.pipe[0], sent, 11), -1);
	assert_int_equal(errno, EAGAIN);
	assert_true(f->worker.pipe_size > 0);
	fixture_free(f);
	free(sent);
}

static void reset_in_a_splice_leaves_the_pipe_empty(void **state)
{
	uint8_t *sent = pattern(RELAY_SPLICE_FROM);
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

	(void)state;
	fixture_start(f);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	f->kernel.b.splice_out_error = ECONNRESET;
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	assert_reset(f, REASON_BACKEND_RESET);
	fixture_free(f);
	free(sent);
}

static void lane_is_read_by_recv_and_gives_credit(void **state)
{
	struct postern_lane_slot slot = {.agent_read = 7};
	uint8_t *sent = pattern(3 * RELAY_SPLICE_FROM);
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);
	struct relay_stats stats;

	(void)state;
	f->options.lane_slot = &slot;
	fixture_start(f);
	for (size_t i = 0; i < 3; i++) {
		mock_feed(&f->kernel.a, sent + i * RELAY_SPLICE_FROM, RELAY_SPLICE_FROM);
		fixture_run(f);
		assert_int_equal(slot.agent_read, 7 + (i + 1) * RELAY_SPLICE_FROM);
	}
	assert_int_equal(f->kernel.a.splice_in_calls, 0);
	assert_out(&f->kernel.b, sent, 3 * RELAY_SPLICE_FROM);
	/* What waits in our memory is out of the lane: its credit is given back although B takes nothing. */
	f->kernel.b.room = 0;
	mock_feed(&f->kernel.a, sent, 100);
	fixture_run(f);
	assert_int_equal(slot.agent_read, 7 + 3 * RELAY_SPLICE_FROM + 100);
	/* But no more is read, so the window closes in the end. */
	mock_feed(&f->kernel.a, sent, 100);
	fixture_run(f);
	assert_int_equal(slot.agent_read, 7 + 3 * RELAY_SPLICE_FROM + 100);
	relay_stats(f->relay, &stats);
	assert_true(stats.lane);
	fixture_free(f);
	free(sent);
}

static void gateway_that_speaks_tls_is_reset(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		bool reset;
	} firsts[] = {
	        {"\x16\3\1\2\0\1\0\1\374", 9, true}, {"\x16\3\3\2\0\1", 6, true},
	        {"\x16\3\3\2\0\2", 6, false}, /* no ClientHello */
	        {"\x17\3\3\2\0\1", 6, false},        {"\x16\3\3\2\0", 5, false},
	        {"GET / HTTP/1.1", 14, false},       {"\x16", 1, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(firsts); i++) {
		struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

		fixture_start(f);
		mock_feed(&f->kernel.a, firsts[i].bytes, firsts[i].size);
		fixture_run(f);
		if (firsts[i].reset) {
			assert_reset(f, REASON_GATEWAY_ALREADY_TLS);
			assert_out(&f->kernel.b, "", 0); /* not one byte of it */
		} else {
			assert_out(&f->kernel.b, firsts[i].bytes, firsts[i].size);
			/* Only the first bytes count. */
			mock_feed(&f->kernel.a, firsts[0].bytes, firsts[0].size);
			fixture_run(f);
			assert_alive(f);
		}
		fixture_free(f);
	}
	/* Relayed in the clear, the gateway's own TLS is none of our business. */
	struct fixture *plain = fixture_new(RELAY_PLAIN, TLS_VERSION_1_3);

	fixture_start(plain);
	mock_feed(&plain->kernel.a, firsts[0].bytes, firsts[0].size);
	fixture_run(plain);
	assert_out(&plain->kernel.b, firsts[0].bytes, firsts[0].size);
	fixture_free(plain);
}

static void failed_write_ends_both(void **state)
{
	static const struct {
		int error;
		enum postern_reason reason;
	} errors[] = {
	        {ENOMEM, REASON_NO_MEMORY},         {ENOBUFS, REASON_NO_MEMORY},
	        {EPIPE, REASON_BACKEND_RESET},      {ECONNRESET, REASON_BACKEND_RESET},
	        {ETIMEDOUT, REASON_BACKEND_SILENT}, {EHOSTUNREACH, REASON_BACKEND_UNREACHABLE},
	        {EBADMSG, REASON_DECRYPT_ERROR}, /* sk_err of the receive side meets the writer */
	        {EIO, REASON_KERNEL_TLS_FAILED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		/* At once, and while a rest is being flushed. */
		for (int blocked = 0; blocked < 2; blocked++) {
			struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

			fixture_start(f);
			if (blocked) {
				f->kernel.b.room = 0;
				mock_feed(&f->kernel.a, "abc", 3);
				fixture_run(f);
				f->kernel.b.room = SIZE_MAX;
			} else {
				mock_feed(&f->kernel.a, "abc", 3);
			}
			f->kernel.b.write_error = errors[i].error;
			fixture_run(f);
			assert_reset(f, errors[i].reason);
			fixture_free(f);
		}
	}
}

static void failed_session_write_gives_its_reason(void **state)
{
	struct fixture *f = fixture_new(RELAY_USER_TLS, TLS_VERSION_1_3);

	(void)state;
	fixture_start(f);
	f->session.write_error = -ECONNRESET;
	f->session.reason = REASON_BACKEND_RESET;
	f->session.detail = "what the session says";
	mock_feed(&f->kernel.a, "abc", 3);
	fixture_run(f);
	assert_reset(f, REASON_BACKEND_RESET);
	assert_string_equal(f->detail, "what the session says");
	fixture_free(f);
}

static void failed_read_ends_both(void **state)
{
	static const struct {
		int error;
		enum postern_reason reason;
	} errors[] = {
	        {ECONNRESET, REASON_GATEWAY_RESET}, {EPIPE, REASON_GATEWAY_RESET}, {ECONNABORTED, REASON_GATEWAY_RESET},
	        {ETIMEDOUT, REASON_RELAY_ERROR},    {ENOMEM, REASON_NO_MEMORY},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		for (int splicing = 0; splicing < 2; splicing++) {
			struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

			fixture_start(f);
			f->relay->to_backend.splicing = splicing != 0;
			mock_feed(&f->kernel.a, "abc", 3);
			mock_feed_error(&f->kernel.a, errors[i].error);
			fixture_run(f);
			assert_reset(f, errors[i].reason);
			assert_out(&f->kernel.b, "abc", 3);
			fixture_free(f);
		}
	}
}

static void key_limit_resets(void **state)
{
	const size_t record = 16384;
	uint8_t *sent = pattern(record);

	(void)state;
	for (int chacha = 0; chacha < 2; chacha++) {
		for (size_t i = 1; i < ARRAY_SIZE(every_mode); i++) {
			struct fixture *f = fixture_new(every_mode[i].mode, TLS_VERSION_1_3);

			f->session.info.cipher = chacha ? TLS_CIPHER_CHACHA20 : TLS_CIPHER_AES_256;
			f->worker.aead_limit_blocks = 3 * (1024 + 2); /* three full records, RFC 8446 5.5 */
			fixture_start(f);
			for (int n = 0; n < 3; n++) {
				mock_feed(&f->kernel.a, sent, record);
				fixture_run(f);
			}
			assert_alive(f);
			mock_feed(&f->kernel.a, sent, 1);
			fixture_run(f);
			if (chacha) {
				assert_alive(f);
			} else {
				assert_reset(f, REASON_KEY_LIMIT);
				assert_int_equal(f->kernel.b.out_size, 3 * record); /* not a byte beyond */
			}
			fixture_free(f);
		}
	}
	free(sent);
}

static void key_limit_empties_the_pipe(void **state)
{
	uint8_t *sent = pattern(RELAY_SPLICE_FROM);
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

	(void)state;
	f->worker.aead_limit_blocks = 6000;
	fixture_start(f);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	mock_feed(&f->kernel.a, sent, RELAY_SPLICE_FROM);
	fixture_run(f);
	assert_reset(f, REASON_KEY_LIMIT);
	assert_int_equal(f->kernel.a.splice_in_calls, 1);
	fixture_free(f);
	free(sent);
}

static void key_limit_is_exact(void **state)
{
	uint8_t *sent = pattern(16384);

	(void)state;
	for (int short_by = 0; short_by < 2; short_by++) {
		struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

		f->worker.aead_limit_blocks = 2 * (1024 + 2) - (uint64_t)short_by;
		fixture_start(f);
		mock_feed(&f->kernel.a, sent, 16384);
		fixture_run(f);
		mock_feed(&f->kernel.a, sent, 16384);
		fixture_run(f);
		if (short_by)
			assert_reset(f, REASON_KEY_LIMIT);
		else
			assert_alive(f);
		fixture_free(f);
	}
	free(sent);
}

/* A short write says that the sink is full: to ask again would only bring EAGAIN. */
static void short_write_is_not_tried_again_at_once(void **state)
{
	struct fixture *f = fixture_new(RELAY_PLAIN, TLS_VERSION_1_3);

	(void)state;
	fixture_start(f);
	f->kernel.b.room = 4;
	mock_feed(&f->kernel.a, "12345678", 8);
	fixture_run(f);
	assert_int_equal(f->kernel.b.send_calls, 1);
	f->kernel.b.room = 2;
	fixture_run(f);
	assert_int_equal(f->kernel.b.send_calls, 2);
	fixture_free(f);
}

/* The limit itself: 2^24.5 records of 2^10 blocks. */
static void real_limit_is_that_of_the_rfc(void **state)
{
	const double limit = (double)RELAY_AEAD_LIMIT_BLOCKS;

	(void)state;
	assert_true(limit * limit > 0.999999 * 590295810358705651712.0); /* 2^69 */
	assert_true(limit * limit <= 590295810358705651712.0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(small_messages_go_through_in_order),
	        cmocka_unit_test(short_writes_lose_nothing),
	        cmocka_unit_test(blocked_backend_holds_the_gateway_back),
	        cmocka_unit_test(directions_do_not_wait_for_each_other),
	        cmocka_unit_test(splice_begins_with_a_stream_and_ends_with_small_messages),
	        cmocka_unit_test(blocked_splice_leaves_the_pipe_empty),
	        cmocka_unit_test(splice_that_fails_is_left_for_copying),
	        cmocka_unit_test(pipe_that_cannot_be_emptied_is_replaced),
	        cmocka_unit_test(reset_in_a_splice_leaves_the_pipe_empty),
	        cmocka_unit_test(lane_is_read_by_recv_and_gives_credit),
	        cmocka_unit_test(gateway_that_speaks_tls_is_reset),
	        cmocka_unit_test(failed_write_ends_both),
	        cmocka_unit_test(failed_session_write_gives_its_reason),
	        cmocka_unit_test(failed_read_ends_both),
	        cmocka_unit_test(key_limit_resets),
	        cmocka_unit_test(key_limit_empties_the_pipe),
	        cmocka_unit_test(key_limit_is_exact),
	        cmocka_unit_test(idle_is_between_requests),
	        cmocka_unit_test(short_write_is_not_tried_again_at_once),
	        cmocka_unit_test(real_limit_is_that_of_the_rfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
