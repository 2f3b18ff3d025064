/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * session_private.h: one TLS client connection on B, as the files session*.c share it. Worker thread.
 */
#ifndef POSTERN_TLS_SESSION_PRIVATE_H
#define POSTERN_TLS_SESSION_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "tls/context_private.h"
#include "tls/record.h"
#include "tls/session.h"

#define NO_HANDSHAKE_MESSAGE 255 /* RFC 8446 B.3: a reserved number that is never sent */

/* What went through the read side of the BIO: where OpenSSL stands within a record, and how many it has taken. */
struct record_reader {
	uint8_t header[TLS_RECORD_HEADER];
	size_t header_length;
	size_t body_left;
	uint64_t records; /* whole records read under the current read key */
	bool any;         /* at least one record header was right */
	bool malformed;   /* what came is no TLS record; header holds it */
	bool ended;       /* end of file */
};

struct tls_session {
	struct tls_context *context;
	SSL *ssl;
	int fd;
	bool handshake_done;
	bool transmit_armed; /* the kernel seals: OpenSSL's write side is a sink */
	bool receive_armed;  /* the kernel opens: OpenSSL's read side is shut */
	bool written;        /* a record after the handshake went out by OpenSSL */
	bool sink_hit;       /* OpenSSL wanted to write after TLS_TX */

	struct record_reader reader;
	int socket_error; /* errno of a failed send or recv */
	bool server_hello;
	bool certificate_requested;
	uint8_t last_message; /* handshake message that the peer sent last, NO_HANDSHAKE_MESSAGE if none */
	bool alerted;         /* the peer sent an alert that ends the connection */
	uint8_t alert;

	struct verify_result verified;
	struct tls_session_info info;
	struct tls_rekey_secrets secrets; /* TLS 1.3; length 0: none */

	bool failed;
	enum postern_reason reason;
	char detail[TLS_DETAIL_MAX];
};

/* session_bio.c: a BIO over B that never reads past a record. NULL: no memory. */
BIO *session_new_bio(struct tls_session *session);

/* session_observe.c: what OpenSSL tells while it works. */
void session_on_keylog(const SSL *ssl, const char *line);
void session_on_message(int written, int version, int content_type, const void *bytes, size_t length, SSL *ssl,
                        void *argument);

/* session_failure.c. The first failure stays. */
void session_fail(struct tls_session *session, enum postern_reason reason, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* From what the BIO, the callbacks and OpenSSL's error queue saw, when an SSL call failed for good. */
void session_fail_by_openssl(struct tls_session *session);

#endif
