/* SPDX-License-Identifier: GPL-2.0-only */
/* How long an attempt may be in a state, whose time that is in a crowd, and how many there may be in flight. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/epoll.h>

#include "attempt_world.h"

/* ---- limits of time ---- */

static void wait_for_state(uint16_t port, int expected)
{
	while (state_of(port) != expected)
		assert_int_equal(loop_step(world.worker.loop, 5000), 0);
}

#define LIMIT_NS 60000000000ull

/* It is waited for as long as its limit says, and that time is made to have passed: no load of the machine decides. */
static void pass_limit(uint16_t port, uint64_t before_ns)
{
	struct attempt *attempt = attempt_of(port);

	assert_in_range(attempt->timer.due_ns, before_ns + LIMIT_NS, monotonic_ns() + LIMIT_NS);
	assert_int_equal(loop_timer_set(world.worker.loop, &attempt->timer, 0), 0);
	wait_for_state(port, ATTEMPT_REFUSED);
}

static void test_limits_of_time(void **state)
{
	uint64_t before = monotonic_ns();

	(void)state;
	world.worker.options.hold_limit_ns = world.worker.options.dial_limit_ns =
	        world.worker.options.handshake_limit_ns = LIMIT_NS;
	bring_to(ATTEMPT_WAITING, PORT, ISN);
	pass_limit(PORT, before);
	assert_int_equal(last_report(), REASON_HOLD_TIMEOUT);
	publish(POSTERN_VERDICT_TLS, 1);
	bring_to(ATTEMPT_DIALING, PORT + 1, ISN);
	g_sends_syn(PORT + 1, ISN);
	pass_limit(PORT + 1, before);
	assert_int_equal(last_report(), REASON_BACKEND_SILENT);
	assert_int_equal(world.unreachables, 1);
	bring_to(ATTEMPT_HANDSHAKE, PORT + 2, ISN);
	world.worker.options.handshake_limit_ns = 1; /* its time is measured, too */
	pass_limit(PORT + 2, before);
	assert_int_equal(last_report(), REASON_HANDSHAKE_TIMEOUT);
}

static void wait_milliseconds(uint64_t milliseconds)
{
	uint64_t end = monotonic_ns() + milliseconds * 1000000;

	while (monotonic_ns() < end)
		assert_int_equal(loop_step(world.worker.loop, 1), 0);
}

/* What a handshake waits for the worker is not the backend's time; the rest is, turn or no turn. */
static void test_time_without_a_turn(void **state)
{
	(void)state;
	world.worker.options.handshake_limit_ns = 5000000;
	world.handshake = TLS_STEP_WANT_READ;
	world.no_turn = true;
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	g_sends_syn(PORT, ISN);
	wait_for_state(PORT, ATTEMPT_HANDSHAKE);
	wait_milliseconds(20);
	assert_int_equal(state_of(PORT), ATTEMPT_HANDSHAKE);
	assert_int_equal(world.report_count, 0);
	world.no_turn = false;
	step();
	assert_null(attempt_of(PORT)->list);
	wait_for_state(PORT, ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_HANDSHAKE_TIMEOUT);
	assert_int_equal(world.dials, 1);
}

/* It has waited for a turn, and is done in it, long after its limit. */
static void test_a_turn_that_comes_late(void **state)
{
	(void)state;
	world.worker.options.handshake_limit_ns = 5000000;
	world.no_turn = true;
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	g_sends_syn(PORT, ISN);
	wait_for_state(PORT, ATTEMPT_HANDSHAKE);
	wait_milliseconds(20);
	world.no_turn = false;
	step();
	assert_int_equal(state_of(PORT), ATTEMPT_ACCEPTED);
	assert_int_equal(world.report_count, 0);
}

static void run_limit(const void *argument)
{
	struct attempt *attempt = attempt_of(*(const uint16_t *)argument);

	attempt_on_limit(&attempt->timer);
}

static void run_answered(const void *argument)
{
	const struct attempt *attempt = argument;

	handshake_line_answered(&world.worker.line, attempt->handshake_number, &attempt->connect.socket.destination,
	                        monotonic_ns());
}

static struct attempt *waits_for_backend(uint16_t port)
{
	bring_to(ATTEMPT_HANDSHAKE, port, ISN);
	assert_null(attempt_of(port)->list);
	return attempt_of(port);
}

/* Nothing but time passes, for the second in line and for what the backend said to the first. */
static void let_pass(struct attempt *attempt, uint64_t time_ns)
{
	attempt->limit_from_ns -= time_ns;
	for (size_t i = 0; i < world.worker.line.next; i++)
		world.worker.line.answers[i].answered_ns -= time_ns;
}

/* The limit of the second in line runs anew when the first is answered, and passes when nothing happens any more. */
static void test_the_backend_is_busy_with_those_before(void **state)
{
	const uint64_t limit = 10 * 1000000000ull;
	const uint16_t port = PORT + 1;
	const struct attempt *before;
	struct attempt *attempt;

	(void)state;
	world.worker.options.handshake_limit_ns = limit;
	before = waits_for_backend(PORT);
	attempt = waits_for_backend(port);
	for (unsigned int i = 0; i < 3; i++) {
		let_pass(attempt, limit);
		in_round(run_answered, before);
		in_round(run_limit, &port);
		assert_int_equal(state_of(port), ATTEMPT_HANDSHAKE);
		assert_int_equal(attempt->limit_from_ns, world.worker.line.answers[i].answered_ns);
	}
	let_pass(attempt, limit);
	in_round(run_limit, &port);
	assert_int_equal(state_of(port), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_HANDSHAKE_TIMEOUT);
}

/* Who came later and is answered was preferred; who is answered elsewhere says nothing about this backend. */
static void test_the_backend_answers_others(void **state)
{
	const struct postern_destination_key other = backend_key(2);
	const uint16_t port = PORT + 1;
	struct attempt *before = waits_for_backend(PORT), *attempt = waits_for_backend(PORT + 1);
	const struct attempt *behind = waits_for_backend(PORT + 2);

	(void)state;
	handshake_line_answered(&world.worker.line, before->handshake_number, &other, monotonic_ns());
	in_round(run_answered, behind);
	world.worker.options.handshake_limit_ns = 1;
	in_round(run_limit, &port);
	assert_int_equal(attempt->limit_from_ns, attempt->handshake_begun_ns);
	assert_int_equal(state_of(PORT + 1), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_HANDSHAKE_TIMEOUT);
}

static void answer_and_limit(const void *argument)
{
	struct attempt *attempt = attempt_of(*(const uint16_t *)argument);

	dial_on_event(attempt, EPOLLIN);
	attempt_on_limit(&attempt->timer);
}

/* The agent was stopped (SIGSTOP) until long after the limit: the backend had answered, and has its turn first. */
static void test_answered_while_the_agent_stood_still(void **state)
{
	static const uint16_t port = PORT;

	(void)state;
	bring_to(ATTEMPT_HANDSHAKE, PORT, ISN);
	g_sends_syn(PORT, ISN);
	world.worker.options.handshake_limit_ns = 1;
	in_round(answer_and_limit, &port);
	assert_int_equal(state_of(PORT), ATTEMPT_HANDSHAKE);
	world.handshake = TLS_STEP_DONE;
	wait_for_state(PORT, ATTEMPT_ACCEPTED);
	assert_int_equal(world.report_count, 0);
}

/* The worker reads late: G's retransmits of before the refusal are still in the ring, and its end behind them. */
static void test_refused_and_the_ring_is_behind(void **state)
{
	static const uint16_t port = PORT;

	(void)state;
	bring_to(ATTEMPT_REFUSED, PORT, ISN);
	world.ring_has_more = true;
	in_round(run_limit, &port);
	assert_int_equal(state_of(PORT), ATTEMPT_REFUSED);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(world.dials, 1);
	world.ring_has_more = false;
	in_round(run_limit, &port);
	assert_int_equal(state_of(PORT), -1);
}

static void run_accepted_limit(const void *argument)
{
	(void)argument;
	world.worker.accepted_timer.on_expire(&world.worker.accepted_timer);
}

/* The same of one that was accepted: a copy that is read after it is forgotten would dial for a G that is served. */
static void test_accepted_and_the_ring_is_behind(void **state)
{
	(void)state;
	bring_to(ATTEMPT_ACCEPTED, PORT, ISN);
	attempt_of(PORT)->accepted_ns = 1;
	world.ring_has_more = true;
	in_round(run_accepted_limit, NULL);
	assert_int_equal(state_of(PORT), ATTEMPT_ACCEPTED);
	assert_true(world.worker.accepted_timer.due_ns > 0);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(world.dials, 1);
	world.ring_has_more = false;
	in_round(run_accepted_limit, NULL);
	assert_int_equal(state_of(PORT), -1);
}

static void test_released_and_never_accepted(void **state)
{
	(void)state;
	bring_to(ATTEMPT_RELEASED, PORT, ISN);
	wait_for_state(PORT, -1);
	assert_int_equal(last_report(), REASON_NEVER_ACCEPTED);
}

/* It is in the accept queue, and the loop has had no time to say so. */
static void test_accepted_at_the_limit(void **state)
{
	static const uint16_t port = PORT;

	(void)state;
	bring_to(ATTEMPT_RELEASED, PORT, ISN);
	world.child = (struct sockaddr_in){
	        .sin_family = AF_INET,
	        .sin_port = htons(PORT),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	world.child_queued = true;
	in_round(run_limit, &port);
	assert_int_equal(state_of(PORT), ATTEMPT_ACCEPTED);
	assert_int_equal(world.relays, 1);
	assert_int_equal(world.report_count, 0);
}

/* ---- limits of number ---- */

static void test_attempts_in_flight_are_bounded(void **state)
{
	const unsigned int share = MAX_ATTEMPTS - MAX_ATTEMPTS / 4;

	(void)state;
	world.backend = BACKEND_IS_SILENT;
	for (unsigned int i = 0; i < 4 * MAX_ATTEMPTS; i++) {
		g_connects((uint16_t)(PORT + i), ISN, POSTERN_VERDICT_TLS);
		g_sends_syn((uint16_t)(PORT + i), ISN);
	}
	/* All to one destination: it leaves room for others. */
	assert_int_equal(world.worker.in_flight, share);
	assert_int_equal(world.dials, share);
	assert_int_equal(world.resets, 4 * MAX_ATTEMPTS - share);
	assert_int_equal(world.worker.attempt_count, 2 * MAX_ATTEMPTS);
	assert_int_equal(last_report(), REASON_TOO_MANY_HANDSHAKES);
	g_is_gone(PORT, ISN);
	assert_int_equal(world.worker.in_flight, share - 1);
}

static void test_gateway_leaves_room_for_another(void **state)
{
	struct worker_gateway other = {.gateway = &world.gateway};

	(void)state;
	world.worker.options.max_attempts = 4;
	world.worker_gateway->next = &other;
	for (unsigned int i = 0; i < 5; i++) {
		struct postern_connect_record record = connect_record(POSTERN_RECORD_CONNECT, (uint16_t)(PORT + i), ISN,
		                                                      POSTERN_VERDICT_HOLD);

		record.socket.destination = backend_key(10 + i); /* not one twice */
		send_record(run_connect, &record);
	}
	assert_int_equal(world.worker.in_flight, 3);
	assert_int_equal(last_report(), REASON_TOO_MANY_HANDSHAKES);
	world.worker_gateway->next = NULL;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_limits_of_time),
	        CASE(test_time_without_a_turn),
	        CASE(test_a_turn_that_comes_late),
	        CASE(test_answered_while_the_agent_stood_still),
	        CASE(test_the_backend_is_busy_with_those_before),
	        CASE(test_the_backend_answers_others),
	        CASE(test_refused_and_the_ring_is_behind),
	        CASE(test_accepted_and_the_ring_is_behind),
	        CASE(test_released_and_never_accepted),
	        CASE(test_accepted_at_the_limit),
	        CASE(test_attempts_in_flight_are_bounded),
	        CASE(test_gateway_leaves_room_for_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
