/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The relay with TLS in the kernel, against a real OpenSSL server: every version, cipher and mode, byte for byte in
 * both directions. Exit status 77 where the kernel has no TLS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "datapath/proof.h"
#include "descriptors.h"
#include "relay_ends.h"

#define MEGABYTE    (1u << 20)
#define MILLISECOND UINT64_C(1000000)
#define EXIT_SKIP   77

static const struct {
	enum tls_version version;
	const char *suite;
	enum tls_cipher cipher;
} suites[] = {
        {TLS_VERSION_1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS_CIPHER_AES_128},
        {TLS_VERSION_1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", TLS_CIPHER_AES_256},
        {TLS_VERSION_1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", TLS_CIPHER_CHACHA20},
        {TLS_VERSION_1_3, "TLS_AES_128_GCM_SHA256", TLS_CIPHER_AES_128},
        {TLS_VERSION_1_3, "TLS_AES_256_GCM_SHA384", TLS_CIPHER_AES_256},
        {TLS_VERSION_1_3, "TLS_CHACHA20_POLY1305_SHA256", TLS_CIPHER_CHACHA20},
};

/* What this kernel may be used for: the agent's own proof, so that a mode that it refuses here is not used here either.
 */
static struct proof proof;

static bool in_kernel(enum relay_mode mode)
{
	return mode == RELAY_KTLS_COPY || mode == RELAY_KTLS_SPLICE;
}

static struct relay_run kernel_run(size_t suite)
{
	return (struct relay_run){
	        .tls = true,
	        .kernel = true,
	        .version = suites[suite].version,
	        .suite = suites[suite].suite,
	        .tickets = 2,
	        .rekey = proof.rekey[TLS_DIRECTION_RECEIVE].verdict == PROOF_SAFE,
	};
}

static bool no_pad_allowed(size_t suite)
{
	return proof_allows(&proof, PROOF_NO_PAD, TLS_DIRECTION_RECEIVE, suites[suite].version, suites[suite].cipher);
}

static void assert_both_in_kernel(const char *name, const struct relay_run *run)
{
	if (!in_kernel(run->stats.to_backend) || !in_kernel(run->stats.to_gateway) ||
	    run->stats.mode_reason != REASON_NONE)
		fail_msg("%s: modes %s and %s, reason %s", name, relay_mode_name(run->stats.to_backend),
		         relay_mode_name(run->stats.to_gateway), reason_name(run->stats.mode_reason));
}

/* 16 MB, or POSTERN_RELAY_MEGABYTES: under emulation this is most of the time that the program takes. */
static void megabytes_in_every_mode(void **state)
{
	const char *wanted = getenv("POSTERN_RELAY_MEGABYTES");
	size_t size = (wanted ? strtoul(wanted, NULL, 10) : 16) * MEGABYTE;
	size_t compared = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++) {
		for (int splice = 0; splice < 2; splice++) {
			struct relay_run run = kernel_run(i);
			char name[96];

			run.splice = splice != 0;
			run.no_pad = splice && no_pad_allowed(i);
			run.gateway = (struct end_options){.send = size, .end = END_WHEN_SENT};
			run.backend = (struct end_options){.send = size, .end = END_WHEN_DONE};
			snprintf(name, sizeof(name), "%s, splice %d", suites[i].suite, splice);
			relay_run(&run);
			assert_run_exact(name, &run);
			assert_both_in_kernel(name, &run);
			assert_int_equal(run.saw_splice_to_backend, splice);
			print_message("%s: exact; spliced to the backend %d, to the gateway %d\n", name,
			              run.saw_splice_to_backend, run.saw_splice_to_gateway);
			compared += 2 * size;
		}
	}
	print_message("%zu MB, byte for byte\n", compared / MEGABYTE);
}

static void every_size_both_ways(void **state)
{
	static const size_t sizes[] = {0, 1, 16383, 16384, 16385, 300001};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			struct relay_run run = kernel_run(i);
			char name[96];

			run.splice = j % 2 != 0;
			run.gateway = (struct end_options){.send = sizes[j], .end = END_WHEN_SENT};
			run.backend = (struct end_options){.send = sizes[ARRAY_SIZE(sizes) - 1 - j],
			                                   .end = END_WHEN_DONE};
			snprintf(name, sizeof(name), "%s, %zu up, %zu down", suites[i].suite, run.gateway.send,
			         run.backend.send);
			relay_run(&run);
			assert_run_exact(name, &run);
			if (run.backend.send > 0 || run.version == TLS_VERSION_1_2)
				assert_both_in_kernel(name, &run);
		}
	}
}

static void records_of_odd_sizes(void **state)
{
	static const size_t steps[] = {1, 77, 4097, 16383};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		for (int splice = 0; splice < 2; splice++) {
			struct relay_run run = kernel_run(3);
			char name[64];

			run.splice = splice != 0;
			run.gateway = (struct end_options){
			        .send = steps[i] * 200, .write_step = steps[i], .end = END_WHEN_SENT};
			run.backend = (struct end_options){
			        .send = steps[i] * 200, .write_step = steps[i], .end = END_WHEN_DONE};
			snprintf(name, sizeof(name), "writes of %zu, splice %d", steps[i], splice);
			relay_run(&run);
			assert_run_exact(name, &run);
		}
	}
}

/*
 * TLS_RX_EXPECT_NO_PAD is meant as a hint, and records with padding must come through all the same. 6.12.95 corrupts
 * them: where the proof allows the option it must be right.
 */
static void padded_records(void **state)
{
	(void)state;
	for (size_t i = 3; i < ARRAY_SIZE(suites); i++) {
		for (int no_pad = 0; no_pad < 2; no_pad++) {
			struct relay_run run = kernel_run(i);
			char name[96];

			if (no_pad && !no_pad_allowed(i)) {
				print_message("%s: TLS_RX_EXPECT_NO_PAD not proved here\n", suites[i].suite);
				continue;
			}
			run.no_pad = no_pad != 0;
			run.padding = 512;
			run.gateway = (struct end_options){.send = 1000, .end = END_WHEN_SENT};
			run.backend = (struct end_options){.send = MEGABYTE, .write_step = 1000, .end = END_WHEN_DONE};
			snprintf(name, sizeof(name), "%s, TLS_RX_EXPECT_NO_PAD %d", suites[i].suite, no_pad);
			relay_run(&run);
			assert_run_exact(name, &run);
		}
	}
}

static void tickets_in_mid_stream(void **state)
{
	(void)state;
	for (int splice = 0; splice < 2; splice++) {
		struct relay_run run = kernel_run(4);

		run.splice = splice != 0;
		run.gateway = (struct end_options){.send = 1000, .end = END_WHEN_SENT};
		run.backend = (struct end_options){.send = 4 * MEGABYTE, .tickets_every = 100000, .end = END_WHEN_DONE};
		relay_run(&run);
		assert_run_exact("tickets in mid-stream", &run);
		assert_in_range(run.stats.tickets_dropped, 30, 44);
	}
}

/* The kernel that can takes the new key (7.x); where none can, data must not end as if it were whole. */
static void key_update_is_followed_or_a_counted_reset(void **state)
{
	(void)state;
	for (int splice = 0; splice < 2; splice++) {
		struct relay_run run = kernel_run(3);

		run.splice = splice != 0;
		run.gateway = (struct end_options){.send = 1000, .end = END_AFTER_PEER};
		run.backend = (struct end_options){
		        .send = 4 * MEGABYTE, .key_update_after = 2 * MEGABYTE, .end = END_WHEN_DONE};
		relay_run(&run);
		if (run.rekey) {
			assert_run_exact("a KeyUpdate that is followed", &run);
			assert_int_equal(run.stats.key_updates, 1);
			continue;
		}
		if (run.reason != REASON_KEY_UPDATE)
			fail_msg("expected key_update, seen %s (%s)", reason_name(run.reason), run.detail);
		assert_int_equal(run.stats.key_updates, 1);
		assert_false(run.gateway_result.clean_end);
		assert_true(run.gateway_result.content_right);
		assert_int_equal(run.gateway_result.error, ECONNRESET);
	}
}

/*
 * G sends and closes while B is full: kTLS holds a tail of ciphertext back, and FIN must not overtake it. It takes a
 * full buffer and a small window, and how full exactly is chance: so many sizes.
 */
static void end_behind_a_full_buffer_loses_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < 96; i++) {
		struct relay_run run = kernel_run(i % ARRAY_SIZE(suites));
		char name[128];

		run.splice = i % 2 != 0;
		run.b_send_buffer = i % 4 < 2 ? 4096 : 16384;
		run.s_receive_buffer = i % 3 ? 4096 : 20000;
		run.timeouts.half_closed_ns = 5 * MILLISECOND;
		run.gateway = (struct end_options){.send = 16384 + i * 617, .write_step = 16384, .end = END_WHEN_SENT};
		run.backend = (struct end_options){.read_step = 512, .pause = 20, .end = END_AFTER_PEER};
		snprintf(name, sizeof(name), "%s, %zu bytes, buffers %d and %d", run.suite, run.gateway.send,
		         run.b_send_buffer, run.s_receive_buffer);
		relay_run(&run);
		assert_run_exact(name, &run);
	}
}

/* No record is left open (MSG_MORE, SPLICE_F_MORE): the other end gets each byte, or would wait for it for ever. */
static void single_bytes_are_not_held_back(void **state)
{
	(void)state;
	for (int splice = 0; splice < 2; splice++) {
		struct relay_run run = kernel_run(3);

		run.splice = splice != 0;
		run.gateway =
		        (struct end_options){.send = 300, .write_step = 1, .in_turns = true, .end = END_WHEN_SENT};
		run.backend =
		        (struct end_options){.send = 300, .write_step = 1, .in_turns = true, .end = END_WHEN_DONE};
		relay_run(&run);
		assert_run_exact("bytes in turns", &run);
		assert_int_equal(run.backend_result.records,
		                 300 + 1); /* and close_notify, which looks like data in 1.3 */
	}
}

static void a_stream_is_sent_in_full_records(void **state)
{
	const size_t size = 8 * MEGABYTE;

	(void)state;
	for (int splice = 0; splice < 2; splice++) {
		struct relay_run run = kernel_run(3);

		run.splice = splice != 0;
		run.gateway = (struct end_options){.send = size, .end = END_WHEN_SENT};
		run.backend = (struct end_options){.end = END_WHEN_DONE};
		relay_run(&run);
		assert_run_exact("a stream", &run);
		/* Each read may end with a shorter one, and moves 64 KB or more once the stream runs. */
		if (run.backend_result.records > size / 16384 * 3 / 2)
			fail_msg("%zu records for %zu bytes", run.backend_result.records, size);
		print_message("%zu records for %zu bytes\n", run.backend_result.records, size);
	}
}

static void slow_readers(void **state)
{
	(void)state;
	for (int slow_gateway = 0; slow_gateway < 2; slow_gateway++) {
		for (int splice = 0; splice < 2; splice++) {
			struct relay_run run = kernel_run(3);
			struct end_options *slow = slow_gateway ? &run.gateway : &run.backend;

			run.splice = splice != 0;
			run.gateway = (struct end_options){.send = 6 * MEGABYTE, .end = END_WHEN_SENT};
			run.backend = (struct end_options){.send = 6 * MEGABYTE, .end = END_WHEN_DONE};
			slow->read_step = 32768;
			slow->pause = 300;
			relay_run(&run);
			assert_run_exact(slow_gateway ? "slow gateway" : "slow backend", &run);
			assert_both_in_kernel("slow", &run);
		}
	}
}

static void half_close_and_answer(void **state)
{
	struct relay_run answered = kernel_run(3);
	struct relay_run deferred = kernel_run(0);
	struct relay_run backend_first = kernel_run(3);

	(void)state;
	answered.gateway = (struct end_options){.send = 300000, .end = END_WHEN_SENT};
	answered.backend = (struct end_options){.send = 2 * MEGABYTE, .end = END_WHEN_SENT, .answer = true};
	relay_run(&answered);
	assert_run_exact("1.3: answer after close_notify", &answered);
	deferred.timeouts.half_closed_ns = 50 * MILLISECOND;
	deferred.gateway = (struct end_options){.send = 1000, .end = END_WHEN_SENT};
	deferred.backend = (struct end_options){.send = 300000, .end = END_AFTER_PEER};
	relay_run(&deferred);
	assert_run_exact("1.2: close_notify after the deferral", &deferred);
	backend_first.gateway = (struct end_options){.send = 300000, .end = END_WHEN_SENT, .answer = true};
	backend_first.backend = (struct end_options){.send = 300000, .end = END_WHEN_SENT};
	relay_run(&backend_first);
	assert_run_exact("1.3: the backend ends first", &backend_first);
}

static void early_ends_are_resets(void **state)
{
	struct relay_run truncated = kernel_run(3);
	struct relay_run by_gateway = kernel_run(3);
	struct relay_run by_backend = kernel_run(3);

	(void)state;
	truncated.gateway = (struct end_options){.end = END_AFTER_PEER};
	truncated.backend = (struct end_options){.send = 100000, .end = END_BY_TCP_FIN};
	relay_run(&truncated);
	assert_int_equal(truncated.reason, REASON_TRUNCATED);
	assert_int_equal(truncated.gateway_result.error, ECONNRESET);
	assert_true(truncated.gateway_result.content_right);
	by_gateway.gateway = (struct end_options){.send = 100000, .end = END_BY_RESET};
	by_gateway.backend = (struct end_options){.end = END_AFTER_PEER};
	relay_run(&by_gateway);
	assert_int_equal(by_gateway.reason, REASON_GATEWAY_RESET);
	assert_false(by_gateway.backend_result.clean_end);
	by_backend.gateway = (struct end_options){.end = END_AFTER_PEER};
	by_backend.backend = (struct end_options){.send = 100000, .end = END_BY_RESET};
	relay_run(&by_backend);
	assert_int_equal(by_backend.reason, REASON_BACKEND_RESET);
	assert_int_equal(by_backend.gateway_result.error, ECONNRESET);
}

static void many_in_turn_leave_nothing(void **state)
{
	size_t before = count_descriptors();

	(void)state;
	/* Not from 0: a backend that ends at once leaves no ESTABLISHED socket for TCP_ULP. */
	for (unsigned int i = 1; i <= 120; i++) {
		struct relay_run run = kernel_run(i % ARRAY_SIZE(suites));

		run.splice = i % 4 < 2;
		run.gateway = (struct end_options){.send = i * 97, .end = i % 5 == 4 ? END_BY_RESET : END_WHEN_SENT};
		run.backend = (struct end_options){.send = i * 101, .end = END_WHEN_DONE};
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
	        cmocka_unit_test(records_of_odd_sizes),
	        cmocka_unit_test(padded_records),
	        cmocka_unit_test(tickets_in_mid_stream),
	        cmocka_unit_test(key_update_is_followed_or_a_counted_reset),
	        cmocka_unit_test(end_behind_a_full_buffer_loses_nothing),
	        cmocka_unit_test(single_bytes_are_not_held_back),
	        cmocka_unit_test(a_stream_is_sent_in_full_records),
	        cmocka_unit_test(slow_readers),
	        cmocka_unit_test(half_close_and_answer),
	        cmocka_unit_test(early_ends_are_resets),
	        cmocka_unit_test(many_in_turn_leave_nothing),
	        cmocka_unit_test(megabytes_in_every_mode),
	};
	int failed;

	if (!kernel_has_tls()) {
		printf("skipped: this kernel has no TLS (TCP_ULP \"tls\")\n");
		return EXIT_SKIP;
	}
	relay_runs_begin();
	proof_run_crypto(&proof);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	relay_runs_end();
	return failed;
}
