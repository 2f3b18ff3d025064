/* SPDX-License-Identifier: GPL-2.0-only */
/* An attempt through every state of the diagram in worker_internal.h, and out of each of them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "attempt_world.h"

/* But ACCEPTED, which is no attempt any more. */
static const enum attempt_state all_states[] = {
        ATTEMPT_ORPHAN, ATTEMPT_WAITING,  ATTEMPT_DIALING, ATTEMPT_HANDSHAKE,
        ATTEMPT_READY,  ATTEMPT_RELEASED, ATTEMPT_REFUSED,
};

/* ---- the way through ---- */

static void test_verified_is_released(void **state)
{
	(void)state;
	world.handshake = TLS_STEP_WANT_READ;
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
	g_sends_syn(PORT, ISN);
	assert_int_equal(state_of(PORT), ATTEMPT_HANDSHAKE);
	assert_int_equal(world.syns + world.resets, 0);
	world.handshake = TLS_STEP_DONE;
	step();
	assert_int_equal(world.syns, 1);
	assert_int_equal(world.relays, 1);
	assert_int_equal(world.phase, POSTERN_B_ARMED);
	assert_int_equal(world.report_count, 0);
	assert_int_equal(state_of(PORT), ATTEMPT_ACCEPTED);
	assert_string_equal(world.connection->sni, "echo.example");
}

/* The three orders in which CONNECT, SYN and the end of the handshake can come. */
static void test_syn_first_and_syn_last(void **state)
{
	(void)state;
	g_sends_syn(PORT, ISN);
	assert_int_equal(state_of(PORT), ATTEMPT_ORPHAN);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
	step();
	assert_int_equal(world.relays, 1);

	g_connects(PORT + 1, ISN, POSTERN_VERDICT_TLS);
	step();
	assert_int_equal(state_of(PORT + 1), ATTEMPT_READY);
	assert_int_equal(world.syns, 1);
	g_sends_syn(PORT + 1, ISN);
	assert_int_equal(world.syns, 2);
	assert_int_equal(world.relays, 2);
}

static void test_repeated_records_change_nothing(void **state)
{
	(void)state;
	bring_to(ATTEMPT_DIALING, PORT, ISN);
	g_sends_syn(PORT, ISN);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	g_sends_syn(PORT, ISN);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
	assert_int_equal(world.dials, 1);
	assert_int_equal(world.worker.in_flight, 1);
	assert_int_equal(world.syns + world.resets, 0);
}

/*
 * G sent its SYN again while the handshake ran, and the records were read after the connect was completed: that is not
 * another connect (and was taken for one: B was dialed twice, and the second one reset after a second).
 */
static void test_records_that_come_late(void **state)
{
	(void)state;
	bring_to(ATTEMPT_ACCEPTED, PORT, ISN);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	g_sends_syn(PORT, ISN);
	step();
	assert_int_equal(state_of(PORT), ATTEMPT_ACCEPTED);
	assert_int_equal(world.dials, 1);
	assert_int_equal(world.syns, 1);
	assert_int_equal(world.resets, 0);
	/* The port's next connect is one, in whatever order its records come. */
	g_sends_syn(PORT, ISN + 1);
	assert_int_equal(state_of(PORT), ATTEMPT_ORPHAN);
	g_connects(PORT, ISN + 1, POSTERN_VERDICT_TLS);
	step();
	assert_int_equal(world.relays, 2);
	g_connects(PORT, ISN + 2, POSTERN_VERDICT_TLS);
	step();
	g_sends_syn(PORT, ISN + 2);
	assert_int_equal(world.relays, 3);
	assert_int_equal(world.report_count, 0);
}

static void test_accepted_are_bounded(void **state)
{
	(void)state;
	world.worker.options.max_connections = 20000;
	for (unsigned int i = 0; i < 9000; i++) {
		g_connects((uint16_t)(10000 + i), ISN, POSTERN_VERDICT_TLS);
		g_sends_syn((uint16_t)(10000 + i), ISN);
		step();
		in_round(run_abort_all, NULL);
	}
	assert_int_equal(world.relays, 9000);
	assert_in_range(world.worker.accepted_count, 1, 8192);
}

static void test_lost_release_is_repeated_with_the_syn(void **state)
{
	(void)state;
	bring_to(ATTEMPT_RELEASED, PORT, ISN);
	assert_int_equal(world.relays, 0);
	world.lost = false;
	g_sends_syn(PORT, ISN);
	assert_int_equal(world.syns, 2);
	assert_int_equal(world.relays, 1);
}

static void test_release_that_fails(void **state)
{
	static const struct {
		int error;
		int expected;
	} rows[] = {
	        {EAGAIN, ATTEMPT_READY}, /* the next SYN does it */
	        {ENOBUFS, ATTEMPT_READY},
	        {EPERM, ATTEMPT_REFUSED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint16_t port = (uint16_t)(PORT + i);

		g_connects(port, ISN, POSTERN_VERDICT_TLS);
		step();
		world.send_error = rows[i].error;
		g_sends_syn(port, ISN);
		assert_int_equal(state_of(port), rows[i].expected);
		world.send_error = 0;
		g_sends_syn(port, ISN);
	}
	assert_int_equal(world.relays, 2);
	assert_int_equal(world.resets, 1);
	assert_int_equal(last_report(), REASON_RELEASE_FAILED);
}

/* ---- refusals ---- */

static void test_backend_that_fails(void **state)
{
	static const struct {
		enum backend backend;
		enum tls_step handshake;
		enum postern_reason reason;
		unsigned int resets, unreachables;
	} rows[] = {
	        {BACKEND_REFUSES, TLS_STEP_DONE, REASON_BACKEND_REFUSED, 1, 0},
	        {BACKEND_UNREACHABLE, TLS_STEP_DONE, REASON_BACKEND_UNREACHABLE, 0, 1},
	        {BACKEND_ANSWERS, TLS_STEP_FAILED, REASON_CERTIFICATE_UNTRUSTED, 1, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint16_t port = (uint16_t)(PORT + i);

		world.backend = rows[i].backend;
		world.handshake = rows[i].handshake;
		world.resets = world.unreachables = 0;
		g_connects(port, ISN, POSTERN_VERDICT_TLS);
		step();
		assert_int_equal(state_of(port), ATTEMPT_REFUSED);
		assert_int_equal(last_report(), rows[i].reason);
		/* Refused before the SYN is known: told when it comes, and again when it comes again. */
		assert_int_equal(world.resets + world.unreachables, 0);
		g_sends_syn(port, ISN);
		assert_int_equal(world.resets, rows[i].resets);
		assert_int_equal(world.unreachables, rows[i].unreachables);
		g_sends_syn(port, ISN);
		assert_int_equal(world.resets + world.unreachables, 2);
		g_is_gone(port, ISN);
		assert_null(attempt_of(port));
		assert_int_equal(world.report_count, i + 1);
	}
	assert_int_equal(world.relays, 0);
}

static void test_denied(void **state)
{
	(void)state;
	publish(POSTERN_VERDICT_DENY, 1);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(state_of(PORT), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_NO_VALID_CA);
	assert_int_equal(world.dials, 0);
}

static void test_orphans(void **state)
{
	(void)state;
	g_sends_syn(PORT, ISN);
	assert_int_equal(world.resets, 0);
	g_sends_syn(PORT, ISN);
	assert_int_equal(world.resets, 1);
	assert_int_equal(last_report(), REASON_NO_CONNECT_RECORD);
	assert_null(attempt_of(PORT)); /* nothing else will come for it */

	/* Another SYN of the same port is another connect. */
	g_sends_syn(PORT, ISN);
	g_sends_syn(PORT, ISN + 1);
	assert_int_equal(world.resets, 1);
	assert_int_equal(world.worker.attempt_count, 1);
	assert_int_equal(world.dials, 0);
}

static void test_orphans_are_bounded(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3000; i++)
		g_sends_syn((uint16_t)(1024 + i), ISN);
	assert_int_equal(world.worker.orphan_count, 1024);
	assert_int_equal(world.resets, 3000 - 1024);
}

/* A port that is used again: the old attempt goes, a late SYN of the old one is nobody's. */
static void test_another_isn(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all_states); i++) {
		uint16_t port = (uint16_t)(PORT + i);
		size_t reports = world.report_count;

		bring_to(all_states[i], port, ISN);
		reports = world.report_count;
		world.backend = BACKEND_IS_SILENT;
		world.lost = false;
		publish(POSTERN_VERDICT_TLS, 1);
		g_connects(port, ISN + 9, POSTERN_VERDICT_TLS);
		assert_int_equal(state_of(port), ATTEMPT_DIALING);
		g_sends_syn(port, ISN);
		assert_int_equal(state_of(port), ATTEMPT_DIALING);
		assert_false(attempt_of(port)->syn_known);
		if (all_states[i] == ATTEMPT_REFUSED)
			assert_int_equal(world.report_count, reports);
		else
			assert_int_equal(last_report(), REASON_GATEWAY_GAVE_UP);
		/* The end of the old socket, told late, does not end the new one. */
		g_is_gone(port, ISN);
		assert_int_equal(state_of(port), ATTEMPT_DIALING);
		g_is_gone(port, ISN + 9);
		assert_null(attempt_of(port));
		world.backend = BACKEND_ANSWERS;
		world.handshake = TLS_STEP_DONE;
	}
}

static void test_gone_in_each_state(void **state)
{
	static const enum postern_reason reasons[] = {
	        [ATTEMPT_ORPHAN] = REASON_GATEWAY_GAVE_UP,  [ATTEMPT_WAITING] = REASON_HOLD_TIMEOUT,
	        [ATTEMPT_DIALING] = REASON_BACKEND_SILENT,  [ATTEMPT_HANDSHAKE] = REASON_HANDSHAKE_TIMEOUT,
	        [ATTEMPT_READY] = REASON_GATEWAY_GAVE_UP,   [ATTEMPT_RELEASED] = REASON_GATEWAY_GAVE_UP,
	        [ATTEMPT_REFUSED] = REASON_BACKEND_REFUSED, /* said before */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all_states); i++) {
		uint16_t port = (uint16_t)(PORT + i);

		bring_to(all_states[i], port, ISN);
		g_is_gone(port, ISN);
		assert_null(attempt_of(port));
		assert_int_equal(last_report(), reasons[all_states[i]]);
		assert_int_equal(world.report_count, i + 1);
		assert_int_equal(world.worker.in_flight, 0);
		world.backend = BACKEND_ANSWERS;
		world.handshake = TLS_STEP_DONE;
		world.lost = false;
		publish(POSTERN_VERDICT_TLS, 1);
	}
}

/* A gateway's socket in a namespace that is not the one it is served in. */
static void test_another_namespace(void **state)
{
	struct postern_connect_record record = connect_record(POSTERN_RECORD_CONNECT, PORT, ISN, POSTERN_VERDICT_TLS);

	(void)state;
	record.netns_cookie = NETNS_COOKIE + 1;
	send_record(run_connect, &record);
	assert_null(attempt_of(PORT));
	assert_int_equal(world.dials, 0);
	assert_int_equal(failures_total(world.worker.options.failures, REASON_GATEWAY_REMOVED), 1);
}

/* ---- HOLD ---- */

static void test_hold_is_plain(void **state)
{
	(void)state;
	bring_to(ATTEMPT_WAITING, PORT, ISN);
	g_sends_syn(PORT, ISN);
	assert_int_equal(world.questions, 1);
	assert_int_equal(world.dials, 0);
	answer(world.last_question, REASON_NONE);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
	assert_int_equal(world.phase, POSTERN_B_PLAIN);
	step();
	assert_int_equal(world.relays, 1);
	assert_int_equal(world.sessions, 0);
	assert_int_equal(world.connection->verdict, POSTERN_VERDICT_PLAIN);
}

static void test_hold_finds_policy(void **state)
{
	(void)state;
	bring_to(ATTEMPT_WAITING, PORT, ISN);
	bring_to(ATTEMPT_WAITING, PORT + 1, ISN);
	publish(POSTERN_VERDICT_TLS, 3);
	answer(1, REASON_NONE);
	assert_int_equal(world.phase, POSTERN_B_HANDSHAKE);
	publish(POSTERN_VERDICT_DENY, 3);
	answer(2, REASON_NONE);
	assert_int_equal(state_of(PORT + 1), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_NO_VALID_CA);
	assert_null(world.worker.waiting.head);
}

/* What is covered by the snapshot at hand needs no question. */
static void test_hold_of_a_covered_key(void **state)
{
	(void)state;
	g_connects(PORT, ISN, POSTERN_VERDICT_HOLD);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
	assert_int_equal(world.questions, 0);
}

static void test_hold_refused(void **state)
{
	static const enum postern_reason refusals[] = {REASON_HOLD_TIMEOUT, REASON_NO_MEMORY};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		uint16_t port = (uint16_t)(PORT + i);

		bring_to(ATTEMPT_WAITING, port, ISN);
		answer(world.last_question, refusals[i]);
		assert_int_equal(state_of(port), ATTEMPT_REFUSED);
		assert_int_equal(last_report(), refusals[i]);
	}
	world.decision_error = -ENOMEM;
	g_connects(PORT + 5, ISN, POSTERN_VERDICT_HOLD);
	assert_int_equal(state_of(PORT + 5), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_NO_MEMORY);
	assert_int_equal(world.dials, 0);
}

/* Of five that wait, the second gave up; the answers to 1, 2, 4 and to questions that nobody asked. */
static void test_each_question_has_its_answer(void **state)
{
	(void)state;
	world.backend = BACKEND_IS_SILENT;
	for (uint16_t i = 0; i < 5; i++)
		bring_to(ATTEMPT_WAITING, (uint16_t)(PORT + i), ISN);
	g_is_gone(PORT + 1, ISN);
	answers.as_of_ns = monotonic_ns();
	answers.answers[0] = (struct hold_answer){.question = 0, .refusal = REASON_INTERNAL};
	answers.answers[1] = (struct hold_answer){.question = 1};
	answers.answers[2] = (struct hold_answer){.question = 2, .refusal = REASON_INTERNAL};
	answers.answers[3] = (struct hold_answer){.question = 4, .refusal = REASON_NO_MEMORY};
	answers.answers[4] = (struct hold_answer){.question = 99, .refusal = REASON_INTERNAL};
	answers.count = 5;
	in_round(run_answers, NULL);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
	assert_int_equal(state_of(PORT + 1), -1);
	assert_int_equal(state_of(PORT + 2), ATTEMPT_WAITING);
	assert_int_equal(state_of(PORT + 3), ATTEMPT_REFUSED);
	assert_int_equal(state_of(PORT + 4), ATTEMPT_WAITING);
}

/* An answer that is older than the connect says nothing about it. */
static void test_stale_answer_is_asked_again(void **state)
{
	(void)state;
	bring_to(ATTEMPT_WAITING, PORT, ISN);
	answers.as_of_ns = attempt_of(PORT)->begun_ns - 1;
	answers.answers[0] = (struct hold_answer){.question = world.last_question};
	answers.count = 1;
	in_round(run_answers, NULL);
	assert_int_equal(state_of(PORT), ATTEMPT_WAITING);
	assert_int_equal(world.questions, 2);
	assert_int_equal(world.dials, 0);
	answer(world.last_question, REASON_NONE);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
}

/* The kernel said TLS, the snapshot has given the policy up: the key is leaving the map, and the connect waits for it.
 */
static void test_policy_that_just_went(void **state)
{
	(void)state;
	publish(POSTERN_VERDICT_PLAIN, 1);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(state_of(PORT), ATTEMPT_WAITING);
	assert_int_equal(world.questions, 1);
	answer(world.last_question, REASON_NONE);
	assert_int_equal(world.phase, POSTERN_B_PLAIN);
}

/* ---- accept ---- */

static void test_nobody_released_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all_states); i++) {
		uint16_t port = (uint16_t)(PORT + i);

		if (all_states[i] == ATTEMPT_RELEASED)
			continue;
		bring_to(all_states[i], port, ISN);
		world.child = (struct sockaddr_in){
		        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		world.child_queued = true;
		in_round(run_accept, NULL);
		assert_false(world.child_queued);
		assert_int_equal(last_report(), REASON_UNVERIFIED_ACCEPT);
		g_is_gone(port, ISN);
		world.backend = BACKEND_ANSWERS;
		world.handshake = TLS_STEP_DONE;
		publish(POSTERN_VERDICT_TLS, 1);
	}
	assert_int_equal(world.relays, 0);
}

static void test_no_descriptor_for_accept(void **state)
{
	(void)state;
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	step();
	world.no_descriptors = true;
	g_sends_syn(PORT, ISN);
	assert_false(world.child_queued); /* it does not stay and wake the loop for ever */
	assert_int_equal(world.relays, 0);
	assert_int_equal(state_of(PORT), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_NO_DESCRIPTORS);
	assert_int_not_equal(fcntl(world.worker.spare_fd, F_GETFD), -1);
}

static unsigned int looks;

static void on_queue(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	looks++;
	release_accept(&world.worker_gateway->listeners[0], LISTENER_FD);
}

/* A queue that can be neither accepted nor reset is readable for ever: it must not cost every round of the loop. */
static void test_no_memory_for_accept(void **state)
{
	struct worker_listener *listener = &world.worker_gateway->listeners[0];
	struct loop *loop = world.worker.loop;
	int queue = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)state;
	looks = 0;
	listener->source_v4.on_event = on_queue;
	assert_int_equal(loop_add(loop, &listener->source_v4, queue, EPOLLIN), 0);
	world.no_memory = true;
	world.child_queued = true;
	while (looks == 0)
		loop_step(loop, -1);
	assert_int_not_equal(listener->rest.due_ns, 0);
	assert_int_equal(listener->source_v4.events, 0);
	while (looks == 1) /* it is looked at again by itself */
		loop_step(loop, -1);
	world.no_memory = false;
	while (world.child_queued)
		loop_step(loop, -1);
	assert_int_equal(listener->source_v4.events, EPOLLIN);
	assert_int_equal(last_report(), REASON_UNVERIFIED_ACCEPT);
	assert_int_not_equal(fcntl(world.worker.spare_fd, F_GETFD), -1);
	loop_remove(loop, &listener->source_v4);
	close(queue);
}

/* ---- B ---- */

static void test_source_that_b_cannot_use(void **state)
{
	struct postern_connect_record record = connect_record(POSTERN_RECORD_CONNECT, PORT, ISN, POSTERN_VERDICT_TLS);

	(void)state;
	record.header.tuple.local.byte[12] = 203; /* 203.0.0.1 */
	send_record(run_connect, &record);
	assert_int_equal(last_report(), REASON_SOURCE_ADDRESS);
	assert_int_equal(world.dials, 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_verified_is_released),
	        CASE(test_syn_first_and_syn_last),
	        CASE(test_repeated_records_change_nothing),
	        CASE(test_records_that_come_late),
	        CASE(test_accepted_are_bounded),
	        CASE(test_lost_release_is_repeated_with_the_syn),
	        CASE(test_release_that_fails),
	        CASE(test_backend_that_fails),
	        CASE(test_denied),
	        CASE(test_orphans),
	        CASE(test_orphans_are_bounded),
	        CASE(test_another_isn),
	        CASE(test_gone_in_each_state),
	        CASE(test_another_namespace),
	        CASE(test_hold_is_plain),
	        CASE(test_hold_finds_policy),
	        CASE(test_hold_of_a_covered_key),
	        CASE(test_hold_refused),
	        CASE(test_each_question_has_its_answer),
	        CASE(test_stale_answer_is_asked_again),
	        CASE(test_policy_that_just_went),
	        CASE(test_nobody_released_it),
	        CASE(test_no_descriptor_for_accept),
	        CASE(test_no_memory_for_accept),
	        CASE(test_source_that_b_cannot_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
