/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * proof_case.h: one case of the proof of kernel TLS, as proof_case.c, proof_transmit.c and proof_receive.c share it.
 *
 *   G ---- A    B ---- S
 *
 * Two loopback pairs. B has the kernel's keys; S, the far end, seals and opens records in user space with the same keys
 * and sees the raw bytes of the wire. Between A and B the bytes are moved by the very calls that the relay uses.
 * Everything is non-blocking, in one loop; when nothing has moved for patience_ms it is "stuck".
 */
#ifndef POSTERN_DATAPATH_PROOF_CASE_H
#define POSTERN_DATAPATH_PROOF_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "datapath/proof.h"
#include "tls/record.h"

#define PROOF_BYTES       ((size_t)256 * 1024 + 13) /* of plaintext per case: several turns of every buffer */
#define PROOF_BUFFER      ((size_t)256 * 1024)      /* as the relay has it */
#define PROOF_RAW         ((size_t)128 * 1024)      /* bytes of the wire at S, at a time */
#define PROOF_PATIENCE_MS 5000

struct proof_case {
	enum proof_mode mode;
	enum tls_direction direction;
	struct traffic_keys keys;
	struct proof_result *result; /* the first verdict stays */
	unsigned int patience_ms;

	int g, a, b, s;
	int pipe[2];
	size_t pipe_size;
	struct record_cipher *far_end;
	uint8_t *pattern; /* PROOF_BYTES of plaintext, with a marker in every block */
	uint8_t *buffer;  /* PROOF_BUFFER */
	uint8_t *raw;     /* PROOF_RAW */
	uint64_t progress_ns;
};

/* Does any of the pattern show? */
bool proof_has_marker(const uint8_t *bytes, size_t size);

/* Buffers and pattern are shared by all cases. 0 or -ENOMEM. */
int proof_buffers_new(struct proof_case *proof_case);
void proof_buffers_free(struct proof_case *proof_case);
/* Sockets, pipe, throw-away keys and the far end's cipher. False: the verdict is set. */
bool proof_case_open(struct proof_case *proof_case, enum tls_version version, enum tls_cipher cipher);
void proof_case_close(struct proof_case *proof_case);

/* Give B its keys. False: the verdict is set (the kernel refuses them). */
bool proof_case_arm(struct proof_case *proof_case);

__attribute__((format(printf, 3, 4))) void proof_verdict(struct proof_case *proof_case, enum proof_verdict verdict,
                                                         const char *format, ...);
bool proof_decided(const struct proof_case *proof_case);

/* For the loop of a case: what it waits for when a round moved nothing. events: G, A, B, S. False: stuck, verdict set.
 */
void proof_progress(struct proof_case *proof_case);
bool proof_wait(struct proof_case *proof_case, const short events[static 4]);

/* One control record out of B by the kernel, in a cmsg. 0 or negative errno. */
int proof_send_control(int b, enum tls_content_type type, const void *bytes, size_t size);
/* recvmsg() with the record's type, 0 if the kernel gave none. -1 and errno. */
ssize_t proof_receive_record(int b, void *buffer, size_t size, unsigned int *type);

void proof_transmit(struct proof_case *proof_case);
void proof_receive(struct proof_case *proof_case);

/* proof_rekey.c: TLS_TX or TLS_RX set a second time, with the next key, and data under it. */
void proof_rekey(struct proof_case *proof_case);

#endif
