/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * scripted_peer.h: a TLS server whose records are made by hand. The handshake is OpenSSL's, on memory BIOs
 * (tls_far_end.h); from Finished on, the keys are derived and every record sealed and opened here, with EVP alone:
 * nothing of tls/keys.c and tls/record.c, so that a mistake there cannot hide behind its twin.
 *
 *   scripted_peer_new(); scripted_peer_accept() until scripted_peer_has_keys(); scripted_peer_seal() what is to go out,
 * scripted_peer_listen() to what comes in
 *
 * No threads, nothing blocks. Failures of the test's own means end the test (cmocka).
 */
#ifndef POSTERN_TESTS_SCRIPTED_PEER_H
#define POSTERN_TESTS_SCRIPTED_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls_far_end.h"

#define PEER_RECORD_ROOM (5 + 8 + 20000 + 1 + 16) /* a record may be larger than the RFC allows */

/* One direction's keys. */
struct peer_key {
	uint8_t secret[TLS_SECRET_MAX]; /* TLS 1.3: application_traffic_secret_N */
	uint8_t key[32];
	uint8_t iv[12];
	uint64_t sequence; /* of the next record */
};

struct scripted_peer {
	struct far_end *far_end; /* the socket is its own */
	bool is_1_3;
	enum tls_cipher cipher;
	EVP_CIPHER *aead;
	EVP_CIPHER_CTX *evp;
	bool has_keys;
	struct peer_key write;
	struct peer_key read;

	uint8_t in[1 << 16]; /* raw bytes that are no whole record yet */
	size_t in_size;
	/* what it has heard so far */
	size_t heard;     /* bytes of application data */
	bool heard_right; /* they are the gateway's */
	unsigned int key_updates;
	unsigned int key_update_requests; /* of them */
	size_t heard_at_key_update;       /* bytes before the last one */
	unsigned int alerts;              /* but close_notify */
	bool close_notify;
	bool fin;
	int error;         /* errno that ended reading */
	const char *fault; /* what it heard is wrong: no TLS, does not open, has no place; NULL: nothing is */
};

/* What sender (0: the gateway, 1: the backend) has at offset `at` of all that it says. */
uint8_t scripted_byte(unsigned int sender, uint64_t at);

/* A server of one version and one suite, for all its connections; SSL_CTX_free(). */
SSL_CTX *scripted_peer_new_ssl_ctx(const struct certificate *leaf, int version, enum tls_cipher cipher);
/* One connection of it; the fd is owned from now on. */
struct scripted_peer *scripted_peer_new(SSL_CTX *ssl_ctx, int fd, int version, enum tls_cipher cipher);
void scripted_peer_free(struct scripted_peer *peer); /* NULL-safe */

/*
 * One step of the handshake; what OpenSSL wants to say is in far_end->out and stays there: the caller lets it go, with
 * more behind it or without. Once scripted_peer_has_keys() records can be sealed: in TLS 1.3 before the client's
 * Finished came (RFC 8446 4.4.4), in 1.2 behind our own.
 */
void scripted_peer_accept(struct scripted_peer *peer);
bool scripted_peer_is_accepted(const struct scripted_peer *peer);

/*
 * The next record, or one that is wrong: TLS 1.3: padding zeros behind type. Any size that fits PEER_RECORD_ROOM.
 * Returns its length.
 */
size_t scripted_peer_seal(struct scripted_peer *peer, unsigned int type, const uint8_t *plain, size_t size,
                          size_t padding, uint8_t record[static PEER_RECORD_ROOM]);
/* TLS 1.3: the keys after our KeyUpdate. */
void scripted_peer_next_write_key(struct scripted_peer *peer);

/* Read what came from the client; after the handshake only. */
void scripted_peer_listen(struct scripted_peer *peer);

#endif
