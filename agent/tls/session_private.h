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
#include "tls/session_cache.h"

#define NO_HANDSHAKE_MESSAGE 255 /* RFC 8446 B.3: a reserved number that is never sent */

/* What went through the read side of the BIO: where OpenSSL stands within a record, and how many it has taken. */
struct record_reader {
	uint8_t header[TLS_RECORD_HEADER];
	size_t header_length;
	size_t body_left;
	uint64_t records;                /* whole records read under the current read key */
	size_t turn_records, turn_bytes; /* taken since session_begin_turn() */
	bool any;                        /* at least one record header was right */
	bool malformed;                  /* what came is no TLS record; header holds it */
	bool ended;                      /* end of file */
};

/*
 * A look at what stands in the socket (MSG_PEEK), for a flight of many small records: two calls for it, and not two for
 * each record. What OpenSSL takes of it is taken from the socket when the window is closed, so that between calls user
 * space holds nothing, as without one. On the stack of the call that opens it.
 */
struct record_window {
	uint8_t bytes[8192];
	size_t seen;
	size_t taken;
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
	/* After TLS_TX, a KeyUpdate that wants an answer: */
	bool update_requested; /* the caller has not been told */
	bool answer_expected;  /* OpenSSL will write one of its own, which goes nowhere */

	struct record_reader reader;
	struct record_window *window; /* NULL: records are read one by one */
	int socket_error;             /* errno of a failed send or recv */
	bool server_hello;
	bool certificate_requested;
	uint8_t last_message; /* handshake message that the peer sent last, NO_HANDSHAKE_MESSAGE if none */
	bool alerted;         /* the peer sent an alert that ends the connection */
	uint8_t alert;

	struct verify_result verified;
	struct tls_peer *peer; /* whom the handshake verified; NULL until then */

	bool owned; /* key says whose; false: nothing is resumed and nothing kept */
	struct session_cache_key key;
	struct resumable offered; /* until the handshake is done; session NULL: none */
	SSL_SESSION *unsettled;   /* TLS 1.2: kept once the handshake is done */
	int64_t authenticated;    /* Unix time of the full handshake that this connection comes from */
	unsigned int tickets_kept;

	struct tls_session_info info;
	struct tls_rekey_secrets secrets; /* TLS 1.3; length 0: none */

	bool failed;
	enum postern_reason reason;
	char detail[TLS_DETAIL_MAX];
};

/* session_bio.c: a BIO over B that never reads past a record. NULL: no memory. */
BIO *session_new_bio(struct tls_session *session);
/*
 * Before each call that reads. OpenSSL reads on for as long as something is there: an endless row of HelloRequests
 * (which come before any certificate, from whoever answers) or of tickets would keep it, and with it the worker and
 * all its connections. After so many records it is told that there are no more for now; epoll knows better.
 */
void session_begin_turn(struct tls_session *session);
void session_open_window(struct tls_session *session, struct record_window *window);
/* False: socket_error is set, and what the socket gives next is not what follows. True if none was open. */
bool session_close_window(struct tls_session *session);

/* session_observe.c: what OpenSSL tells while it works. */
void session_on_keylog(const SSL *ssl, const char *line);
void session_on_message(int written, int version, int content_type, const void *bytes, size_t length, SSL *ssl,
                        void *argument);

/* session_resume.c: offer the owner's session, if there is one; before the handshake. owner may be NULL. */
void session_offer(struct tls_session *session, const struct tls_session_owner *owner);
/* For SSL_CTX_sess_set_new_cb(). */
int session_on_new_session(SSL *ssl, SSL_SESSION *new);
/* When the handshake is done: verify a resumed session, keep what can be kept. May fail the session. */
void session_settle(struct tls_session *session);
/* Before the SSL object goes. */
void session_end_resumption(struct tls_session *session);

/* session_failure.c. The first failure stays. */
void session_fail(struct tls_session *session, enum postern_reason reason, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* From what the BIO, the callbacks and OpenSSL's error queue saw, when an SSL call failed for good. */
void session_fail_by_openssl(struct tls_session *session);

#endif
