/* SPDX-License-Identifier: GPL-2.0-only */
/* Connections that end by time, on the mock kernel: idle ones and stalled ones, and those that are neither. */
#include "relay_fixture.h"

static void idle_connection_ends(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	uint64_t begin;

	(void)state;
	f->worker.timeouts.idle_ns = 1;
	f->options.idle_ns = 100 * MILLISECOND; /* the settings' own goes before the worker's */
	fixture_start(f);
	for (begin = monotonic_ns(); monotonic_ns() - begin < 250 * MILLISECOND;) {
		mock_feed((monotonic_ns() / MILLISECOND) % 2 ? &f->kernel.a : &f->kernel.b, "x", 1);
		fixture_run(f);
		fixture_wait(f, 1);
	}
	assert_alive(f);
	begin = monotonic_ns();
	fixture_wait_end(f);
	assert_true(monotonic_ns() - begin >= 80 * MILLISECOND);
	assert_reset(f, REASON_IDLE_TIMEOUT);
	fixture_free(f);
}

static void worker_has_an_idle_timeout_too(void **state)
{
	struct fixture *f = fixture_new(RELAY_PLAIN, TLS_VERSION_1_3);

	(void)state;
	f->worker.timeouts.idle_ns = 2 * MILLISECOND;
	fixture_start(f);
	fixture_wait_end(f);
	assert_reset(f, REASON_IDLE_TIMEOUT);
	fixture_free(f);
}

static void stalled_direction_ends_both(void **state)
{
	(void)state;
	for (int of_backend = 0; of_backend < 2; of_backend++) {
		struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);
		struct mock_socket *sink = of_backend ? &f->kernel.b : &f->kernel.a;
		uint64_t begin;

		f->worker.timeouts.stall_ns = 120 * MILLISECOND;
		fixture_start(f);
		sink->room = 0;
		sink->kernel_transmit = false; /* byte by byte */
		mock_feed(of_backend ? &f->kernel.a : &f->kernel.b, "12345678901234567890", 20);
		fixture_run(f);
		/* Slow is not stalled: a byte each 20 ms. */
		for (int i = 0; i < 8; i++) {
			fixture_wait(f, 20);
			sink->room = 1;
			fixture_run(f);
			assert_alive(f);
		}
		assert_int_equal(sink->out_size, 8);
		begin = monotonic_ns();
		fixture_wait_end(f);
		assert_true(monotonic_ns() - begin >= 100 * MILLISECOND);
		assert_reset(f, REASON_STALLED);
		assert_non_null(strstr(f->detail, of_backend ? "backend" : "gateway"));
		fixture_free(f);
	}
}

/* Each time that a direction blocks, the time begins anew. */
static void blocked_again_is_not_stalled_since_then(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)state;
	f->worker.timeouts.stall_ns = 150 * MILLISECOND;
	fixture_start(f);
	for (int i = 0; i < 2; i++) {
		f->kernel.b.room = 0;
		mock_feed(&f->kernel.a, "x", 1);
		fixture_run(f);
		assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
		if (i == 1)
			break;
		f->kernel.b.room = SIZE_MAX;
		fixture_run(f);
		fixture_wait(f, 100);
	}
	fixture_wait(f, 100);
	assert_alive(f);
	fixture_wait_end(f);
	assert_reset(f, REASON_STALLED);
	fixture_free(f);
}

/* Bytes that are not there cannot stall. */
static void idle_is_not_stalled(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)state;
	f->worker.timeouts.stall_ns = 2 * MILLISECOND;
	fixture_start(f);
	f->kernel.b.room = 0;
	mock_feed(&f->kernel.a, "x", 1);
	fixture_run(f);
	assert_int_not_equal(f->relay->stall_timer.due_ns, 0);
	f->kernel.b.room = SIZE_MAX;
	fixture_run(f);
	fixture_wait(f, 6);
	assert_alive(f);
	assert_int_equal(f->relay->stall_timer.due_ns, 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(idle_connection_ends),
	        cmocka_unit_test(worker_has_an_idle_timeout_too),
	        cmocka_unit_test(stalled_direction_ends_both),
	        cmocka_unit_test(blocked_again_is_not_stalled_since_then),
	        cmocka_unit_test(idle_is_not_stalled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
