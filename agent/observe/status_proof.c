/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/proof.h"
#include "observe/json.h"
#include "observe/status.h"

static const char *direction_name(unsigned int direction)
{
	return direction == TLS_DIRECTION_TRANSMIT ? "transmit" : "receive";
}

static json_t *verdict(const struct proof_result *result)
{
	return json_pack("{s:s, s:o}", "verdict", proof_verdict_name(result->verdict), "detail",
	                 json_text(result->detail));
}

static void add_crypto(json_t **rows, const struct proof *proof, unsigned int mode, unsigned int direction,
                       unsigned int version, unsigned int cipher)
{
	const struct proof_result *result = &proof->crypto[mode][direction][version][cipher];

	json_append(rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "mode", proof_mode_name((enum proof_mode)mode),
	                            "direction", direction_name(direction), "version",
	                            tls_version_name((enum tls_version)version), "cipher",
	                            tls_cipher_name((enum tls_cipher)cipher), "verdict",
	                            proof_verdict_name(result->verdict), "detail", json_text(result->detail)));
}

static json_t *crypto(const struct proof *proof)
{
	json_t *rows = json_array();

	for (unsigned int mode = 0; mode < PROOF_MODES; mode++) {
		for (unsigned int direction = 0; direction < 2; direction++) {
			for (unsigned int version = 0; version < 2; version++) {
				for (unsigned int cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++)
					add_crypto(&rows, proof, mode, direction, version, cipher);
			}
		}
	}
	return rows;
}

json_t *status_proof(const struct proof *proof)
{
	static const struct proof none;
	json_t *hooks = json_array();

	if (!proof)
		proof = &none; /* every verdict is NOT_RUN */
	for (unsigned int hook = 0; hook < PROOF_HOOKS; hook++)
		json_append(&hooks, json_pack("{s:s, s:s, s:o}", "hook", proof_hook_name((enum proof_hook)hook),
		                              "verdict", proof_verdict_name(proof->hook[hook].verdict), "detail",
		                              json_text(proof->hook[hook].detail)));
	return json_pack("{s:b, s:I, s:o, s:{s:o, s:o}, s:o}", "kernel_tls", proof->kernel_tls, "milliseconds",
	                 (json_int_t)proof->milliseconds, "crypto", crypto(proof), "rekey", "transmit",
	                 verdict(&proof->rekey[TLS_DIRECTION_TRANSMIT]), "receive",
	                 verdict(&proof->rekey[TLS_DIRECTION_RECEIVE]), "hooks", hooks);
}
