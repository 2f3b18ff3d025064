/* SPDX-License-Identifier: GPL-2.0-only */
/* How connections end in order, on the mock kernel: half-closes, deferral, close_notify, FIN, nothing left. */
#include "relay_fixture.h"

#include <errno.h>

static struct fixture *running(enum relay_mode mode, enum tls_version version)
{
	struct fixture *f = fixture_new(mode, version);

	fixture_start(f);
	return f;
}

static void assert_nothing_said_to_b(const struct fixture *f)
{
	assert_int_equal(f->kernel.b.control_count, 0);
	assert_int_equal(f->session.shutdowns, 0);
	assert_false(f->kernel.b.shut_for_writing);
}

static void gateway_half_closes_in_1_3(void **state)
{
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	struct relay_stats stats;

	(void)state;
	mock_feed(&f->kernel.a, "request", 7);
	mock_feed_fin(&f->kernel.a);
	fixture_run(f);
	assert_alive(f);
	assert_out(&f->kernel.b, "request", 7);
	assert_close_notify(&f->kernel.b);
	assert_true(f->kernel.b.shut_for_writing);
	assert_false(f->kernel.a.shut_for_writing);
	relay_stats(f->relay, &stats);
	assert_true(stats.gateway_ended);
	assert_false(stats.backend_ended);
	mock_feed(&f->kernel.b, "response", 8);
	fixture_run(f);
	assert_alive(f);
	fixture_feed_close_notify(f);
	fixture_run(f);
	assert_out(&f->kernel.a, "response", 8);
	assert_graceful(f);
	assert_true(f->last.gateway_ended);
	assert_true(f->last.backend_ended);
	fixture_free(f);
}

static void gateway_half_closes_in_1_2_and_the_response_is_whole(void **state)
{
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_2);

	(void)state;
	mock_feed(&f->kernel.a, "request", 7);
	mock_feed_fin(&f->kernel.a);
	fixture_run(f);
	assert_alive(f);
	assert_out(&f->kernel.b, "request", 7);
	assert_nothing_said_to_b(f);
	mock_feed(&f->kernel.b, "response", 8);
	fixture_run(f);
	assert_nothing_said_to_b(f);
	fixture_feed_close_notify(f);
	fixture_run(f);
	assert_out(&f->kernel.a, "response", 8);
	assert_close_notify(&f->kernel.b);
	assert_graceful(f);
	fixture_free(f);
}

static void deferral_of_1_2_ends(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_2);
	uint64_t before;

	(void)state;
	f->worker.timeouts.half_closed_ns = MINUTE;
	fixture_start(f);
	before = monotonic_ns();
	mock_feed_fin(&f->kernel.a);
	fixture_run(f);
	assert_nothing_said_to_b(f);
	assert_in_range(f->relay->half_closed_timer.due_ns, before + MINUTE, monotonic_ns() + MINUTE);
	f->relay->to_gateway.moved_ns -= MINUTE;
	fixture_expire(f, &f->relay->half_closed_timer);
	fixture_run(f);
	assert_close_notify(&f->kernel.b);
	assert_true(f->kernel.b.shut_for_writing);
	assert_alive(f);
	fixture_feed_close_notify(f);
	fixture_run(f);
	assert_graceful(f);
	fixture_free(f);
}

/* A response that flows when the deferral would end: close_notify would make the peer drop the rest. */
static void deferral_of_1_2_lets_a_response_flow(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_2);

	(void)state;
	f->worker.timeouts.half_closed_ns = MINUTE;
	fixture_start(f);
	mock_feed_fin(&f->kernel.a);
	fixture_run(f);
	for (int i = 0; i < 8; i++) { /* a byte each three quarters of the limit */
		f->relay->to_gateway.moved_ns -= MINUTE / 2 + MINUTE / 4;
		fixture_expire(f, &f->relay->half_closed_timer);
		assert_alive(f);
		assert_nothing_said_to_b(f);
		assert_in_range(f->relay->half_closed_timer.due_ns, 1, monotonic_ns() + MINUTE / 4);
		mock_feed(&f->kernel.b, "x", 1);
		fixture_run(f);
	}
	/* Nor when the gateway is slow to take it. */
	f->kernel.a.room = 0;
	mock_feed(&f->kernel.b, "x", 1);
	fixture_run(f);
	for (int i = 0; i < 3; i++) {
		f->relay->to_gateway.moved_ns -= MINUTE;
		fixture_expire(f, &f->relay->half_closed_timer);
		assert_alive(f);
		assert_nothing_said_to_b(f);
		assert_int_not_equal(f->relay->half_closed_timer.due_ns, 0);
	}
	fixture_free(f);
}

static void backend_ends_first(void **state)
{
	static const enum tls_version versions[] = {TLS_VERSION_1_2, TLS_VERSION_1_3};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		struct fixture *f = running(RELAY_KTLS_COPY, versions[i]);

		mock_feed(&f->kernel.b, "response", 8);
		fixture_feed_close_notify(f);
		fixture_run(f);
		assert_out(&f->kernel.a, "response", 8);
		assert_true(f->kernel.a.shut_for_writing);
		assert_alive(f);
		assert_nothing_said_to_b(f);
		/* The gateway's direction goes on. */
		mock_feed(&f->kernel.a, "more", 4);
		fixture_run(f);
		assert_out(&f->kernel.b, "more", 4);
		mock_feed_fin(&f->kernel.a);
		fixture_run(f);
		assert_close_notify(&f->kernel.b);
		assert_graceful(f);
		fixture_free(f);
	}
}

static void user_space_ends_by_the_session(void **state)
{
	struct fixture *f = running(RELAY_USER_TLS, TLS_VERSION_1_3);

	(void)state;
	f->session.shutdown_result = -EAGAIN;
	mock_feed(&f->kernel.a, "request", 7);
	mock_feed_fin(&f->kernel.a);
	f->kernel.b.low_water = 2; /* EPOLLOUT comes once: the session's EAGAIN must not spin */
	f->kernel.b.room = 7;
	fixture_run(f);
	assert_false(f->kernel.b.shut_for_writing);
	f->session.shutdown_result = 0;
	f->kernel.b.room = SIZE_MAX;
	fixture_run(f);
	assert_true(f->session.shutdowns >= 1);
	assert_true(f->kernel.b.shut_for_writing);
	fixture_script(f, 8, "response", true);
	fixture_script(f, 0, NULL, true);
	fixture_run(f);
	assert_out(&f->kernel.a, "response", 8);
	assert_graceful(f);
	fixture_free(f);
}

static void close_notify_before_the_kernel_reads(void **state)
{
	struct fixture *f = running(RELAY_TICKETS, TLS_VERSION_1_3);

	(void)state;
	fixture_script(f, 0, NULL, true);
	fixture_run(f);
	assert_true(f->kernel.a.shut_for_writing);
	assert_int_equal(f->relay->ticket_timer.due_ns, 0);
	mock_feed_fin(&f->kernel.a);
	fixture_run(f);
	assert_close_notify(&f->kernel.b);
	assert_graceful(f);
	fixture_free(f);
}

static void plain_ends_by_fin(void **state)
{
	(void)state;
	for (int gateway_first = 0; gateway_first < 2; gateway_first++) {
		struct fixture *f = running(RELAY_PLAIN, TLS_VERSION_1_3);

		mock_feed(&f->kernel.a, "request", 7);
		mock_feed(&f->kernel.b, "response", 8);
		mock_feed_fin(gateway_first ? &f->kernel.a : &f->kernel.b);
		fixture_run(f);
		assert_alive(f);
		assert_int_equal(f->kernel.b.shut_for_writing, gateway_first);
		assert_int_equal(f->kernel.a.shut_for_writing, !gateway_first);
		if (gateway_first)
			mock_feed(&f->kernel.b, "!", 1);
		else
			mock_feed(&f->kernel.a, "!", 1);
		mock_feed_fin(gateway_first ? &f->kernel.b : &f->kernel.a);
		fixture_run(f);
		assert_graceful(f);
		assert_out(&f->kernel.a, "response!", gateway_first ? 9 : 8);
		assert_out(&f->kernel.b, "request!", gateway_first ? 7 : 8);
		assert_int_equal(f->kernel.b.control_count, 0);
		fixture_free(f);
	}
}

/*
 * kTLS may keep a tail of ciphertext to itself when TCP is full. FIN must wait until close_notify has pushed it out: a
 * relay that just sends close_notify and shuts down loses it here. Room is made for it; without CAP_NET_ADMIN, B's
 * EPOLLOUT is awaited.
 */
static void fin_waits_until_ktls_gave_everything_to_tcp(void **state)
{
	uint8_t *sent = pattern(100000);

	(void)state;
	for (int may_force = 0; may_force < 2; may_force++) {
		for (size_t room = 1; room < 60000; room += 4999) {
			struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);

			f->kernel.b.send_buffer_error = may_force ? 0 : EPERM;
			f->kernel.b.low_water = 30000; /* as sk_stream_is_writeable(): a third of the buffer */
			f->kernel.b.room = room;
			mock_feed(&f->kernel.a, sent, 100000);
			fixture_run(f);
			for (int i = 0; i < 300 && f->kernel.b.out_size < 100000; i++) {
				f->kernel.b.room += 1111;
				fixture_run(f);
			}
			f->kernel.b.room = f->kernel.b.room ? f->kernel.b.room : 10;
			mock_feed_fin(&f->kernel.a);
			fixture_run(f);
			if (may_force)
				assert_true(f->kernel.b.shut_for_writing);
			for (int i = 0; i < 300 && !f->kernel.b.shut_for_writing; i++) {
				f->kernel.b.room += 1111;
				fixture_run(f);
			}
			assert_true(f->kernel.b.shut_for_writing);
			assert_close_notify(&f->kernel.b);
			assert_out(&f->kernel.b, sent, 100000);
			assert_int_equal(f->kernel.b.lost, 0);
			fixture_free(f);
		}
	}
	free(sent);
}

static void failed_close_notify(void **state)
{
	(void)state;
	for (int backend_ended = 0; backend_ended < 2; backend_ended++) {
		struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);

		if (backend_ended)
			fixture_feed_close_notify(f);
		fixture_run(f);
		mock_feed_fin(&f->kernel.a);
		f->kernel.b.write_error = EPIPE;
		fixture_run(f);
		/* Who has said all that it had to say need not hear ours; who has not is broken. */
		if (backend_ended)
			assert_graceful(f);
		else
			assert_reset(f, REASON_BACKEND_RESET);
		fixture_free(f);
	}
}

/* A reset in any case; a failure only if something was asked and not answered, or the answer was cut. */
static void truncation_after_the_gateways_end(void **state)
{
	static const struct {
		const char *name;
		const char *request;
		const char *answer; /* before G's end */
		const char *late;   /* after it */
		enum postern_reason reason;
	} rows[] = {
	        {"nothing was said", NULL, NULL, NULL, REASON_NONE},
	        {"all was answered", "GET", "200", NULL, REASON_NONE},
	        {"no answer yet", "GET", NULL, NULL, REASON_TRUNCATED},
	        {"the answer came after the end", "GET", NULL, "200", REASON_TRUNCATED},
	        {"the answer went on after the end", "GET", "200", " OK", REASON_TRUNCATED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);

		if (rows[i].request)
			mock_feed(&f->kernel.a, rows[i].request, strlen(rows[i].request));
		fixture_run(f);
		if (rows[i].answer)
			mock_feed(&f->kernel.b, rows[i].answer, strlen(rows[i].answer));
		fixture_run(f);
		mock_feed_fin(&f->kernel.a);
		fixture_run(f);
		if (rows[i].late)
			mock_feed(&f->kernel.b, rows[i].late, strlen(rows[i].late));
		fixture_run(f);
		mock_feed_fin(&f->kernel.b);
		fixture_run(f);
		if (f->ends != 1 || f->reason != rows[i].reason)
			fail_msg("%s: expected %s, seen %u ends, %s", rows[i].name, reason_name(rows[i].reason),
			         f->ends, reason_name(f->reason));
		assert_reset(f, rows[i].reason);
		assert_non_null(strstr(f->detail, "after the gateway"));
		assert_false(f->kernel.a.shut_for_writing);
		fixture_free(f);
	}
}

/* EPOLLHUP cannot be masked: FIN went both ways on a socket whose bytes must wait. */
static void hang_up_of_a_socket_that_waits_does_not_spin(void **state)
{
	uint8_t *sent = pattern(600000);
	struct fixture *f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)state;
	/* A: the gateway has sent and closed, the backend has ended, and the upload waits for room on B. */
	f->kernel.b.room = 0;
	mock_feed(&f->kernel.a, sent, 600000);
	mock_feed_fin(&f->kernel.a);
	fixture_feed_close_notify(f);
	fixture_run(f);
	assert_alive(f);
	assert_true(f->kernel.a.shut_for_writing);
	assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
	assert_false(f->relay->a.registered);
	f->kernel.b.room = SIZE_MAX;
	fixture_run(f);
	assert_out(&f->kernel.b, sent, 600000);
	assert_close_notify(&f->kernel.b);
	assert_graceful(f);
	fixture_free(f);
	/* B: the other way round. */
	f = running(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	mock_feed_fin(&f->kernel.a);
	fixture_run(f);
	f->kernel.a.room = 0;
	for (size_t at = 0; at < 600000; at += 12000)
		mock_feed(&f->kernel.b, sent + at, 12000);
	fixture_feed_close_notify(f);
	fixture_run(f);
	assert_alive(f);
	assert_true(f->kernel.b.shut_for_writing);
	assert_int_equal(f->relay->receive, RECEIVE_BLOCKED);
	assert_false(f->relay->b.registered);
	f->kernel.a.room = SIZE_MAX;
	fixture_run(f);
	assert_out(&f->kernel.a, sent, 600000);
	assert_graceful(f);
	fixture_free(f);
	free(sent);
}

static void failed_start_leaves_everything_to_the_caller(void **state)
{
	struct fixture *f = fixture_new(RELAY_TICKETS, TLS_VERSION_1_3);
	int b_fd = f->options.b_fd;

	(void)state;
	f->options.b_fd = f->options.a_fd; /* epoll takes no descriptor twice */
	f->options.idle_ns = MILLISECOND;
	f->worker.timeouts.ticket_window_ns = MILLISECOND;
	assert_int_equal(relay_start(&f->worker, &f->options, &f->relay), -EEXIST);
	assert_null(f->relay);
	assert_int_equal(f->ends, 0);
	assert_false(f->kernel.a.closed);
	assert_false(f->session.freed);
	fixture_wait(f, 5); /* a timer left behind would fire here */
	/* A is out of the loop again, so a second start can have it. */
	f->options.b_fd = b_fd;
	f->options.idle_ns = 0;
	fixture_start(f);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(gateway_half_closes_in_1_3),
	        cmocka_unit_test(gateway_half_closes_in_1_2_and_the_response_is_whole),
	        cmocka_unit_test(deferral_of_1_2_ends),
	        cmocka_unit_test(deferral_of_1_2_lets_a_response_flow),
	        cmocka_unit_test(backend_ends_first),
	        cmocka_unit_test(user_space_ends_by_the_session),
	        cmocka_unit_test(close_notify_before_the_kernel_reads),
	        cmocka_unit_test(plain_ends_by_fin),
	        cmocka_unit_test(fin_waits_until_ktls_gave_everything_to_tcp),
	        cmocka_unit_test(failed_close_notify),
	        cmocka_unit_test(truncation_after_the_gateways_end),
	        cmocka_unit_test(hang_up_of_a_socket_that_waits_does_not_spin),
	        cmocka_unit_test(failed_start_leaves_everything_to_the_caller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
