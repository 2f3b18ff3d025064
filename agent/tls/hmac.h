/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hmac.h: HMAC with SHA-256 or SHA-384, the only primitive of both key schedules (RFC 5869 2.3, RFC 5246 5). Private
 * to tls/. Any thread.
 */
#ifndef POSTERN_TLS_HMAC_H
#define POSTERN_TLS_HMAC_H

#include <stddef.h>
#include <stdint.h>

#define HMAC_LENGTH_MAX 48

enum hmac_digest {
	HMAC_SHA256,
	HMAC_SHA384,
	HMAC_DIGESTS,
};

struct hmac_piece {
	const void *bytes;
	size_t length;
};

#define HMAC_KEY_MAX 128 /* no key of ours is longer than SHA-256's block */

struct hmac_hash;

struct hmac {
	struct hmac_hash *hash; /* NULL: not begun, or ended */
	enum hmac_digest digest;
	uint8_t key[HMAC_KEY_MAX]; /* as long as the digest's block */
};

/* Once keyed it serves any number of messages. 0, -EIO, or -EINVAL: a key of more than 64 bytes. hmac_end() always. */
int hmac_begin(struct hmac *hmac, enum hmac_digest digest, const uint8_t *key, size_t key_length);
/* The key is wiped; the thread keeps the rest for its next one. */
void hmac_end(struct hmac *hmac);
/* HMAC of the pieces in order. 0 or -EIO. */
int hmac_compute(struct hmac *hmac, const struct hmac_piece *pieces, size_t count,
                 uint8_t result[static HMAC_LENGTH_MAX]);
size_t hmac_length(enum hmac_digest digest);
/*
 * HKDF-Expand-Label (RFC 8446 7.1) for lengths up to that of the digest; a label of 249 bytes at most, without "tls13
 * ", a context of 255. 0, -EIO or -EINVAL.
 */
int hmac_expand_label(struct hmac *secret, const struct hmac_piece *label, const struct hmac_piece *context,
                      uint8_t *output, size_t length);

#endif
