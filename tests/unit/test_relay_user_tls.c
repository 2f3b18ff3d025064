/* SPDX-License-Identifier: GPL-2.0-only */
/* The relay with TLS in user space, against a real OpenSSL server: what runs where the kernel has no TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "descriptors.h"
#include "relay_ends.h"

#define MEGABYTE    (1u << 20)
#define MILLISECOND UINT64_C(1000000)

static const enum tls_version versions[] = {TLS_VERSION_1_2, TLS_VERSION_1_3};
static const size_t sizes[] = {0, 1, 16383, 16384, 16385};

static void every_size_both_ways(void **state)
{
	(void)state;
	for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(sizes); i++) {
			struct relay_run run = {
			        .tls = true,
			        .version = versions[v],
			        .tickets = 2,
			        .gateway = {.send = sizes[i % ARRAY_SIZE(sizes)], .end = END_WHEN_SENT},
			        .backend = {.send = sizes[i / ARRAY_SIZE(sizes)], .end = END_WHEN_DONE},
			};
			char name[64];

			snprintf(name, sizeof(name), "%s, %zu up, %zu down", tls_version_name(versions[v]),
			         run.gateway.send, run.backend.send);
			relay_run(&run);
			assert_run_exact(name, &run);
			assert_int_equal(run.stats.to_backend, RELAY_USER_TLS);
			assert_int_equal(run.stats.to_gateway, RELAY_USER_TLS);
			assert_int_equal(run.stats.mode_reason, REASON_KTLS_OFF);
		}
	}
}

static void ten_megabytes_both_ways(void **state)
{
	(void)state;
	for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
		struct relay_run run = {
		        .tls = true,
		        .version = versions[v],
		        .tickets = 2,
		        .gateway = {.send = 10 * MEGABYTE, .end = END_WHEN_SENT},
		        .backend = {.send = 10 * MEGABYTE, .end = END_WHEN_DONE},
		};

		relay_run(&run);
		assert_run_exact(tls_version_name(versions[v]), &run);
	}
}

/* No record is left open: the other end gets each byte, or would wait for it for ever. */
static void single_bytes_are_not_held_back(void **state)
{
	struct relay_run run = {
	        .tls = true,
	        .version = TLS_VERSION_1_3,
	        .gateway = {.send = 300, .write_step = 1, .in_turns = true, .end = END_WHEN_SENT},
	        .backend = {.send = 300, .write_step = 1, .in_turns = true, .end = END_WHEN_DONE},
	};

	(void)state;
	relay_run(&run);
	assert_run_exact("bytes in turns", &run);
	assert_int_equal(run.backend_result.records, 300 + 1); /* and close_notify, which looks like data in 1.3 */
}

static void a_stream_is_sent_in_full_records(void **state)
{
	struct relay_run run = {
	        .tls = true,
	        .version = TLS_VERSION_1_3,
	        .gateway = {.send = 8 * MEGABYTE, .end = END_WHEN_SENT},
	        .backend = {.end = END_WHEN_DONE},
	};

	(void)state;
	relay_run(&run);
	assert_run_exact("a stream", &run);
	/* Each read may end with a shorter one. */
	if (run.backend_result.records > run.gateway.send / 16384 * 3 / 2)
		fail_msg("%zu records for %zu bytes", run.backend_result.records, run.gateway.send);
}

static void slow_readers(void **state)
{
	(void)state;
	for (int slow_gateway = 0; slow_gateway < 2; slow_gateway++) {
		struct relay_run run = {
		        .tls = true,
		        .version = TLS_VERSION_1_3,
		        .b_send_buffer = 32768,
		        .gateway = {.send = 4 * MEGABYTE, .end = END_WHEN_SENT},
		        .backend = {.send = 4 * MEGABYTE, .end = END_WHEN_DONE},
		};
		struct end_options *slow = slow_gateway ? &run.gateway : &run.backend;

		slow->read_step = 16384;
		slow->pause = 500;
		relay_run(&run);
		assert_run_exact(slow_gateway ? "slow gateway" : "slow backend", &run);
	}
}

/* TLS 1.3 closes one direction: the backend answers after the gateway's end. */
static void half_close_of_1_3_is_answered(void **state)
{
	struct relay_run run = {
	        .tls = true,
	        .version = TLS_VERSION_1_3,
	        .gateway = {.send = 300000, .end = END_WHEN_SENT},
	        .backend = {.send = 2 * MEGABYTE, .end = END_WHEN_SENT, .answer = true},
	};

	(void)state;
	relay_run(&run);
	assert_run_exact("answer after close_notify", &run);
}

/* TLS 1.2: close_notify is held back while the response flows, so the backend ends first. */
static void half_close_of_1_2_is_deferred(void **state)
{
	struct relay_run run = {
	        .tls = true,
	        .version = TLS_VERSION_1_2,
	        .gateway = {.send = 300000, .end = END_WHEN_SENT},
	        .backend = {.send = 2 * MEGABYTE, .end = END_WHEN_DONE},
	};
	struct relay_run waits_for_us = {
	        .tls = true,
	        .version = TLS_VERSION_1_2,
	        .timeouts.half_closed_ns = 30 * MILLISECOND,
	        .gateway = {.send = 1000, .end = END_WHEN_SENT},
	        .backend = {.send = 1000, .end = END_AFTER_PEER},
	};

	(void)state;
	relay_run(&run);
	assert_run_exact("response after FIN", &run);
	relay_run(&waits_for_us);
	assert_run_exact("close_notify after the deferral", &waits_for_us);
}

static void backend_ends_first(void **state)
{
	(void)state;
	for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
		struct relay_run run = {
		        .tls = true,
		        .version = versions[v],
		        .gateway = {.send = 1000, .end = END_AFTER_PEER},
		        .backend = {.send = 300000, .end = END_WHEN_DONE},
		};

		relay_run(&run);
		assert_run_exact(tls_version_name(versions[v]), &run);
	}
}

static void truncation_is_a_reset(void **state)
{
	(void)state;
	for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
		struct relay_run run = {
		        .tls = true,
		        .version = versions[v],
		        .gateway = {.send = 0, .end = END_AFTER_PEER},
		        .backend = {.send = 100000, .end = END_BY_TCP_FIN},
		};

		relay_run(&run);
		if (run.reason != REASON_TRUNCATED)
			fail_msg("expected truncated, seen %s (%s)", reason_name(run.reason), run.detail);
		assert_int_equal(run.gateway_result.error, ECONNRESET);
		assert_false(run.gateway_result.clean_end);
		assert_true(run.gateway_result.content_right);
	}
}

static void resets_cross(void **state)
{
	struct relay_run by_gateway = {
	        .tls = true,
	        .version = TLS_VERSION_1_3,
	        .gateway = {.send = 100000, .end = END_BY_RESET},
	        .backend = {.end = END_AFTER_PEER},
	};
	struct relay_run by_backend = {
	        .tls = true,
	        .version = TLS_VERSION_1_3,
	        .gateway = {.end = END_AFTER_PEER},
	        .backend = {.send = 100000, .end = END_BY_RESET},
	};

	(void)state;
	relay_run(&by_gateway);
	assert_int_equal(by_gateway.reason, REASON_GATEWAY_RESET);
	assert_false(by_gateway.backend_result.clean_end);
	relay_run(&by_backend);
	assert_int_equal(by_backend.reason, REASON_BACKEND_RESET);
	assert_int_equal(by_backend.gateway_result.error, ECONNRESET);
}

static void many_in_turn_leave_nothing(void **state)
{
	size_t before = count_descriptors();

	(void)state;
	for (unsigned int i = 0; i < 200; i++) {
		struct relay_run run = {
		        .tls = true,
		        .version = versions[i % 2],
		        .tickets = 2,
		        .gateway = {.send = i * 97, .end = i % 5 == 4 ? END_BY_RESET : END_WHEN_SENT},
		        .backend = {.send = i * 101, .end = END_WHEN_DONE},
		};

		relay_run(&run);
		if (i % 5 != 4)
			assert_run_exact("one of many", &run);
	}
	assert_int_equal(count_descriptors(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_size_both_ways),
	        cmocka_unit_test(ten_megabytes_both_ways),
	        cmocka_unit_test(single_bytes_are_not_held_back),
	        cmocka_unit_test(a_stream_is_sent_in_full_records),
	        cmocka_unit_test(slow_readers),
	        cmocka_unit_test(half_close_of_1_3_is_answered),
	        cmocka_unit_test(half_close_of_1_2_is_deferred),
	        cmocka_unit_test(backend_ends_first),
	        cmocka_unit_test(truncation_is_a_reset),
	        cmocka_unit_test(resets_cross),
	        cmocka_unit_test(many_in_turn_leave_nothing),
	};
	int failed;

	relay_runs_begin();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	relay_runs_end();
	return failed;
}
