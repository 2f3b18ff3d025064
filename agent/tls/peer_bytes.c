/* SPDX-License-Identifier: GPL-2.0-only */
#include "tls/peer_bytes.h"

#include <errno.h>

#include <openssl/err.h>

#include "base/cleanup.h"
#include "tls/peer_private.h"

static void chain_cleanup(STACK_OF(X509) * *chain)
{
	sk_X509_pop_free(*chain, X509_free);
}

int tls_peer_encode(const struct tls_peer *peer, uint8_t **bytes, size_t *size)
{
	unsigned char *end;

	if (peer->size > PEER_BYTES_MAX)
		return -E2BIG;
	*bytes = OPENSSL_malloc(peer->size);
	if (!*bytes)
		return -ENOMEM;
	end = *bytes;
	for (int i = 0; i < sk_X509_num(peer->chain); i++) {
		if (i2d_X509(sk_X509_value(peer->chain, i), &end) <= 0) {
			OPENSSL_free(*bytes);
			*bytes = NULL;
			return -ENOMEM;
		}
	}
	*size = (size_t)(end - *bytes);
	return 0;
}

int tls_peer_decode(const uint8_t *bytes, size_t size, struct tls_peer **peer)
{
	_cleanup_(chain_cleanup) STACK_OF(X509) *chain = sk_X509_new_null();
	uint8_t fingerprint[PEER_FINGERPRINT_SIZE];
	const unsigned char *at = bytes;
	size_t der_size;

	if (!chain)
		return -ENOMEM;
	if (size == 0 || size > PEER_BYTES_MAX)
		return -EBADMSG;
	while (at < bytes + size) {
		X509 *certificate = d2i_X509(NULL, &at, bytes + size - at);

		if (!certificate) {
			ERR_clear_error();
			return -EBADMSG;
		}
		if (sk_X509_push(chain, certificate) <= 0) {
			X509_free(certificate);
			return -ENOMEM;
		}
	}
	if (!peer_fingerprint(EVP_sha256(), chain, fingerprint, &der_size))
		return -ENOMEM;
	*peer = peer_new(chain, fingerprint, der_size);
	return *peer ? 0 : -ENOMEM;
}
