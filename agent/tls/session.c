// SPDX-License-Identifier: GPL-2.0-only
#include "tls/session.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/objects.h>

#include "base/cleanup.h"
#include "tls/context.h"
#include "tls/peer.h"
#include "tls/provider.h"
#include "tls/session_private.h"

/* Not the agent's: the heap that is trimmed by them (control/heap_trim.h) is the process's, too. */
static _Atomic uint64_t begun, freed;

static void session_cleanup(struct tls_session **session)
{
	tls_session_free(*session);
}

int tls_session_new(struct tls_context *context, int b_fd, const struct tls_session_owner *owner,
                    struct tls_session **session)
{
	_cleanup_(session_cleanup) struct tls_session *new = calloc(1, sizeof(*new));
	BIO *bio;

	if (!new)
		return -ENOMEM;
	atomic_fetch_add_explicit(&begun, 1, memory_order_relaxed);
	new->context = tls_context_ref(context);
	new->fd = b_fd;
	new->last_message = NO_HANDSHAKE_MESSAGE;
	new->ssl = SSL_new(context->ssl_ctx);
	bio = new->ssl ? session_new_bio(new) : NULL;
	if (!bio)
		return -ENOMEM;
	SSL_set_bio(new->ssl, bio, bio);
	if (!SSL_set_app_data(new->ssl, new) || !SSL_set_tlsext_host_name(new->ssl, context->hostname))
		return -ENOMEM;
	/* The policy's own goes before the Gateway's. client_certificate_new() took only what OpenSSL takes here. */
	if (owner && owner->client_certificate && !context->shows_client_certificate &&
	    context_use_client_certificate(new->ssl, owner->client_certificate) < 0)
		return -ENOMEM;
	SSL_set_connect_state(new->ssl);
	session_offer(new, owner);
	*session = TAKE_PTR(new);
	return 0;
}

void tls_session_free(struct tls_session *session)
{
	if (!session)
		return;
	if (session->ssl) {
		session_end_resumption(session);
		/* Or OpenSSL would mark the session as bad, and lock the context that all workers share for it. */
		SSL_set_shutdown(session->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(session->ssl);
	}
	tls_peer_unref(session->peer);
	tls_context_unref(session->context);
	OPENSSL_cleanse(session, sizeof(*session));
	free(session);
	atomic_fetch_add_explicit(&freed, 1, memory_order_release);
}

void tls_session_count(struct tls_session_counts *counts)
{
	/* In this order: one that is begun and freed in between is seen as begun only. */
	counts->freed = atomic_load_explicit(&freed, memory_order_acquire);
	counts->begun = atomic_load_explicit(&begun, memory_order_relaxed);
}

static enum tls_cipher kernel_cipher(const SSL_CIPHER *cipher)
{
	switch (SSL_CIPHER_get_cipher_nid(cipher)) {
	case NID_aes_128_gcm:
		return TLS_CIPHER_AES_128;
	case NID_aes_256_gcm:
		return TLS_CIPHER_AES_256;
	case NID_chacha20_poly1305:
		return TLS_CIPHER_CHACHA20;
	default:
		return TLS_CIPHER_OTHER;
	}
}

static void keep_info(struct tls_session *session)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(session->ssl);
	struct tls_session_info *info = &session->info;

	info->version = SSL_version(session->ssl) == TLS1_3_VERSION ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
	info->cipher = kernel_cipher(cipher);
	info->cipher_name = SSL_CIPHER_get_name(cipher);
	info->resumed = SSL_session_reused(session->ssl);
	info->peer_not_after = session->verified.not_after;
	info->peer_valid_until = session->verified.valid_until;
	memcpy(info->peer_identity, session->verified.identity, sizeof(info->peer_identity));
}

/* The handshake took one of the context's own strings, so that the name outlives the SSL object. */
static void check_alpn(struct tls_session *session)
{
	const char *offered = session->context->alpn;
	const unsigned char *selected;
	unsigned int length;

	SSL_get0_alpn_selected(session->ssl, &selected, &length);
	session->info.alpn = "";
	if (length == 0) {
		if (session->context->alpn_required)
			session_fail(session, REASON_ALPN_MISMATCH, "offered %s, nothing was selected", offered);
		return;
	}
	if (!offered || length != strlen(offered) || memcmp(selected, offered, length) != 0) {
		session_fail(session, REASON_ALPN_MISMATCH, "offered %s, something else was selected",
		             offered ? offered : "nothing");
		return;
	}
	session->info.alpn = offered;
}

enum tls_step tls_session_handshake(struct tls_session *session)
{
	struct record_window window;
	int r;

	if (session->failed)
		return TLS_STEP_FAILED;
	if (session->handshake_done)
		return TLS_STEP_DONE;
	ERR_clear_error();
	session_begin_turn(session);
	session_open_window(session, &window);
	provider_keep_secrets(&session->secrets);
	r = SSL_do_handshake(session->ssl);
	provider_keep_secrets(NULL);
	if (!session_close_window(session)) {
		session_fail_by_openssl(session);
		return TLS_STEP_FAILED;
	}
	if (r != 1) {
		switch (SSL_get_error(session->ssl, r)) {
		case SSL_ERROR_WANT_READ:
			return TLS_STEP_WANT_READ;
		case SSL_ERROR_WANT_WRITE:
			return TLS_STEP_WANT_WRITE;
		default:
			session_fail_by_openssl(session);
			return TLS_STEP_FAILED;
		}
	}
	check_alpn(session);
	if (!session->failed)
		session_settle(session);
	if (session->failed)
		return TLS_STEP_FAILED;
	keep_info(session);
	session->handshake_done = true;
	return TLS_STEP_DONE;
}

struct tls_peer *tls_session_peer(const struct tls_session *session)
{
	return tls_peer_ref(session->peer);
}

unsigned int tls_session_tickets_kept(const struct tls_session *session)
{
	return session->tickets_kept;
}

enum postern_reason tls_session_reason(const struct tls_session *session)
{
	return session->reason;
}

const char *tls_session_detail(const struct tls_session *session)
{
	return session->detail;
}

void tls_session_info(const struct tls_session *session, struct tls_session_info *info)
{
	*info = session->info;
}

ssize_t tls_session_read(struct tls_session *session, void *buffer, size_t size)
{
	struct record_window window;
	size_t n = 0;
	int r;

	if (session->failed)
		return -ECONNRESET;
	if (!session->handshake_done || session->receive_armed)
		return -EINVAL;
	session->last_message = NO_HANDSHAKE_MESSAGE;
	ERR_clear_error();
	session_begin_turn(session);
	/* Until the kernel has the keys: tickets, and the first data behind them. In user-space mode records are large.
	 */
	if (session->transmit_armed)
		session_open_window(session, &window);
	r = SSL_read_ex(session->ssl, buffer, size, &n);
	if (!session_close_window(session)) {
		session_fail_by_openssl(session);
		return -ECONNRESET;
	}
	/* It may read on after an answer that it could not send (TLS 1.2 no_renegotiation). */
	if (session->sink_hit) {
		session_fail_by_openssl(session);
		return -ECONNRESET;
	}
	if (session->failed)
		return -ECONNRESET;
	if (r == 1)
		return (ssize_t)n;
	switch (SSL_get_error(session->ssl, r)) {
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	default:
		session_fail_by_openssl(session);
		return -ECONNRESET;
	}
}

ssize_t tls_session_write(struct tls_session *session, const void *buffer, size_t size)
{
	size_t n = 0;
	int r;

	if (session->failed)
		return -ECONNRESET;
	if (!session->handshake_done || session->transmit_armed)
		return -EINVAL;
	if (size == 0)
		return 0;
	/* User space it is, then: an idle connection keeps no buffers. */
	SSL_set_mode(session->ssl, SSL_MODE_RELEASE_BUFFERS);
	ERR_clear_error();
	r = SSL_write_ex(session->ssl, buffer, size, &n);
	if (r == 1)
		return (ssize_t)n;
	switch (SSL_get_error(session->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	default:
		session_fail_by_openssl(session);
		return -ECONNRESET;
	}
}

int tls_session_shutdown(struct tls_session *session)
{
	int r;

	if (session->failed)
		return -ECONNRESET;
	if (!session->handshake_done || session->transmit_armed)
		return -EINVAL;
	ERR_clear_error();
	r = SSL_shutdown(session->ssl);
	if (r >= 0)
		return 0;
	switch (SSL_get_error(session->ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	default:
		session_fail_by_openssl(session);
		return -ECONNRESET;
	}
}
