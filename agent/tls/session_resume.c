// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resumption: which session is offered, what becomes of it, and which sessions are kept. RFC 8446 2.2 (a PSK with
 * (EC)DHE, never without; never early data), RFC 5077 and RFC 5246 F.1.4, for which RFC 7627 is demanded.
 *
 * A session of TLS 1.2 is offered in a hello that offers TLS 1.3, too, with a key share (26 us) that only the latter
 * needs. Without the share, or with 1.2 only, a backend that has learnt TLS 1.3 meanwhile would be asked for a second
 * hello each time, or be held at 1.2 for as long as tickets make tickets. Where the policy ends at 1.2 there is none.
 */
#include <openssl/err.h>

#include "tls/peer_private.h"
#include "tls/session_private.h"

/* Where kept sessions go; NULL: this session is nobody's, or its policy has resumption off. */
static struct session_cache *cache_of(const struct tls_session *session)
{
	return session->owned ? session->context->sessions : NULL;
}

static int64_t now_of(const struct tls_session *session)
{
	return session->context->wall_clock();
}

void session_offer(struct tls_session *session, const struct tls_session_owner *owner)
{
	struct verify_result result;
	int64_t valid_until;

	session->owned = owner && !owner->anew;
	if (!cache_of(session))
		return;
	session_cache_key(owner, &session->key);
	while (session_cache_take(cache_of(session), &session->key, now_of(session), &session->offered)) {
		/* One that would be refused is not offered: by now the backend may have another certificate. */
		if (tls_context_judge_peer(session->context, session->offered.peer, &result, &valid_until) &&
		    SSL_set_session(session->ssl, session->offered.session))
			return;
		session_cache_forget(cache_of(session), &session->key, session->offered.serial);
		resumable_release(&session->offered);
	}
	ERR_clear_error();
}

/* The copy is nobody's but the cache's: the session of a live connection is OpenSSL's to mark and to change. */
static void keep(struct tls_session *session, SSL_SESSION *copy)
{
	const struct resumable resumable = {
	        .session = copy, .peer = session->peer, .authenticated = session->authenticated};

	if (session_cache_put(cache_of(session), &session->key, &resumable, now_of(session)))
		session->tickets_kept++;
}

int session_on_new_session(SSL *ssl, SSL_SESSION *new)
{
	struct tls_session *session = SSL_get_app_data(ssl);
	SSL_SESSION *copy;

	if (!cache_of(session) || session->failed)
		return 0;
	copy = SSL_SESSION_dup(new);
	if (!copy) {
		ERR_clear_error();
		return 0;
	}
	if (session->handshake_done) {
		keep(session, copy);
	} else { /* TLS 1.2: it is known at Finished, and worth nothing before all of the handshake is right */
		SSL_SESSION_free(session->unsettled);
		session->unsettled = copy;
	}
	return 0;
}

/* OpenSSL takes the verdict of the connection that the session comes from; it is judged as of now instead. */
static void take_resumed_peer(struct tls_session *session)
{
	int64_t valid_until;

	if (!session->offered.session) {
		session_fail(session, REASON_INTERNAL, "the backend resumed what was not offered");
		return;
	}
	if (!tls_context_judge_peer(session->context, session->offered.peer, &session->verified, &valid_until)) {
		session_fail(session, session->verified.reason, "%s", session->verified.detail);
		return;
	}
	tls_peer_unref(session->peer);
	session->peer = tls_peer_ref(session->offered.peer);
	session->authenticated = session->offered.authenticated;
}

void session_settle(struct tls_session *session)
{
	if (SSL_session_reused(session->ssl)) {
		take_resumed_peer(session);
		if (session->failed)
			return;
	} else {
		session->authenticated = now_of(session);
		/* A backend that does not know this one any more hardly knows the others of that time. */
		if (session->offered.session)
			session_cache_forget(cache_of(session), &session->key, session->offered.newest);
	}
	resumable_release(&session->offered);
	/* Without the extended master secret a man in the middle can make two sessions of one (RFC 7627 1). */
	if (session->unsettled && SSL_get_extms_support(session->ssl) == 1)
		keep(session, session->unsettled);
	else
		SSL_SESSION_free(session->unsettled);
	session->unsettled = NULL;
}

/*
 * An offer that ended in no connection may be why: the next attempt is a full one. And a session ends with a connection
 * that a fatal alert ended (RFC 5246 7.2, RFC 8446 6).
 */
static bool is_spoilt(const struct tls_session *session)
{
	return session->offered.session ||
	       (session->failed && (session->alerted || session->reason == REASON_DECRYPT_ERROR));
}

void session_end_resumption(struct tls_session *session)
{
	if (cache_of(session) && is_spoilt(session))
		session_cache_forget(cache_of(session), &session->key, UINT64_MAX);
	resumable_release(&session->offered);
	SSL_SESSION_free(session->unsettled);
	session->unsettled = NULL;
}
