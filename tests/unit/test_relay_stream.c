/* SPDX-License-Identifier: GPL-2.0-only */
/* SO_RCVLOWAT on B, on the mock kernel: a stream is read in large pieces, nothing waits for ever, small messages pay
 * nothing. */
#include "relay_fixture.h"

#include <errno.h>

#define RECORD    16384
#define LOW_WATER (128 << 10)

static const enum relay_mode modes[] = {RELAY_PLAIN, RELAY_KTLS_COPY};

static struct fixture *running(enum relay_mode mode)
{
	struct fixture *f = fixture_new(mode, TLS_VERSION_1_3);

	fixture_start(f);
	return f;
}

static unsigned int reads(const struct fixture *f)
{
	return f->kernel.b.recvmsg_calls + f->kernel.b.recv_calls;
}

/* The relay has read size bytes of sent, record by record as 6.1 announces them, and reads a stream now. */
static void stream(struct fixture *f, const uint8_t *sent, size_t size)
{
	for (size_t at = 0; at < size; at += RECORD) {
		mock_feed(&f->kernel.b, sent + at, RECORD);
		fixture_run(f);
	}
	assert_alive(f);
	assert_out(&f->kernel.a, sent, size);
	assert_int_equal(f->kernel.b.receive_low_water, LOW_WATER);
	assert_int_not_equal(f->relay->tail_timer.due_ns, 0);
}

static void wake_ups_of_a_stream_move_many_records(void **state)
{
	const size_t size = 256 * RECORD;
	uint8_t *sent = pattern(size);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct fixture *f = running(modes[i]);
		unsigned int before, most = 0;

		stream(f, sent, 16 * RECORD);
		before = reads(f);
		for (size_t at = 16 * RECORD; at < size; at += RECORD) {
			unsigned int records = 0;

			mock_feed(&f->kernel.b, sent + at, RECORD);
			records = (unsigned int)f->kernel.b.count;
			most = records > most ? records : most;
			/* One round: the tail timer is not due. */
			if (f->kernel.b.count >= LOW_WATER / RECORD)
				assert_int_equal(loop_step(f->loop, 0), 0);
		}
		fixture_run(f);
		assert_out(&f->kernel.a, sent, size);
		/* The timer may have come in between on a slow machine: twice as many at most. */
		if (reads(f) - before > 2 * (240 / 8) || most < 8)
			fail_msg("%u reads of 240 records, %u at most together", reads(f) - before, most);
		fixture_free(f);
	}
	free(sent);
}

static void the_tail_is_read_by_the_timer(void **state)
{
	static const size_t tails[] = {1, 1000, RECORD, LOW_WATER - 1};
	const size_t size = 16 * RECORD;
	uint8_t *sent = pattern(size + LOW_WATER);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes) * ARRAY_SIZE(tails); i++) {
		struct fixture *f = running(modes[i % ARRAY_SIZE(modes)]);
		size_t tail = tails[i / ARRAY_SIZE(modes)];
		uint64_t due;

		stream(f, sent, size);
		due = f->relay->tail_timer.due_ns;
		assert_true(due <= monotonic_ns() + MILLISECOND);
		mock_feed(&f->kernel.b, sent + size, tail);
		fixture_run(f);
		assert_out(&f->kernel.a, sent, size + tail);
		assert_true(monotonic_ns() >= due);
		/* Nothing follows: the next look finds nothing, and the connection idles without a timer. */
		fixture_wait(f, 2);
		assert_int_equal(f->kernel.b.receive_low_water, 1);
		assert_int_equal(f->relay->tail_timer.due_ns, 0);
		mock_feed(&f->kernel.b, "x", 1);
		assert_int_equal(loop_step(f->loop, 0), 0);
		assert_int_equal(f->kernel.a.out_size, size + tail + 1);
		fixture_free(f);
	}
	free(sent);
}

static void messages_set_nothing(void **state)
{
	static const size_t sizes[] = {1, 1024, RECORD - 1, 100000};
	uint8_t *sent = pattern(100000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct fixture *f = running(RELAY_KTLS_COPY);

		for (int count = 0; count < 100; count++) {
			mock_feed(&f->kernel.b, sent, sizes[i]);
			fixture_run(f);
			/* An answer of two reads, and one of 100 KB: a stream begins after more than that. */
			mock_feed(&f->kernel.b, sent, 10);
			fixture_run(f);
		}
		assert_int_equal(f->kernel.low_water_calls, 0);
		assert_int_equal(f->kernel.a.out_size, 100 * (sizes[i] + 10));
		fixture_free(f);
	}
	free(sent);
}

static void a_blocked_stream_waits_without_a_timer(void **state)
{
	const size_t size = 16 * RECORD;
	uint8_t *sent = pattern(size + LOW_WATER + 1000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct fixture *f = running(modes[i]);
		unsigned int before;

		stream(f, sent, size);
		f->kernel.a.room = 100;
		mock_feed(&f->kernel.b, sent + size, LOW_WATER);
		fixture_run(f);
		assert_int_equal(f->relay->receive, RECEIVE_BLOCKED);
		assert_int_equal(f->relay->tail_timer.due_ns, 0);
		before = reads(f);
		mock_feed(&f->kernel.b, sent + size + LOW_WATER, 1000);
		fixture_wait(f, 3);
		assert_int_equal(reads(f), before);
		f->kernel.a.room = SIZE_MAX;
		fixture_run(f);
		assert_out(&f->kernel.a, sent, size + LOW_WATER + 1000);
		fixture_free(f);
	}
	free(sent);
}

static void the_end_of_a_stream_comes_through(void **state)
{
	const size_t size = 16 * RECORD;
	uint8_t *sent = pattern(size);

	(void)state;
	for (int gateway_first = 0; gateway_first < 2; gateway_first++) {
		struct fixture *f = running(RELAY_KTLS_COPY);

		stream(f, sent, size);
		if (gateway_first)
			mock_feed_fin(&f->kernel.a);
		mock_feed_record(&f->kernel.b, TLS_CONTENT_ALERT, "\1\0", 2);
		fixture_run(f);
		if (!gateway_first)
			mock_feed_fin(&f->kernel.a);
		fixture_run(f);
		assert_graceful(f);
		fixture_free(f);
	}
	free(sent);
}

static void a_ticket_in_a_stream_is_no_end_of_it(void **state)
{
	const size_t size = 16 * RECORD;
	uint8_t *sent = pattern(2 * size);
	struct fixture *f = running(RELAY_KTLS_COPY);

	(void)state;
	stream(f, sent, size);
	mock_feed_record(&f->kernel.b, TLS_CONTENT_HANDSHAKE, "\4\0\0\3abc", 7);
	fixture_run(f);
	mock_feed(&f->kernel.b, sent + size, size);
	fixture_run(f);
	assert_out(&f->kernel.a, sent, 2 * size);
	assert_alive(f);
	fixture_free(f);
	free(sent);
}

static void without_the_option_everything_comes(void **state)
{
	const size_t size = 40 * RECORD;
	uint8_t *sent = pattern(size);
	struct fixture *f = running(RELAY_KTLS_COPY);

	(void)state;
	f->kernel.low_water_error = ENOPROTOOPT;
	for (size_t at = 0; at < size; at += RECORD) {
		mock_feed(&f->kernel.b, sent + at, RECORD);
		assert_int_equal(loop_step(f->loop, 0), 0);
	}
	assert_out(&f->kernel.a, sent, size);
	assert_int_equal(f->relay->tail_timer.due_ns, 0);
	fixture_free(f);
	free(sent);
}

/* 6.1 reports a part of a record, for as long as the backend likes. */
static void a_part_of_a_record_does_not_spin(void **state)
{
	static const size_t parts[] = {1, 5, 16000};
	uint8_t *sent = pattern(RECORD);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		struct fixture *f = running(RELAY_KTLS_COPY);
		unsigned int before;

		mock_feed(&f->kernel.b, "whole", 5);
		fixture_run(f);
		before = reads(f);
		f->kernel.b.partial = parts[i];
		fixture_run(f);
		assert_int_equal(f->kernel.b.receive_low_water, parts[i] + 1);
		assert_int_equal(reads(f), before + 1);
		/* The rest comes: the record is whole, with one byte more at least. */
		f->kernel.b.partial = 0;
		mock_feed(&f->kernel.b, sent, parts[i] + 1);
		fixture_run(f);
		assert_int_equal(f->kernel.b.receive_low_water, 1);
		mock_feed(&f->kernel.b, "x", 1);
		fixture_run(f);
		assert_int_equal(f->kernel.a.out_size, 5 + parts[i] + 1 + 1);
		assert_memory_equal(f->kernel.a.out + 5, sent, parts[i] + 1);
		fixture_free(f);
	}
	free(sent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(wake_ups_of_a_stream_move_many_records),
	        cmocka_unit_test(the_tail_is_read_by_the_timer),
	        cmocka_unit_test(messages_set_nothing),
	        cmocka_unit_test(a_blocked_stream_waits_without_a_timer),
	        cmocka_unit_test(the_end_of_a_stream_comes_through),
	        cmocka_unit_test(a_ticket_in_a_stream_is_no_end_of_it),
	        cmocka_unit_test(without_the_option_everything_comes),
	        cmocka_unit_test(a_part_of_a_record_does_not_spin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
