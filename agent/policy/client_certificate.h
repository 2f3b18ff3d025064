/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * client_certificate.h: what a gateway shows to a backend that asks who it is: a certificate, its chain and its private
 * key, parsed. Immutable, reference-counted, freed by its last owner in any thread; the key is wiped then.
 */
#ifndef POSTERN_POLICY_CLIENT_CERTIFICATE_H
#define POSTERN_POLICY_CLIENT_CERTIFICATE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

struct client_certificate {
	atomic_uint references;
	X509 *leaf;
	STACK_OF(X509) * chain; /* what stands after the leaf in tls.crt; may be empty */
	EVP_PKEY *key;
	uint8_t digest[32]; /* SHA-256 over leaf, chain and public key: equal digests present the same identity */
	int64_t not_after;  /* of the leaf, Unix time */
};

/*
 * certificate_pem: the leaf first, then its chain, CERTIFICATE blocks only. key_pem: exactly one unencrypted private
 * key, and it must be the leaf's. What TLS at the security level of this design (112 bits) would refuse to present is
 * refused here: RSA below 2048 bits, signatures with MD5 or SHA-1; and so is a key above 8192 bits, for which every
 * handshake would wait. The key signs once here, so that a damaged one does not fail later. 0 and one reference;
 * -EINVAL with a message that names the key of the Secret ("tls.crt: ..." or "tls.key: ...") and never quotes it;
 * -ENOMEM.
 */
int client_certificate_new(const char *certificate_pem, size_t certificate_size, const char *key_pem, size_t key_size,
                           struct client_certificate **certificate, char *error, size_t error_size);
struct client_certificate *client_certificate_ref(struct client_certificate *certificate);
void client_certificate_unref(struct client_certificate *certificate); /* NULL-safe */

#endif
