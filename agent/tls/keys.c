// SPDX-License-Identifier: GPL-2.0-only
#include "tls/keys.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/cleanup.h"
#include "tls/hmac.h"

#ifndef SOL_TLS /* glibc 2.36 has it, musl has not */
#define SOL_TLS 282
#endif

static const struct cipher {
	const char *name;
	size_t key_length;
	size_t fixed_iv_length_1_2; /* RFC 5288 3: implicit nonce; RFC 7905 2: the whole nonce */
	enum hmac_digest digest;    /* of the suites that use it, in both versions */
} ciphers[] = {
        [TLS_CIPHER_AES_128] = {"AES-128-GCM", 16, 4, HMAC_SHA256},
        [TLS_CIPHER_AES_256] = {"AES-256-GCM", 32, 4, HMAC_SHA384},
        [TLS_CIPHER_CHACHA20] = {"CHACHA20-POLY1305", 32, 12, HMAC_SHA256},
};

size_t tls_cipher_key_length(enum tls_cipher cipher)
{
	return (size_t)cipher < ARRAY_SIZE(ciphers) ? ciphers[cipher].key_length : 0;
}

const char *tls_cipher_name(enum tls_cipher cipher)
{
	return (size_t)cipher < ARRAY_SIZE(ciphers) ? ciphers[cipher].name : "other";
}

const char *tls_version_name(enum tls_version version)
{
	return version == TLS_VERSION_1_3 ? "TLSv1.3" : "TLSv1.2";
}

/* With an empty context. */
static int expand_label(struct hmac *secret, const char *label, uint8_t *output, size_t length)
{
	const struct hmac_piece text = {label, strlen(label)}, nothing = {NULL, 0};

	return hmac_expand_label(secret, &text, &nothing, output, length);
}

static int check_secret(enum tls_cipher cipher, size_t length)
{
	if ((size_t)cipher >= ARRAY_SIZE(ciphers) || length != hmac_length(ciphers[cipher].digest))
		return -EINVAL;
	return 0;
}

int keys_derive_1_3(enum tls_cipher cipher, const uint8_t *secret, size_t length, struct traffic_keys *keys)
{
	_cleanup_(hmac_end) struct hmac hmac = {0};
	int r = check_secret(cipher, length);

	if (r == 0)
		r = hmac_begin(&hmac, ciphers[cipher].digest, secret, length);
	if (r < 0)
		return r;
	*keys = (struct traffic_keys){.version = TLS_VERSION_1_3, .cipher = cipher};
	r = expand_label(&hmac, "key", keys->key, ciphers[cipher].key_length);
	if (r == 0)
		r = expand_label(&hmac, "iv", keys->iv, sizeof(keys->iv));
	if (r < 0)
		OPENSSL_cleanse(keys, sizeof(*keys));
	return r;
}

int keys_next_secret(enum tls_cipher cipher, uint8_t *secret, size_t length)
{
	_cleanup_(hmac_end) struct hmac hmac = {0};
	int r = check_secret(cipher, length);

	if (r == 0)
		r = hmac_begin(&hmac, ciphers[cipher].digest, secret, length);
	if (r < 0)
		return r;
	return expand_label(&hmac, "traffic upd", secret, length);
}

/* P_hash (RFC 5246 5) over "key expansion" and the randoms. */
static int expand_key_block(struct hmac *master, size_t digest_length, const uint8_t client_random[static 32],
                            const uint8_t server_random[static 32], uint8_t *block, size_t length)
{
	const struct hmac_piece seed[] = {{"key expansion", 13}, {server_random, 32}, {client_random, 32}};
	uint8_t a[HMAC_LENGTH_MAX];
	uint8_t output[HMAC_LENGTH_MAX];
	int r = hmac_compute(master, seed, ARRAY_SIZE(seed), a);

	for (size_t done = 0; r == 0 && done < length;) {
		const struct hmac_piece pieces[] = {{a, digest_length}, seed[0], seed[1], seed[2]};
		size_t take = length - done < digest_length ? length - done : digest_length;

		r = hmac_compute(master, pieces, ARRAY_SIZE(pieces), output);
		if (r < 0)
			break;
		memcpy(block + done, output, take);
		done += take;
		r = hmac_compute(master, &pieces[0], 1, a);
	}
	OPENSSL_cleanse(a, sizeof(a));
	OPENSSL_cleanse(output, sizeof(output));
	return r;
}

int keys_derive_1_2(enum tls_cipher cipher, const uint8_t master[static 48], const uint8_t client_random[static 32],
                    const uint8_t server_random[static 32], struct traffic_keys *transmit, struct traffic_keys *receive)
{
	_cleanup_(hmac_end) struct hmac hmac = {0};
	uint8_t block[2 * 32 + 2 * 12];
	const uint8_t *next = block;
	size_t key_length;
	size_t iv_length;
	int r;

	if ((size_t)cipher >= ARRAY_SIZE(ciphers))
		return -EINVAL;
	key_length = ciphers[cipher].key_length;
	iv_length = ciphers[cipher].fixed_iv_length_1_2;
	r = hmac_begin(&hmac, ciphers[cipher].digest, master, 48);
	if (r == 0)
		r = expand_key_block(&hmac, hmac_length(ciphers[cipher].digest), client_random, server_random, block,
		                     2 * (key_length + iv_length));
	if (r == 0) {
		*transmit = (struct traffic_keys){TLS_VERSION_1_2, cipher, .record_sequence = 1};
		*receive = *transmit;
		/* RFC 5246 6.3: client key, server key, client IV, server IV; AEAD suites have no MAC keys. */
		memcpy(transmit->key, next, key_length);
		next += key_length;
		memcpy(receive->key, next, key_length);
		next += key_length;
		memcpy(transmit->iv, next, iv_length);
		next += iv_length;
		memcpy(receive->iv, next, iv_length);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return r;
}

int keys_attach_ulp(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) == -1 ? -errno : 0;
}

/* The kernel's structs differ in nothing but the sizes of their arrays, which must match the cipher. */
union kernel_crypto_info {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 aes_128;
	struct tls12_crypto_info_aes_gcm_256 aes_256;
	struct tls12_crypto_info_chacha20_poly1305 chacha20;
};

/* salt | iv is the nonce's fixed part in TLS 1.3; in TLS 1.2 iv is the explicit part of the first record's nonce. */
static void fill_gcm(const struct traffic_keys *keys, const uint8_t sequence[static 8], uint8_t *salt, uint8_t *iv,
                     uint8_t *key, uint8_t *rec_seq)
{
	memcpy(salt, keys->iv, 4);
	memcpy(iv, keys->version == TLS_VERSION_1_3 ? keys->iv + 4 : sequence, 8);
	memcpy(key, keys->key, ciphers[keys->cipher].key_length);
	memcpy(rec_seq, sequence, 8);
}

int keys_install_by(keys_setsockopt set, int fd, enum tls_direction direction, const struct traffic_keys *keys)
{
	union kernel_crypto_info crypto = {0};
	uint8_t sequence[8];
	socklen_t length;
	int option;
	int r;

	for (size_t i = 0; i < sizeof(sequence); i++)
		sequence[i] = (uint8_t)(keys->record_sequence >> (8 * (7 - i)));
	crypto.info.version = keys->version == TLS_VERSION_1_3 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
	switch (keys->cipher) {
	case TLS_CIPHER_AES_128:
		crypto.info.cipher_type = TLS_CIPHER_AES_GCM_128;
		fill_gcm(keys, sequence, crypto.aes_128.salt, crypto.aes_128.iv, crypto.aes_128.key,
		         crypto.aes_128.rec_seq);
		length = sizeof(crypto.aes_128);
		break;
	case TLS_CIPHER_AES_256:
		crypto.info.cipher_type = TLS_CIPHER_AES_GCM_256;
		fill_gcm(keys, sequence, crypto.aes_256.salt, crypto.aes_256.iv, crypto.aes_256.key,
		         crypto.aes_256.rec_seq);
		length = sizeof(crypto.aes_256);
		break;
	case TLS_CIPHER_CHACHA20:
		crypto.info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
		memcpy(crypto.chacha20.iv, keys->iv, sizeof(crypto.chacha20.iv));
		memcpy(crypto.chacha20.key, keys->key, sizeof(crypto.chacha20.key));
		memcpy(crypto.chacha20.rec_seq, sequence, sizeof(sequence));
		length = sizeof(crypto.chacha20);
		break;
	default:
		return -EINVAL;
	}
	option = direction == TLS_DIRECTION_TRANSMIT ? TLS_TX : TLS_RX;
	r = set(fd, SOL_TLS, option, &crypto, length) == -1 ? -errno : 0;
	OPENSSL_cleanse(&crypto, sizeof(crypto));
	return r;
}

int keys_install(int fd, enum tls_direction direction, const struct traffic_keys *keys)
{
	return keys_install_by(setsockopt, fd, direction, keys);
}
