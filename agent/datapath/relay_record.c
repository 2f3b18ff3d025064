/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/relay_record.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tls/record.h"

enum handshake_type { /* RFC 8446 B.3 */
	              HANDSHAKE_HELLO_REQUEST = 0,
	              HANDSHAKE_NEW_SESSION_TICKET = 4,
	              HANDSHAKE_CERTIFICATE_REQUEST = 13,
	              HANDSHAKE_KEY_UPDATE = 24,
};

enum alert_level {
	ALERT_LEVEL_WARNING = 1,
};

enum alert_description { /* RFC 8446 B.2 */
	                 ALERT_CLOSE_NOTIFY = 0,
	                 ALERT_USER_CANCELED = 90,
};

/*
 * The largest NewSessionTicket: lifetime, age_add, a nonce of 255 bytes, a ticket of 2^16-1, extensions of 2^16-2, and
 * their lengths (RFC 8446 4.6.1). A longer one is no ticket.
 */
#define TICKET_MAX (4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534)

static void refuse(struct relay_record_verdict *verdict, enum postern_reason reason, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
static void refuse(struct relay_record_verdict *verdict, enum postern_reason reason, const char *format, ...)
{
	va_list arguments;

	verdict->reason = reason;
	va_start(arguments, format);
	vsnprintf(verdict->detail, sizeof(verdict->detail), format, arguments);
	va_end(arguments);
}

bool relay_handshake_complete(const struct relay_handshake_reader *reader)
{
	return reader->header_size == 0 && reader->body_left == 0;
}

static void judge_alert(enum tls_version version, const uint8_t *bytes, size_t size,
                        struct relay_record_verdict *verdict)
{
	if (size != 2) {
		refuse(verdict, REASON_UNEXPECTED_RECORD, "an alert of %zu bytes", size);
		return;
	}
	if (bytes[1] == ALERT_CLOSE_NOTIFY) {
		verdict->close_notify = true;
		return;
	}
	/* RFC 8446 6.1: close_notify follows. Every other alert of TLS 1.3 is fatal, whatever its level says (6.2). */
	if (bytes[1] == ALERT_USER_CANCELED)
		return;
	if (version == TLS_VERSION_1_2 && bytes[0] == ALERT_LEVEL_WARNING) {
		verdict->warning = true;
		return;
	}
	refuse(verdict, REASON_PEER_ALERT, "alert %u", bytes[1]);
}

/* A whole message header is there: is it one that may come after the handshake? */
static bool judge_message(struct relay_handshake_reader *reader, enum tls_version version,
                          struct relay_record_verdict *verdict)
{
	unsigned int type = reader->header[0];
	size_t length = (size_t)reader->header[1] << 16 | (size_t)reader->header[2] << 8 | reader->header[3];

	if (version == TLS_VERSION_1_2) {
		if (type == HANDSHAKE_HELLO_REQUEST)
			refuse(verdict, REASON_RENEGOTIATION, "HelloRequest");
		else
			refuse(verdict, REASON_UNEXPECTED_RECORD, "handshake message %u after the handshake", type);
		return false;
	}
	switch (type) {
	case HANDSHAKE_NEW_SESSION_TICKET:
		if (length > TICKET_MAX) {
			refuse(verdict, REASON_UNEXPECTED_RECORD, "NewSessionTicket of %zu bytes", length);
			return false;
		}
		reader->body_left = length;
		verdict->tickets++;
		return true;
	case HANDSHAKE_KEY_UPDATE:
		if (length != 1) {
			refuse(verdict, REASON_UNEXPECTED_RECORD, "KeyUpdate of %zu bytes", length);
			return false;
		}
		reader->body_left = length;
		return true;
	case HANDSHAKE_CERTIFICATE_REQUEST:
		refuse(verdict, REASON_RENEGOTIATION, "post-handshake CertificateRequest");
		return false;
	default:
		refuse(verdict, REASON_UNEXPECTED_RECORD, "handshake message %u after the handshake", type);
		return false;
	}
}

/* RFC 8446 4.6.3, and 5.1: a message before a change of keys is the last of its record. */
static void judge_key_update(const uint8_t *bytes, size_t size, struct relay_record_verdict *verdict)
{
	if (size > 1)
		refuse(verdict, REASON_UNEXPECTED_RECORD, "%zu bytes behind KeyUpdate", size - 1);
	else if (bytes[0] > 1)
		refuse(verdict, REASON_UNEXPECTED_RECORD, "KeyUpdate %u", bytes[0]);
	verdict->key_update = verdict->reason == REASON_NONE;
	verdict->answer_wanted = verdict->key_update && bytes[0] == 1;
}

static void judge_handshake(struct relay_handshake_reader *reader, enum tls_version version, const uint8_t *bytes,
                            size_t size, struct relay_record_verdict *verdict)
{
	if (size == 0) {
		refuse(verdict, REASON_UNEXPECTED_RECORD, "an empty handshake record"); /* RFC 8446 5.1 */
		return;
	}
	while (size > 0) {
		size_t step;

		if (reader->body_left > 0) {
			step = size < reader->body_left ? size : reader->body_left;
			reader->body_left -= step;
			if (reader->header[0] == HANDSHAKE_KEY_UPDATE) {
				judge_key_update(bytes, size, verdict);
				return;
			}
		} else {
			step = sizeof(reader->header) - reader->header_size;
			if (step > size)
				step = size;
			memcpy(reader->header + reader->header_size, bytes, step);
			reader->header_size += step;
			if (reader->header_size == sizeof(reader->header)) {
				reader->header_size = 0;
				if (!judge_message(reader, version, verdict))
					return;
			}
		}
		bytes += step;
		size -= step;
	}
}

void relay_record_judge(struct relay_handshake_reader *reader, enum tls_version version, unsigned int type,
                        const uint8_t *bytes, size_t size, struct relay_record_verdict *verdict)
{
	*verdict = (struct relay_record_verdict){.reason = REASON_NONE};
	if (type != TLS_CONTENT_HANDSHAKE && !relay_handshake_complete(reader)) {
		refuse(verdict, REASON_UNEXPECTED_RECORD, "a record of type %u within a handshake message", type);
		return;
	}
	switch (type) {
	case TLS_CONTENT_ALERT:
		judge_alert(version, bytes, size, verdict);
		return;
	case TLS_CONTENT_HANDSHAKE:
		judge_handshake(reader, version, bytes, size, verdict);
		return;
	default:
		/* change_cipher_spec, too: in TLS 1.3 it is allowed only during the handshake, and 1.2 has no other. */
		refuse(verdict, REASON_UNEXPECTED_RECORD, "a record of type %u", type);
	}
}
