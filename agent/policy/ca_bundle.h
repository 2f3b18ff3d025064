/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ca_bundle.h: PEM from outside -> certificates that OpenSSL has parsed, in one canonical order. Pure; no time is
 * looked at: an expired CA is the handshake's and the status's business.
 */
#ifndef POSTERN_POLICY_CA_BUNDLE_H
#define POSTERN_POLICY_CA_BUNDLE_H

#include <stddef.h>

#include "policy/shared_text.h"

#define CA_BUNDLE_MAX_BYTES (1u << 20) /* what a ConfigMap can hold */

/*
 * Every block must be one whole, parseable X.509 CERTIFICATE; text between blocks is let be (RFC 7468 section 5.2), a
 * key or any other kind of block is refused. The result holds each certificate once, ordered by its DER, so that equal
 * sets are equal texts. 0; -EINVAL with a message that never quotes the content; -ENOMEM.
 */
int ca_bundle_parse(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size);

/* The same without the limit of size, to make one bundle of several that are good. */
int ca_bundle_canonical(const char *text, size_t size, struct shared_text **bundle, char *error, size_t error_size);

#endif
