/* SPDX-License-Identifier: GPL-2.0-only */
/* What is refused because there would be too much of it: before B is dialed, so that connect() says so. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "attempt_world.h"

/* connect() must not succeed if the connection cannot be had. */
static void test_limit_of_connections_refuses_in_time(void **state)
{
	(void)state;
	world.worker.options.max_connections = 2;
	for (unsigned int i = 0; i < 3; i++) {
		g_connects((uint16_t)(PORT + i), ISN, POSTERN_VERDICT_TLS);
		g_sends_syn((uint16_t)(PORT + i), ISN);
		step();
	}
	assert_int_equal(world.relays, 2);
	assert_int_equal(world.syns, 2);
	assert_int_equal(world.resets, 1);
	assert_int_equal(last_report(), REASON_TOO_MANY_CONNECTIONS);
}

/* Before the last one is gone: a connection has two, an attempt in flight one. */
static void test_limit_of_descriptors(void **state)
{
	(void)state;
	world.worker.options.max_descriptors = 4;
	for (unsigned int i = 0; i < 3; i++) {
		g_connects((uint16_t)(PORT + i), ISN, POSTERN_VERDICT_TLS);
		g_sends_syn((uint16_t)(PORT + i), ISN);
		step();
	}
	assert_int_equal(world.relays, 2);
	assert_int_equal(last_report(), REASON_NO_DESCRIPTORS);
}

static void test_limit_of_a_gateway(void **state)
{
	(void)state;
	world.worker.options.max_gateway_connections = 1;
	for (unsigned int i = 0; i < 2; i++) {
		g_connects((uint16_t)(PORT + i), ISN, POSTERN_VERDICT_TLS);
		g_sends_syn((uint16_t)(PORT + i), ISN);
		step();
	}
	assert_int_equal(world.relays, 1);
	assert_int_equal(world.worker_gateway->connections, 1);
	assert_int_equal(last_report(), REASON_TOO_MANY_CONNECTIONS);
}

/* Full from the whole on, until an eighth is free again. */
static void test_memory_budget_refuses(void **state)
{
	static const struct {
		uint64_t used;
		bool refused;
	} steps[] = {{0, false}, {799, false}, {800, true}, {701, true}, {700, true}, {699, false}, {799, false}};
	struct memory_budget budget = {0};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		unsigned int relays = world.relays;

		memory_budget_measured(&budget, 800, steps[i].used);
		assert_int_equal(memory_budget_full(&budget), steps[i].refused);
		world.worker.options.budget = memory_budget_full(&budget) ? &budget : NULL;
		g_connects((uint16_t)(PORT + i), ISN, POSTERN_VERDICT_TLS);
		g_sends_syn((uint16_t)(PORT + i), ISN);
		step();
		if (world.relays != relays + !steps[i].refused)
			fail_msg("%llu bytes used: expected %s", (unsigned long long)steps[i].used,
			         steps[i].refused ? "a refusal" : "a connection");
		if (steps[i].refused)
			assert_int_equal(last_report(), REASON_MEMORY_BUDGET);
	}
	world.worker.options.budget = NULL;
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)
	const struct CMUnitTest tests[] = {
	        CASE(test_limit_of_connections_refuses_in_time),
	        CASE(test_limit_of_a_gateway),
	        CASE(test_limit_of_descriptors),
	        CASE(test_memory_budget_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
