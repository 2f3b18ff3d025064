// SPDX-License-Identifier: GPL-2.0-only
/* How long a session is offered, and that none is whose chain would not be accepted now. */
#include "resumption_world.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

/* How long after the full handshake is a session still offered? The server's word, and a day at most. */
static void lifetimes(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	static const struct {
		const char *name;
		long hint;
		int64_t later;
		bool resumed;
	} table[] = {
	        {"within the hint", 300, 290, true},
	        {"past the hint", 300, 301, false},
	        {"a week's hint, within a day", 7 * DAY, DAY - 10, true},
	        {"a week's hint, past a day", 7 * DAY, DAY + 1, false},
	        {"the clock went back", 300, -10, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		for (size_t n = 0; n < ARRAY_SIZE(table); n++) {
			const struct far_end_options options = server_of(&ways[i]);
			struct tls_context *context = resuming_context();
			char row[100];

			/* a session id comes without a word on its life: OpenSSL's default is two hours */
			bool hinted = ways[i].version == TLS1_3_VERSION || !ways[i].session_ids;
			bool resumed = hinted ? table[n].resumed : table[n].later >= 0 && table[n].later < 7200;

			snprintf(row, sizeof(row), "%s, %s", ways[i].name, table[n].name);
			SSL_CTX_set_timeout(options.ssl_ctx, table[n].hint);
			meet_fully(row, context, &owner, &options);
			meeting_clock_offset = table[n].later;
			if (resumed)
				meet_again(row, context, &owner, &options);
			else
				meet_fully(row, context, &owner, &options);
			meeting_clock_offset = 0;
			tls_context_unref(context);
			SSL_CTX_free(options.ssl_ctx);
		}
}

/* A ticket for a ticket for a ticket: a day after the backend proved its key it must do so again. */
static void chain_of_tickets_ends(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	const struct far_end_options options = {.leaf = backend, .min_version = TLS1_3_VERSION};
	struct tls_context *context = resuming_context();

	meet_fully("the first", context, &owner, &options);
	for (meeting_clock_offset = 3600; meeting_clock_offset < DAY; meeting_clock_offset += 3600)
		meet_again("within a day", context, &owner, &options);
	meeting_clock_offset = DAY + 1;
	meet_fully("a day later", context, &owner, &options);
	meet_again("from there on", context, &owner, &options);
	tls_context_unref(context);
}

/* The chain of the session is judged when it is offered: the backend may have a new certificate by then. */
static void expired_chain_is_not_offered(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	struct tls_session_owner other = owner;

	other.gateway_id++;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *context = resuming_context();
		const struct far_end_options options = server_of(&ways[i]);

		meeting_clock_offset = 20 * DAY - 100;
		meet_fully("the last minutes", context, &owner, &options);
		meet_again("the last minutes", context, &owner, &options);
		meet_fully("the last minutes", context, &other, &options);
		meeting_clock_offset = 20 * DAY + 1;
		meet_refused("old certificate", context, &owner, &options, REASON_CERTIFICATE_EXPIRED);
		SSL_CTX_use_certificate(options.ssl_ctx, renewed->x509);
		SSL_CTX_use_PrivateKey(options.ssl_ctx, renewed->key);
		/* the ticket is still good with the backend, and is not used */
		meet_fully("new certificate", context, &other, &options);
		meet_again("new certificate", context, &other, &options);
		meeting_clock_offset = 0;
		SSL_CTX_free(options.ssl_ctx);
		tls_context_unref(context);
	}
}

/* And once more when it has been resumed: in between it may have become wrong. */
static void judged_when_resumed(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	static const struct {
		const char *name;
		int64_t offered_at, resumed_at;
		enum postern_reason expected;
	} table[] = {
	        {"expired in the handshake", 20 * DAY - 100, 20 * DAY + 1, REASON_CERTIFICATE_EXPIRED},
	        {"clock set back in the handshake", 0, -2 * DAY, REASON_CERTIFICATE_NOT_YET_VALID},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		for (size_t n = 0; n < ARRAY_SIZE(table); n++) {
			struct tls_context *context = resuming_context();
			const struct far_end_options options = server_of(&ways[i]);
			struct meeting meeting;

			meeting_clock_offset = table[n].offered_at;
			meet_fully(table[n].name, context, &owner, &options);
			meeting_begin(&meeting, context, &owner, &options);
			meeting_clock_offset = table[n].resumed_at;
			meeting_shake(&meeting);
			assert_int_equal(SSL_session_reused(meeting.far_end->ssl), 1);
			if (meeting.step != TLS_STEP_FAILED || meeting.reason != table[n].expected)
				fail_msg("%s, %s: expected %s, seen %s (%s)", ways[i].name, table[n].name,
				         reason_name(table[n].expected), reason_name(meeting.reason), meeting.detail);
			meeting_end(&meeting);
			/* the session went with it */
			meeting_clock_offset = table[n].offered_at;
			meet_fully(table[n].name, context, &owner, &options);
			meeting_clock_offset = 0;
			SSL_CTX_free(options.ssl_ctx);
			tls_context_unref(context);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(lifetimes),
	        TEST(chain_of_tickets_ends),
	        TEST(expired_chain_is_not_offered),
	        TEST(judged_when_resumed),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
