/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * peer_private.h: what a verified peer is made of, and how the handshake and a resumption get at one. Any thread.
 */
#ifndef POSTERN_TLS_PEER_PRIVATE_H
#define POSTERN_TLS_PEER_PRIVATE_H

#include <stdatomic.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include "tls/peer.h"

#define PEER_FINGERPRINT_SIZE 32

struct tls_peer {
	atomic_uint references;
	uint8_t fingerprint[PEER_FINGERPRINT_SIZE];
	size_t size;            /* bytes of DER */
	STACK_OF(X509) * chain; /* as it was sent, the leaf first; never empty */
};

/*
 * SHA-256 over the certificates as they were sent, in order: DER tells where each ends. False: no memory, or no
 * certificate.
 */
bool peer_fingerprint(const EVP_MD *sha256, const STACK_OF(X509) * chain, uint8_t fingerprint[PEER_FINGERPRINT_SIZE],
                      size_t *size);
/* One reference to a peer with a chain of its own (the certificates are shared); NULL: no memory. */
struct tls_peer *peer_new(STACK_OF(X509) * chain, const uint8_t fingerprint[PEER_FINGERPRINT_SIZE], size_t size);

/* For SSL_CTX_set_cert_verify_callback(), with the context: the session keeps the verdict and the peer. */
int peer_on_verify(X509_STORE_CTX *store_context, void *context);

#endif
