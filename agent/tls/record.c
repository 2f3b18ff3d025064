// SPDX-License-Identifier: GPL-2.0-only
#include "tls/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/cleanup.h"

#define NONCE_LENGTH          12
#define TAG_LENGTH            16
#define EXPLICIT_NONCE_LENGTH 8
#define RECORD_BODY_MAX       (TLS_RECORD_MAX - TLS_RECORD_HEADER)

struct record_cipher {
	struct traffic_keys keys; /* the key itself lives in the EVP context only */
	EVP_CIPHER_CTX *evp;
};

static const char *const evp_names[TLS_KERNEL_CIPHERS] = {
        [TLS_CIPHER_AES_128] = "AES-128-GCM",
        [TLS_CIPHER_AES_256] = "AES-256-GCM",
        [TLS_CIPHER_CHACHA20] = "ChaCha20-Poly1305",
};

static void cipher_cleanup(EVP_CIPHER **cipher)
{
	EVP_CIPHER_free(*cipher);
}

static void record_cipher_cleanup(struct record_cipher **cipher)
{
	record_cipher_free(*cipher);
}

int record_cipher_new(const struct traffic_keys *keys, struct record_cipher **cipher)
{
	_cleanup_(record_cipher_cleanup) struct record_cipher *new = NULL;
	_cleanup_(cipher_cleanup) EVP_CIPHER *evp = NULL;

	if ((unsigned int)keys->cipher >= TLS_KERNEL_CIPHERS)
		return -EINVAL;
	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	new->keys = *keys;
	OPENSSL_cleanse(new->keys.key, sizeof(new->keys.key));
	evp = EVP_CIPHER_fetch(NULL, evp_names[keys->cipher], NULL);
	new->evp = EVP_CIPHER_CTX_new();
	if (!evp || !new->evp || !EVP_EncryptInit_ex2(new->evp, evp, keys->key, NULL, NULL))
		return -ENOMEM;
	*cipher = TAKE_PTR(new);
	return 0;
}

void record_cipher_free(struct record_cipher *cipher)
{
	if (!cipher)
		return;
	EVP_CIPHER_CTX_free(cipher->evp);
	OPENSSL_cleanse(cipher, sizeof(*cipher));
	free(cipher);
}

static void put_sequence(uint64_t sequence, uint8_t bytes[static 8])
{
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(sequence >> (8 * (7 - i)));
}

static void put_header(uint8_t header[static TLS_RECORD_HEADER], enum tls_content_type type, size_t length)
{
	header[0] = (uint8_t)type;
	header[1] = 3;
	header[2] = 3;
	header[3] = (uint8_t)(length >> 8);
	header[4] = (uint8_t)length;
}

static bool is_1_3(const struct record_cipher *cipher)
{
	return cipher->keys.version == TLS_VERSION_1_3;
}

/* RFC 5288: TLS 1.2 AES-GCM carries eight bytes of the nonce in each record; all others derive it. */
static size_t explicit_nonce_length(const struct record_cipher *cipher)
{
	return is_1_3(cipher) || cipher->keys.cipher == TLS_CIPHER_CHACHA20 ? 0 : EXPLICIT_NONCE_LENGTH;
}

/* RFC 8446 5.3 and RFC 7905 2: iv xor sequence; RFC 5288 3: salt | explicit. */
static void make_nonce(const struct record_cipher *cipher, const uint8_t *explicit, uint8_t nonce[static NONCE_LENGTH])
{
	uint8_t sequence[8];

	memcpy(nonce, cipher->keys.iv, NONCE_LENGTH);
	if (explicit_nonce_length(cipher) > 0) {
		memcpy(nonce + 4, explicit, EXPLICIT_NONCE_LENGTH);
		return;
	}
	put_sequence(cipher->keys.record_sequence, sequence);
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= sequence[i];
}

/* RFC 8446 5.2: the record's header; RFC 5246 6.2.3.3: sequence, type, version and the plaintext's length. */
static size_t make_additional_data(const struct record_cipher *cipher, const uint8_t header[static TLS_RECORD_HEADER],
                                   size_t plain_length, uint8_t data[static 13])
{
	if (is_1_3(cipher)) {
		memcpy(data, header, TLS_RECORD_HEADER);
		return TLS_RECORD_HEADER;
	}
	put_sequence(cipher->keys.record_sequence, data);
	put_header(data + 8, header[0], plain_length);
	return 13;
}

ssize_t record_seal(struct record_cipher *cipher, enum tls_content_type type, const void *plain, size_t size,
                    size_t padding, uint8_t record[static TLS_RECORD_MAX])
{
	static const uint8_t zeros[256];
	size_t explicit_length = explicit_nonce_length(cipher);
	size_t inner = size + (is_1_3(cipher) ? 1 + padding : 0);
	size_t body = explicit_length + inner + TAG_LENGTH;
	uint8_t *explicit = record + TLS_RECORD_HEADER;
	uint8_t *output = explicit + explicit_length;
	uint8_t additional[13];
	uint8_t nonce[NONCE_LENGTH];
	uint8_t inner_type = (uint8_t)type;
	size_t additional_length;
	int n;

	if (size > TLS_RECORD_PLAIN_MAX || padding > TLS_RECORD_PLAIN_MAX - size || (padding > 0 && !is_1_3(cipher)))
		return -EINVAL;
	put_header(record, is_1_3(cipher) ? TLS_CONTENT_APPLICATION_DATA : type, body);
	if (explicit_length > 0)
		put_sequence(cipher->keys.record_sequence, explicit);
	make_nonce(cipher, explicit, nonce);
	additional_length = make_additional_data(cipher, record, size, additional);

	if (!EVP_EncryptInit_ex2(cipher->evp, NULL, NULL, nonce, NULL) ||
	    !EVP_EncryptUpdate(cipher->evp, NULL, &n, additional, (int)additional_length))
		return -EINVAL;
	if (size > 0) {
		if (!EVP_EncryptUpdate(cipher->evp, output, &n, plain, (int)size))
			return -EINVAL;
		output += n;
	}
	if (is_1_3(cipher)) {
		if (!EVP_EncryptUpdate(cipher->evp, output, &n, &inner_type, 1))
			return -EINVAL;
		output += n;
		for (size_t left = padding; left > 0;) {
			size_t take = left < sizeof(zeros) ? left : sizeof(zeros);

			if (!EVP_EncryptUpdate(cipher->evp, output, &n, zeros, (int)take))
				return -EINVAL;
			output += n;
			left -= take;
		}
	}
	if (!EVP_EncryptFinal_ex(cipher->evp, output, &n))
		return -EINVAL;
	output += n;
	if (EVP_CIPHER_CTX_ctrl(cipher->evp, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, output) != 1)
		return -EINVAL;
	cipher->keys.record_sequence++;
	return (ssize_t)(TLS_RECORD_HEADER + body);
}

/* RFC 8446 5.4: the content type is the last byte that is not zero. */
static ssize_t strip_padding(const uint8_t *plain, size_t length, enum tls_content_type *type)
{
	while (length > 0 && plain[length - 1] == 0)
		length--;
	if (length == 0)
		return -EBADMSG;
	*type = plain[length - 1];
	return (ssize_t)(length - 1);
}

ssize_t record_open(struct record_cipher *cipher, const uint8_t *record, size_t length,
                    uint8_t plain[static TLS_RECORD_PLAIN_MAX + 256], enum tls_content_type *type)
{
	size_t explicit_length = explicit_nonce_length(cipher);
	size_t overhead = explicit_length + TAG_LENGTH;
	const uint8_t *explicit = record + TLS_RECORD_HEADER;
	uint8_t additional[13];
	uint8_t nonce[NONCE_LENGTH];
	size_t additional_length;
	size_t plain_length;
	int n;
	int last;

	if (record_length(record, length) != (ssize_t)length || length < TLS_RECORD_HEADER + overhead)
		return -EBADMSG;
	/* RFC 8446 5.2: the inner type is not part of the 2^14 bytes. */
	plain_length = length - TLS_RECORD_HEADER - overhead;
	if (plain_length > TLS_RECORD_PLAIN_MAX + (is_1_3(cipher) ? 1u : 0u))
		return -EBADMSG;
	if (record[1] != 3 || record[2] != 3 || (is_1_3(cipher) && record[0] != TLS_CONTENT_APPLICATION_DATA))
		return -EBADMSG;
	make_nonce(cipher, explicit, nonce);
	additional_length = make_additional_data(cipher, record, plain_length, additional);

	if (!EVP_DecryptInit_ex2(cipher->evp, NULL, NULL, nonce, NULL) ||
	    !EVP_DecryptUpdate(cipher->evp, NULL, &n, additional, (int)additional_length) ||
	    !EVP_DecryptUpdate(cipher->evp, plain, &n, explicit + explicit_length, (int)plain_length) ||
	    EVP_CIPHER_CTX_ctrl(cipher->evp, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH,
	                        (void *)(record + length - TAG_LENGTH)) != 1 ||
	    !EVP_DecryptFinal_ex(cipher->evp, plain + n, &last)) {
		OPENSSL_cleanse(plain, plain_length); /* not authenticated: nobody may see it */
		return -EBADMSG;
	}
	cipher->keys.record_sequence++;
	if (is_1_3(cipher))
		return strip_padding(plain, plain_length, type);
	*type = record[0];
	return (ssize_t)plain_length;
}

ssize_t record_length(const uint8_t *bytes, size_t available)
{
	size_t body;

	if (available < TLS_RECORD_HEADER)
		return 0;
	body = (size_t)bytes[3] << 8 | bytes[4];
	if (bytes[0] < TLS_CONTENT_CHANGE_CIPHER_SPEC || bytes[0] > TLS_CONTENT_APPLICATION_DATA || bytes[1] != 3 ||
	    body > RECORD_BODY_MAX)
		return -EPROTO;
	return (ssize_t)(TLS_RECORD_HEADER + body);
}
