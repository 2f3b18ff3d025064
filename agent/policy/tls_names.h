/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tls_names.h: what a policy may ask TLS to negotiate, by name: the cipher suites, groups and signature algorithms that
 * this design carries. Nothing else can be named, so no list makes a connection weaker than the default. Pure.
 */
#ifndef POSTERN_POLICY_TLS_NAMES_H
#define POSTERN_POLICY_TLS_NAMES_H

#include <stdbool.h>

#include "policy/text.h"

enum tls_list {
	TLS_LIST_CIPHER_SUITES,        /* TLS 1.3: the three AEAD suites of RFC 8446 B.4 */
	TLS_LIST_CIPHERS,              /* TLS 1.2: ECDHE with AES-GCM or ChaCha20-Poly1305; OpenSSL's or IANA's name */
	TLS_LIST_GROUPS,               /* RFC 8422 curves, and hybrids with ML-KEM, which need TLS 1.3 */
	TLS_LIST_SIGNATURE_ALGORITHMS, /* RFC 8446 4.2.3: ECDSA, EdDSA, RSA; nothing with MD5, SHA-1 or SHA-224 */
};

/* Room for every name of one list, and the terminating NUL. */
#define TLS_LIST_MAX 512

/*
 * Names separated by colons, commas or spaces, each at most once, in any case -> OpenSSL's own names, joined by colons,
 * in the order given (it is the order of preference). False: *why has what is wrong, a part of a sentence; it stays
 * empty if there is no name at all.
 */
bool tls_list_canonical(enum tls_list list, const char *value, char canonical[static TLS_LIST_MAX], struct text *why);

/* Has the linked OpenSSL every name of a canonical list? False: *why names the first that it lacks. Costs 0.2 ms. */
bool tls_list_is_supported(enum tls_list list, const char *canonical, struct text *why);

/* Has a list that is good, canonical or not, a name that version (TLS1_2_VERSION or TLS1_3_VERSION) can use? */
bool tls_list_serves(enum tls_list list, const char *value, int version);

#endif
