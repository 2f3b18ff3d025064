/* SPDX-License-Identifier: GPL-2.0-only */
/* What an attempt and its connection refer to changes under them: the policy, its TLS context, the lane's slots. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "attempt_world.h"

/* ---- the policy changes ---- */

static void test_other_settings_begin_anew(void **state)
{
	static const enum attempt_state states[] = {ATTEMPT_DIALING, ATTEMPT_HANDSHAKE, ATTEMPT_READY};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		uint16_t port = (uint16_t)(PORT + i);
		unsigned int dials;

		publish(POSTERN_VERDICT_TLS, 1);
		world.backend = BACKEND_ANSWERS;
		world.handshake = TLS_STEP_DONE;
		bring_to(states[i], port, ISN);
		dials = world.dials;
		change_to(POSTERN_VERDICT_TLS, 1);
		assert_int_equal(world.dials, dials);
		assert_int_equal(state_of(port), states[i]);

		world.backend = BACKEND_ANSWERS;
		world.handshake = TLS_STEP_DONE;
		change_to(POSTERN_VERDICT_TLS, 2);
		assert_int_equal(world.dials, dials + 1);
		assert_int_equal(state_of(port), ATTEMPT_DIALING);
		g_sends_syn(port, ISN);
		step();
		assert_int_equal(world.relays, i + 1);
		assert_int_equal(world.last_context, 2);
	}
	assert_int_equal(world.report_count, 0);
}

/* What the handshake with the old settings waited for its turn is no time of the new one. */
static void test_anew_without_the_old_wait(void **state)
{
	(void)state;
	bring_to(ATTEMPT_HANDSHAKE, PORT, ISN);
	assert_int_not_equal(attempt_of(PORT)->queue_ns, 0);
	world.no_turn = true;
	change_to(POSTERN_VERDICT_TLS, 2);
	while (state_of(PORT) != ATTEMPT_HANDSHAKE)
		step();
	assert_int_equal(world.dials, 2);
	assert_int_equal(attempt_of(PORT)->queue_ns, 0);
}

/* The gateway shows another client certificate, or none any more: what was begun with the old one begins anew. */
static void test_other_certificate_begins_anew(void **state)
{
	static const enum attempt_state states[] = {ATTEMPT_DIALING, ATTEMPT_HANDSHAKE, ATTEMPT_READY};
	static struct client_certificate first, second;
	struct client_certificate *const to[] = {&second, NULL, &first};

	(void)state;
	world.certificate = &first;
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		uint16_t port = (uint16_t)(PORT + i);
		unsigned int dials;

		bring_to(states[i], port, ISN);
		world.backend = BACKEND_ANSWERS;
		world.handshake = TLS_STEP_DONE;
		dials = world.dials;
		change_to(POSTERN_VERDICT_TLS, 1);
		assert_int_equal(world.dials, dials);
		world.certificate = to[i];
		change_to(POSTERN_VERDICT_TLS, 1);
		assert_int_equal(world.dials, dials + 1);
		g_sends_syn(port, ISN);
		step();
		assert_ptr_equal(world.last_certificate, to[i]);
		assert_int_equal(world.relays, i + 1);
	}
	assert_int_equal(world.report_count, 0);
}

static void test_unusable_certificate_refuses(void **state)
{
	static char shop[] = "shop", edge[] = "edge", message[] = "no such Secret";
	static const struct gateway_status unusable = {
	        .namespace_ = shop, .name = edge, .has_reference = true, .resolved_refs.message = message};

	(void)state;
	bring_to(ATTEMPT_HANDSHAKE, PORT, ISN);
	world.unusable = &unusable;
	change_to(POSTERN_VERDICT_TLS, 1);
	assert_int_equal(state_of(PORT), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_CLIENT_CERTIFICATE_UNUSABLE);
	g_connects(PORT + 1, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(state_of(PORT + 1), ATTEMPT_REFUSED);
	assert_int_equal(world.dials, 1);
}

static void test_covered_while_dialed_in_plain(void **state)
{
	(void)state;
	bring_to(ATTEMPT_WAITING, PORT, ISN);
	answer(world.last_question, REASON_NONE);
	assert_int_equal(world.phase, POSTERN_B_PLAIN);
	change_to(POSTERN_VERDICT_TLS, 1);
	assert_int_equal(world.phase, POSTERN_B_HANDSHAKE);
	step();
	g_sends_syn(PORT, ISN);
	assert_int_equal(world.connection->verdict, POSTERN_VERDICT_TLS);
}

static void test_denied_in_each_state(void **state)
{
	static const enum attempt_state states[] = {ATTEMPT_DIALING, ATTEMPT_HANDSHAKE, ATTEMPT_READY};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		uint16_t port = (uint16_t)(PORT + i);

		publish(POSTERN_VERDICT_TLS, 1);
		bring_to(states[i], port, ISN);
		world.handshake = TLS_STEP_DONE;
		world.backend = BACKEND_ANSWERS;
		change_to(POSTERN_VERDICT_DENY, 1);
		assert_int_equal(state_of(port), ATTEMPT_REFUSED);
		assert_int_equal(last_report(), REASON_NO_VALID_CA);
	}
}

/* In the accept queue, and the loop has not said so yet: a connection, whose peer is verified by the new settings. */
static void test_changed_in_the_accept_queue(void **state)
{
	(void)state;
	bring_to(ATTEMPT_RELEASED, PORT, ISN);
	world.child = (struct sockaddr_in){
	        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	world.child_queued = true;
	change_to(POSTERN_VERDICT_TLS, 2);
	assert_int_equal(state_of(PORT), ATTEMPT_ACCEPTED);
	assert_int_equal(world.relays, 1);
	assert_int_equal(world.dials, 1);
	assert_int_equal(world.report_count, 0);
}

/* Between the release and accept(): G may believe that it is connected, and is reset. */
static void test_denied_after_the_release(void **state)
{
	(void)state;
	bring_to(ATTEMPT_RELEASED, PORT, ISN);
	change_to(POSTERN_VERDICT_DENY, 1);
	assert_int_equal(state_of(PORT), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_POLICY_CHANGED);
	world.child_queued = true;
	world.child = (struct sockaddr_in){
	        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	in_round(run_accept, NULL);
	assert_int_equal(world.relays, 0);
	assert_int_equal(last_report(), REASON_UNVERIFIED_ACCEPT);
}

static void test_deleted_policy_lets_live(void **state)
{
	(void)state;
	bring_to(ATTEMPT_HANDSHAKE, PORT, ISN);
	change_to(POSTERN_VERDICT_PLAIN, 1);
	assert_int_equal(state_of(PORT), ATTEMPT_HANDSHAKE);
	change_to(POSTERN_VERDICT_NONE, 1);
	assert_int_equal(state_of(PORT), ATTEMPT_HANDSHAKE);
	assert_int_equal(world.report_count, 0);
}

static void test_live_connections(void **state)
{
	static const struct {
		enum postern_verdict before, after;
		unsigned int aborted;
		enum postern_reason reason;
	} rows[] = {
	        {POSTERN_VERDICT_TLS, POSTERN_VERDICT_TLS, 0, REASON_NONE},
	        {POSTERN_VERDICT_TLS, POSTERN_VERDICT_PLAIN, 0, REASON_NONE},
	        {POSTERN_VERDICT_TLS, POSTERN_VERDICT_NONE, 0, REASON_NONE},
	        {POSTERN_VERDICT_TLS, POSTERN_VERDICT_DENY, 1, REASON_NO_VALID_CA},
	        {POSTERN_VERDICT_PLAIN, POSTERN_VERDICT_NONE, 0, REASON_NONE},
	        {POSTERN_VERDICT_PLAIN, POSTERN_VERDICT_TLS, 1, REASON_POLICY_CHANGED},
	        {POSTERN_VERDICT_PLAIN, POSTERN_VERDICT_DENY, 1, REASON_NO_VALID_CA},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint16_t port = (uint16_t)(PORT + i);

		publish(rows[i].before, 1);
		g_connects(port, ISN,
		           rows[i].before == POSTERN_VERDICT_TLS ? POSTERN_VERDICT_TLS : POSTERN_VERDICT_HOLD);
		if (rows[i].before == POSTERN_VERDICT_PLAIN)
			answer(world.last_question, REASON_NONE);
		g_sends_syn(port, ISN);
		step();
		assert_non_null(world.worker.connections);
		world.aborted = 0;
		change_to(rows[i].after, 1);
		if (world.aborted != rows[i].aborted)
			fail_msg("row %zu: expected %u resets, seen %u", i, rows[i].aborted, world.aborted);
		if (rows[i].aborted)
			assert_int_equal(world.abort_reason, rows[i].reason);
		in_round(run_drop_all, NULL);
	}
}

/* The snapshot that a worker holds may have been replaced, and its contexts dropped, before it asks for one. */
static void test_context_dropped_in_between(void **state)
{
	(void)state;
	world.missing_context = 1;
	world.publish_at_context = make_snapshot(POSTERN_VERDICT_TLS, 2);
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(state_of(PORT), ATTEMPT_DIALING);
	step();
	assert_int_equal(world.last_context, 2);
	/* One that could not be built stays missing. */
	publish(POSTERN_VERDICT_TLS, 1);
	g_connects(PORT + 1, ISN, POSTERN_VERDICT_TLS);
	assert_int_equal(state_of(PORT + 1), ATTEMPT_REFUSED);
	assert_int_equal(last_report(), REASON_INTERNAL);
}

/* ---- lane slots ---- */

static void g_closes(const struct attempt *attempt, uint32_t slot, uint64_t cookie)
{
	struct postern_connect_record record = connect_record(POSTERN_RECORD_CLOSED, PORT, ISN, POSTERN_VERDICT_TLS);

	(void)attempt;
	record.socket.lane_slot = slot;
	record.socket.cookie = cookie;
	send_record(run_closed, &record);
}

static void test_slot_is_given_back(void **state)
{
	uint32_t slot;
	uint64_t cookie;

	(void)state;
	world.worker.options.lane = true;
	assert_int_equal(world.worker.free_slot_count, 2);
	/* Withdrawn before G took it. */
	bring_to(ATTEMPT_READY, PORT, ISN);
	assert_int_equal(world.worker.free_slot_count, 1);
	g_is_gone(PORT, ISN);
	assert_int_equal(world.worker.free_slot_count, 2);
	/* The same when the SYN was sent again, and reached nobody. */
	bring_to(ATTEMPT_RELEASED, PORT, ISN);
	g_is_gone(PORT, ISN);
	assert_int_equal(world.worker.free_slot_count, 2);
	world.lost = false;

	/* Taken by G: it comes back with G's end and the connection's, in either order, and not by a stranger's end. */
	world.gateway_took_slot = true;
	for (unsigned int i = 0; i < 4; i++) {
		g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
		step();
		g_sends_syn(PORT, ISN);
		slot = world.connection->lane_slot;
		cookie = world.connection->gateway_cookie;
		g_closes(NULL, slot, cookie + 1);
		if (i % 2)
			g_closes(NULL, slot, cookie);
		assert_int_equal(world.worker.free_slot_count, 1);
		in_round(run_drop_all, NULL);
		assert_int_equal(world.worker.free_slot_count, i % 2 ? 2 : 1);
		g_closes(NULL, slot, cookie + 1);
		assert_int_equal(world.worker.free_slot_count, i % 2 ? 2 : 1);
		g_closes(NULL, slot, cookie);
		g_closes(NULL, slot, cookie);
		assert_int_equal(world.worker.free_slot_count, 2);
	}
}

/* Refused after the release: G may have the slot, whatever the attempt's state is called. */
static void test_slot_of_a_refused_release(void **state)
{
	(void)state;
	world.worker.options.lane = true;
	world.gateway_took_slot = true;
	g_connects(PORT, ISN, POSTERN_VERDICT_TLS);
	step();
	world.no_descriptors = true;
	g_sends_syn(PORT, ISN);
	assert_int_equal(state_of(PORT), ATTEMPT_REFUSED);
	g_is_gone(PORT, ISN);
	assert_int_equal(world.worker.free_slot_count, 1);
	g_closes(NULL, 1, 1000 + ISN);
	g_closes(NULL, 0, 1000 + ISN);
	assert_int_equal(world.worker.free_slot_count, 2);
}

/* CLOSED records that were lost: the kernel says whose G is in the lane no more. */
static void test_lost_closed_records_heal(void **state)
{
	(void)state;
	world.worker.options.lane = true;
	world.gateway_took_slot = true;
	for (uint16_t i = 0; i < 2; i++) {
		g_connects((uint16_t)(PORT + i), (uint32_t)(ISN + i), POSTERN_VERDICT_TLS);
		step();
		g_sends_syn((uint16_t)(PORT + i), (uint32_t)(ISN + i));
	}
	in_round(run_drop_all, NULL);
	assert_int_equal(world.worker.free_slot_count, 0);
	world.lane_gateway = 1000 + ISN; /* the first G is still there */
	world.offers = 0;
	g_connects(PORT + 5, ISN + 5, POSTERN_VERDICT_TLS);
	step();
	assert_int_equal(world.offers, 1);
	assert_int_equal(world.worker.free_slot_count, 0);
}

static void test_no_slot_for_blocking_sockets(void **state)
{
	static const uint32_t flags[] = {0, POSTERN_G_NONBLOCK | POSTERN_G_MPTCP};

	(void)state;
	world.worker.options.lane = true;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct postern_connect_record record = connect_record(POSTERN_RECORD_CONNECT, (uint16_t)(PORT + i), ISN,
		                                                      POSTERN_VERDICT_TLS);

		record.socket.flags = flags[i];
		send_record(run_connect, &record);
		step();
		assert_int_equal(state_of((uint16_t)(PORT + i)), ATTEMPT_READY);
	}
	assert_int_equal(world.offers, 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_other_certificate_begins_anew), CASE(test_unusable_certificate_refuses),
	        CASE(test_other_settings_begin_anew),     CASE(test_anew_without_the_old_wait),
	        CASE(test_covered_while_dialed_in_plain), CASE(test_denied_in_each_state),
	        CASE(test_changed_in_the_accept_queue),   CASE(test_denied_after_the_release),
	        CASE(test_deleted_policy_lets_live),      CASE(test_live_connections),
	        CASE(test_context_dropped_in_between),    CASE(test_slot_is_given_back),
	        CASE(test_slot_of_a_refused_release),     CASE(test_lost_closed_records_heal),
	        CASE(test_no_slot_for_blocking_sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
