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

struct evp_mac_ctx_st;

/* One keyed context serves any number of messages. 0 or -EIO. */
int hmac_new(enum hmac_digest digest, const uint8_t *key, size_t key_length, struct evp_mac_ctx_st **hmac);
void hmac_free(struct evp_mac_ctx_st **hmac);
/* HMAC of the pieces in order. 0 or -EIO. */
int hmac_compute(struct evp_mac_ctx_st *hmac, const struct hmac_piece *pieces, size_t count,
                 uint8_t result[static HMAC_LENGTH_MAX]);
size_t hmac_length(enum hmac_digest digest);

#endif
