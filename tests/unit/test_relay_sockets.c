/* SPDX-License-Identifier: GPL-2.0-only */
/* The relay on real sockets without TLS: what the mock cannot know of TCP, epoll and pipes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "descriptors.h"
#include "relay_ends.h"

#define MEGABYTE (1u << 20)

static const size_t sizes[] = {0, 1, 16383, 16384, 16385, 10 * MEGABYTE};

static void every_size_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(sizes); i++) {
		for (int splice = 0; splice < 2; splice++) {
			struct relay_run run = {
			        .splice = splice != 0,
			        .gateway = {.send = sizes[i % ARRAY_SIZE(sizes)], .end = END_WHEN_SENT},
			        .backend = {.send = sizes[i / ARRAY_SIZE(sizes)], .end = END_WHEN_DONE},
			};
			char name[64];

			snprintf(name, sizeof(name), "%zu up, %zu down, splice %d", run.gateway.send, run.backend.send,
			         splice);
			relay_run(&run);
			assert_run_exact(name, &run);
			assert_int_equal(run.stats.to_backend, RELAY_PLAIN);
			assert_int_equal(run.stats.to_gateway, RELAY_PLAIN);
		}
	}
}

static void small_writes(void **state)
{
	struct relay_run run = {
	        .splice = true,
	        .gateway = {.send = 200000, .write_step = 77, .end = END_WHEN_SENT},
	        .backend = {.send = 200000, .write_step = 101, .end = END_WHEN_DONE},
	};

	(void)state;
	relay_run(&run);
	assert_run_exact("small writes", &run);
}

static void slow_readers(void **state)
{
	(void)state;
	for (int slow_gateway = 0; slow_gateway < 2; slow_gateway++) {
		for (int splice = 0; splice < 2; splice++) {
			struct relay_run run = {
			        .splice = splice != 0,
			        .gateway = {.send = 10 * MEGABYTE, .end = END_WHEN_SENT},
			        .backend = {.send = 10 * MEGABYTE, .end = END_WHEN_DONE},
			};
			struct end_options *slow = slow_gateway ? &run.gateway : &run.backend;

			slow->read_step = 32768;
			slow->pause = 500;
			relay_run(&run);
			assert_run_exact(slow_gateway ? "slow gateway" : "slow backend", &run);
		}
	}
}

static void half_close_and_answer(void **state)
{
	struct relay_run gateway_first = {
	        .gateway = {.send = 300000, .end = END_WHEN_SENT},
	        .backend = {.send = 5 * MEGABYTE, .end = END_WHEN_SENT, .answer = true},
	};
	struct relay_run backend_first = {
	        .gateway = {.send = 5 * MEGABYTE, .end = END_WHEN_SENT, .answer = true},
	        .backend = {.send = 300000, .end = END_WHEN_SENT},
	};

	(void)state;
	relay_run(&gateway_first);
	assert_run_exact("the gateway ends first", &gateway_first);
	relay_run(&backend_first);
	assert_run_exact("the backend ends first", &backend_first);
}

static void resets_cross(void **state)
{
	struct relay_run by_gateway = {
	        .gateway = {.send = 100000, .end = END_BY_RESET},
	        .backend = {.end = END_AFTER_PEER},
	};
	struct relay_run by_backend = {
	        .gateway = {.end = END_AFTER_PEER},
	        .backend = {.send = 100000, .end = END_BY_RESET},
	};

	(void)state;
	relay_run(&by_gateway);
	assert_int_equal(by_gateway.reason, REASON_GATEWAY_RESET);
	assert_int_equal(by_gateway.backend_result.error, ECONNRESET);
	assert_false(by_gateway.backend_result.clean_end);
	relay_run(&by_backend);
	assert_int_equal(by_backend.reason, REASON_BACKEND_RESET);
	assert_int_equal(by_backend.gateway_result.error, ECONNRESET);
	assert_false(by_backend.gateway_result.clean_end);
}

static void idle_connection_is_reset(void **state)
{
	struct relay_run run = {
	        .timeouts.idle_ns = 20 * UINT64_C(1000000),
	        .gateway = {.end = END_AFTER_PEER},
	        .backend = {.end = END_AFTER_PEER},
	};

	(void)state;
	relay_run(&run);
	assert_int_equal(run.reason, REASON_IDLE_TIMEOUT);
	assert_int_equal(run.gateway_result.error, ECONNRESET);
	assert_int_equal(run.backend_result.error, ECONNRESET);
}

static void a_thousand_in_turn_leave_nothing(void **state)
{
	size_t before = count_descriptors();

	(void)state;
	for (unsigned int i = 0; i < 1000; i++) {
		struct relay_run run = {
		        .splice = i % 2 != 0,
		        .gateway = {.send = i * 7, .end = i % 5 == 4 ? END_BY_RESET : END_WHEN_SENT},
		        .backend = {.send = i * 11, .end = i % 7 == 6 ? END_BY_RESET : END_WHEN_DONE},
		};

		relay_run(&run);
		if (i % 5 != 4 && i % 7 != 6)
			assert_run_exact("one of a thousand", &run);
	}
	assert_int_equal(count_descriptors(), before);
}

/* splice() reports a reset once; asked again the socket says end of file. */
static void a_reset_of_a_stream_is_no_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < 40; i++) {
		struct relay_run run = {
		        .splice = i % 4 != 0,
		        .gateway = {.send = 5000, .end = END_AFTER_PEER},
		        .backend = {.send = MEGABYTE + i * 13999, .end = END_BY_RESET},
		};

		relay_run(&run);
		if (run.reason != REASON_BACKEND_RESET || run.gateway_result.clean_end)
			fail_msg("%zu bytes: expected backend_reset, seen %s (%s), %s", run.backend.send,
			         reason_name(run.reason), run.detail,
			         run.gateway_result.clean_end ? "and a clean end at the gateway" : "");
		assert_true(run.gateway_result.content_right);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_size_both_ways),
	        cmocka_unit_test(small_writes),
	        cmocka_unit_test(slow_readers),
	        cmocka_unit_test(half_close_and_answer),
	        cmocka_unit_test(resets_cross),
	        cmocka_unit_test(idle_connection_is_reset),
	        cmocka_unit_test(a_thousand_in_turn_leave_nothing),
	        cmocka_unit_test(a_reset_of_a_stream_is_no_end),
	};
	int failed;

	relay_runs_begin();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	relay_runs_end();
	return failed;
}
