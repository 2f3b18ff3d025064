/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * relay_record.h: what a record means that is not application data, once the kernel decrypts (RFC 8446 4.6, 5.1, 6;
 * RFC 5246 7.2, 7.4.1.1). Pure: the caller acts on the answer. The bytes are the peer's: authenticated, not trusted.
 */
#ifndef POSTERN_DATAPATH_RELAY_RECORD_H
#define POSTERN_DATAPATH_RELAY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/reason.h"
#include "tls/keys.h"

/* Where in the stream of handshake messages the last type-22 record ended: a message may span records. */
struct relay_handshake_reader {
	uint8_t header[4]; /* type, length */
	size_t header_size;
	size_t body_left;
};

struct relay_record_verdict {
	enum postern_reason reason; /* not NONE: reset the connection */
	bool close_notify;
	bool warning; /* an alert of TLS 1.2 that ends nothing */
	unsigned int tickets;
	bool key_update;
	bool answer_wanted; /* it has update_requested */
	char detail[96];    /* "" unless there is a reason */
};

/* type is that of the record (tls/record.h), bytes its plaintext. */
void relay_record_judge(struct relay_handshake_reader *reader, enum tls_version version, unsigned int type,
                        const uint8_t *bytes, size_t size, struct relay_record_verdict *verdict);

/* True between two handshake messages: only then may other records come (RFC 8446 5.1). */
bool relay_handshake_complete(const struct relay_handshake_reader *reader);

#endif
