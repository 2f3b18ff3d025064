/* SPDX-License-Identifier: GPL-2.0-only */
/* The relay's side of the lane, with the program played by the test: when a stream leaves it, and what is read how. */
#include "relay_fixture.h"

#define STREAM (512u << 10)
#define BEHIND (8u << 20)

static struct postern_lane_slot slot;
static unsigned int leavings;

static void on_leave(void *context)
{
	(void)context;
	leavings++;
}

static struct fixture *in_lane(void)
{
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

	memset(&slot, 0, sizeof(slot));
	leavings = 0;
	f->options.lane_slot = &slot;
	f->options.leave_lane = on_leave;
	fixture_start(f);
	return f;
}

/* G sends by TCP: the program lets a message pass, because it is large or because something is in flight. */
static void pass(struct fixture *f, size_t size, bool large)
{
	uint8_t *bytes = pattern(size);

	slot.passed++;
	if (large)
		slot.bulk_bytes += size;
	mock_feed(&f->kernel.a, bytes, size);
	fixture_run(f);
	free(bytes);
}

static void redirect(struct fixture *f, size_t size)
{
	uint8_t *bytes = pattern(size);

	slot.redirected++;
	slot.redirected_bytes += size;
	slot.redirected_until = (uint32_t)(slot.agent_read + size);
	mock_feed(&f->kernel.a, bytes, size);
	fixture_run(f);
	free(bytes);
}

static void a_stream_of_large_messages_leaves(void **state)
{
	struct fixture *f = in_lane();

	(void)state;
	redirect(f, 1000);
	for (size_t sent = 0; sent < STREAM; sent += 65536) {
		assert_int_equal(slot.leave, 0);
		pass(f, 65536 - 1000, true);
		redirect(f, 1000); /* the end of a large message, now and then */
	}
	pass(f, 65536, true);
	assert_int_equal(slot.leave, 1);
	/* The program has not answered: nothing changes. */
	pass(f, 100000, true);
	assert_int_equal(leavings, 0);
	assert_non_null(f->relay->lane_slot);
	assert_int_equal(f->kernel.a.splice_in_calls, 0);
	slot.left = 1;
	pass(f, 100000, true);
	assert_int_equal(leavings, 1);
	pass(f, 100000, true);
	assert_true(f->kernel.a.splice_in_calls > 0);
	assert_int_equal(f->kernel.b.out_size, 1000 + STREAM + 65536 + 300000);
	/* For good: what the slot says later is of no interest. */
	assert_int_equal(leavings, 1);
	assert_null(f->relay->lane_slot);
	fixture_free(f);
}

/* Each finds the one before it in flight: the agent does not keep up, and the lane serves nothing. */
static void a_stream_of_small_messages_that_pass_leaves(void **state)
{
	struct fixture *f = in_lane();

	(void)state;
	for (size_t sent = 0; sent < BEHIND; sent += 8192) {
		assert_int_equal(slot.leave, 0);
		pass(f, 8192, false);
	}
	assert_int_equal(slot.leave, 1);
	fixture_free(f);
}

static void what_was_redirected_is_read_first(void **state)
{
	struct fixture *f = in_lane();

	(void)state;
	/* Near the place where 32 bits run over. */
	slot.agent_read = UINT32_MAX - 1000;
	pass(f, STREAM, true);
	assert_int_equal(slot.leave, 1);
	slot.left = 1;
	slot.redirected_until = (uint32_t)(slot.agent_read + 150000);
	pass(f, 100000, true);
	assert_int_equal(leavings, 0);
	pass(f, 49999, true);
	assert_int_equal(leavings, 0);
	pass(f, 1, true);
	assert_int_equal(leavings, 1);
	fixture_free(f);
}

static void small_messages_stay(void **state)
{
	struct fixture *f = in_lane();

	(void)state;
	/* Small ones that TCP carries because something is in flight, and a large one now and then. */
	for (int i = 0; i < 20; i++) {
		pass(f, 16384, false);
		redirect(f, 4096);
		pass(f, 65536, true);
		for (int j = 0; j < 5; j++)
			redirect(f, 4096);
	}
	assert_int_equal(slot.leave, 0);
	assert_int_equal(f->kernel.a.splice_in_calls, 0);
	fixture_free(f);
}

static void credit_is_what_was_read(void **state)
{
	struct fixture *f = in_lane();

	(void)state;
	redirect(f, 777);
	pass(f, 223, false);
	assert_int_equal(slot.agent_read, 1000);
	fixture_free(f);
}

/* The agent before this one has asked, and the program has answered since. */
static void a_successor_goes_on_leaving(void **state)
{
	struct fixture *f;

	(void)state;
	f = in_lane();
	slot.leave = slot.left = 1;
	pass(f, 1000, false);
	assert_int_equal(leavings, 1);
	fixture_free(f);
}

static void who_cannot_leave_stays(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);

	(void)state;
	memset(&slot, 0, sizeof(slot));
	f->options.lane_slot = &slot;
	fixture_start(f);
	pass(f, 2 * STREAM, true);
	pass(f, 2 * STREAM, true);
	assert_int_equal(slot.leave, 0);
	assert_int_equal(f->kernel.a.splice_in_calls, 0);
	assert_int_equal(slot.agent_read, 4 * STREAM);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_stream_of_large_messages_leaves),
	        cmocka_unit_test(a_stream_of_small_messages_that_pass_leaves),
	        cmocka_unit_test(what_was_redirected_is_read_first),
	        cmocka_unit_test(small_messages_stay),
	        cmocka_unit_test(credit_is_what_was_read),
	        cmocka_unit_test(a_successor_goes_on_leaving),
	        cmocka_unit_test(who_cannot_leave_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
