/* SPDX-License-Identifier: GPL-2.0-only */
/* Resets from each side and abort() in every state of a connection, on the mock kernel: both sockets are reset. */
#include "relay_fixture.h"

#include <errno.h>

/* Ways into every state, then a reset from each side: both sockets are reset, whatever the state. */
enum way {
	WAY_NEW,
	WAY_FLOWING,
	WAY_TRANSMIT_BLOCKED,
	WAY_RECEIVE_BLOCKED,
	WAY_BOTH_BLOCKED,
	WAY_DEFERRED,
	WAY_CLOSING,
	WAY_TRANSMIT_ENDED,
	WAY_TRANSMIT_ENDED_RECEIVE_BLOCKED,
	WAY_RECEIVE_ENDED,
	WAY_RECEIVE_ENDED_TRANSMIT_BLOCKED,
	WAYS,
};

static struct fixture *go(enum way way, enum relay_mode mode, uint64_t timeouts_ns)
{
	struct fixture *f = fixture_new(mode, way == WAY_DEFERRED ? TLS_VERSION_1_2 : TLS_VERSION_1_3);
	bool by_session;

	if (timeouts_ns) {
		f->options.idle_ns = timeouts_ns;
		f->worker.timeouts.stall_ns = timeouts_ns;
		f->worker.timeouts.half_closed_ns = timeouts_ns;
		if (f->worker.timeouts.ticket_window_ns)
			f->worker.timeouts.ticket_window_ns = timeouts_ns;
	}
	fixture_start(f);
	by_session = f->relay->to_gateway.mode == RELAY_USER_TLS || f->relay->to_gateway.mode == RELAY_TICKETS;

	if (way == WAY_NEW)
		return f;
	if (way == WAY_TRANSMIT_BLOCKED || way == WAY_BOTH_BLOCKED || way == WAY_CLOSING ||
	    way == WAY_RECEIVE_ENDED_TRANSMIT_BLOCKED)
		f->kernel.b.room = way == WAY_CLOSING ? 7 : 0;
	if (way == WAY_CLOSING)
		f->kernel.b.send_buffer_error = EPERM;
	if (way == WAY_RECEIVE_BLOCKED || way == WAY_BOTH_BLOCKED || way == WAY_TRANSMIT_ENDED_RECEIVE_BLOCKED)
		f->kernel.a.room = 0;
	mock_feed(&f->kernel.a, "request", 7);
	if (by_session)
		fixture_script(f, 8, "response", true);
	else
		mock_feed(&f->kernel.b, "response", 8);
	fixture_run(f);
	if (way == WAY_DEFERRED || way == WAY_CLOSING || way == WAY_TRANSMIT_ENDED ||
	    way == WAY_TRANSMIT_ENDED_RECEIVE_BLOCKED)
		mock_feed_fin(&f->kernel.a);
	if (way == WAY_RECEIVE_ENDED || way == WAY_RECEIVE_ENDED_TRANSMIT_BLOCKED) {
		if (f->options.session && f->relay->to_gateway.mode != RELAY_KTLS_COPY)
			fixture_script(f, 0, NULL, true);
		else if (f->options.session)
			mock_feed_record(&f->kernel.b, TLS_CONTENT_ALERT, "\1\0", 2);
		mock_feed_fin(&f->kernel.b);
	}
	fixture_run(f);
	assert_alive(f);
	return f;
}

static void reset_of_each_side_in_every_state(void **state)
{
	static const enum relay_mode modes[] = {RELAY_PLAIN, RELAY_USER_TLS, RELAY_TICKETS, RELAY_KTLS_COPY,
	                                        RELAY_KTLS_SPLICE};

	(void)state;
	for (enum way way = 0; way < WAYS; way++) {
		for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
			for (int of_backend = 0; of_backend < 2; of_backend++) {
				enum postern_reason expected = of_backend ? REASON_BACKEND_RESET : REASON_GATEWAY_RESET;
				struct fixture *f = go(way, modes[i], 0);

				/* OpenSSL reads B itself: what it meets there is in the session's script. */
				if (of_backend && f->relay->receive == RECEIVE_FLOWING &&
				    (f->relay->to_gateway.mode == RELAY_USER_TLS ||
				     f->relay->to_gateway.mode == RELAY_TICKETS)) {
					f->session.reason = REASON_BACKEND_RESET;
					fixture_script(f, -ECONNRESET, NULL, true);
				}
				if (of_backend && modes[i] == RELAY_USER_TLS) {
					f->session.reason = REASON_BACKEND_RESET;
					f->session.write_error = -ECONNRESET;
					f->session.shutdown_result = -ECONNRESET;
				}
				mock_reset(of_backend ? &f->kernel.b : &f->kernel.a, ECONNRESET);
				fixture_run(f);
				if (f->ends != 1 || f->reason != expected)
					fail_msg("way %d, %s, reset of %s: seen %u ends, %s (%s)", (int)way,
					         relay_mode_name(modes[i]), of_backend ? "B" : "A", f->ends,
					         reason_name(f->reason), f->detail);
				assert_reset(f, expected);
				fixture_free(f);
			}
		}
	}
}

static void abort_in_every_state(void **state)
{
	(void)state;
	for (enum way way = 0; way < WAYS; way++) {
		struct fixture *f = go(way, way == WAY_NEW ? RELAY_TICKETS : RELAY_KTLS_COPY, MINUTE);
		struct loop_timer *const timers[] = {&f->relay->idle_timer,   &f->relay->stall_timer,
		                                     &f->relay->tail_timer,   &f->relay->half_closed_timer,
		                                     &f->relay->ticket_timer, &f->relay->gather_timer,
		                                     &f->worker.look_timer};
		unsigned int armed = 0;

		for (size_t i = 0; i < ARRAY_SIZE(timers); i++)
			if (timers[i]->due_ns) {
				fixture_set_timer(f, timers[i], MILLISECOND);
				armed++;
			}
		assert_true(armed > 0);
		relay_abort(f->relay, REASON_POLICY_CHANGED, "the detail");
		assert_reset(f, REASON_POLICY_CHANGED);
		assert_string_equal(f->detail, "the detail");
		/* Whatever timer was armed must not fire into freed memory. */
		fixture_wait(f, 5);
		fixture_free(f);
	}
}

/* An error page to a large upload: the backend answers, closes, and resets what still comes. */
static void answer_before_a_reset_is_passed_on(void **state)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)state;
	fixture_start(f);
	/* Both sockets report in one round; A comes first, and its write meets the reset. */
	mock_feed(&f->kernel.a, "the upload goes on", 18);
	mock_feed(&f->kernel.b, "413 Content Too Large", 21);
	fixture_feed_close_notify(f);
	mock_reset(&f->kernel.b, ECONNRESET);
	fixture_run(f);
	assert_out(&f->kernel.a, "413 Content Too Large", 21);
	assert_reset(f, REASON_BACKEND_RESET);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(reset_of_each_side_in_every_state),
	        cmocka_unit_test(abort_in_every_state),
	        cmocka_unit_test(answer_before_a_reset_is_passed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
