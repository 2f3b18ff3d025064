// SPDX-License-Identifier: GPL-2.0-only
#include "tls/peer.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tls/session_private.h"
#include "tls/verification_cache.h"

static void digest_cleanup(EVP_MD_CTX **digest)
{
	EVP_MD_CTX_free(*digest);
}

static void der_cleanup(unsigned char **der)
{
	OPENSSL_free(*der);
}

static bool hash_certificate(EVP_MD_CTX *digest, X509 *certificate, size_t *size)
{
	_cleanup_(der_cleanup) unsigned char *der = NULL;
	int length = i2d_X509(certificate, &der);

	if (length <= 0)
		return false;
	*size += (size_t)length;
	return EVP_DigestUpdate(digest, der, (size_t)length);
}

bool peer_fingerprint(const EVP_MD *sha256, const STACK_OF(X509) * chain, uint8_t fingerprint[PEER_FINGERPRINT_SIZE],
                      size_t *size)
{
	_cleanup_(digest_cleanup) EVP_MD_CTX *digest = EVP_MD_CTX_new();

	*size = 0;
	if (!digest || sk_X509_num(chain) < 1 || !EVP_DigestInit_ex(digest, sha256, NULL))
		return false;
	for (int i = 0; i < sk_X509_num(chain); i++)
		if (!hash_certificate(digest, sk_X509_value(chain, i), size))
			return false;
	return EVP_DigestFinal_ex(digest, fingerprint, NULL);
}

struct tls_peer *peer_new(STACK_OF(X509) * chain, const uint8_t fingerprint[PEER_FINGERPRINT_SIZE], size_t size)
{
	struct tls_peer *new = calloc(1, sizeof(*new));

	if (!new)
		return NULL;
	atomic_init(&new->references, 1);
	memcpy(new->fingerprint, fingerprint, sizeof(new->fingerprint));
	new->size = size;
	new->chain = X509_chain_up_ref(chain);
	if (!new->chain) {
		free(new);
		return NULL;
	}
	return new;
}

struct tls_peer *tls_peer_ref(struct tls_peer *peer)
{
	atomic_fetch_add_explicit(&peer->references, 1, memory_order_relaxed);
	return peer;
}

void tls_peer_unref(struct tls_peer *peer)
{
	if (!peer || atomic_fetch_sub_explicit(&peer->references, 1, memory_order_acq_rel) != 1)
		return;
	sk_X509_pop_free(peer->chain, X509_free);
	free(peer);
}

bool tls_context_judge_peer(struct tls_context *context, struct tls_peer *peer, struct verify_result *result,
                            int64_t *valid_until)
{
	int64_t now = context->wall_clock();
	struct tls_peer *known = verification_cache_find(context->verifications, peer->fingerprint, now, result);
	bool accepted = known;

	if (!known && verify_chain(SSL_CTX_get_cert_store(context->ssl_ctx), sk_X509_value(peer->chain, 0), peer->chain,
	                           &context->identity, now, result)) {
		known = verification_cache_add(context->verifications, peer, result);
		accepted = true;
	}
	tls_peer_unref(known);
	*valid_until = result->valid_until;
	return accepted;
}

/* The peer that this chain makes, shared with every connection to which it was sent. NULL: no memory. */
static struct tls_peer *share_peer(struct tls_context *context, STACK_OF(X509) * chain,
                                   const uint8_t fingerprint[PEER_FINGERPRINT_SIZE], size_t size,
                                   const struct verify_result *result)
{
	struct tls_peer *new = peer_new(chain, fingerprint, size);
	struct tls_peer *shared = new ? verification_cache_add(context->verifications, new, result) : NULL;

	tls_peer_unref(new);
	return shared;
}

int peer_on_verify(X509_STORE_CTX *store_context, void *argument)
{
	struct tls_context *context = argument;
	SSL *ssl = X509_STORE_CTX_get_ex_data(store_context, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_session *session = SSL_get_app_data(ssl);
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store_context); /* all that was sent, the leaf first */
	uint8_t fingerprint[PEER_FINGERPRINT_SIZE];
	struct tls_peer *peer = NULL;
	int64_t now = context->wall_clock();
	size_t size;

	session->verified = (struct verify_result){.reason = REASON_NO_MEMORY};
	if (peer_fingerprint(context->sha256, chain, fingerprint, &size)) {
		peer = verification_cache_find(context->verifications, fingerprint, now, &session->verified);
		if (!peer) {
			if (!verify_store_context(store_context, &context->identity, now, &session->verified))
				return 0;
			peer = share_peer(context, chain, fingerprint, size, &session->verified);
		}
	}
	if (!peer) {
		session->verified.reason = REASON_NO_MEMORY;
		X509_STORE_CTX_set_error(store_context, X509_V_ERR_OUT_OF_MEM);
		return 0;
	}
	tls_peer_unref(session->peer);
	session->peer = peer;
	X509_STORE_CTX_set_error(store_context, X509_V_OK);
	return 1;
}
