// SPDX-License-Identifier: GPL-2.0-only
/* An offer of a session: what the hello has, what becomes of one that leads nowhere, and what a backend may make of it.
 */
#include "resumption_world.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

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

/* Who wants to see the backend's certificate resumes nothing, leaves nothing to resume, and takes nobody's away. */
static void anew(void **state)
{
	(void)state;
	const struct tls_session_owner owner = meeting_owner();
	struct tls_session_owner looks = owner;

	looks.anew = true;
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct tls_context *context = resuming_context();
		const struct far_end_options options = server_of(&ways[i]);

		meet_fully(ways[i].name, context, &looks, &options);
		assert_false(offers(context, &owner));
		meet_fully(ways[i].name, context, &owner, &options);
		meet_fully(ways[i].name, context, &looks, &options);
		meet_again(ways[i].name, context, &owner, &options);
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
	const struct CMUnitTest tests[] = {
	        TEST(failed_offer_is_dropped), TEST(anew),
	        TEST(backend_forgot),          TEST(how_the_connection_ended),
	        TEST(what_the_hello_offers),   TEST(session_of_unknown_origin),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
