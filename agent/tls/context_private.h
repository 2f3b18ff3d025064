/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * context_private.h: what context.c builds and session.c uses. Immutable once built, but for the reference count.
 */
#ifndef POSTERN_TLS_CONTEXT_PRIVATE_H
#define POSTERN_TLS_CONTEXT_PRIVATE_H

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "policy/snapshot.h"
#include "tls/verify.h"

struct client_certificate; /* policy/client_certificate.h */
struct trust_store;        /* trust_store.h */

struct tls_context {
	atomic_uint references;
	SSL_CTX *ssl_ctx;
	struct trust_store *trust; /* ssl_ctx has its X509_STORE */
	char *hostname;
	struct subject_alt_name *subject_alt_names;
	uint8_t (*pins)[VERIFY_PIN_BYTES];
	struct verify_identity identity; /* points at the three above */
	const char *alpn;                /* offered protocol, static; NULL: none */
	bool alpn_required;              /* h2: a backend that selects nothing would be spoken to in HTTP/2 unasked */
	struct verification_cache *verifications;
	struct session_cache *sessions; /* NULL: option resumption is off */
	EVP_MD *sha256;                 /* of chains; fetched once */
	int64_t (*wall_clock)(void); /* Unix time, by which certificates and sessions are judged; tests set their own */
	bool shows_client_certificate; /* the policy's own: every session has it, whatever its owner brings */
};

/*
 * Show the certificate, its chain and its key if this backend asks; before the handshake. OpenSSL takes references of
 * its own. Not for contexts that show the policy's own (shows_client_certificate). 0; -EINVAL: OpenSSL refuses it at
 * this security level; -ENOMEM.
 */
int context_use_client_certificate(SSL *ssl, const struct client_certificate *certificate);

#endif
