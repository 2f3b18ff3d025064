/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * session.h: the TLS client on B, from ClientHello until the kernel holds the keys (design section 6).
 *
 *   new -> handshake (several steps) -> done -> arm_transmit -> [read records: tickets, first data] -> arm_receive ->
 * free done -> user-space mode: read/write until the end
 *
 * Worker thread that owns B. A session never owns B's descriptor. OpenSSL is given exactly one record at a time (the
 * header, then exactly the body), and what it was not given stays in the socket: nothing beyond a record boundary is
 * ever in user space between two calls. After arm_transmit its write side is a sink: a byte written there fails the
 * session (REASON_RENEGOTIATION). A KeyUpdate of the peer is followed: arm_receive gives the kernel the key of then;
 * the answer, if it wants one, is the caller's (tls_session_take_update_request()).
 */
#ifndef POSTERN_TLS_SESSION_H
#define POSTERN_TLS_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/reason.h"
#include "postern/abi.h"
#include "tls/keys.h"

struct client_certificate; /* policy/client_certificate.h */
struct tls_context;        /* context.h */
struct tls_peer;           /* peer.h */
struct tls_session;

#define TLS_DETAIL_MAX 256

enum tls_step {
	TLS_STEP_DONE,
	TLS_STEP_WANT_READ,
	TLS_STEP_WANT_WRITE,
	TLS_STEP_FAILED, /* see tls_session_reason() and tls_session_detail() */
};

/* What the handshake agreed on; valid after TLS_STEP_DONE, static or owned by the session. */
struct tls_session_info {
	enum tls_version version;
	enum tls_cipher cipher; /* TLS_CIPHER_OTHER: not one the kernel could take */
	const char *cipher_name;
	const char *alpn;                   /* "" if none was selected */
	char peer_identity[TLS_DETAIL_MAX]; /* the name that matched, or the certificate's subject */
	bool resumed;
	int64_t peer_not_after;   /* Unix time at which the leaf expires */
	int64_t peer_valid_until; /* the earliest notAfter or nextUpdate of the verified chain; judge the peer again
	                             then */
};

/*
 * Whose session it is. Sessions of this context are resumed only where all three are equal: a ticket that one gateway
 * got is never offered for another, nor with another client certificate, nor to another backend.
 */
struct tls_session_owner {
	uint32_t gateway_id;
	struct postern_destination_key backend;        /* where B is dialed to */
	struct client_certificate *client_certificate; /* its parts are referenced; NULL: none is shown */
	bool anew; /* a full handshake, whatever is kept, and nothing of it is kept */
};

/* The context is referenced for the session's life; owner NULL: nobody's, never resumed. 0 or -ENOMEM. */
int tls_session_new(struct tls_context *context, int b_fd, const struct tls_session_owner *owner,
                    struct tls_session **session);
/* Wipes every secret. NULL-safe. */
void tls_session_free(struct tls_session *session);
/* Of this process, in any thread; freed when their memory is. */
struct tls_session_counts {
	uint64_t begun;
	uint64_t freed; /* never more than begun */
};
void tls_session_count(struct tls_session_counts *counts);
/* After TLS_STEP_DONE: a new reference to what the backend showed, now or in the session that was resumed. */
struct tls_peer *tls_session_peer(const struct tls_session *session);
/* Sessions that came of this connection and can be resumed by its owner, so far. */
unsigned int tls_session_tickets_kept(const struct tls_session *session);

/* One step; never blocks. Verification and ALPN rules are part of it: DONE means verified. */
enum tls_step tls_session_handshake(struct tls_session *session);
enum postern_reason tls_session_reason(const struct tls_session *session);
const char *tls_session_detail(const struct tls_session *session);
void tls_session_info(const struct tls_session *session, struct tls_session_info *info);

/*
 * Give the kernel the write keys (TCP_ULP, TLS_TX). 0, or negative errno with nothing armed (-ENOENT: no ULP or no such
 * cipher): the session can go on in user space. -EINVAL once OpenSSL has sealed a record after the handshake: its
 * sequence number must not be used again.
 */
int tls_session_arm_transmit(struct tls_session *session);
/*
 * May TLS_RX be armed now? True at a record boundary, i.e. OpenSSL holds no partial record and no unread plaintext.
 */
bool tls_session_at_boundary(const struct tls_session *session);
/*
 * Give the kernel the read keys with the right rec_seq. 0 or negative errno with nothing armed; -EINVAL if not at a
 * boundary. After success the session reads no more: free it, unless its write side is still in user space.
 */
int tls_session_arm_receive(struct tls_session *session);

/*
 * Plaintext through OpenSSL. read: > 0 bytes; 0 = close_notify; -EAGAIN; -ECONNRESET (see reason: TRUNCATED,
 * DECRYPT_ERROR, PEER_ALERT...). Tickets are taken on the way. After arm_transmit only read is allowed.
 */
ssize_t tls_session_read(struct tls_session *session, void *buffer, size_t size);
/*
 * How much was taken, perhaps not all; -EAGAIN: call again with the same bytes first and no fewer, since OpenSSL holds
 * their record already; -ECONNRESET with a reason; -EINVAL after arm_transmit.
 */
ssize_t tls_session_write(struct tls_session *session, const void *buffer, size_t size);
/* Send close_notify, after the last write was taken. 0, -EAGAIN, or an error. User-space mode only. */
int tls_session_shutdown(struct tls_session *session);

/*
 * After arm_transmit: true if the peer has sent a KeyUpdate with update_requested since this was last asked. The caller
 * sends one through the kernel (RFC 8446 4.6.3: before its next data), then gives it the next transmit keys.
 */
bool tls_session_take_update_request(struct tls_session *session);
/* TLS 1.3: keys of the next client_application_traffic_secret, which becomes the current one. 0 or negative errno. */
int tls_session_next_transmit_keys(struct tls_session *session, struct traffic_keys *keys);

/* Traffic secrets for a later rekey (TLS 1.3), once both directions are armed; wiped in the session. False for 1.2. */
bool tls_session_take_rekey_secrets(struct tls_session *session, struct tls_rekey_secrets *secrets);

#endif
