/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * verify.h: is this chain trusted (RFC 5280, by OpenSSL) and is the leaf who the policy says (RFC 9525, Gateway API
 * BackendTLSPolicy)? One function for both the handshake and any later look at the same chain. Private to tls/; any
 * thread.
 */
#ifndef POSTERN_TLS_VERIFY_H
#define POSTERN_TLS_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include "base/reason.h"

struct subject_alt_name;

#define VERIFY_SECURITY_LEVEL 2 /* 112 bits: no SHA-1 signatures, no RSA below 2048 */
#define VERIFY_TEXT_MAX       256

struct verify_identity {
	const char *hostname; /* the identity only if there are no names */
	const struct subject_alt_name *names;
	size_t name_count;
};

struct verify_result {
	enum postern_reason reason;     /* REASON_NONE: verified */
	char detail[VERIFY_TEXT_MAX];   /* printable ASCII; "" if verified */
	char identity[VERIFY_TEXT_MAX]; /* the certificate's name that matched, printable ASCII; "" if none did */
	int64_t not_after;              /* of the leaf, Unix time */
};

/*
 * For SSL_CTX_set_cert_verify_callback(): builds and checks the chain, then the identity. On failure the context's
 * error is set, from which OpenSSL chooses the alert. True if verified.
 */
bool verify_store_context(X509_STORE_CTX *store_context, const struct verify_identity *identity,
                          struct verify_result *result);
/* The same outside a handshake, e.g. for a resumed session. untrusted: what the peer sent beside the leaf, or NULL. */
bool verify_chain(X509_STORE *store, X509 *leaf, STACK_OF(X509) * untrusted, const struct verify_identity *identity,
                  struct verify_result *result);

/*
 * RFC 9525 6.3: equal but for ASCII case, or the presented name's left-most label is "*" and stands for exactly one
 * label of the reference. Never part of a label, never more than one wildcard.
 */
bool verify_hostname_matches(const char *presented, size_t length, const char *reference);

#endif
