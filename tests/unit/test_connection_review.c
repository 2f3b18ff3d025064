/* SPDX-License-Identifier: GPL-2.0-only */
/* The design's rule for old connections: verified once more, kept or reset, drained. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <time.h>

#include "attempt_world.h"

#define LONG_AGO 1000
#define FAR_AWAY (INT64_C(1) << 40)

static void make_connections(uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		g_connects((uint16_t)(PORT + i), (uint32_t)(ISN + i), POSTERN_VERDICT_TLS);
		step();
		g_sends_syn((uint16_t)(PORT + i), (uint32_t)(ISN + i));
		step();
	}
	assert_int_equal(atomic_load(&world.worker.statistics.connections_live), count);
}

static void run_timer(const void *argument)
{
	(void)argument;
	world.worker.review.timer.on_expire(&world.worker.review.timer);
}

static unsigned int live(void)
{
	return (unsigned int)atomic_load(&world.worker.statistics.connections_live);
}

static void test_other_settings_are_judged(void **state)
{
	static const struct {
		enum postern_verdict verdict;
		uint32_t settings_id;
		bool distrusted;
		unsigned int judged, aborted;
	} rows[] = {
	        {POSTERN_VERDICT_TLS, 1, true, 0, 0}, /* the same settings */
	        {POSTERN_VERDICT_TLS, 2, false, 1, 0},  {POSTERN_VERDICT_TLS, 2, true, 1, 1},
	        {POSTERN_VERDICT_PLAIN, 2, true, 0, 0}, {POSTERN_VERDICT_NONE, 2, true, 0, 0},
	        {POSTERN_VERDICT_DENY, 2, false, 0, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		publish(POSTERN_VERDICT_TLS, 1);
		world.distrusted = false;
		make_connections(1);
		world.distrusted = rows[i].distrusted;
		world.judged = world.aborted = 0;
		change_to(rows[i].verdict, rows[i].settings_id);
		if (world.judged != rows[i].judged || world.aborted != rows[i].aborted)
			fail_msg("row %zu: expected %u judged and %u reset, seen %u and %u", i, rows[i].judged,
			         rows[i].aborted, world.judged, world.aborted);
		if (rows[i].aborted && rows[i].judged) {
			assert_int_equal(world.abort_reason, REASON_CERTIFICATE_UNTRUSTED);
			assert_string_equal(world.abort_detail, "verified again after a change of policy : played");
			assert_int_equal(world.last_context, 2);
		}
		/* Judged once: the settings are its own now. */
		world.judged = 0;
		change_to(rows[i].verdict, rows[i].settings_id);
		assert_int_equal(world.judged, 0);
		in_round(run_drop_all, NULL);
	}
}

static void test_gone_context(void **state)
{
	(void)state;
	make_connections(2);
	/* The control thread has published again, and dropped the contexts of the snapshot that the pass is about. */
	world.missing_context = 2;
	world.publish_at_context = make_snapshot(POSTERN_VERDICT_TLS, 3);
	change_to(POSTERN_VERDICT_TLS, 2);
	assert_int_equal(world.aborted, 0);
	assert_int_equal(world.judged, 2);
	assert_int_equal(world.last_context, 3);
	/* One that cannot be built. */
	change_to(POSTERN_VERDICT_TLS, 2);
	assert_int_equal(world.aborted, 2);
	assert_int_equal(world.abort_reason, REASON_INTERNAL);
}

static void test_expiry(void **state)
{
	(void)state;
	world.valid_until = FAR_AWAY;
	make_connections(1);
	in_round(run_timer, NULL);
	assert_int_equal(world.judged, 0);
	assert_null(world.worker.review.snapshot);

	in_round(run_drop_all, NULL);
	world.valid_until = LONG_AGO;
	make_connections(2);
	assert_int_equal(world.judged, 0);
	in_round(run_timer, NULL);
	assert_int_equal(world.judged, 2);
	assert_int_equal(live(), 2);
	/* There is another path, or a newer CRL: it holds until then. */
	world.valid_until = FAR_AWAY;
	in_round(run_timer, NULL);
	assert_int_equal(world.judged, 4);
	assert_int_equal(world.worker.review.earliest_expiry, FAR_AWAY);
	in_round(run_timer, NULL);
	assert_int_equal(world.judged, 4);

	in_round(run_drop_all, NULL);
	world.valid_until = LONG_AGO;
	make_connections(2);
	world.distrusted = true;
	world.aborted = 0;
	in_round(run_timer, NULL);
	assert_int_equal(world.aborted, 2);
	assert_string_equal(world.abort_detail, "verified again after a certificate expired; policy : played");
}

/* Nobody asks for a certificate any more. */
static void test_expiry_without_policy(void **state)
{
	(void)state;
	world.valid_until = LONG_AGO;
	make_connections(1);
	world.distrusted = true;
	change_to(POSTERN_VERDICT_NONE, 1);
	in_round(run_timer, NULL);
	in_round(run_timer, NULL);
	assert_int_equal(world.judged, 0);
	assert_int_equal(live(), 1);
}

static void test_drain(void **state)
{
	static struct client_certificate first = {.digest = {1}}, second = {.digest = {2}};
	static char name[] = "edge";
	static const struct gateway_status unusable = {.namespace_ = name, .name = name};
	const struct {
		struct client_certificate *before, *after;
		const struct gateway_status *unusable;
		bool drains;
	} rows[] = {
	        {NULL, NULL, NULL, false},     {&first, &first, NULL, false}, {&first, &second, NULL, true},
	        {&first, NULL, NULL, true},    {NULL, &first, NULL, true},    {&first, NULL, &unusable, true},
	        {NULL, NULL, &unusable, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t until;

		world.certificate = rows[i].before;
		world.unusable = NULL;
		world.idle = false;
		make_connections(1);
		world.aborted = 0;
		world.certificate = rows[i].after;
		world.unusable = rows[i].unusable;
		change_to(POSTERN_VERDICT_TLS, 1);
		if (world.worker.review.draining != rows[i].drains)
			fail_msg("row %zu: expected draining %d, seen %zu", i, rows[i].drains,
			         world.worker.review.draining);
		/* While it is busy it may go on; the time runs from the first change. */
		until = world.worker.connections->trust.drain_until_ns;
		assert_int_equal(until != 0, rows[i].drains);
		change_to(POSTERN_VERDICT_TLS, 1);
		in_round(run_timer, NULL);
		assert_int_equal(world.aborted, 0);
		assert_int_equal(world.worker.connections->trust.drain_until_ns, until);
		/* It is put back. */
		world.certificate = rows[i].before;
		world.unusable = NULL;
		change_to(POSTERN_VERDICT_TLS, 1);
		assert_int_equal(world.worker.review.draining, 0);
		/* And taken again: it ends when it is idle, or when its time is over. */
		world.certificate = rows[i].after;
		world.unusable = rows[i].unusable;
		change_to(POSTERN_VERDICT_TLS, 1);
		if (i % 2)
			world.idle = true;
		else if (rows[i].drains)
			world.worker.connections->trust.drain_until_ns = 1;
		in_round(run_timer, NULL);
		assert_int_equal(world.aborted, rows[i].drains);
		if (rows[i].drains)
			assert_int_equal(world.abort_reason, REASON_POLICY_CHANGED);
		in_round(run_drop_all, NULL);
	}
}

static void run_end_second(const void *argument)
{
	(void)argument;
	relay_abort(world.worker.review.next->relay, REASON_BACKEND_RESET, "");
}

/* A pass in slices: who ends meanwhile is passed over, who joins is not looked at, a newer change begins again. */
static void test_slices(void **state)
{
	(void)state;
	make_connections(6);
	world.review_budget_ns = 0; /* one connection in each round */
	change_to(POSTERN_VERDICT_TLS, 2);
	assert_int_equal(world.judged, 1);
	assert_true(world.review_left);
	in_round(run_end_second, NULL);
	assert_int_equal(world.judged, 2);
	while (world.review_left)
		step();
	assert_int_equal(world.judged, 5);
	assert_null(world.worker.review.snapshot);
	assert_int_equal(live(), 5);

	world.judged = 0;
	world.judged_until = FAR_AWAY;
	world.valid_until = FAR_AWAY - 1;
	change_to(POSTERN_VERDICT_TLS, 3);
	g_connects(PORT + 10, ISN, POSTERN_VERDICT_TLS);
	step();
	g_sends_syn(PORT + 10, ISN);
	assert_int_equal(live(), 6);
	while (world.review_left)
		step();
	assert_int_equal(world.judged, 5);
	assert_int_equal(world.worker.review.earliest_expiry, FAR_AWAY - 1); /* of the one that joined */

	world.judged = 0;
	change_to(POSTERN_VERDICT_TLS, 4);
	step();
	change_to(POSTERN_VERDICT_TLS, 5);
	while (world.review_left)
		step();
	assert_int_equal(world.judged, 2 + 6);
	for (struct connection *connection = world.worker.connections; connection; connection = connection->next)
		assert_int_equal(connection->trust.settings_id, 5);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_other_settings_are_judged), CASE(test_gone_context), CASE(test_expiry),
	        CASE(test_expiry_without_policy),     CASE(test_drain),        CASE(test_slices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
