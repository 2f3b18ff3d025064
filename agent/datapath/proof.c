// SPDX-License-Identifier: GPL-2.0-only
#include "datapath/proof.h"

#include "base/cleanup.h"

static const char *name_of(const char *const *names, size_t count, size_t index)
{
	return index < count && names[index] ? names[index] : "unknown";
}

const char *proof_verdict_name(enum proof_verdict verdict)
{
	static const char *const names[] = {
	        [PROOF_NOT_RUN] = "not_run",
	        [PROOF_SAFE] = "safe",
	        [PROOF_UNSAFE] = "unsafe",
	        [PROOF_UNAVAILABLE] = "unavailable",
	};

	return name_of(names, ARRAY_SIZE(names), verdict);
}

const char *proof_mode_name(enum proof_mode mode)
{
	static const char *const names[PROOF_MODES] = {
	        [PROOF_COPY] = "copy",
	        [PROOF_SPLICE] = "splice",
	        [PROOF_NO_PAD] = "no_pad",
	};

	return name_of(names, ARRAY_SIZE(names), mode);
}

const char *proof_hook_name(enum proof_hook hook)
{
	static const char *const names[PROOF_HOOKS] = {
	        [PROOF_HOLD] = "hold",
	        [PROOF_GUARD] = "guard",
	        [PROOF_WITNESS] = "witness",
	        [PROOF_LANE] = "lane",
	};

	return name_of(names, ARRAY_SIZE(names), hook);
}

bool proof_allows(const struct proof *proof, enum proof_mode mode, enum tls_direction direction,
                  enum tls_version version, enum tls_cipher cipher)
{
	if ((unsigned int)mode >= PROOF_MODES || (unsigned int)cipher >= TLS_KERNEL_CIPHERS)
		return false;
	return proof->crypto[mode][direction][version][cipher].verdict == PROOF_SAFE;
}
