/* SPDX-License-Identifier: GPL-2.0-only */
/* How many connections there are descriptors for, and what is kept for everything else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "control/resources.h"
#include "postern/abi.h"

/* Links, namespaces, raw sockets; two ports for each worker, two families. */
static uint64_t of_gateways(uint64_t gateways, uint64_t workers)
{
	return gateways * (8 + 2 + 2 + workers * 4);
}

/* In a child: a limit that was lowered does not rise again. */
static int judge(rlim_t hard, uint32_t connections, size_t gateways, unsigned int workers)
{
	const struct rlimit lowered = {.rlim_cur = hard, .rlim_max = hard};
	struct descriptor_limit limit = {0};
	uint64_t rest;

	if (setrlimit(RLIMIT_NOFILE, &lowered) != 0)
		return 2;
	resources_raise_descriptors(connections, gateways, workers, &limit);
	rest = limit.limit - limit.for_connections;
	if (limit.for_connections > limit.limit || limit.max_connections > connections)
		return 3;
	if (limit.max_connections !=
	    (limit.for_connections / 2 < connections ? limit.for_connections / 2 : connections))
		return 4;
	/* What is there is the gateways' before it is the connections'; with very few, each has a half. */
	if (rest < of_gateways(gateways, workers) && rest < limit.limit / 2)
		return 5;
	if (limit.limit >= limit.needed && limit.max_connections != connections)
		return 6;
	return 0;
}

static void test_limits(void **state)
{
	static const struct {
		rlim_t hard;
		uint32_t connections;
		size_t gateways;
		unsigned int workers;
	} rows[] = {
	        {20000, 65536, 1, 2},
	        {20000, 100, 1, 2},
	        {20000, 65536, POSTERN_MAX_GATEWAYS, 2},
	        {20000, 1000, POSTERN_MAX_GATEWAYS, POSTERN_MAX_WORKERS},
	        {1024, 65536, 1, 1},
	        {256, 65536, 1, 2},
	        {64, 1, POSTERN_MAX_GATEWAYS, POSTERN_MAX_WORKERS},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int status = -1;
		pid_t child = fork();

		if (child == 0)
			_exit(judge(rows[i].hard, rows[i].connections, rows[i].gateways, rows[i].workers));
		assert_int_equal(waitpid(child, &status, 0), child);
		if (status)
			fprintf(stderr, "row %zu: check %d\n", i, WEXITSTATUS(status));
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_limits)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
