/* SPDX-License-Identifier: GPL-2.0-only */
/* How much G has to send before a wake-up is worth it, on the mock kernel: a stream of small pieces is read in large
 * ones, nothing waits for ever, requests pay nothing. */
#include "relay_fixture.h"

#include <errno.h>

#define PIECE     8192
#define LOW_WATER (128 << 10)
#define MOST      100000 /* pieces: 64 KB of them come within a millisecond sooner or later, on any machine */

static struct postern_lane_slot slot;

static struct fixture *running(bool lane)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	memset(&slot, 0, sizeof(slot));
	f->options.lane_slot = lane ? &slot : NULL;
	fixture_start(f);
	return f;
}

/* One message of G. */
static void say(struct fixture *f, const uint8_t *bytes, size_t size)
{
	if (f->options.lane_slot) {
		slot.redirected++;
		slot.redirected_bytes += size;
	}
	mock_feed(&f->kernel.a, bytes, size);
	fixture_run(f);
}

static bool gathers(const struct fixture *f)
{
	return f->relay->gathering.state != GATHER_EACH;
}

/* Returns how many pieces it took. */
static size_t stream(struct fixture *f, const uint8_t *sent)
{
	size_t pieces = 0;

	while (!gathers(f) && pieces < MOST) {
		say(f, sent, PIECE);
		pieces++;
	}
	assert_true(gathers(f));
	assert_int_equal(f->kernel.b.out_size, pieces * PIECE);
	return pieces;
}

static void a_stream_of_small_pieces_is_gathered(void **state)
{
	uint8_t *sent = pattern(PIECE);

	(void)state;
	for (int lane = 0; lane < 2; lane++) {
		struct fixture *f = running(lane);
		size_t pieces = stream(f, sent);
		unsigned int reads = f->kernel.a.recv_calls;

		/* Where TCP is asked to wait, it announces LOW_WATER at once; the lane would announce each message. */
		assert_int_equal(f->kernel.a.receive_low_water, lane ? 1 : LOW_WATER);
		assert_int_equal(f->relay->a.events & EPOLLIN, lane ? 0 : EPOLLIN);
		for (int i = 0; i < 5; i++)
			mock_feed(&f->kernel.a, sent, PIECE);
		assert_int_equal(loop_step(f->loop, 0), 0);
		fixture_wait(f, 2);
		fixture_run(f);
		assert_alive(f);
		assert_int_equal(f->kernel.b.out_size, (pieces + 5) * PIECE);
		/* One for all of them, and perhaps some that found nothing or a part. */
		assert_true(f->kernel.a.recv_calls - reads <= 4);
		for (int i = 0; i < 100 && gathers(f); i++)
			fixture_wait(f, 2);
		/* The stream is over: whatever comes next is announced. */
		assert_false(gathers(f));
		assert_int_equal(f->kernel.a.receive_low_water, 1);
		assert_int_equal(f->relay->a.events & EPOLLIN, EPOLLIN);
		say(f, sent, 100);
		assert_int_equal(f->kernel.b.out_size, (pieces + 5) * PIECE + 100);
		fixture_free(f);
	}
	free(sent);
}

static void a_short_piece_ends_it(void **state)
{
	uint8_t *sent = pattern(PIECE);

	(void)state;
	for (int lane = 0; lane < 2; lane++) {
		struct fixture *f = running(lane);
		size_t pieces = stream(f, sent);

		mock_feed(&f->kernel.a, sent, 1);
		fixture_wait(f, 2);
		fixture_run(f);
		assert_false(gathers(f));
		assert_int_equal(f->kernel.b.out_size, pieces * PIECE + 1);
		fixture_free(f);
	}
	free(sent);
}

static void requests_and_large_reads_are_read_at_once(void **state)
{
	static const struct {
		size_t size;
		size_t count;
	} rows[] = {{1000, 60}, {65536, 40}, {200000, 20}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture *f = running(false);
		uint8_t *sent = pattern(rows[i].size);

		for (size_t j = 0; j < rows[i].count; j++)
			say(f, sent, rows[i].size);
		if (gathers(f) || f->kernel.low_water_calls)
			fail_msg("%zu messages of %zu bytes: gathered", rows[i].count, rows[i].size);
		assert_int_equal(f->kernel.b.out_size, rows[i].count * rows[i].size);
		free(sent);
		fixture_free(f);
	}
}

static void what_passes_the_lane_is_read_at_once(void **state)
{
	struct fixture *f = running(true);
	uint8_t *sent = pattern(PIECE);
	size_t pieces = stream(f, sent);

	(void)state;
	slot.passed++;
	mock_feed(&f->kernel.a, sent, PIECE);
	mock_feed(&f->kernel.a, sent, PIECE);
	fixture_wait(f, 2);
	fixture_run(f);
	assert_false(gathers(f));
	assert_int_equal(f->kernel.b.out_size, (pieces + 2) * PIECE);
	/* Each of them, as long as they pass. */
	for (int i = 0; i < 100; i++) {
		slot.passed++;
		say(f, sent, PIECE);
	}
	assert_false(gathers(f));
	assert_int_equal(slot.agent_read, (pieces + 102) * PIECE);
	fixture_free(f);
	free(sent);
}

static void a_full_backend_ends_it(void **state)
{
	uint8_t *sent = pattern(PIECE);

	(void)state;
	for (int lane = 0; lane < 2; lane++) {
		struct fixture *f = running(lane);
		size_t pieces = stream(f, sent);

		f->kernel.b.room = 100;
		for (int i = 0; i < 3; i++)
			mock_feed(&f->kernel.a, sent, PIECE);
		fixture_wait(f, 2);
		assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
		assert_false(gathers(f));
		assert_int_equal(f->kernel.a.receive_low_water, 1);
		f->kernel.b.room = SIZE_MAX;
		fixture_run(f);
		assert_int_equal(f->kernel.b.out_size, (pieces + 3) * PIECE);
		assert_int_equal(f->relay->a.events & EPOLLIN, EPOLLIN);
		fixture_free(f);
	}
	free(sent);
}

static void the_end_of_g_is_seen(void **state)
{
	uint8_t *sent = pattern(PIECE);

	(void)state;
	for (int lane = 0; lane < 2; lane++) {
		struct fixture *f = running(lane);
		size_t pieces = stream(f, sent);

		mock_feed(&f->kernel.a, sent, 100);
		mock_feed_fin(&f->kernel.a);
		for (int i = 0; i < 100 && !f->relay->gateway_ended; i++) {
			fixture_wait(f, 2);
			fixture_run(f);
		}
		assert_true(f->relay->gateway_ended);
		assert_int_equal(f->kernel.b.out_size, pieces * PIECE + 100);
		mock_feed_record(&f->kernel.b, TLS_CONTENT_ALERT, "\1\0", 2);
		fixture_run(f);
		assert_graceful(f);
		fixture_free(f);
	}
	free(sent);
}

static void it_can_be_refused_or_off(void **state)
{
	static const uint8_t sent[PIECE];

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct fixture *f = running(false);

		if (i)
			f->kernel.low_water_error = ENOPROTOOPT;
		else
			f->worker.timeouts.gather_ns = 0;
		for (int j = 0; j < 200; j++)
			say(f, sent, PIECE);
		assert_alive(f);
		assert_false(gathers(f));
		assert_int_equal(f->kernel.b.out_size, 200 * PIECE);
		fixture_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_stream_of_small_pieces_is_gathered),
	        cmocka_unit_test(a_short_piece_ends_it),
	        cmocka_unit_test(requests_and_large_reads_are_read_at_once),
	        cmocka_unit_test(what_passes_the_lane_is_read_at_once),
	        cmocka_unit_test(a_full_backend_ends_it),
	        cmocka_unit_test(the_end_of_g_is_seen),
	        cmocka_unit_test(it_can_be_refused_or_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
