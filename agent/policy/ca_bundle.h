/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ca_bundle.h: PEM from outside -> certificates that OpenSSL has parsed, in one canonical order. Pure; no time is
 * looked at: an expired CA is the handshake's and the status's business.
 */
#ifndef POSTERN_POLICY_CA_BUNDLE_H
#define POSTERN_POLICY_CA_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/x509.h>

#include "policy/shared_text.h"

#define CA_BUNDLE_MAX_BYTES (1u << 20) /* what a ConfigMap can hold */

/*
 * Every block must be one whole, parseable X.509 CERTIFICATE; text between blocks is let be (RFC 7468 section 5.2), a
 * key or any other kind of block is refused, and so is a certificate that the handshake would refuse at this design's
 * security level (certificate_is_weak()). The result holds each certificate once, ordered by its DER, so that equal
 * sets are equal texts. 0; -EINVAL with a message that never quotes the content; -ENOMEM.
 */
int ca_bundle_parse(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size);

/* The same without the limit of size, to make one bundle of several that are good. */
int ca_bundle_canonical(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size);

/* The system's own bundle: blocks that cannot be used are left out and counted. -EINVAL: none is left. */
int ca_bundle_parse_system(const char *text, size_t size, struct shared_text **bundle, size_t *left_out, char *error,
                           size_t error_size);

/* CRLs (X509 CRL blocks only), canonical in the same way. */
int crl_bundle_parse(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size);

/*
 * Would OpenSSL's security level 2 refuse it in a chain? RSA or DSA below 2048 bits, EC below 224; signed with MD5 or
 * SHA-1 unless it is self-signed (an anchor's own signature is not looked at). *why is static.
 */
bool certificate_is_weak(X509 *certificate, const char **why);

#endif
