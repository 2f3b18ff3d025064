// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/pem.h>

#include "meeting.h"

int64_t meeting_clock_offset;

static int64_t meeting_clock(void)
{
	return time(NULL) + meeting_clock_offset;
}

struct tls_context *meeting_context(const struct tls_settings *settings)
{
	struct tls_context *context = NULL;
	char error[200] = "";

	if (tls_context_new(settings, &context, error, sizeof(error)) != 0)
		fail_msg("settings refused: %s", error);
	context->wall_clock = meeting_clock;
	return context;
}

void meeting_begin(struct meeting *meeting, struct tls_context *context, const struct tls_session_owner *owner,
                   const struct far_end_options *options)
{
	int pair[2];

	*meeting = (struct meeting){.detail = ""};
	far_end_sockets(pair, false);
	meeting->far_end = far_end_new(options, pair[1]);
	meeting->client.fd = pair[0];
	assert_int_equal(tls_session_new(context, pair[0], owner, &meeting->client.session), 0);
}

void meeting_shake(struct meeting *meeting)
{
	struct tls_session *session = meeting->client.session;
	char byte;

	meeting->step = client_handshake(&meeting->client, meeting->far_end);
	meeting->reason = tls_session_reason(session);
	meeting->detail = tls_session_detail(session);
	if (meeting->step != TLS_STEP_DONE)
		return;
	tls_session_info(session, &meeting->info);
	assert_true(meeting->far_end->accepted);
	assert_int_equal(meeting->info.resumed, SSL_session_reused(meeting->far_end->ssl));
	assert_int_equal(tls_session_read(session, &byte, 1), -EAGAIN);
}

void meeting_end(struct meeting *meeting)
{
	client_end(&meeting->client);
	/* A server that keeps sessions forgets those of connections that were not shut down. */
	SSL_set_shutdown(meeting->far_end->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	far_end_free(meeting->far_end);
	meeting->far_end = NULL;
}

struct meeting meet(struct tls_context *context, const struct tls_session_owner *owner,
                    const struct far_end_options *options)
{
	struct meeting meeting;

	meeting_begin(&meeting, context, owner, options);
	meeting_shake(&meeting);
	meeting.detail = "";
	meeting_end(&meeting);
	return meeting;
}

static void meet_done(const char *row, struct tls_context *context, const struct tls_session_owner *owner,
                      const struct far_end_options *options, bool resumed)
{
	struct meeting meeting;

	meeting_begin(&meeting, context, owner, options);
	meeting_shake(&meeting);
	if (meeting.step != TLS_STEP_DONE)
		fail_msg("%s: %s (%s)", row, reason_name(meeting.reason), meeting.detail);
	if (meeting.info.resumed != resumed)
		fail_msg("%s: expected a %s handshake, seen the other", row, resumed ? "resumed" : "full");
	meeting_end(&meeting);
}

void meet_fully(const char *row, struct tls_context *context, const struct tls_session_owner *owner,
                const struct far_end_options *options)
{
	meet_done(row, context, owner, options, false);
}

void meet_again(const char *row, struct tls_context *context, const struct tls_session_owner *owner,
                const struct far_end_options *options)
{
	meet_done(row, context, owner, options, true);
}

void meet_refused(const char *row, struct tls_context *context, const struct tls_session_owner *owner,
                  const struct far_end_options *options, enum postern_reason expected)
{
	struct meeting meeting;

	meeting_begin(&meeting, context, owner, options);
	meeting_shake(&meeting);
	if (meeting.step != TLS_STEP_FAILED || meeting.reason != expected)
		fail_msg("%s: expected %s, seen %s (%s)", row, reason_name(expected), reason_name(meeting.reason),
		         meeting.detail);
	meeting_end(&meeting);
}

struct tls_session_owner meeting_owner(void)
{
	struct tls_session_owner owner = {.gateway_id = 7};

	assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.1", &owner.backend.address), 1);
	owner.backend.port = htons(443);
	return owner;
}

struct client_certificate *meeting_client_certificate(const struct certificate *certificate)
{
	struct client_certificate *new = NULL;
	char *chain = certificate_pem((const struct certificate *const[]){certificate, NULL});
	char *key = certificate_key_pem(certificate);
	char error[200] = "";

	if (client_certificate_new(chain, strlen(chain), key, strlen(key), &new, error, sizeof(error)) != 0)
		fail_msg("client certificate refused: %s", error);
	free(key);
	free(chain);
	return new;
}
