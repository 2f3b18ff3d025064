/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From OpenSSL to the kernel, on the mock kernel: when TLS_RX is armed (tickets first, at a record boundary, once the
 * ticket window is over), and what stays with OpenSSL where it is refused or not proved.
 */
#include "relay_fixture.h"

#include <errno.h>

static void tickets_come_before_the_kernel_reads(void **state)
{
	struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);
	struct relay_stats stats;

	(void)state;
	f->options.no_pad = true;
	fixture_start(f);
	fixture_script(f, -EAGAIN, NULL, true); /* a ticket, taken by OpenSSL */
	fixture_script(f, -EAGAIN, NULL, false);
	fixture_run(f);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.to_gateway, RELAY_TICKETS);
	assert_int_equal(stats.to_backend, RELAY_KTLS_COPY);
	assert_int_equal(stats.mode_reason, REASON_TICKETS_PENDING);
	assert_false(f->session.receive_armed);
	assert_false(f->session.freed);
	fixture_script(f, 6, "first ", true);
	fixture_run(f);
	/* Handed over, and from here on the kernel reads. */
	assert_out(&f->kernel.a, "first ", 6);
	assert_true(f->session.receive_armed);
	assert_true(f->session.freed);
	assert_true(f->kernel.b.no_pad);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.to_gateway, RELAY_KTLS_COPY);
	assert_int_equal(stats.mode_reason, REASON_NONE);
	assert_int_equal(f->relay->ticket_timer.due_ns, 0);
	mock_feed(&f->kernel.b, "second", 6);
	fixture_run(f);
	assert_out(&f->kernel.a, "first second", 12);
	fixture_free(f);
}

static void first_data_off_a_boundary_waits_for_the_next(void **state)
{
	struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);

	(void)state;
	fixture_start(f);
	fixture_script(f, 4, "one ", false);
	fixture_script(f, -EAGAIN, NULL, false);
	fixture_run(f);
	assert_false(f->session.receive_armed);
	fixture_script(f, 4, "two ", true);
	fixture_run(f);
	assert_true(f->session.receive_armed);
	assert_out(&f->kernel.a, "one two ", 8);
	fixture_free(f);
}

static void ticket_window_ends(void **state)
{
	(void)state;
	for (int boundary = 0; boundary < 2; boundary++) {
		struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);
		uint64_t begin;

		f->worker.timeouts.ticket_window_ns = 5 * MILLISECOND;
		f->session.at_boundary = boundary != 0;
		begin = monotonic_ns();
		fixture_start(f);
		while (f->relay->ticket_timer.due_ns)
			assert_int_equal(loop_step(f->loop, 0), 0);
		assert_true(monotonic_ns() - begin >= 5 * MILLISECOND);
		assert_int_equal(f->session.receive_armed, boundary);
		if (!boundary) {
			fixture_script(f, -EAGAIN, NULL, true); /* the rest of the ticket */
			fixture_run(f);
			assert_true(f->session.receive_armed);
		}
		fixture_free(f);
	}
}

static void tls_1_2_is_armed_at_once(void **state)
{
	struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_2);

	(void)state;
	f->options.no_pad = true;
	assert_int_equal(relay_start(&f->worker, &f->options, &f->relay), 0);
	assert_true(f->session.receive_armed);
	assert_true(f->session.freed);
	assert_int_equal(f->relay->ticket_timer.due_ns, 0);
	assert_false(f->kernel.b.no_pad); /* there is no padding in 1.2 */
	fixture_free(f);
}

static void tls_1_2_off_a_boundary_is_armed_later(void **state)
{
	struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_2);

	(void)state;
	f->session.at_boundary = false;
	fixture_start(f);
	assert_false(f->session.receive_armed);
	fixture_script(f, 4, "data", true);
	fixture_run(f);
	assert_true(f->session.receive_armed);
	fixture_free(f);
}

static void refused_receive_stays_with_openssl(void **state)
{
	static const struct {
		int error;
		enum postern_reason reason;
	} errors[] = {
	        {-ENOENT, REASON_KTLS_CIPHER},
	        {-EINVAL, REASON_KERNEL_TLS_FAILED},
	        {-ENOMEM, REASON_KERNEL_TLS_FAILED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);
		struct relay_stats stats;

		f->session.arm_error = errors[i].error;
		fixture_start(f);
		fixture_script(f, 4, "one ", true);
		fixture_script(f, 3, "two", true);
		fixture_run(f);
		assert_out(&f->kernel.a, "one two", 7);
		assert_false(f->session.freed); /* it reads on */
		relay_stats(f->relay, &stats);
		assert_int_equal(stats.to_gateway, RELAY_USER_TLS);
		assert_int_equal(stats.to_backend, RELAY_KTLS_COPY);
		assert_int_equal(stats.mode_reason, errors[i].reason);
		fixture_free(f);
	}
}

static void no_pad_is_an_option_only(void **state)
{
	struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);

	(void)state;
	f->options.no_pad = true;
	f->kernel.no_pad_error = ENOPROTOOPT;
	fixture_start(f);
	fixture_script(f, 4, "data", true);
	fixture_run(f);
	mock_feed(&f->kernel.b, " more", 5);
	fixture_run(f);
	assert_alive(f);
	assert_out(&f->kernel.a, "data more", 9);
	fixture_free(f);
}

/* The kernel seals, OpenSSL opens: the proof may have refused one direction only. */
static void receive_that_is_not_proved_stays_in_user_space(void **state)
{
	struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);
	struct relay_stats stats;

	(void)state;
	f->options.kernel_receive = false;
	f->options.user_mode_reason = REASON_KTLS_UNPROVED;
	f->worker.timeouts.ticket_window_ns = 0;
	fixture_start(f);
	fixture_script(f, 3, "abc", true);
	mock_feed(&f->kernel.a, "up", 2);
	fixture_run(f);
	assert_out(&f->kernel.a, "abc", 3);
	assert_out(&f->kernel.b, "up", 2);
	assert_false(f->session.receive_armed);
	relay_stats(f->relay, &stats);
	assert_int_equal(stats.to_gateway, RELAY_USER_TLS);
	assert_int_equal(stats.mode_reason, REASON_KTLS_UNPROVED);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(tickets_come_before_the_kernel_reads),
	        cmocka_unit_test(first_data_off_a_boundary_waits_for_the_next),
	        cmocka_unit_test(ticket_window_ends),
	        cmocka_unit_test(tls_1_2_is_armed_at_once),
	        cmocka_unit_test(tls_1_2_off_a_boundary_is_armed_later),
	        cmocka_unit_test(refused_receive_stays_with_openssl),
	        cmocka_unit_test(no_pad_is_an_option_only),
	        cmocka_unit_test(receive_that_is_not_proved_stays_in_user_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
