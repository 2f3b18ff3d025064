// SPDX-License-Identifier: GPL-2.0-only
/*
 * The session cache by itself: which session comes when, how long one is kept, and what bounds it. The sessions are
 * copies of one that a real server gave; what they do in a handshake: test_resumption.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "meeting.h"
#include "tls/peer_private.h"
#include "tls/session_cache.h"
#include "tls/session_private.h"

#define HINT 300

static struct certificate *backend;
static char *backend_pem;
static SSL_SESSION *original; /* TLS 1.3, its server said HINT seconds */
static struct tls_peer *peer; /* a kilobyte */

static struct tls_context *new_context(void)
{
	struct tls_settings settings = client_settings(backend_pem);

	settings.resumption = true;
	return meeting_context(&settings);
}

static SSL_SESSION *new_session(void)
{
	struct far_end_options options = {.leaf = backend, .min_version = TLS1_3_VERSION};
	struct tls_context *context = new_context();
	struct meeting meeting;
	SSL_SESSION *session;

	options.ssl_ctx = far_end_new_ssl_ctx(&options);
	SSL_CTX_set_timeout(options.ssl_ctx, HINT);
	meeting_begin(&meeting, context, NULL, &options);
	meeting_shake(&meeting);
	assert_int_equal(meeting.step, TLS_STEP_DONE);
	session = SSL_SESSION_dup(SSL_get0_session(meeting.client.session->ssl));
	assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(session), HINT);
	meeting_end(&meeting);
	SSL_CTX_free(options.ssl_ctx);
	tls_context_unref(context);
	return session;
}

static int set_up(void **state)
{
	(void)state;
	uint8_t fingerprint[PEER_FINGERPRINT_SIZE] = {0};
	STACK_OF(X509) *chain = sk_X509_new_null();

	if (tls_global_init() < 0)
		return -1;
	backend = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	backend_pem = certificate_pem((const struct certificate *const[]){backend, NULL});
	original = new_session();
	sk_X509_push(chain, backend->x509);
	peer = peer_new(chain, fingerprint, 1000);
	sk_X509_free(chain);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	tls_peer_unref(peer);
	SSL_SESSION_free(original);
	certificate_free(backend);
	free(backend_pem);
	return 0;
}

static struct session_cache_key key_of(uint32_t gateway_id)
{
	struct tls_session_owner owner = meeting_owner();
	struct session_cache_key key;

	owner.gateway_id = gateway_id;
	session_cache_key(&owner, &key);
	return key;
}

static bool put(struct session_cache *cache, uint32_t gateway_id, int64_t authenticated, int64_t now)
{
	const struct session_cache_key key = key_of(gateway_id);
	const struct resumable resumable = {
	        .session = SSL_SESSION_dup(original), .peer = peer, .authenticated = authenticated};

	return session_cache_put(cache, &key, &resumable, now);
}

/* The serial of what is taken; 0: nothing was there. */
static uint64_t take(struct session_cache *cache, uint32_t gateway_id, int64_t now)
{
	const struct session_cache_key key = key_of(gateway_id);
	struct resumable resumable;
	uint64_t serial;

	if (!session_cache_take(cache, &key, now, &resumable)) {
		assert_null(resumable.session);
		assert_null(resumable.peer);
		return 0;
	}
	assert_ptr_equal(resumable.peer, peer);
	assert_true(SSL_SESSION_is_resumable(resumable.session));
	serial = resumable.serial;
	resumable_release(&resumable);
	return serial;
}

static struct session_cache_statistics statistics_of(struct session_cache *cache)
{
	struct session_cache_statistics statistics;

	session_cache_statistics(cache, &statistics);
	return statistics;
}

/* Each once, the oldest first; of the last one copies. */
static void each_once(void **state)
{
	(void)state;
	struct session_cache *cache = session_cache_new();

	for (int i = 0; i < 3; i++)
		assert_true(put(cache, 1, 1000, 1000));
	assert_int_equal(take(cache, 1, 1000), 1);
	assert_int_equal(take(cache, 1, 1000), 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(take(cache, 1, 1000), 3);
	assert_int_equal(take(cache, 2, 1000), 0);
	assert_true(put(cache, 1, 1000, 1000));
	assert_int_equal(take(cache, 1, 1000), 3);
	assert_int_equal(take(cache, 1, 1000), 4);
	session_cache_free(cache);
	session_cache_free(NULL);
}

/* Of one owner the newest stay. */
static void a_few_of_each(void **state)
{
	(void)state;
	struct session_cache *cache = session_cache_new();

	for (int i = 0; i < 10; i++)
		assert_true(put(cache, 1, 1000, 1000));
	assert_int_equal(statistics_of(cache).sessions, SESSION_CACHE_PER_OWNER);
	for (uint64_t serial = 11 - SESSION_CACHE_PER_OWNER; serial <= 10; serial++)
		assert_int_equal(take(cache, 1, 1000), serial);
	session_cache_free(cache);
}

static void in_time(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		int64_t authenticated, received, taken;
		bool kept, found;
	} table[] = {
	        {"at once", 1000, 1000, 1000, true, true},
	        {"the hint's last second", 1000, 1000, 1000 + HINT - 1, true, true},
	        {"the hint is over", 1000, 1000, 1000 + HINT, true, false},
	        {"the clock went back", 1000, 1000, 999, true, false},
	        {"a ticket for a ticket, a day's last second", 1000, 1000 + SESSION_LIFETIME_MAX - 1,
	         1000 + SESSION_LIFETIME_MAX - 1, true, true},
	        {"a day is over", 1000, 1000 + SESSION_LIFETIME_MAX - 1, 1000 + SESSION_LIFETIME_MAX, true, false},
	        {"received after a day", 1000, 1000 + SESSION_LIFETIME_MAX, 1000 + SESSION_LIFETIME_MAX, false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct session_cache *cache = session_cache_new();

		if (put(cache, 1, table[i].authenticated, table[i].received) != table[i].kept)
			fail_msg("%s: kept is not %d", table[i].name, table[i].kept);
		if ((take(cache, 1, table[i].taken) > 0) != table[i].found)
			fail_msg("%s: found is not %d", table[i].name, table[i].found);
		/* what is out of time is gone, and its owner with it */
		assert_int_equal(statistics_of(cache).sessions, table[i].found);
		assert_int_equal(statistics_of(cache).owners, table[i].found);
		session_cache_free(cache);
	}
}

/* NewSessionTicket as the server's OpenSSL would not send it, sealed with its key. */
static void send_ticket(struct meeting *meeting, uint32_t lifetime)
{
	/* lifetime, ticket_age_add, a nonce of one byte, a ticket, no extensions */
	uint8_t message[] = "\x04\x00\x00\x15....\x01\x02\x03\x04\x01\x00\x00\x07tickets\x00";
	struct record_cipher *cipher = NULL;
	struct traffic_keys keys;
	uint8_t record[TLS_RECORD_MAX];
	ssize_t length;

	for (int i = 0; i < 4; i++)
		message[4 + i] = (uint8_t)(lifetime >> (24 - 8 * i));
	assert_int_equal(keys_derive_1_3(meeting->info.cipher, meeting->far_end->secrets[1],
	                                 meeting->far_end->secret_length, &keys),
	                 0);
	assert_int_equal(record_cipher_new(&keys, &cipher), 0);
	length = record_seal(cipher, TLS_CONTENT_HANDSHAKE, message, sizeof(message), 0, record);
	assert_int_equal(send(meeting->far_end->fd, record, (size_t)length, 0), length);
	record_cipher_free(cipher);
}

/* RFC 8446 4.6.1: of lifetime 0 a ticket is to be discarded; and none is kept for longer than is safe. */
static void ticket_lifetimes(void **state)
{
	(void)state;
	static const struct {
		uint32_t lifetime;
		bool kept;
		int64_t last;
	} table[] = {{0, false, 0},
	             {1, true, 0},
	             {HINT, true, HINT - 1},
	             {7 * 86400, true, SESSION_LIFETIME_MAX - 1},
	             {UINT32_MAX, true, SESSION_LIFETIME_MAX - 1}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct far_end_options options = {
		        .leaf = backend, .min_version = TLS1_3_VERSION, .no_tickets = true};
		const struct tls_session_owner owner = meeting_owner();
		struct tls_context *context = new_context();
		struct session_cache_key key;
		struct resumable resumable;
		struct meeting meeting;
		int64_t now;
		char byte;

		session_cache_key(&owner, &key);
		meeting_begin(&meeting, context, &owner, &options);
		meeting_shake(&meeting);
		assert_int_equal(meeting.step, TLS_STEP_DONE);
		send_ticket(&meeting, table[i].lifetime);
		now = context->wall_clock();
		assert_int_equal(tls_session_read(meeting.client.session, &byte, 1), -EAGAIN);
		if (tls_session_tickets_kept(meeting.client.session) != table[i].kept)
			fail_msg("lifetime %u: kept is not %d", table[i].lifetime, table[i].kept);
		if (table[i].kept) {
			assert_true(session_cache_take(context->sessions, &key, now + table[i].last, &resumable));
			resumable_release(&resumable);
			/* the clock may have gone on by a second or two in between */
			assert_false(session_cache_take(context->sessions, &key, now + table[i].last + 3, &resumable));
		}
		meeting_end(&meeting);
		tls_context_unref(context);
	}
}

static void forgotten_up_to(void **state)
{
	(void)state;
	static const struct {
		uint64_t up_to, first_left;
	} table[] = {{0, 1}, {1, 2}, {2, 3}, {3, 0}, {UINT64_MAX, 0}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct session_cache_key key = key_of(1);
		struct session_cache *cache = session_cache_new();

		for (int n = 0; n < 3; n++)
			assert_true(put(cache, 1, 1000, 1000));
		assert_true(put(cache, 2, 1000, 1000));
		session_cache_forget(cache, &key, table[i].up_to);
		assert_int_equal(take(cache, 1, 1000), table[i].first_left);
		assert_int_equal(take(cache, 2, 1000), 4);
		session_cache_free(cache);
	}
}

/* The bounds: by owners and by bytes, who was not asked for the longest goes first. */
static void bounded(void **state)
{
	(void)state;
	struct session_cache *cache = session_cache_new();
	size_t cost;

	for (uint32_t i = 1; i <= SESSION_CACHE_OWNERS; i++)
		assert_true(put(cache, i, 1000, 1000));
	assert_int_equal(statistics_of(cache).owners, SESSION_CACHE_OWNERS);
	cost = statistics_of(cache).bytes / SESSION_CACHE_OWNERS;
	assert_in_range(cost, 4 * peer->size, 8 * peer->size);
	assert_int_not_equal(take(cache, 1, 1000), 0); /* in use */
	for (uint32_t i = 1; i <= 10; i++)
		assert_true(put(cache, SESSION_CACHE_OWNERS + i, 1000, 1000));
	assert_int_equal(statistics_of(cache).owners, SESSION_CACHE_OWNERS);
	assert_int_equal(statistics_of(cache).evicted, 10);
	assert_int_not_equal(take(cache, 1, 1000), 0);
	for (uint32_t i = 2; i <= 11; i++)
		assert_int_equal(take(cache, i, 1000), 0);
	assert_int_not_equal(take(cache, 12, 1000), 0);
	session_cache_free(cache);

	/* chains of a megabyte */
	cache = session_cache_new();
	peer->size <<= 10;
	for (uint32_t i = 1; i <= 20; i++)
		assert_true(put(cache, i, 1000, 1000));
	assert_in_range(statistics_of(cache).bytes, SESSION_CACHE_BYTES / 2, SESSION_CACHE_BYTES);
	assert_int_equal(statistics_of(cache).owners + statistics_of(cache).evicted, 20);
	assert_int_equal(take(cache, 1, 1000), 0);
	assert_int_equal(take(cache, 20, 1000), 20);
	peer->size >>= 10;
	session_cache_free(cache);
}

/* Whoever never comes back leaves no secret behind: others' sessions push out what is over. */
static void nobody_asks_any_more(void **state)
{
	(void)state;
	struct session_cache *cache = session_cache_new();

	for (uint32_t i = 1; i <= 100; i++)
		assert_true(put(cache, i, 1000, 1000));
	for (int i = 0; i < 50; i++)
		assert_true(put(cache, 1000, 1000, 1000 + HINT));
	assert_int_equal(statistics_of(cache).owners, 1);
	assert_int_equal(statistics_of(cache).expired, 100);
	session_cache_free(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(each_once),
	        cmocka_unit_test(a_few_of_each),
	        cmocka_unit_test(in_time),
	        cmocka_unit_test(ticket_lifetimes),
	        cmocka_unit_test(forgotten_up_to),
	        cmocka_unit_test(bounded),
	        cmocka_unit_test(nobody_asks_any_more),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
