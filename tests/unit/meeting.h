/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * meeting.h: one session of a context that outlives it, against one far end: what several connections in a row share,
 * or must not share. The context's clock is the test's.
 */
#ifndef POSTERN_TESTS_MEETING_H
#define POSTERN_TESTS_MEETING_H

#include "policy/client_certificate.h"
#include "tls/context_private.h"
#include "tls/peer.h"
#include "tls_client.h"

extern int64_t meeting_clock_offset; /* seconds between the system's clock and the context's */

/* A context by these settings, with the test's clock; tls_context_unref(). */
struct tls_context *meeting_context(const struct tls_settings *settings);

struct meeting {
	struct tls_client client; /* client.context is not set */
	struct far_end *far_end;
	enum tls_step step;
	enum postern_reason reason;
	const char *detail;
	struct tls_session_info info; /* if done */
};

/* Before the first byte. owner may be NULL. */
void meeting_begin(struct meeting *meeting, struct tls_context *context, const struct tls_session_owner *owner,
                   const struct far_end_options *options);
/* The handshake to its end, and the tickets that come after it. */
void meeting_shake(struct meeting *meeting);
void meeting_end(struct meeting *meeting);

/* All of it. The far end must agree on whether the session was resumed. What is left: step, reason, info. */
struct meeting meet(struct tls_context *context, const struct tls_session_owner *owner,
                    const struct far_end_options *options);
/* And it must end like this: done, full or resumed. */
void meet_fully(const char *row, struct tls_context *context, const struct tls_session_owner *owner,
                const struct far_end_options *options);
void meet_again(const char *row, struct tls_context *context, const struct tls_session_owner *owner,
                const struct far_end_options *options);
void meet_refused(const char *row, struct tls_context *context, const struct tls_session_owner *owner,
                  const struct far_end_options *options, enum postern_reason expected);

/* Gateway 7, to 192.0.2.1:443, without a certificate. */
struct tls_session_owner meeting_owner(void);
/* What a gateway shows, as the policy's side hands it out; client_certificate_unref(). */
struct client_certificate *meeting_client_certificate(const struct certificate *certificate);

#endif
