/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every record that a backend may send, in any order and cut into any segments, through the relay: in user space, and
 * where the kernel has TLS in each of its modes. The rows say what G gets, and how the connection ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "relay_ends.h"
#include "scripted_run.h"
#include "tls/context.h"

#define SAME(reason)               .by_openssl = REASON_##reason, .by_kernel = REASON_##reason
#define DIFFERENT(openssl, kernel) .by_openssl = REASON_##openssl, .by_kernel = REASON_##kernel

#define MAX_RECORD 16384

static const struct script_row rows[] = {
        /* data */
        {"nothing but an end", ON_BOTH, {CLOSE_NOTIFY}, SAME(NONE)},
        {"one byte", ON_BOTH, {DATA(1), CLOSE_NOTIFY}, SAME(NONE)},
        {"the largest record", ON_BOTH, {DATA(MAX_RECORD), CLOSE_NOTIFY}, SAME(NONE)},
        {"records of odd sizes",
         ON_BOTH,
         {DATA(1), DATA(16383), DATA(2), DATA(MAX_RECORD), DATA(15), DATA(16), DATA(17), DATA(1447), DATA(1), DATA(1),
          CLOSE_NOTIFY},
         SAME(NONE)},
        {"empty records between data",
         ON_BOTH,
         {DATA(0), DATA(10), DATA(0), DATA(0), DATA(5), DATA(0), CLOSE_NOTIFY},
         SAME(NONE)},
        {"padded records",
         ON_1_3,
         {PADDED(10, 1), PADDED(1, 255), PADDED(1, MAX_RECORD - 1), PADDED(16000, 384), DATA(100), PADDED(0, 40),
          PADDED(0, MAX_RECORD), PADDED(77, 5000), CLOSE_NOTIFY},
         SAME(NONE)},
        {"what G says meanwhile",
         ON_BOTH,
         {DATA(10), STEP_OF(G_SENDS, 1), DATA(100), STEP_OF(G_SENDS, 70001), DATA(20), STEP(SYNC), STEP_OF(G_SENDS, 5),
          CLOSE_NOTIFY},
         SAME(NONE)},
        {"FIN behind close_notify", ON_BOTH, {DATA(3000), CLOSE_NOTIFY, STEP(FIN)}, SAME(NONE)},
        {"data behind close_notify", ON_BOTH, {DATA(30), CLOSE_NOTIFY, DATA(40), STEP(FIN)}, SAME(NONE)},
        {"G half-closes, the answer follows",
         ON_BOTH,
         {STEP_OF(G_SENDS, 300), STEP(G_ENDS), DATA(5000), DATA(MAX_RECORD), STEP(SYNC), DATA(1), CLOSE_NOTIFY,
          STEP(FIN)},
         SAME(NONE)},

        /* in the segment of Finished, and before the client's own */
        {"data with Finished", ON_BOTH, {DATA(100), DATA(1), CLOSE_NOTIFY}, SAME(NONE), .with_finished = true},
        {"tickets with Finished, then data",
         ON_1_3,
         {TICKET(200, 1), TICKET(200, 1), DATA(100), CLOSE_NOTIFY},
         SAME(NONE),
         .with_finished = true},
        {"data with Finished, G answers, more data",
         ON_BOTH,
         {DATA(9000), STEP(SYNC), STEP_OF(G_SENDS, 1000), DATA(9000), CLOSE_NOTIFY},
         SAME(NONE),
         .with_finished = true},
        {"end with Finished", ON_BOTH, {CLOSE_NOTIFY}, SAME(NONE), .with_finished = true},
        {"a bad record with Finished",
         ON_BOTH,
         {DATA(50), STEP(OFFENCE), {STEP_BAD_MAC, .size = 20}},
         SAME(DECRYPT_ERROR),
         .with_finished = true},

        /* tickets */
        {"no ticket, G first", ON_1_3, {STEP_OF(G_SENDS, 100), DATA(100), CLOSE_NOTIFY}, SAME(NONE)},
        {"two tickets before data", ON_1_3, {TICKET(200, 1), TICKET(200, 1), DATA(100), CLOSE_NOTIFY}, SAME(NONE)},
        {"tickets after data", ON_1_3, {DATA(100), TICKET(200, 1), DATA(100), TICKET(32, 1), CLOSE_NOTIFY}, SAME(NONE)},
        {"a ticket before and one long after data",
         ON_1_3,
         {TICKET(200, 1), DATA(100), STEP(SYNC), TICKET(600, 1), STEP(SYNC), DATA(40000 % MAX_RECORD), CLOSE_NOTIFY},
         SAME(NONE)},
        {"three tickets in mid-stream",
         ON_1_3,
         {DATA(MAX_RECORD), TICKET(200, 1), DATA(MAX_RECORD), TICKET(200, 1), TICKET(200, 1), DATA(MAX_RECORD),
          CLOSE_NOTIFY},
         SAME(NONE)},
        {"a ticket in three records",
         ON_1_3,
         {TICKET(900, 3), DATA(100), TICKET(900, 3), DATA(1), CLOSE_NOTIFY},
         SAME(NONE)},
        {"a ticket of one byte a record", ON_1_3, {DATA(1), TICKET(30, 55), DATA(7), CLOSE_NOTIFY}, SAME(NONE)},
        {"a ticket larger than a record", ON_1_3, {DATA(1), TICKET(40000, 0), DATA(7), CLOSE_NOTIFY}, SAME(NONE)},
        {"data within a ticket",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), HANDSHAKE("\4\0\0\100\0\0\0\0"), DATA(10), CLOSE_NOTIFY},
         SAME(UNEXPECTED_RECORD)},

        /* alerts */
        {"user_canceled, then close_notify", ON_1_3, {DATA(10), ALERT("\1\132"), CLOSE_NOTIFY}, SAME(NONE)},
        {"four warnings",
         ON_1_2,
         {DATA(10), ALERT("\1\132"), ALERT("\1\160"), DATA(10), ALERT("\1\132"), ALERT("\1\132"), CLOSE_NOTIFY},
         SAME(NONE)},
        {"six warnings in a row",
         ON_1_2,
         {DATA(10), STEP(OFFENCE), ALERT("\1\160"), ALERT("\1\160"), ALERT("\1\160"), ALERT("\1\160"), ALERT("\1\160"),
          ALERT("\1\160"), DATA(10), CLOSE_NOTIFY},
         DIFFERENT(UNEXPECTED_RECORD, PEER_ALERT)},
        {"fatal alert", ON_BOTH, {DATA(10), STEP(OFFENCE), ALERT("\2\120"), DATA(10)}, SAME(PEER_ALERT)},
        {"fatal alert first", ON_BOTH, {STEP(OFFENCE), ALERT("\2\50"), DATA(10)}, SAME(PEER_ALERT)},
        {"an alert that calls itself a warning",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), ALERT("\1\120"), DATA(10)},
         SAME(PEER_ALERT)},
        {"an alert of one byte", ON_BOTH, {DATA(10), STEP(OFFENCE), ALERT("\1"), DATA(10)}, SAME(UNEXPECTED_RECORD)},
        {"an alert of three bytes",
         ON_BOTH,
         {DATA(10), STEP(OFFENCE), ALERT("\1\0\0"), DATA(10)},
         SAME(UNEXPECTED_RECORD)},
        {"a fatal alert in the clear",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), RAW("\25\3\3\0\2\2\50"), DATA(10)},
         DIFFERENT(UNEXPECTED_RECORD, DECRYPT_ERROR)},

        /* handshake messages */
        {"CertificateRequest after the handshake",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), HANDSHAKE("\15\0\0\16\3abc\0\10\0\15\0\4\0\2\4\3"), DATA(10)},
         SAME(RENEGOTIATION)},
        {"a message that nobody knows",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), HANDSHAKE("\143\0\0\1\0"), DATA(10)},
         DIFFERENT(RENEGOTIATION, UNEXPECTED_RECORD)},
        {"an empty handshake record",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), HANDSHAKE(""), DATA(10)},
         SAME(UNEXPECTED_RECORD)},

        /* records that may not be */
        {"an unknown content type",
         ON_BOTH,
         {DATA(10), STEP(OFFENCE), RECORD(24, "abc"), DATA(10)},
         SAME(UNEXPECTED_RECORD)},
        {"change_cipher_spec, sealed",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), RECORD(20, "\1"), DATA(10)},
         SAME(UNEXPECTED_RECORD)},
        {"change_cipher_spec in the clear",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), RAW("\24\3\3\0\1\1"), DATA(10)},
         DIFFERENT(UNEXPECTED_RECORD, DECRYPT_ERROR)},
        {"a bit of the tag",
         ON_BOTH,
         {DATA(100), STEP(OFFENCE), {STEP_BAD_MAC, .size = 100}, DATA(10)},
         SAME(DECRYPT_ERROR)},
        {"a bit of the text",
         ON_BOTH,
         {DATA(100), STEP(OFFENCE), {STEP_BAD_MAC, .size = 100, .pieces = 60}, DATA(10)},
         SAME(DECRYPT_ERROR)},
        {"a bit in the first record",
         ON_BOTH,
         {STEP(OFFENCE), {STEP_BAD_MAC, .size = 100}, DATA(10)},
         SAME(DECRYPT_ERROR)},
        {"a record twice", ON_BOTH, {DATA(100), DATA(50), STEP(OFFENCE), STEP(REPLAY), DATA(10)}, SAME(DECRYPT_ERROR)},
        {"a record is missing",
         ON_BOTH,
         {DATA(100), STEP(OFFENCE), STEP(GAP), DATA(50), DATA(10)},
         SAME(DECRYPT_ERROR)},
        {"one byte too large",
         ON_BOTH,
         {DATA(100), STEP(OFFENCE), STEP_OF(OVERSIZE, MAX_RECORD + 1), DATA(10)},
         SAME(UNEXPECTED_RECORD)},
        {"far too large",
         ON_BOTH,
         {DATA(100), STEP(OFFENCE), STEP_OF(OVERSIZE, 19000), DATA(10)},
         SAME(UNEXPECTED_RECORD)},
        {"forty empty records",
         ON_BOTH,
         {DATA(1), STEP(OFFENCE), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0),
          DATA(0), DATA(0),       DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0),
          DATA(0), DATA(0),       DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0),
          DATA(0), DATA(0),       DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(0), DATA(9), CLOSE_NOTIFY},
         DIFFERENT(UNEXPECTED_RECORD, NONE)},
        {"HTTP in the clear",
         ON_BOTH,
         {DATA(100), STEP(OFFENCE), RAW("HTTP/1.1 400 Bad Request\r\n\r\n")},
         SAME(UNEXPECTED_RECORD)},
        {"a record shorter than its tag",
         ON_1_3,
         {DATA(100), STEP(OFFENCE), RAW("\27\3\3\0\17abcdefghijklmno")},
         SAME(DECRYPT_ERROR)},
        {"a record shorter than nonce and tag",
         ON_1_2,
         {DATA(100), STEP(OFFENCE), RAW("\27\3\3\0\17abcdefghijklmno")},
         DIFFERENT(UNEXPECTED_RECORD, DECRYPT_ERROR)},
        {"padding alone, without a type",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), RECORD(0, "\0\0\0"), DATA(10)},
         DIFFERENT(UNEXPECTED_RECORD, DECRYPT_ERROR)},

        /* endings that are none */
        {"FIN without close_notify", ON_BOTH, {DATA(5000), STEP(OFFENCE), STEP(FIN)}, SAME(TRUNCATED)},
        {"FIN in mid-record", ON_BOTH, {DATA(50), STEP(OFFENCE), RAW("\27\3\3\1\0abc"), STEP(FIN)}, SAME(TRUNCATED)},
        {"FIN in a header", ON_BOTH, {DATA(50), STEP(OFFENCE), RAW("\27\3"), STEP(FIN)}, SAME(TRUNCATED)},
        {"RST after data", ON_BOTH, {DATA(5000), STEP(SYNC), STEP(OFFENCE), STEP(RESET)}, SAME(BACKEND_RESET)},
        {"RST on data's heels", ON_BOTH, {DATA(5000), STEP(OFFENCE), STEP(RESET)}, SAME(BACKEND_RESET), .prefix = true},

        /* KeyUpdate: followed by OpenSSL, and by the kernel where it can; a reset where it cannot */
        {"KeyUpdate first", ON_1_3, {KEY_UPDATE(0), DATA(100), STEP_OF(G_SENDS, 100), CLOSE_NOTIFY}, SAME(NONE)},
        {"KeyUpdate in mid-stream",
         ON_1_3,
         {DATA(MAX_RECORD), KEY_UPDATE(0), DATA(MAX_RECORD), DATA(5), CLOSE_NOTIFY},
         SAME(NONE)},
        {"KeyUpdates in a row",
         ON_1_3,
         {DATA(10), KEY_UPDATE(0), KEY_UPDATE(0), KEY_UPDATE(0), DATA(10), KEY_UPDATE(0), DATA(3), CLOSE_NOTIFY},
         SAME(NONE)},
        {"KeyUpdate, then the end", ON_1_3, {DATA(10), KEY_UPDATE(0), CLOSE_NOTIFY}, SAME(NONE)},
        {"KeyUpdate between tickets",
         ON_1_3,
         {DATA(10), TICKET(100, 2), KEY_UPDATE(0), TICKET(100, 2), DATA(10), CLOSE_NOTIFY},
         SAME(NONE)},
        {"KeyUpdate while all is quiet",
         ON_1_3,
         {DATA(10), STEP(SYNC), KEY_UPDATE(0), STEP(SYNC), STEP_OF(G_SENDS, 10), DATA(10), STEP(SYNC), DATA(10),
          CLOSE_NOTIFY},
         SAME(NONE)},
        {"KeyUpdate that asks for ours",
         ON_1_3,
         {DATA(10), STEP_OF(G_SENDS, 10), KEY_UPDATE(1), DATA(10), STEP(SYNC), STEP_OF(G_SENDS, 1000), DATA(10),
          CLOSE_NOTIFY},
         SAME(NONE),
         .updates = 1},
        {"KeyUpdate that asks, before any data",
         ON_1_3,
         {KEY_UPDATE(1), DATA(10), STEP(SYNC), STEP_OF(G_SENDS, 1000), CLOSE_NOTIFY},
         SAME(NONE),
         .updates = 1},
        {"KeyUpdates that ask, again and again",
         ON_1_3,
         {DATA(10), KEY_UPDATE(1), DATA(10), STEP(SYNC), STEP_OF(G_SENDS, 10), KEY_UPDATE(1), KEY_UPDATE(1), DATA(10),
          STEP(SYNC), STEP_OF(G_SENDS, 20000), KEY_UPDATE(0), DATA(1), CLOSE_NOTIFY},
         SAME(NONE),
         .updates = 2},
        {"KeyUpdate behind a ticket, in one record",
         ON_1_3,
         {DATA(10), {STEP_KEY_UPDATE, .size = 1}, DATA(10), CLOSE_NOTIFY},
         SAME(NONE)},
        /* A kernel that can rekey reads no further than the first record that begins like one. */
        {"KeyUpdate in two records",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), {STEP_KEY_UPDATE, .padding = 1}, DATA(10), CLOSE_NOTIFY},
         DIFFERENT(NONE, KEY_UPDATE)},
        {"KeyUpdate that says neither",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), HANDSHAKE("\30\0\0\1\2"), DATA(10)},
         SAME(UNEXPECTED_RECORD)},
        {"a message behind KeyUpdate in its record",
         ON_1_3,
         {DATA(10), STEP(OFFENCE), HANDSHAKE("\30\0\0\1\0\30\0\0\1\0"), DATA(10)},
         SAME(UNEXPECTED_RECORD)},
        {"the old key after KeyUpdate",
         ON_1_3,
         {DATA(10), KEY_UPDATE(0), DATA(10), STEP(OFFENCE), STEP_OF(OLD_KEY, 10)},
         SAME(DECRYPT_ERROR)},
        {"HelloRequest",
         ON_1_2,
         {DATA(10), STEP(OFFENCE), HANDSHAKE("\0\0\0\0"), STEP(SYNC), CLOSE_NOTIFY},
         DIFFERENT(NONE, RENEGOTIATION)},
};

#define FAILURES_SHOWN 12

static struct proof proof;
static bool in_kernel;

static bool can_run(const struct script_row *row, const struct script_variant *variant)
{
	enum tls_version version = variant->version == TLS1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2;

	if (!(row->versions & (variant->version == TLS1_3_VERSION ? ON_1_3 : ON_1_2)))
		return false;
	/* Which of the two reads what came with Finished is a matter of chance there. */
	if (row->with_finished && variant->mode > SCRIPT_TICKETS)
		return false;
	if (variant->mode == SCRIPT_USER_TLS)
		return true;
	return in_kernel && proof_allows(&proof, variant->mode == SCRIPT_SPLICE ? PROOF_SPLICE : PROOF_COPY,
	                                 TLS_DIRECTION_RECEIVE, version, variant->cipher);
}

/* How records are cut is nothing to the cipher; and an emulated CPU is spared what the machine's own has seen. */
static bool worth_it(const struct script_variant *variant)
{
	bool other_cipher = variant->cipher != TLS_CIPHER_AES_128;

	if (!getenv("POSTERN_GUEST"))
		return !other_cipher || variant->cut == CUT_AT_ONCE || variant->cut == CUT_RECORDS;
	switch (variant->mode) {
	case SCRIPT_TICKETS:
		return variant->cut == CUT_RECORDS;
	case SCRIPT_COPY:
	case SCRIPT_SPLICE:
		return variant->cut == CUT_AT_ONCE || (variant->cut == CUT_BYTES && !other_cipher);
	default:
		return false;
	}
}

static void run_rows(int version, enum tls_cipher cipher)
{
	const char *wanted = getenv("POSTERN_SCRIPT_ROW");
	uint64_t begun = monotonic_ns();
	unsigned int runs = 0;
	unsigned int failed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (wanted && !strstr(rows[i].name, wanted))
			continue;
		for (unsigned int j = 0; j < SCRIPT_MODES * SCRIPT_CUTS && failed < FAILURES_SHOWN; j++) {
			const struct script_variant variant = {version, cipher, j / SCRIPT_CUTS, j % SCRIPT_CUTS};

			if (!can_run(&rows[i], &variant) || !worth_it(&variant))
				continue;
			runs++;
			failed += !script_run(&rows[i], &variant, &proof);
		}
	}
	print_message("%u runs in %llu ms\n", runs, (unsigned long long)(monotonic_ns() - begun) / 1000000);
	if (failed)
		fail_msg("%u of %u runs", failed, runs);
}

static void aes_128_of_1_2(void **state)
{
	(void)state;
	run_rows(TLS1_2_VERSION, TLS_CIPHER_AES_128);
}

static void aes_256_of_1_2(void **state)
{
	(void)state;
	run_rows(TLS1_2_VERSION, TLS_CIPHER_AES_256);
}

static void chacha20_of_1_2(void **state)
{
	(void)state;
	run_rows(TLS1_2_VERSION, TLS_CIPHER_CHACHA20);
}

static void aes_128_of_1_3(void **state)
{
	(void)state;
	run_rows(TLS1_3_VERSION, TLS_CIPHER_AES_128);
}

static void aes_256_of_1_3(void **state)
{
	(void)state;
	run_rows(TLS1_3_VERSION, TLS_CIPHER_AES_256);
}

static void chacha20_of_1_3(void **state)
{
	(void)state;
	run_rows(TLS1_3_VERSION, TLS_CIPHER_CHACHA20);
}

/* RFC 8446 5.5 with a limit of 160 KB: keys change in time where the kernel can, else it is a reset; never a nonce
 * more. */
static void keys_at_their_limit(void **state)
{
	bool rekeys = proof.rekey[TLS_DIRECTION_TRANSMIT].verdict == PROOF_SAFE &&
	              proof.rekey[TLS_DIRECTION_RECEIVE].verdict == PROOF_SAFE;
	const struct script_row write_key = {
	        "write key",
	        ON_1_3,
	        {DATA(10), STEP(OFFENCE), STEP_OF(G_SENDS, 600000), DATA(10), CLOSE_NOTIFY},
	        .by_openssl = REASON_KEY_LIMIT,
	        .by_kernel = rekeys ? REASON_NONE : REASON_KEY_LIMIT,
	        .prefix = true,
	        .updates = 3};
	const struct script_row read_key = {"read key",
	                                    ON_1_3,
	                                    {DATA(MAX_RECORD), DATA(MAX_RECORD), DATA(MAX_RECORD), DATA(MAX_RECORD),
	                                     DATA(MAX_RECORD), DATA(MAX_RECORD), DATA(MAX_RECORD), DATA(MAX_RECORD),
	                                     DATA(MAX_RECORD), STEP(HEARS_KEY_UPDATE), KEY_UPDATE(0), DATA(MAX_RECORD),
	                                     DATA(MAX_RECORD), DATA(MAX_RECORD), DATA(MAX_RECORD), DATA(MAX_RECORD),
	                                     CLOSE_NOTIFY},
	                                    .updates = 1};

	(void)state;
	script_aead_limit_blocks = 10000;
	for (enum script_mode mode = 0; mode <= SCRIPT_COPY; mode++) {
		const struct script_variant variant = {TLS1_3_VERSION, TLS_CIPHER_AES_256, mode, CUT_AT_ONCE};

		if (!can_run(&write_key, &variant))
			continue;
		assert_true(script_run(&write_key, &variant, &proof));
		if (rekeys && mode != SCRIPT_USER_TLS)
			assert_true(script_run(&read_key, &variant, &proof));
	}
	script_aead_limit_blocks = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(aes_128_of_1_2),      cmocka_unit_test(aes_256_of_1_2),
	        cmocka_unit_test(chacha20_of_1_2),     cmocka_unit_test(aes_128_of_1_3),
	        cmocka_unit_test(aes_256_of_1_3),      cmocka_unit_test(chacha20_of_1_3),
	        cmocka_unit_test(keys_at_their_limit),
	};
	int failed;

	signal(SIGPIPE, SIG_IGN);
	if (tls_global_init() < 0)
		return 1;
	in_kernel = kernel_has_tls();
	if (in_kernel)
		proof_run_crypto(&proof);
	script_runs_begin();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	script_runs_end();
	return failed;
}
