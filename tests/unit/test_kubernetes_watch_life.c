// SPDX-License-Identifier: GPL-2.0-only
/* A watch's life: its states, how it waits for a server that is away or asks for time, and how it is hurried or ended.
 */
#include "watch_world.h"

#include "kubernetes/backoff.h"

#include <signal.h>

static void wait_for_state(struct fixture *fixture, enum kubernetes_watch_state expected)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (kubernetes_watch_statistics(fixture->watch)->state != expected) {
		assert_int_equal(loop_step(fixture->loop, 20), 0);
		if (monotonic_ns() > limit)
			fail_msg("expected state %s, seen %s (%s)", kubernetes_watch_state_name(expected),
			         kubernetes_watch_state_name(kubernetes_watch_statistics(fixture->watch)->state),
			         kubernetes_watch_statistics(fixture->watch)->error);
	}
}

static void test_states(void **state)
{
	static const struct {
		int status;
		enum kubernetes_watch_state expected;
		const char *error;
	} answers[] = {
	        {403, WATCH_DENIED, "403 Forbidden: said the server"},
	        {404, WATCH_ABSENT, "404 NotFound: said the server"},
	        {500, WATCH_BACKOFF, "500: said the server"},
	        {401, WATCH_BACKOFF, "401 Unauthorized: said the server"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		const struct step step = {"!watch", ANSWER, answers[i].status, "{\"message\":\"said the server\"}",
		                          NULL};
		struct fixture fixture = {0};

		start(&fixture, &step, 1);
		assert_int_equal(kubernetes_watch_statistics(fixture.watch)->state, WATCH_LISTING);
		wait_for_state(&fixture, answers[i].expected);
		assert_string_equal(kubernetes_watch_statistics(fixture.watch)->error, answers[i].error);
		assert_false(kubernetes_watch_statistics(fixture.watch)->synced);
		stop(&fixture);
	}
}

/* The server asks for two seconds, where the first back-off is one at most. */
static void test_retry_after(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 429, "{}", "Retry-After: 2\r\n"},
	        {"!watch", ANSWER, 200, LIST("10", "", ""), NULL},
	};
	struct fixture fixture = {0};
	uint64_t begun = monotonic_ns();

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	while (fixture.served < 2)
		assert_int_equal(loop_step(fixture.loop, 100), 0);
	assert_true(monotonic_ns() - begun >= 2000000000ull);
	stop(&fixture);
}

/* Many agents that lost one server must not come back as one: each waits as long as chance says, within bounds. */
static void test_jitter(void **state)
{
	static const struct {
		unsigned int attempt;
		uint64_t most, whole;
	} rows[] = {
	        {1, 60000000000, 1000000000},        {2, 60000000000, 2000000000},    {6, 60000000000, 32000000000},
	        {7, 60000000000, 60000000000},       {100, 60000000000, 60000000000}, {6, 30000000000, 30000000000},
	        {1000000, 30000000000, 30000000000},
	};
	enum { draws = 1000, parts = 8 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned int seen[parts] = {0};
		uint64_t half = rows[i].whole / 2;

		for (int n = 0; n < draws; n++) {
			uint64_t delay = kubernetes_backoff_ns(rows[i].attempt, rows[i].most);

			assert_in_range(delay, half, rows[i].whole);
			seen[delay == rows[i].whole ? parts - 1 : (delay - half) * parts / half]++;
		}
		/* An eighth of 1000 that is not met once has a chance of (7/8)^1000, which is 10^-58. */
		for (int part = 0; part < parts; part++)
			assert_true(seen[part] > 0);
	}
}

/* Wherever it is told something, a watch may end itself. */
static void test_freed_inside(void **state)
{
	static const struct step steps[] = {
	        {"!continue", ANSWER, 200, LIST("10", "x", ITEM("a", "1") "," ITEM("b", "2")), NULL},
	        {"continue", ANSWER, 200, LIST("10", "", ITEM("c", "3")), NULL},
	        {"watch", STREAM, 0, EVENT("ADDED", "d", "11") EVENT("DELETED", "b", "13") EVENT("ADDED", "e", "14"),
	         NULL},
	};
	static const char *const places[] = {"[ ", "+n/a@1 ", "+n/b@2 ", "+n/c@3 ", "] ", "+n/d@11 ", "-n/b "};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct fixture fixture = {.free_at = places[i]};
		size_t length;

		start(&fixture, steps, ARRAY_SIZE(steps));
		while (fixture.watch)
			assert_int_equal(loop_step(fixture.loop, 100), 0);
		for (unsigned int turns = 0; turns < 5; turns++)
			assert_int_equal(loop_step(fixture.loop, 5), 0);
		length = strlen(fixture.told) - strlen(places[i]);
		assert_string_equal(fixture.told + length, places[i]); /* nothing came after it */
		stop(&fixture);
	}
}

/* A server that is away for long: the watch goes on from where it was, and nothing is told in between. */
static void test_server_away(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1")), NULL},
	        {"watch", STREAM_CUT, 0, EVENT("ADDED", "b", "11"), NULL},
	        {"resourceVersion=11", ANSWER, 503, "{}", NULL},
	        {"resourceVersion=11", ANSWER, 500, "{}", NULL},
	        {"resourceVersion=11", ANSWER, 401, "{}", NULL},
	        {"resourceVersion=11", STREAM, 0, EVENT("ADDED", "c", "12"), NULL},
	};
	struct fixture fixture = {0};

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	wait_for_told(&fixture, "[ +n/a@1 ] +n/b@11 ");
	api_server_go(fixture.server);
	wait_until_served(&fixture, 4);
	assert_true(kubernetes_watch_statistics(fixture.watch)->failing_since_ns != 0);
	wait_until_served(&fixture, 6);
	wait_for_told(&fixture, "[ +n/a@1 ] +n/b@11 +n/c@12 ");
	assert_true(kubernetes_watch_statistics(fixture.watch)->failing_since_ns == 0);
	assert_string_equal(fixture.unexpected, "");
	stop(&fixture);
}

static void wait_for_resource_version(struct fixture *fixture, const char *expected)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (strcmp(kubernetes_watch_statistics(fixture->watch)->resource_version, expected) != 0) {
		assert_int_equal(loop_step(fixture->loop, 20), 0);
		if (monotonic_ns() > limit)
			fail_msg("expected resourceVersion %s, seen %s %s", expected,
			         kubernetes_watch_statistics(fixture->watch)->resource_version, fixture->unexpected);
	}
}

/*
 * How far does it reach? It is opened anew from where it was and for 3 s, so that the server's bookmark comes; nothing
 * is listed, told again or counted as a failure, and the one after it is as long as any.
 */
static void test_hasten(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1")), NULL},
	        {"resourceVersion=10", STREAM, 0, EVENT("ADDED", "b", "11"), NULL},
	        {"resourceVersion=11&timeoutSeconds=3$", STREAM_END, 0, BOOKMARK("20"), NULL},
	        {"!timeoutSeconds=3$", STREAM, 0, BOOKMARK("21"), NULL},
	        {"resourceVersion=21&timeoutSeconds=3$", STREAM, 0, BOOKMARK("30"), NULL},
	};
	struct fixture fixture = {0};

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	wait_for_told(&fixture, "[ +n/a@1 ] +n/b@11 ");
	assert_true(kubernetes_watch_is_open(fixture.watch));
	kubernetes_watch_hasten(fixture.watch);
	assert_false(kubernetes_watch_is_open(fixture.watch));
	wait_for_resource_version(&fixture, "21");
	assert_true(kubernetes_watch_is_open(fixture.watch));
	kubernetes_watch_hasten(fixture.watch);
	wait_for_resource_version(&fixture, "30");
	assert_string_equal(fixture.told, "[ +n/a@1 ] +n/b@11 ");
	assert_string_equal(fixture.unexpected, "");
	assert_int_equal(kubernetes_watch_statistics(fixture.watch)->lists, 1);
	assert_int_equal(kubernetes_watch_statistics(fixture.watch)->failures, 0);
	stop(&fixture);
}

/* What is not a watch that waits is not hastened: not before the first list, not in a list, not in a back-off. */
static void test_hasten_in_vain(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 503, "{}", NULL},
	        {"!watch", ANSWER, 200, LIST("10", "x", ITEM("a", "1")), NULL},
	        {"continue=x", ANSWER, 200, LIST("10", "", ITEM("b", "2")), NULL},
	        {"resourceVersion=10", STREAM, 0, BOOKMARK("20"), NULL},
	};
	struct fixture fixture = {0};

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	kubernetes_watch_hasten(fixture.watch);
	while (kubernetes_watch_statistics(fixture.watch)->state != WATCH_BACKOFF) {
		assert_int_equal(loop_step(fixture.loop, 20), 0);
		kubernetes_watch_hasten(fixture.watch); /* the list is on its way */
	}
	assert_int_equal(fixture.served, 1);
	kubernetes_watch_hasten(fixture.watch);
	assert_int_equal(kubernetes_watch_statistics(fixture.watch)->state, WATCH_BACKOFF);
	kubernetes_watch_hurry(fixture.watch);
	while (!kubernetes_watch_statistics(fixture.watch)->synced) {
		assert_int_equal(loop_step(fixture.loop, 20), 0);
		if (!kubernetes_watch_statistics(fixture.watch)->synced)
			kubernetes_watch_hasten(fixture.watch); /* nor between its pages */
	}
	wait_for_resource_version(&fixture, "20");
	assert_int_equal(fixture.served, 4);
	assert_string_equal(fixture.unexpected, "");
	assert_string_equal(fixture.told, "[ +n/a@1 +n/b@2 ] ");
	stop(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_states),         cmocka_unit_test(test_retry_after),
	        cmocka_unit_test(test_jitter),         cmocka_unit_test(test_freed_inside),
	        cmocka_unit_test(test_server_away),    cmocka_unit_test(test_hasten),
	        cmocka_unit_test(test_hasten_in_vain),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
