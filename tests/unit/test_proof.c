// SPDX-License-Identifier: GPL-2.0-only
/*
 * The proof of kernel TLS on the running kernel. Where there is none, every row must say so, and the program ends with
 * 77; in the guests every row that the relay depends on must be safe. What makes a row unsafe: test_proof_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "datapath/proof.h"
#include "tls/context.h"

static struct proof proof;

static void names(void **state)
{
	(void)state;
	assert_string_equal(proof_verdict_name(PROOF_NOT_RUN), "not_run");
	assert_string_equal(proof_verdict_name(PROOF_SAFE), "safe");
	assert_string_equal(proof_verdict_name(PROOF_UNSAFE), "unsafe");
	assert_string_equal(proof_verdict_name(PROOF_UNAVAILABLE), "unavailable");
	assert_string_equal(proof_verdict_name((enum proof_verdict)99), "unknown");
	assert_string_equal(proof_mode_name(PROOF_NO_PAD), "no_pad");
	assert_string_equal(proof_mode_name(PROOF_MODES), "unknown");
	assert_string_equal(proof_hook_name(PROOF_LANE), "lane");
	assert_string_equal(proof_hook_name(PROOF_HOOKS), "unknown");
}

/* Nothing is allowed that was not shown to be safe. */
static void only_safe_is_allowed(void **state)
{
	(void)state;
	struct proof made_up = {.kernel_tls = true};
	struct proof_result *row =
	        &made_up.crypto[PROOF_SPLICE][TLS_DIRECTION_RECEIVE][TLS_VERSION_1_2][TLS_CIPHER_AES_256];

	for (enum proof_verdict verdict = PROOF_NOT_RUN; verdict <= PROOF_UNAVAILABLE; verdict++) {
		row->verdict = verdict;
		assert_int_equal(proof_allows(&made_up, PROOF_SPLICE, TLS_DIRECTION_RECEIVE, TLS_VERSION_1_2,
		                              TLS_CIPHER_AES_256),
		                 verdict == PROOF_SAFE);
	}
	row->verdict = PROOF_SAFE;
	assert_false(proof_allows(&made_up, PROOF_COPY, TLS_DIRECTION_RECEIVE, TLS_VERSION_1_2, TLS_CIPHER_AES_256));
	assert_false(proof_allows(&made_up, PROOF_SPLICE, TLS_DIRECTION_TRANSMIT, TLS_VERSION_1_2, TLS_CIPHER_AES_256));
	assert_false(proof_allows(&made_up, PROOF_SPLICE, TLS_DIRECTION_RECEIVE, TLS_VERSION_1_3, TLS_CIPHER_AES_256));
	assert_false(proof_allows(&made_up, PROOF_SPLICE, TLS_DIRECTION_RECEIVE, TLS_VERSION_1_2, TLS_CIPHER_AES_128));
	assert_false(proof_allows(&made_up, PROOF_SPLICE, TLS_DIRECTION_RECEIVE, TLS_VERSION_1_2, TLS_CIPHER_OTHER));
	assert_false(proof_allows(&made_up, PROOF_MODES, TLS_DIRECTION_RECEIVE, TLS_VERSION_1_2, TLS_CIPHER_AES_256));
}

static bool applies(enum proof_mode mode, enum tls_direction direction, enum tls_version version)
{
	return mode != PROOF_NO_PAD || (direction == TLS_DIRECTION_RECEIVE && version == TLS_VERSION_1_3);
}

static void check_row(enum proof_mode mode, enum tls_direction direction, enum tls_version version,
                      enum tls_cipher cipher)
{
	const struct proof_result *row = &proof.crypto[mode][direction][version][cipher];
	bool expect_safe = proof.kernel_tls && applies(mode, direction, version);
	char name[100];

	snprintf(name, sizeof(name), "%s %s %s %s", proof_mode_name(mode),
	         direction == TLS_DIRECTION_TRANSMIT ? "transmit" : "receive", tls_version_name(version),
	         tls_cipher_name(cipher));
	/* Debian 6.12.95 corrupts padded records there, and the proof must say so; copy and splice are right
	 * everywhere. */
	if (mode == PROOF_NO_PAD && expect_safe && row->verdict == PROOF_UNSAFE && row->detail[0]) {
		print_message("  %-45s unsafe: %s\n", name, row->detail);
		return;
	}
	if (row->verdict != (expect_safe ? PROOF_SAFE : PROOF_UNAVAILABLE))
		fail_msg("%s: expected %s, seen %s (%s)", name, expect_safe ? "safe" : "unavailable",
		         proof_verdict_name(row->verdict), row->detail);
	if (expect_safe)
		print_message("  %-45s %6u us\n", name, row->microseconds);
	else
		assert_int_not_equal(strlen(row->detail), 0);
}

static void the_table(void **state)
{
	(void)state;
	memset(&proof, 0xff, sizeof(proof)); /* all of it must be filled */
	proof.milliseconds = 0;
	proof_run_crypto(&proof);
	for (enum proof_mode mode = 0; mode < PROOF_MODES; mode++)
		for (enum tls_direction direction = 0; direction < 2; direction++)
			for (enum tls_version version = 0; version < 2; version++)
				for (enum tls_cipher cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++)
					check_row(mode, direction, version, cipher);
	for (int i = 0; i < 2; i++) {
		const struct proof_result *rekey = &proof.rekey[i];

		print_message("  rekey %s: %s %s\n", i == TLS_DIRECTION_TRANSMIT ? "transmit" : "receive",
		              proof_verdict_name(rekey->verdict), rekey->detail);
		/* old kernels say EBUSY; one that takes the key must use it */
		assert_true(rekey->verdict == PROOF_UNAVAILABLE || (proof.kernel_tls && rekey->verdict == PROOF_SAFE));
		assert_int_equal(rekey->verdict == PROOF_UNAVAILABLE, rekey->detail[0] != '\0');
	}
	print_message("  %u ms in all\n", proof.milliseconds);
}

/* Descriptors do not stay: the proof runs again and again on the same few. */
static void leaves_nothing_behind(void **state)
{
	(void)state;
	struct proof again = {0};
	int before = dup(0);
	int after;

	close(before);
	proof_run_crypto(&again);
	after = dup(0);
	close(after);
	assert_int_equal(after, before);
	assert_int_equal(again.kernel_tls, proof.kernel_tls);
}

static int set_up(void **state)
{
	(void)state;
	return tls_global_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(names),
	        cmocka_unit_test(only_safe_is_allowed),
	        cmocka_unit_test(the_table),
	        cmocka_unit_test(leaves_nothing_behind),
	};
	int failed = cmocka_run_group_tests(tests, set_up, NULL);

	if (failed == 0 && !proof.kernel_tls) {
		printf("skipped: %s\n", proof.rekey[0].detail);
		return 77;
	}
	return failed;
}
