/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * record.h: TLS records sealed and opened in user space with given keys. The far end of the start-up proof and of the
 * tests: the product's own traffic is sealed by the kernel or by OpenSSL. Pure; any thread.
 */
#ifndef POSTERN_TLS_RECORD_H
#define POSTERN_TLS_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tls/keys.h"

enum tls_content_type { /* RFC 8446 B.1 */
	                TLS_CONTENT_CHANGE_CIPHER_SPEC = 20,
	                TLS_CONTENT_ALERT = 21,
	                TLS_CONTENT_HANDSHAKE = 22,
	                TLS_CONTENT_APPLICATION_DATA = 23,
};

#define TLS_RECORD_HEADER    5
#define TLS_RECORD_PLAIN_MAX 16384
#define TLS_RECORD_MAX       (TLS_RECORD_HEADER + TLS_RECORD_PLAIN_MAX + 256)

struct record_cipher;
int record_cipher_new(const struct traffic_keys *keys, struct record_cipher **cipher);
void record_cipher_free(struct record_cipher *cipher);

/* Seal size (<= TLS_RECORD_PLAIN_MAX) bytes; padding zeros follow in TLS 1.3. Returns the record's length or -EINVAL.
 */
ssize_t record_seal(struct record_cipher *cipher, enum tls_content_type type, const void *plain, size_t size,
                    size_t padding, uint8_t record[static TLS_RECORD_MAX]);
/* Open one whole record. Returns the plaintext's length and its type, or -EBADMSG. */
ssize_t record_open(struct record_cipher *cipher, const uint8_t *record, size_t length,
                    uint8_t plain[static TLS_RECORD_PLAIN_MAX + 256], enum tls_content_type *type);

/* Length of the record that starts here, header included; 0 = fewer than five bytes; -EPROTO = not a TLS record. */
ssize_t record_length(const uint8_t *bytes, size_t available);

#endif
