/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trust_store.h: what a policy trusts, as an OpenSSL store: its CA certificates, its CRLs, and the rules of RFC 5280
 * that its options turn (depth, partial chain, revocation). Private to tls/. Any thread.
 */
#ifndef POSTERN_TLS_TRUST_STORE_H
#define POSTERN_TLS_TRUST_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509_vfy.h>

struct tls_settings;
struct trust_cache; /* trust_cache.h */

/* Immutable but for the count; freed by its last owner in any thread. */
struct trust_store {
	atomic_uint references;
	uint8_t key[32]; /* SHA-256 over all that makes it */
	X509_STORE *x509;
};

/*
 * With crl_pem the leaf must have a valid CRL of its issuer, and a certificate between it and the trust anchor is
 * looked up where the store has a CRL of its issuer; a CRL that is out of date, or that its issuer did not sign,
 * refuses. An anchor is trusted as it is: no CRL is asked for it (RFC 5280 6.1: it is no part of the path). From the
 * cache if that has it, and into it if not; cache NULL: neither. 0; -EINVAL with a one-line message (no CA certificate
 * in the PEM, a block that does not parse); -ENOMEM.
 */
int trust_store_new(const struct tls_settings *settings, struct trust_cache *cache, struct trust_store **store,
                    char *error, size_t error_size);
struct trust_store *trust_store_ref(struct trust_store *store);
void trust_store_unref(struct trust_store *store); /* NULL-safe */

/* X509_V_ERR_...: is it about a CRL, and not about what a CRL says? */
bool trust_error_is_of_crl(int error);

#endif
