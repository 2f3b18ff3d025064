// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/proof.h"

#include <stdio.h>
#include <string.h>

#include "base/loop.h"
#include "datapath/proof_case.h"

static void make_unavailable(struct proof_result *result, const char *detail)
{
	result->verdict = PROOF_UNAVAILABLE;
	snprintf(result->detail, sizeof(result->detail), "%s", detail);
}

static void run_case(struct proof_case *proof_case, enum tls_version version, enum tls_cipher cipher,
                     void (*run)(struct proof_case *proof_case))
{
	uint64_t started = monotonic_ns();

	if (proof_case_open(proof_case, version, cipher) && proof_case_arm(proof_case))
		run(proof_case);
	proof_case_close(proof_case);
	proof_case->result->microseconds = (unsigned int)((monotonic_ns() - started) / 1000);
}

static void run_row(struct proof *proof, struct proof_case *proof_case, enum tls_version version,
                    enum tls_cipher cipher)
{
	bool transmit = proof_case->direction == TLS_DIRECTION_TRANSMIT;

	proof_case->result = &proof->crypto[proof_case->mode][proof_case->direction][version][cipher];
	if (proof_case->mode == PROOF_NO_PAD && (transmit || version != TLS_VERSION_1_3))
		make_unavailable(proof_case->result, "only TLS 1.3 receive has padding");
	else
		run_case(proof_case, version, cipher, transmit ? proof_transmit : proof_receive);
}

static void run_table(struct proof *proof, struct proof_case *proof_case)
{
	for (enum proof_mode mode = 0; mode < PROOF_MODES; mode++) {
		for (enum tls_direction direction = 0; direction < 2; direction++) {
			proof_case->mode = mode;
			proof_case->direction = direction;
			for (enum tls_version version = 0; version < 2; version++) {
				for (enum tls_cipher cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++)
					run_row(proof, proof_case, version, cipher);
			}
		}
	}
	for (enum tls_direction direction = 0; direction < 2; direction++) {
		proof_case->mode = PROOF_COPY;
		proof_case->direction = direction;
		proof_case->result = &proof->rekey[direction];
		run_case(proof_case, TLS_VERSION_1_3, TLS_CIPHER_AES_128, proof_rekey);
	}
}

static void give_up(struct proof *proof, const char *detail)
{
	struct proof_result *rows = &proof->crypto[0][0][0][0];

	for (size_t i = 0; i < sizeof(proof->crypto) / sizeof(*rows); i++)
		make_unavailable(&rows[i], detail);
	for (int i = 0; i < 2; i++)
		make_unavailable(&proof->rekey[i], detail);
}

/* Is there a TCP_ULP "tls" at all? Its absence is the one answer for the whole table. */
static bool has_kernel_tls(char *detail, size_t size)
{
	struct proof_result result = {.verdict = PROOF_NOT_RUN};
	struct proof_case proof_case = {.result = &result};
	int error = 0;

	if (proof_case_open(&proof_case, TLS_VERSION_1_3, TLS_CIPHER_AES_128))
		error = keys_attach_ulp(proof_case.b);
	proof_case_close(&proof_case);
	if (proof_decided(&proof_case))
		snprintf(detail, size, "%s", result.detail);
	else if (error)
		snprintf(detail, size, "no kernel TLS (CONFIG_TLS, module tls): %s", strerror(-error));
	return !error && !proof_decided(&proof_case);
}

void proof_run_crypto(struct proof *proof)
{
	uint64_t started = monotonic_ns();
	struct proof_case proof_case = {.patience_ms = PROOF_PATIENCE_MS};
	char detail[sizeof(proof->rekey[0].detail)];

	memset(proof->crypto, 0, sizeof(proof->crypto));
	memset(proof->rekey, 0, sizeof(proof->rekey));
	proof->kernel_tls = has_kernel_tls(detail, sizeof(detail));
	if (!proof->kernel_tls) {
		give_up(proof, detail);
	} else if (proof_buffers_new(&proof_case) != 0) {
		give_up(proof, "no memory for the proof");
	} else {
		run_table(proof, &proof_case);
		proof_buffers_free(&proof_case);
	}
	proof->milliseconds += (unsigned int)((monotonic_ns() - started) / 1000000);
}
