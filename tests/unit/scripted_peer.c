/* SPDX-License-Identifier: GPL-2.0-only */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "scripted_peer.h"

#define HEADER 5
#define TAG    16

static const struct {
	const char *evp;
	const char *suite_1_2;
	const char *suite_1_3;
	const char *digest;
	size_t key;
} ciphers[TLS_KERNEL_CIPHERS] = {
        [TLS_CIPHER_AES_128] = {"AES-128-GCM", "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256", "SHA256", 16},
        [TLS_CIPHER_AES_256] = {"AES-256-GCM", "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384", "SHA384", 32},
        [TLS_CIPHER_CHACHA20] = {"ChaCha20-Poly1305", "ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_CHACHA20_POLY1305_SHA256",
                                 "SHA256", 32},
};

uint8_t scripted_byte(unsigned int sender, uint64_t at)
{
	uint64_t x = (at + 1) * UINT64_C(0x9e3779b97f4a7c15) + sender * UINT64_C(0xbf58476d1ce4e5b9);

	return (uint8_t)(x >> 56 ^ x >> 29);
}

static void derive(const char *algorithm, const OSSL_PARAM *params, uint8_t *output, size_t length)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, algorithm, NULL);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);

	assert_non_null(context);
	assert_int_equal(EVP_KDF_derive(context, output, length, params), 1);
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
}

static size_t digest_size(const struct scripted_peer *peer)
{
	return peer->cipher == TLS_CIPHER_AES_256 ? 48 : 32;
}

/* RFC 8446 7.1: HKDF-Expand-Label(secret, label, "", length). */
static void expand(const struct scripted_peer *peer, const uint8_t *secret, const char *label, uint8_t *output,
                   size_t length)
{
	uint8_t info[64];
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	size_t text = strlen(label);

	info[0] = 0;
	info[1] = (uint8_t)length;
	info[2] = (uint8_t)(6 + text);
	memcpy(info + 3, "tls13 ", 6);
	memcpy(info + 9, label, text);
	info[9 + text] = 0;
	derive("HKDF",
	       (const OSSL_PARAM[]){
	               OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
	               OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)ciphers[peer->cipher].digest, 0),
	               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, digest_size(peer)),
	               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, 10 + text),
	               OSSL_PARAM_construct_end(),
	       },
	       output, length);
}

static void keys_of_secret(const struct scripted_peer *peer, struct peer_key *key)
{
	expand(peer, key->secret, "key", key->key, ciphers[peer->cipher].key);
	expand(peer, key->secret, "iv", key->iv, sizeof(key->iv));
	key->sequence = 0;
}

static void next_key(const struct scripted_peer *peer, struct peer_key *key)
{
	uint8_t next[TLS_SECRET_MAX];

	expand(peer, key->secret, "traffic upd", next, digest_size(peer));
	memcpy(key->secret, next, sizeof(next));
	keys_of_secret(peer, key);
}

void scripted_peer_next_write_key(struct scripted_peer *peer)
{
	next_key(peer, &peer->write);
}

/* RFC 5246 6.3: client key, server key, client IV, server IV; Finished was record 0 of each side. */
static void keys_of_master(struct scripted_peer *peer)
{
	uint8_t master[SSL_MAX_MASTER_KEY_LENGTH];
	uint8_t seed[13 + 64];
	uint8_t block[2 * 32 + 2 * 12];
	size_t key = ciphers[peer->cipher].key;
	size_t iv = peer->cipher == TLS_CIPHER_CHACHA20 ? 12 : 4;
	SSL *ssl = peer->far_end->ssl;

	assert_int_equal(SSL_SESSION_get_master_key(SSL_get0_session(ssl), master, sizeof(master)), 48);
	memcpy(seed, "key expansion", 13);
	SSL_get_server_random(ssl, seed + 13, 32);
	SSL_get_client_random(ssl, seed + 45, 32);
	derive("TLS1-PRF",
	       (const OSSL_PARAM[]){
	               OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)ciphers[peer->cipher].digest, 0),
	               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, 48),
	               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
	               OSSL_PARAM_construct_end(),
	       },
	       block, 2 * (key + iv));
	memcpy(peer->read.key, block, key);
	memcpy(peer->write.key, block + key, key);
	memcpy(peer->read.iv, block + 2 * key, iv);
	memcpy(peer->write.iv, block + 2 * key + iv, iv);
	peer->read.sequence = peer->write.sequence = 1;
}

SSL_CTX *scripted_peer_new_ssl_ctx(const struct certificate *leaf, int version, enum tls_cipher cipher)
{
	const struct far_end_options options = {
	        .leaf = leaf,
	        .min_version = version,
	        .max_version = version,
	        .suites_1_2 = ciphers[cipher].suite_1_2,
	        .suites_1_3 = ciphers[cipher].suite_1_3,
	        .no_tickets = true, /* its own are part of the script */
	};

	return far_end_new_ssl_ctx(&options);
}

struct scripted_peer *scripted_peer_new(SSL_CTX *ssl_ctx, int fd, int version, enum tls_cipher cipher)
{
	struct scripted_peer *peer = calloc(1, sizeof(*peer));

	assert_non_null(peer);
	peer->far_end = far_end_new(&(struct far_end_options){.ssl_ctx = ssl_ctx}, fd);
	peer->is_1_3 = version == TLS1_3_VERSION;
	peer->cipher = cipher;
	peer->heard_right = true;
	peer->aead = EVP_CIPHER_fetch(NULL, ciphers[cipher].evp, NULL);
	peer->evp = EVP_CIPHER_CTX_new();
	assert_non_null(peer->aead);
	assert_non_null(peer->evp);
	return peer;
}

void scripted_peer_free(struct scripted_peer *peer)
{
	if (!peer)
		return;
	far_end_free(peer->far_end);
	EVP_CIPHER_CTX_free(peer->evp);
	EVP_CIPHER_free(peer->aead);
	free(peer);
}

bool scripted_peer_is_accepted(const struct scripted_peer *peer)
{
	return peer->far_end->accepted;
}

void scripted_peer_accept(struct scripted_peer *peer)
{
	struct far_end *far_end = peer->far_end;
	int r;

	far_end_pull(far_end);
	if (!far_end->accepted) {
		ERR_clear_error();
		r = SSL_accept(far_end->ssl);
		far_end->accepted = r == 1;
		if (r != 1 && SSL_get_error(far_end->ssl, r) != SSL_ERROR_WANT_READ)
			fail_msg("the server's handshake: %s", ERR_reason_error_string(ERR_peek_error()));
	}
	if (!peer->is_1_3) {
		if (far_end->accepted && !peer->has_keys)
			keys_of_master(peer);
		peer->has_keys = far_end->accepted;
		return;
	}
	if (far_end->secret_length == 0)
		return;
	assert_int_equal(far_end->secret_length, digest_size(peer));
	if (!peer->has_keys) {
		memcpy(peer->write.secret, far_end->secrets[1], digest_size(peer));
		keys_of_secret(peer, &peer->write);
		peer->has_keys = true;
	}
	/* OpenSSL tells the client's with its Finished. */
	memcpy(peer->read.secret, far_end->secrets[0], digest_size(peer));
	keys_of_secret(peer, &peer->read);
}

static void put_sequence(uint64_t sequence, uint8_t bytes[static 8])
{
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(sequence >> (56 - 8 * i));
}

/* Eight bytes of nonce that travel in the record: AES-GCM of TLS 1.2 (RFC 5288 3). */
static size_t explicit_size(const struct scripted_peer *peer)
{
	return !peer->is_1_3 && peer->cipher != TLS_CIPHER_CHACHA20 ? 8 : 0;
}

static void make_nonce(const struct scripted_peer *peer, const struct peer_key *key, const uint8_t *explicit,
                       uint8_t nonce[static 12])
{
	uint8_t sequence[8];

	memcpy(nonce, key->iv, 12);
	if (explicit_size(peer) > 0) {
		memcpy(nonce + 4, explicit, 8);
		return;
	}
	put_sequence(key->sequence, sequence);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= sequence[i];
}

/* The additional data: the header (RFC 8446 5.2), or sequence, type, version, length of plaintext (RFC 5246 6.2.3.3).
 */
static size_t make_additional(const struct scripted_peer *peer, const struct peer_key *key, const uint8_t *header,
                              size_t plain, uint8_t additional[static 13])
{
	if (peer->is_1_3) {
		memcpy(additional, header, HEADER);
		return HEADER;
	}
	put_sequence(key->sequence, additional);
	memcpy(additional + 8, header, 3);
	additional[11] = (uint8_t)(plain >> 8);
	additional[12] = (uint8_t)plain;
	return 13;
}

size_t scripted_peer_seal(struct scripted_peer *peer, unsigned int type, const uint8_t *plain, size_t size,
                          size_t padding, uint8_t record[static PEER_RECORD_ROOM])
{
	size_t explicit = explicit_size(peer);
	size_t inner = size + (peer->is_1_3 ? 1 + padding : 0);
	size_t body = explicit + inner + TAG;
	uint8_t *text = record + HEADER + explicit;
	uint8_t additional[13];
	uint8_t nonce[12];
	size_t additional_size;
	EVP_CIPHER_CTX *evp = peer->evp;
	int n;

	assert_true(HEADER + body <= PEER_RECORD_ROOM);
	record[0] = (uint8_t)(peer->is_1_3 ? 23 : type);
	record[1] = record[2] = 3;
	record[3] = (uint8_t)(body >> 8);
	record[4] = (uint8_t)body;
	if (explicit > 0)
		put_sequence(peer->write.sequence, record + HEADER);
	if (size > 0)
		memcpy(text, plain, size);
	if (peer->is_1_3) {
		text[size] = (uint8_t)type;
		memset(text + size + 1, 0, padding);
	}
	make_nonce(peer, &peer->write, record + HEADER, nonce);
	additional_size = make_additional(peer, &peer->write, record, size, additional);
	assert_int_equal(EVP_EncryptInit_ex2(evp, peer->aead, peer->write.key, nonce, NULL), 1);
	assert_int_equal(EVP_EncryptUpdate(evp, NULL, &n, additional, (int)additional_size), 1);
	if (inner > 0)
		assert_int_equal(EVP_EncryptUpdate(evp, text, &n, text, (int)inner), 1);
	assert_int_equal(EVP_EncryptFinal_ex(evp, text + inner, &n), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, TAG, text + inner), 1);
	peer->write.sequence++;
	return HEADER + body;
}

/* In place: the plaintext is at *text afterwards. -1: it does not open. */
static ssize_t open_record(struct scripted_peer *peer, uint8_t *record, size_t length, uint8_t **text,
                           unsigned int *type)
{
	size_t explicit = explicit_size(peer);
	size_t size = length - HEADER - explicit - TAG;
	EVP_CIPHER_CTX *evp = peer->evp;
	uint8_t additional[13];
	uint8_t nonce[12];
	size_t additional_size;
	bool right;
	int n;

	if (length < HEADER + explicit + TAG || (peer->is_1_3 && record[0] != 23))
		return -1;
	*text = record + HEADER + explicit;
	make_nonce(peer, &peer->read, record + HEADER, nonce);
	additional_size = make_additional(peer, &peer->read, record, size, additional);
	right = EVP_DecryptInit_ex2(evp, peer->aead, peer->read.key, nonce, NULL) == 1 &&
	        EVP_DecryptUpdate(evp, NULL, &n, additional, (int)additional_size) == 1 &&
	        (size == 0 || EVP_DecryptUpdate(evp, *text, &n, *text, (int)size) == 1) &&
	        EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, TAG, record + length - TAG) == 1 &&
	        EVP_DecryptFinal_ex(evp, *text + size, &n) == 1;
	if (!right)
		return -1;
	peer->read.sequence++;
	*type = record[0];
	if (!peer->is_1_3)
		return (ssize_t)size;
	while (size > 0 && (*text)[size - 1] == 0)
		size--;
	if (size == 0)
		return -1;
	*type = (*text)[size - 1];
	return (ssize_t)size - 1;
}

static void hear_handshake(struct scripted_peer *peer, const uint8_t *text, size_t size)
{
	if (!peer->is_1_3 || size != 5 || memcmp(text, "\30\0\0\1", 4) != 0 || text[4] > 1) {
		peer->fault = "a handshake message that is no KeyUpdate";
		return;
	}
	peer->key_updates++;
	peer->key_update_requests += text[4];
	peer->heard_at_key_update = peer->heard;
	next_key(peer, &peer->read);
}

static void hear(struct scripted_peer *peer, uint8_t *record, size_t length)
{
	uint8_t *text = NULL;
	unsigned int type = 0;
	ssize_t size = open_record(peer, record, length, &text, &type);

	if (size < 0)
		peer->fault = "a record that does not open";
	else if (peer->close_notify)
		peer->fault = "a record after close_notify";
	else if (type == 23) {
		for (ssize_t i = 0; i < size; i++)
			peer->heard_right &= text[i] == scripted_byte(0, peer->heard++);
	} else if (type == 21 && size == 2) {
		if (text[1] == 0)
			peer->close_notify = true;
		else
			peer->alerts++;
	} else if (type == 22)
		hear_handshake(peer, text, (size_t)size);
	else
		peer->fault = "a record of a type that has no place";
}

void scripted_peer_listen(struct scripted_peer *peer)
{
	while (!peer->fin && !peer->error && !peer->fault) {
		ssize_t got = recv(peer->far_end->fd, peer->in + peer->in_size, sizeof(peer->in) - peer->in_size,
		                   MSG_DONTWAIT);
		size_t at = 0;

		if (got == -1 && errno == EAGAIN)
			return;
		if (got == -1)
			peer->error = errno;
		if (got == 0)
			peer->fin = true;
		if (got <= 0)
			return;
		peer->in_size += (size_t)got;
		while (peer->in_size - at >= HEADER && !peer->fault) {
			size_t length = HEADER + ((size_t)peer->in[at + 3] << 8 | peer->in[at + 4]);

			if (peer->in[at] < 20 || peer->in[at] > 23 || peer->in[at + 1] != 3 ||
			    length > 16384 + 256 + HEADER)
				peer->fault = "bytes that are no TLS record";
			if (peer->fault || peer->in_size - at < length)
				break;
			hear(peer, peer->in + at, length);
			at += length;
		}
		memmove(peer->in, peer->in + at, peer->in_size - at);
		peer->in_size -= at;
	}
}
