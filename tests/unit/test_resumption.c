// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resumption with a real OpenSSL server: what is resumed, and above all what is not: nothing across gateways, client
 * certificates, addresses or settings. How long: test_resumption_lifetime.c; offers that fail: test_resumption_offer.c;
 * the kernel's side: test_ktls.c; many at once: test_resumption_parallel.c.
 */
#include "resumption_world.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

/* Again and again, and what is told of a resumed session is what was told of the full one. */
static void resumed_in_every_way(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *context = resuming_context();
		const struct far_end_options options = server_of(&ways[i]);
		struct tls_peer *peer = NULL;
		struct tls_session_info full;

		for (int round = 0; round < 10; round++) {
			struct meeting meeting;
			struct tls_peer *again;

			meeting_begin(&meeting, context, &owner, &options);
			meeting_shake(&meeting);
			if (meeting.step != TLS_STEP_DONE || meeting.info.resumed != (round > 0))
				fail_msg("%s, round %d: step %d, resumed %d (%s)", ways[i].name, round, meeting.step,
				         meeting.info.resumed, meeting.detail);
			if (round == 0)
				full = meeting.info;
			assert_string_equal(meeting.info.peer_identity, "backend.example");
			assert_int_equal(meeting.info.peer_not_after, full.peer_not_after);
			assert_in_range(meeting.info.peer_not_after, time(NULL) + 20 * DAY - 600,
			                time(NULL) + 20 * DAY);
			assert_int_equal(meeting.info.peer_valid_until, full.peer_not_after);
			/* an OpenSSL server: two tickets after a full handshake of 1.3, one after a resumed one */
			if (ways[i].version == TLS1_3_VERSION)
				assert_int_equal(tls_session_tickets_kept(meeting.client.session), round > 0 ? 1 : 2);
			else
				assert_int_equal(tls_session_tickets_kept(meeting.client.session), round > 0 ? 0 : 1);
			again = tls_session_peer(meeting.client.session);
			assert_true(!peer || peer == again);
			tls_peer_unref(peer);
			peer = again;
			meeting_end(&meeting);
		}
		tls_peer_unref(peer);
		SSL_CTX_free(options.ssl_ctx);
		tls_context_unref(context);
	}
}

/* What is written and read on a resumed session is what was meant (the keys are OpenSSL's here). */
static void data_on_a_resumed_session(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *context = resuming_context();
		const struct far_end_options options = server_of(&ways[i]);
		struct meeting meeting;
		char buffer[20];

		meet_fully(ways[i].name, context, &owner, &options);
		meeting_begin(&meeting, context, &owner, &options);
		meeting_shake(&meeting);
		assert_true(meeting.info.resumed);
		assert_int_equal(tls_session_write(meeting.client.session, "request", 7), 7);
		far_end_pull(meeting.far_end);
		assert_int_equal(SSL_read(meeting.far_end->ssl, buffer, sizeof(buffer)), 7);
		assert_int_equal(SSL_write(meeting.far_end->ssl, "response", 8), 8);
		far_end_push(meeting.far_end, SIZE_MAX);
		assert_int_equal(tls_session_read(meeting.client.session, buffer, sizeof(buffer)), 8);
		assert_memory_equal(buffer, "response", 8);
		meeting_end(&meeting);
		SSL_CTX_free(options.ssl_ctx);
		tls_context_unref(context);
	}
}

/* Each owner in the table is somebody else than the first, and than each other. */
static void owners_are_kept_apart(void **state)
{
	(void)state;
	struct client_certificate *shown_by_a = meeting_client_certificate(gateway_a);
	struct client_certificate *shown_by_b = meeting_client_certificate(gateway_b);
	struct {
		const char *name;
		struct tls_session_owner owner;
	} table[] = {
	        {"the first", meeting_owner()},
	        {"another gateway", meeting_owner()},
	        {"another address", meeting_owner()},
	        {"another port", meeting_owner()},
	        {"with a client certificate", meeting_owner()},
	        {"with another client certificate", meeting_owner()},
	        {"another gateway with the same certificate", meeting_owner()},
	};

	table[1].owner.gateway_id++;
	((uint8_t *)&table[2].owner.backend.address)[15]++;
	table[3].owner.backend.port++;
	table[4].owner.client_certificate = shown_by_a;
	table[5].owner.client_certificate = shown_by_b;
	table[6].owner.client_certificate = shown_by_a;
	table[6].owner.gateway_id++;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *context = resuming_context();
		const struct far_end_options options = server_of(&ways[i]);

		for (size_t n = 0; n < ARRAY_SIZE(table); n++)
			meet_fully(table[n].name, context, &table[n].owner, &options);
		/* the same, in memory of its own: equal is equal */
		for (size_t n = 0; n < ARRAY_SIZE(table); n++) {
			struct tls_session_owner same = table[n].owner;

			same.backend.padding = 99;
			meet_again(table[n].name, context, &same, &options);
		}
		SSL_CTX_free(options.ssl_ctx);
		tls_context_unref(context);
	}
	client_certificate_unref(shown_by_a);
	client_certificate_unref(shown_by_b);
}

/* The backend sees who shows what: a resumed session keeps the certificate of its own owner. */
static void backend_that_wants_a_certificate(void **state)
{
	(void)state;
	struct client_certificate *shown_by_a = meeting_client_certificate(gateway_a);
	struct tls_session_owner owner = meeting_owner();

	owner.client_certificate = shown_by_a;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct tls_context *context = resuming_context();
		struct far_end_options options = {
		        .leaf = backend, .max_version = version, .want_client_certificate = true};

		for (int round = 0; round < 3; round++) {
			struct meeting meeting;
			X509 *seen;

			meeting_begin(&meeting, context, &owner, &options);
			meeting_shake(&meeting);
			assert_int_equal(meeting.step, TLS_STEP_DONE);
			assert_int_equal(meeting.info.resumed, round > 0);
			seen = SSL_get0_peer_certificate(meeting.far_end->ssl);
			assert_non_null(seen);
			assert_int_equal(X509_cmp(seen, gateway_a->x509), 0);
			meeting_end(&meeting);
		}
		tls_context_unref(context);
	}
	client_certificate_unref(shown_by_a);
}

/* New settings are a new context, even where they are the same word for word. */
static void settings_are_kept_apart(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *old = resuming_context();
		struct tls_context *new = resuming_context();
		const struct far_end_options options = server_of(&ways[i]);

		meet_fully(ways[i].name, old, &owner, &options);
		meet_fully(ways[i].name, new, &owner, &options);
		tls_context_unref(old);
		meet_again(ways[i].name, new, &owner, &options);
		tls_context_unref(new);
		SSL_CTX_free(options.ssl_ctx);
	}
}

static void nothing_kept_and_nothing_offered(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	const struct {
		const char *name;
		bool resumption;
		const struct tls_session_owner *owner;
		uint64_t server_options;
		bool resumed;
	} table[] = {
	        {"option resumption: off", false, &owner, 0, false},
	        {"nobody's session", true, NULL, 0, false},
	        {"no extended master secret", true, &owner, SSL_OP_NO_EXTENDED_MASTER_SECRET, false},
	        {"the control", true, &owner, 0, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		for (size_t n = 0; n < ARRAY_SIZE(table); n++) {
			struct tls_settings settings = resuming_settings();
			const struct far_end_options options = server_of(&ways[i]);
			struct tls_context *context;

			/* RFC 8446 D: what RFC 7627 does is part of TLS 1.3 */
			if (table[n].server_options != 0 && ways[i].version == TLS1_3_VERSION) {
				SSL_CTX_free(options.ssl_ctx);
				continue;
			}
			settings.resumption = table[n].resumption;
			SSL_CTX_set_options(options.ssl_ctx, table[n].server_options);
			context = meeting_context(&settings);
			for (int round = 0; round < 3; round++) {
				struct meeting meeting;
				bool keeps = table[n].resumed;

				meeting_begin(&meeting, context, table[n].owner, &options);
				meeting_shake(&meeting);
				assert_int_equal(meeting.step, TLS_STEP_DONE);
				if (meeting.info.resumed != (keeps && round > 0))
					fail_msg("%s, %s, round %d: resumed %d", ways[i].name, table[n].name, round,
					         meeting.info.resumed);
				if (!keeps)
					assert_int_equal(tls_session_tickets_kept(meeting.client.session), 0);
				meeting_end(&meeting);
			}
			tls_context_unref(context);
			SSL_CTX_free(options.ssl_ctx);
		}
}

/* Who reads no tickets lives on what there is: the last session is offered as often as it is asked for. */
static void last_session_is_offered_again(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *context = resuming_context();
		const struct far_end_options options = server_of(&ways[i]);

		meet_fully(ways[i].name, context, &owner, &options);
		for (int round = 0; round < 6; round++) {
			struct meeting meeting;
			struct tls_session_info info;

			meeting_begin(&meeting, context, &owner, &options);
			assert_int_equal(client_handshake(&meeting.client, meeting.far_end), TLS_STEP_DONE);
			tls_session_info(meeting.client.session, &info);
			if (!info.resumed)
				fail_msg("%s: round %d is a full handshake", ways[i].name, round);
			meeting_end(&meeting);
		}
		SSL_CTX_free(options.ssl_ctx);
		tls_context_unref(context);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(resumed_in_every_way),          TEST(data_on_a_resumed_session),
	        TEST(owners_are_kept_apart),         TEST(backend_that_wants_a_certificate),
	        TEST(settings_are_kept_apart),       TEST(nothing_kept_and_nothing_offered),
	        TEST(last_session_is_offered_again),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
