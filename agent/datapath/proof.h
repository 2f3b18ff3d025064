/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * proof.h: at start the agent proves on the running kernel, with loopback pairs and throw-away keys, every mode that it
 * might use (design section 8). The far end seals and opens records in user space (tls/record.h) and looks at the raw
 * bytes: valid records only, no marker of the plaintext, nothing lost, changed or reordered. What did not pass is not
 * used. Kernel versions are never compared, and "B in a sockmap" is never probed: that probe can crash a kernel.
 *
 * Main thread, before workers start; about a second under emulation, tens of milliseconds natively.
 */
#ifndef POSTERN_DATAPATH_PROOF_H
#define POSTERN_DATAPATH_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/keys.h"

enum proof_verdict {
	PROOF_NOT_RUN,
	PROOF_SAFE,
	PROOF_UNSAFE,      /* it ran and did wrong: see detail */
	PROOF_UNAVAILABLE, /* the kernel refuses it */
};
const char *proof_verdict_name(enum proof_verdict verdict);

enum proof_mode {
	PROOF_COPY,   /* recv/send, recvmsg/send */
	PROOF_SPLICE, /* through a pipe that is emptied before each refill */
	PROOF_NO_PAD, /* TLS_RX_EXPECT_NO_PAD with padded records (receive, TLS 1.3) */
	PROOF_MODES,
};
const char *proof_mode_name(enum proof_mode mode);

struct proof_result {
	enum proof_verdict verdict;
	char detail[128];
	unsigned int microseconds;
};

enum proof_hook { /* proved with a child in a cgroup and network namespace of its own */
	          PROOF_HOLD,
	          PROOF_GUARD,
	          PROOF_WITNESS,
	          PROOF_LANE,
	          PROOF_HOOKS,
};
const char *proof_hook_name(enum proof_hook hook);

struct proof {
	bool kernel_tls; /* TCP_ULP "tls" exists */
	/* [mode][direction][version][cipher] */
	struct proof_result crypto[PROOF_MODES][2][2][TLS_KERNEL_CIPHERS];
	struct proof_result rekey[2]; /* [direction]: TLS_TX, TLS_RX may be set again (TLS 1.3) */
	struct proof_result hook[PROOF_HOOKS];
	unsigned int milliseconds;
};

/* Always returns a filled proof; what could not be tried is UNAVAILABLE with the errno's text. */
void proof_run_crypto(struct proof *proof);
/* A cgroup "postern-proof.PID" is made beside agent_cgroup (absolute path) and removed. Adds to proof->milliseconds. */
void proof_run_hooks(struct proof *proof, const char *agent_cgroup);

bool proof_allows(const struct proof *proof, enum proof_mode mode, enum tls_direction direction,
                  enum tls_version version, enum tls_cipher cipher);

#endif
