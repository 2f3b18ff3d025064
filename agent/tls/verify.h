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
#define VERIFY_PIN_BYTES      32 /* SHA-256 over the DER of SubjectPublicKeyInfo, as in RFC 7469 2.4 */

/* Who the leaf must be. Borrowed. */
struct verify_identity {
	const char *hostname; /* the identity only if there are no names */
	const struct subject_alt_name *names;
	size_t name_count;
	const uint8_t (*pins)[VERIFY_PIN_BYTES]; /* beside the name: its key is one of these */
	size_t pin_count;                        /* 0: any key */
};

struct verify_result {
	enum postern_reason reason;     /* REASON_NONE: verified */
	char detail[VERIFY_TEXT_MAX];   /* printable ASCII; "" if verified */
	char identity[VERIFY_TEXT_MAX]; /* the certificate's name that matched, printable ASCII; "" if none did */
	int64_t not_after;              /* of the leaf, Unix time */
	/*
	 * The verdict holds while valid_from <= now < valid_until: from the latest notBefore of the chain, anchor
	 * included, and thisUpdate of a CRL that counts for it, until the earliest notAfter and nextUpdate. Unix times;
	 * 0 if not verified.
	 */
	int64_t valid_from;
	int64_t valid_until;
};

/*
 * For SSL_CTX_set_cert_verify_callback(): builds and checks the chain by what the store says (trust_store.h), then the
 * identity, then the pins. On failure the context's error is set, from which OpenSSL chooses the alert. A leaf without
 * an extended key usage is good for a server (RFC 5280 4.2.1.12), one that has it and names no server is not; common
 * names are never looked at, neither as an identity nor under name constraints. now: Unix time as of which it is
 * judged. True if verified.
 */
bool verify_store_context(X509_STORE_CTX *store_context, const struct verify_identity *identity, int64_t now,
                          struct verify_result *result);
/* The same outside a handshake, for resumed sessions and live connections. untrusted: what the peer sent, or NULL. */
bool verify_chain(X509_STORE *store, X509 *leaf, STACK_OF(X509) * untrusted, const struct verify_identity *identity,
                  int64_t now, struct verify_result *result);

/*
 * RFC 9525 6.3: equal but for ASCII case, or the presented name's left-most label is "*" and stands for exactly one
 * label of the reference. Never part of a label, never more than one wildcard.
 */
bool verify_hostname_matches(const char *presented, size_t length, const char *reference);

#endif
