// SPDX-License-Identifier: GPL-2.0-only
#include "tls/hmac.h"

#include <errno.h>
#include <pthread.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/cleanup.h"

/*
 * One prepared context per digest. Fetching an algorithm costs more than the MAC itself (5.5 against 2 us for a
 * connection's four keys), so they are fetched once; after pthread_once() they are only ever duplicated, never
 * written, and thus shared by all threads.
 */
static pthread_once_t prepared_once = PTHREAD_ONCE_INIT;
static EVP_MAC_CTX *prepared[HMAC_DIGESTS];

static const char *const digest_names[HMAC_DIGESTS] = {
        [HMAC_SHA256] = "SHA256",
        [HMAC_SHA384] = "SHA384",
};

static void prepare(void)
{
	static const uint8_t any_key[1]; /* EVP_MAC_CTX_dup() needs an initialised context */
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

	for (size_t i = 0; mac && i < HMAC_DIGESTS; i++) {
		const OSSL_PARAM params[] = {
		        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)digest_names[i], 0),
		        OSSL_PARAM_construct_end(),
		};
		EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);

		if (context && EVP_MAC_init(context, any_key, sizeof(any_key), params)) {
			prepared[i] = context;
			continue;
		}
		EVP_MAC_CTX_free(context);
	}
	EVP_MAC_free(mac);
}

int hmac_new(enum hmac_digest digest, const uint8_t *key, size_t key_length, EVP_MAC_CTX **hmac)
{
	EVP_MAC_CTX *context;

	pthread_once(&prepared_once, prepare);
	if (!prepared[digest])
		return -EIO;
	context = EVP_MAC_CTX_dup(prepared[digest]);
	if (!context || !EVP_MAC_init(context, key, key_length, NULL)) {
		EVP_MAC_CTX_free(context);
		return -EIO;
	}
	*hmac = context;
	return 0;
}

void hmac_free(EVP_MAC_CTX **hmac)
{
	EVP_MAC_CTX_free(*hmac); /* cleanses the keyed state */
}

int hmac_compute(EVP_MAC_CTX *hmac, const struct hmac_piece *pieces, size_t count,
                 uint8_t result[static HMAC_LENGTH_MAX])
{
	size_t length;

	if (!EVP_MAC_init(hmac, NULL, 0, NULL)) /* the same key again */
		return -EIO;
	for (size_t i = 0; i < count; i++)
		if (!EVP_MAC_update(hmac, pieces[i].bytes, pieces[i].length))
			return -EIO;
	return EVP_MAC_final(hmac, result, &length, HMAC_LENGTH_MAX) ? 0 : -EIO;
}

size_t hmac_length(enum hmac_digest digest)
{
	return digest == HMAC_SHA384 ? 48 : 32;
}
