// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many workers, one context: all that can be resumed is resumed, connections share one peer, and nothing goes to
 * another owner while settings, clocks and owners change under way. Built with SANITIZE=thread it looks for races.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "meeting.h"
#include "tls/session_cache.h"
#include "tls/verification_cache.h"

#define WORKERS    8
#define HANDSHAKES 500

static struct certificate *backend;
static char *backend_pem;

struct worker {
	pthread_t thread;
	struct tls_context *context;
	SSL_CTX *server;       /* of those that connect */
	struct tls_peer *peer; /* of those that judge */
	struct tls_session_owner owner;
	unsigned int handshakes; /* or judgements */
	unsigned int full, resumed;
	const char *failure; /* what went wrong; cmocka's own asserts are for its thread */
	char text[TLS_DETAIL_MAX + 50];
};

static int set_up(void **state)
{
	(void)state;
	if (tls_global_init() < 0)
		return -1;
	backend = certificate_new(
	        &(struct certificate_options){.common_name = "backend", .names = {{GEN_DNS, "backend.example", 0}}});
	backend_pem = certificate_pem((const struct certificate *const[]){backend, NULL});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	certificate_free(backend);
	free(backend_pem);
	return 0;
}

static bool failed(struct worker *worker, const char *what, const struct tls_session *session)
{
	snprintf(worker->text, sizeof(worker->text), "%s: %s", what, session ? tls_session_detail(session) : "");
	worker->failure = worker->text;
	return false;
}

/* Both ends on one thread; the server is OpenSSL on the socket itself. */
static bool shake_hands(struct worker *worker, struct tls_session *session, SSL *server)
{
	for (int round = 0; round < 10; round++) {
		enum tls_step step = tls_session_handshake(session);
		int accepted;

		if (step == TLS_STEP_FAILED)
			return failed(worker, "handshake", session);
		ERR_clear_error();
		accepted = SSL_accept(server);
		if (accepted == 1 && step == TLS_STEP_DONE)
			return true;
	}
	return failed(worker, "the handshake hangs", session);
}

static bool settle(struct worker *worker, struct tls_session *session, SSL *server)
{
	struct tls_session_info info;
	char byte;

	/* the tickets */
	if (tls_session_read(session, &byte, 1) != -EAGAIN)
		return failed(worker, "tickets", session);
	tls_session_info(session, &info);
	if (info.resumed != SSL_session_reused(server) || strcmp(info.peer_identity, "backend.example") != 0)
		return failed(worker, "the two sides do not agree", session);
	worker->full += !info.resumed;
	worker->resumed += info.resumed;
	return true;
}

static bool connect_once(struct worker *worker)
{
	struct tls_session *session = NULL;
	SSL *server = SSL_new(worker->server);
	int pair[2];
	bool done;

	if (!server || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == -1)
		return failed(worker, "no socket", NULL);
	SSL_set_fd(server, pair[1]);
	done = tls_session_new(worker->context, pair[0], &worker->owner, &session) == 0 &&
	       shake_hands(worker, session, server) && settle(worker, session, server);
	tls_session_free(session);
	SSL_set_shutdown(server, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(server);
	close(pair[0]);
	close(pair[1]);
	return done;
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	for (unsigned int i = 0; i < worker->handshakes && !worker->failure; i++)
		if (!connect_once(worker) && !worker->failure)
			failed(worker, "no session", NULL);
	OPENSSL_thread_stop();
	return NULL;
}

static SSL_CTX *new_server(int version)
{
	const struct far_end_options options = {.leaf = backend, .min_version = version, .max_version = version};
	SSL_CTX *ssl_ctx = far_end_new_ssl_ctx(&options);

	SSL_CTX_set_keylog_callback(ssl_ctx, NULL);
	return ssl_ctx;
}

static struct tls_context *new_context(void)
{
	struct tls_settings settings = client_settings(backend_pem);

	settings.resumption = true;
	return meeting_context(&settings);
}

static void run_workers(struct worker workers[static WORKERS], void *(*run)(void *worker))
{
	for (unsigned int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
	for (unsigned int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned int i = 0; i < WORKERS; i++)
		if (workers[i].failure)
			fail_msg("worker %u: %s", i, workers[i].failure);
}

/* 8 workers, one owner. The first ones find nothing; from then on 99.9 % are resumed. */
static void all_that_can_be_resumed_is(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_CTX *server = new_server(version);
		struct tls_context *context = new_context();
		struct verification_cache_statistics verifications;
		struct session_cache_statistics sessions;
		struct worker workers[WORKERS];
		unsigned int full = 0, resumed = 0;

		for (unsigned int i = 0; i < WORKERS; i++)
			workers[i] = (struct worker){.context = context,
			                             .server = server,
			                             .owner = meeting_owner(),
			                             .handshakes = HANDSHAKES};
		run_workers(workers, work);
		for (unsigned int i = 0; i < WORKERS; i++) {
			full += workers[i].full;
			resumed += workers[i].resumed;
		}
		verification_cache_statistics(context->verifications, &verifications);
		session_cache_statistics(context->sessions, &sessions);
		print_message("%s: %u full, %u resumed (the server: %ld hits); %lu chains verified, %zu kept\n",
		              version == TLS1_3_VERSION ? "TLS 1.3" : "TLS 1.2", full, resumed,
		              SSL_CTX_sess_hits(server), verifications.misses, verifications.entries);
		assert_int_equal(full + resumed, WORKERS * HANDSHAKES);
		assert_int_equal(SSL_CTX_sess_hits(server), resumed);
		/* of those beyond each worker's first, 99.9 % */
		if (full > WORKERS + WORKERS * HANDSHAKES / 1000)
			fail_msg("%u full handshakes of %u", full, WORKERS * HANDSHAKES);
		assert_in_range(verifications.misses, 1, WORKERS);
		assert_int_equal(verifications.entries, 1);
		assert_int_equal(sessions.owners, 1);
		assert_in_range(sessions.sessions, 1, SESSION_CACHE_PER_OWNER);
		tls_context_unref(context);
		SSL_CTX_free(server);
	}
}

/* The worst there is of "at once": all are offered before the first has its answer, all have it before any ticket. */
static void waves(void **state)
{
	(void)state;
	enum { WAVES = 100 };

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_CTX *server = new_server(version);
		const struct far_end_options options = {.ssl_ctx = server};
		const struct tls_session_owner owner = meeting_owner();
		struct tls_context *context = new_context();
		unsigned int full = 0;

		for (int wave = 0; wave < WAVES; wave++) {
			struct meeting meetings[WORKERS];

			for (size_t i = 0; i < WORKERS; i++)
				meeting_begin(&meetings[i], context, &owner, &options);
			for (size_t i = 0; i < WORKERS; i++)
				assert_int_equal(client_handshake(&meetings[i].client, meetings[i].far_end),
				                 TLS_STEP_DONE);
			for (size_t i = 0; i < WORKERS; i++) {
				char byte;

				assert_int_equal(tls_session_read(meetings[i].client.session, &byte, 1), -EAGAIN);
				full += !SSL_session_reused(meetings[i].far_end->ssl);
				meeting_end(&meetings[i]);
			}
		}
		print_message("%s: %u full of %u\n", version == TLS1_3_VERSION ? "TLS 1.3" : "TLS 1.2", full,
		              WAVES * WORKERS);
		assert_int_equal(full, WORKERS);
		assert_int_equal(SSL_CTX_sess_hits(server), (WAVES - 1) * WORKERS);
		tls_context_unref(context);
		SSL_CTX_free(server);
	}
}

/* As many owners as workers, all at once, each with sessions of its own: one full handshake each, and no more. */
static void owners_at_once(void **state)
{
	(void)state;
	SSL_CTX *server = new_server(TLS1_3_VERSION);
	struct tls_context *context = new_context();
	struct worker workers[WORKERS];

	for (unsigned int i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){
		        .context = context, .server = server, .owner = meeting_owner(), .handshakes = 50};
		workers[i].owner.gateway_id += i;
	}
	run_workers(workers, work);
	for (unsigned int i = 0; i < WORKERS; i++)
		assert_int_equal(workers[i].full, 1);
	tls_context_unref(context);
	SSL_CTX_free(server);
}

static void *judge(void *argument)
{
	struct worker *worker = argument;

	for (unsigned int i = 0; i < worker->handshakes && !worker->failure; i++) {
		struct verify_result result;
		int64_t valid_until;

		if (!tls_context_judge_peer(worker->context, worker->peer, &result, &valid_until))
			failed(worker, result.detail, NULL);
	}
	OPENSSL_thread_stop();
	return NULL;
}

/* A change of policy: all workers judge the one peer by the new settings. */
static void one_peer_judged_by_all(void **state)
{
	(void)state;
	const struct far_end_options options = {.leaf = backend};
	struct tls_context *old = new_context();
	struct meeting meeting;
	struct tls_peer *peer;

	meeting_begin(&meeting, old, NULL, &options);
	meeting_shake(&meeting);
	assert_int_equal(meeting.step, TLS_STEP_DONE);
	peer = tls_session_peer(meeting.client.session);
	meeting_end(&meeting);
	tls_context_unref(old);
	for (int round = 0; round < 10; round++) {
		struct tls_context *new = new_context();
		struct verification_cache_statistics statistics;
		struct worker workers[WORKERS];

		/* the first judgement by each context is a race of all */
		for (unsigned int i = 0; i < WORKERS; i++)
			workers[i] = (struct worker){.context = new, .peer = peer, .handshakes = 200};
		run_workers(workers, judge);
		verification_cache_statistics(new->verifications, &statistics);
		assert_int_equal(statistics.hits + statistics.misses, WORKERS * 200);
		assert_in_range(statistics.misses, 1, WORKERS);
		assert_int_equal(statistics.entries, 1);
		tls_context_unref(new);
	}
	tls_peer_unref(peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(all_that_can_be_resumed_is),
	        cmocka_unit_test(waves),
	        cmocka_unit_test(owners_at_once),
	        cmocka_unit_test(one_peer_judged_by_all),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
