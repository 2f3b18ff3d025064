// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resumption with a real OpenSSL server: what is resumed, for how long, and above all what is not: nothing across
 * gateways, client certificates, addresses or settings, and no session whose chain would not be accepted now. The
 * kernel's side: test_ktls.c; many at once: test_resumption_parallel.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "meeting.h"
#include "tls/session_cache.h"
#include "tls/session_private.h"

#define DAY 86400L

static struct certificate *root, *backend, *renewed, *gateway_a, *gateway_b;
static char *root_pem;

static int set_up(void **state)
{
	(void)state;
	struct certificate_options leaf = {.common_name = "backend",
	                                   .names = {{GEN_DNS, "backend.example", 0}},
	                                   .valid_from = -DAY,
	                                   .valid_until = 20 * DAY};

	if (tls_global_init() < 0)
		return -1;
	root = certificate_new(&(struct certificate_options){
	        .common_name = "root", .authority = true, .valid_from = -DAY, .valid_until = 365 * DAY});
	leaf.issuer = root;
	backend = certificate_new(&leaf);
	leaf.valid_until = 90 * DAY;
	renewed = certificate_new(&leaf);
	gateway_a = certificate_new(&(struct certificate_options){.common_name = "gateway a"});
	gateway_b = certificate_new(&(struct certificate_options){.common_name = "gateway b"});
	root_pem = certificate_pem((const struct certificate *const[]){root, NULL});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	certificate_free(root);
	certificate_free(backend);
	certificate_free(renewed);
	certificate_free(gateway_a);
	certificate_free(gateway_b);
	free(root_pem);
	return 0;
}

static int reset_clock(void **state)
{
	(void)state;
	meeting_clock_offset = 0;
	return 0;
}

static struct tls_settings resuming_settings(void)
{
	struct tls_settings settings = client_settings(root_pem);

	settings.resumption = true;
	return settings;
}

static struct tls_context *resuming_context(void)
{
	const struct tls_settings settings = resuming_settings();

	return meeting_context(&settings);
}

static const struct way {
	const char *name;
	int version;
	bool session_ids; /* the server keeps sessions, and sends no tickets (1.3: tickets that are no more than ids) */
} ways[] = {
        {"1.3, tickets", TLS1_3_VERSION, false},
        {"1.3, stateful tickets", TLS1_3_VERSION, true},
        {"1.2, tickets", TLS1_2_VERSION, false},
        {"1.2, session ids", TLS1_2_VERSION, true},
};

static struct far_end_options server_of(const struct way *way)
{
	struct far_end_options options = {.leaf = backend, .min_version = way->version, .max_version = way->version};

	options.ssl_ctx = far_end_new_ssl_ctx(&options);
	if (way->session_ids)
		SSL_CTX_set_options(options.ssl_ctx, SSL_OP_NO_TICKET);
	return options;
}

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

static bool offers(struct tls_context *context, const struct tls_session_owner *owner)
{
	struct session_cache_key key;
	struct resumable resumable;
	bool any;

	session_cache_key(owner, &key);
	any = session_cache_take(context->sessions, &key, context->wall_clock(), &resumable);
	assert_true(!any || SSL_SESSION_is_resumable(resumable.session));
	resumable_release(&resumable);
	return any;
}

/* An offer that led nowhere is not made again. */
static void failed_offer_is_dropped(void **state)
{
	(void)state;
	static const char alert[] = "\x15\x03\x03\x00\x02\x02\x28";
	const struct tls_session_owner owner = meeting_owner();
	enum { ALERT, END, ABANDONED, ENDINGS };

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		for (int ending = 0; ending < ENDINGS; ending++) {
			struct tls_context *context = resuming_context();
			const struct far_end_options options = server_of(&ways[i]);
			struct tls_session_owner other = owner;
			struct meeting meeting;

			other.gateway_id++;
			meet_fully(ways[i].name, context, &other, &options);
			meet_fully(ways[i].name, context, &owner, &options);
			meeting_begin(&meeting, context, &owner, &options);
			assert_non_null(meeting.client.session->offered.session);
			assert_int_equal(tls_session_handshake(meeting.client.session), TLS_STEP_WANT_READ);
			if (ending == ALERT)
				assert_int_equal(send(meeting.far_end->fd, alert, 7, MSG_NOSIGNAL), 7);
			if (ending == END)
				shutdown(meeting.far_end->fd, SHUT_WR);
			assert_int_equal(tls_session_handshake(meeting.client.session),
			                 ending == ABANDONED ? TLS_STEP_WANT_READ : TLS_STEP_FAILED);
			meeting_end(&meeting);
			assert_false(offers(context, &owner));
			assert_true(offers(context, &other));
			meet_fully(ways[i].name, context, &owner, &options);
			SSL_CTX_free(options.ssl_ctx);
			tls_context_unref(context);
		}
}

/* A backend that lost its ticket keys: one full handshake, and the old tickets are gone. */
static void backend_forgot(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *context = resuming_context();
		const struct far_end_options before = server_of(&ways[i]);
		const struct far_end_options after = server_of(&ways[i]);
		unsigned char keys[80] = {1};

		assert_int_equal(SSL_CTX_set_tlsext_ticket_keys(after.ssl_ctx, keys, sizeof(keys)), 1);
		meet_fully(ways[i].name, context, &owner, &before);
		meet_again(ways[i].name, context, &owner, &before);
		meet_fully(ways[i].name, context, &owner, &after);
		meet_again(ways[i].name, context, &owner, &after);
		SSL_CTX_free(before.ssl_ctx);
		SSL_CTX_free(after.ssl_ctx);
		tls_context_unref(context);
	}
}

/* RFC 5246 7.2, RFC 8446 6: a fatal alert ends the session, an end without close_notify does not. */
static void how_the_connection_ended(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		for (int alert = 0; alert <= 1; alert++) {
			struct tls_context *context = resuming_context();
			const struct far_end_options options = server_of(&ways[i]);
			struct meeting meeting;
			char byte;

			meeting_begin(&meeting, context, &owner, &options);
			meeting_shake(&meeting);
			assert_int_equal(meeting.step, TLS_STEP_DONE);
			if (alert) /* no TLS record begins like this */
				assert_int_equal(tls_session_write(meeting.client.session, "x", 1), 1);
			if (alert) {
				uint8_t record[100];
				ssize_t n = recv(meeting.far_end->fd, record, sizeof(record), 0);

				assert_true(n > 10);
				record[n - 1] ^= 1;
				BIO_write(meeting.far_end->in, record, (int)n);
				assert_true(SSL_read(meeting.far_end->ssl, &byte, 1) <= 0);
				far_end_push(meeting.far_end, SIZE_MAX);
			}
			shutdown(meeting.far_end->fd, SHUT_WR);
			assert_int_equal(tls_session_read(meeting.client.session, &byte, 1), -ECONNRESET);
			assert_int_equal(tls_session_reason(meeting.client.session),
			                 alert ? REASON_PEER_ALERT : REASON_TRUNCATED);
			meeting_end(&meeting);
			assert_int_equal(offers(context, &owner), !alert);
			/* nor is any of them spoilt by what OpenSSL thinks of such an end */
			for (int round = 0; round < 3 && !alert; round++)
				meet_again(ways[i].name, context, &owner, &options);
			SSL_CTX_free(options.ssl_ctx);
			tls_context_unref(context);
		}
}

struct hello {
	bool offers_psk, offers_early_data;
	uint8_t modes[8];
	size_t modes_length;
};

static int on_hello(SSL *ssl, int *alert, void *argument)
{
	struct hello *hello = argument;
	const unsigned char *bytes;
	size_t length;

	(void)alert;
	*hello = (struct hello){
	        .offers_psk = SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk, &bytes, &length),
	        .offers_early_data = SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_early_data, &bytes, &length)};
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk_kex_modes, &bytes, &length) &&
	    length <= sizeof(hello->modes)) {
		memcpy(hello->modes, bytes, length);
		hello->modes_length = length;
	}
	return SSL_CLIENT_HELLO_SUCCESS;
}

/* psk_dhe_ke alone, and no early data, however much the backend would take. */
static void what_the_hello_offers(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	struct tls_context *context = resuming_context();
	const struct far_end_options options = server_of(&ways[0]);
	static const uint8_t dhe_only[] = {1, 1};
	struct hello hello;

	SSL_CTX_set_client_hello_cb(options.ssl_ctx, on_hello, &hello);
	SSL_CTX_set_options(options.ssl_ctx, SSL_OP_ALLOW_NO_DHE_KEX | SSL_OP_NO_ANTI_REPLAY);
	SSL_CTX_set_max_early_data(options.ssl_ctx, 16384);
	for (int round = 0; round < 3; round++) {
		if (round == 0)
			meet_fully("early data allowed", context, &owner, &options);
		else
			meet_again("early data allowed", context, &owner, &options);
		assert_int_equal(hello.offers_psk, round > 0);
		assert_false(hello.offers_early_data);
		assert_int_equal(hello.modes_length, sizeof(dhe_only));
		assert_memory_equal(hello.modes, dhe_only, sizeof(dhe_only));
	}
	SSL_CTX_free(options.ssl_ctx);
	tls_context_unref(context);
}

/* A verdict of OpenSSL's own is not taken: what it resumes without an offer of ours is refused. */
static void session_of_unknown_origin(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	const struct far_end_options options = server_of(&ways[0]);
	struct tls_context *context = resuming_context();
	struct session_cache_key key;
	struct resumable resumable;
	struct meeting meeting;

	meet_fully("the first", context, &owner, &options);
	session_cache_key(&owner, &key);
	assert_true(session_cache_take(context->sessions, &key, time(NULL), &resumable));
	meeting_begin(&meeting, context, NULL, &options);
	assert_int_equal(SSL_set_session(meeting.client.session->ssl, resumable.session), 1);
	meeting_shake(&meeting);
	assert_int_equal(meeting.step, TLS_STEP_FAILED);
	assert_int_equal(meeting.reason, REASON_INTERNAL);
	resumable_release(&resumable);
	meeting_end(&meeting);
	SSL_CTX_free(options.ssl_ctx);
	tls_context_unref(context);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_teardown(function, reset_clock)
	const struct CMUnitTest tests[] = {
	        TEST(resumed_in_every_way),
	        TEST(data_on_a_resumed_session),
	        TEST(owners_are_kept_apart),
	        TEST(backend_that_wants_a_certificate),
	        TEST(settings_are_kept_apart),
	        TEST(nothing_kept_and_nothing_offered),
	        TEST(last_session_is_offered_again),
	        TEST(lifetimes),
	        TEST(chain_of_tickets_ends),
	        TEST(expired_chain_is_not_offered),
	        TEST(judged_when_resumed),
	        TEST(failed_offer_is_dropped),
	        TEST(backend_forgot),
	        TEST(how_the_connection_ended),
	        TEST(what_the_hello_offers),
	        TEST(session_of_unknown_origin),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
