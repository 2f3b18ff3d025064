// SPDX-License-Identifier: GPL-2.0-only
#include "tls/context.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "policy/client_certificate.h"
#include "tls/context_private.h"
#include "tls/peer_private.h"
#include "tls/provider.h"
#include "tls/session_cache.h"
#include "tls/session_private.h"
#include "tls/settings_refusal.h"
#include "tls/verification_cache.h"
#include "tls/trust_store.h"

/* ECDHE and AEAD only: forward secrecy, and nothing that the kernel could not take over. */
#define SUITES_1_2                                                                                                     \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                                   \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                                   \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define SUITES_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
/* Set, not left to the library: OpenSSL 3.5's default adds an ML-KEM key share of 1.2 KB and 70 us to each hello. */
#define GROUPS "X25519:P-256:P-384"
/* What a handshake can be signed with at this security level, the usual first; no SHA-224, no DSA. */
#define SIGNATURE_ALGORITHMS                                                                                           \
	"ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256:rsa_pkcs1_sha256:"                                                 \
	"ecdsa_secp384r1_sha384:rsa_pss_rsae_sha384:rsa_pkcs1_sha384:"                                                 \
	"ecdsa_secp521r1_sha512:rsa_pss_rsae_sha512:rsa_pkcs1_sha512:"                                                 \
	"ed25519:ed448:rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512"

static void context_cleanup(struct tls_context **context)
{
	tls_context_unref(*context);
}

int tls_global_init(void)
{
	const struct rlimit no_core = {0, 0};

	if (unsetenv("SSLKEYLOGFILE") == -1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    setrlimit(RLIMIT_CORE, &no_core) == -1)
		return -errno;
	/* NO_ATEXIT: workers may still be in OpenSSL while the process ends. */
	if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL))
		return -ENOMEM;
	return 0;
}

static int configure_trust(struct tls_context *context, const struct tls_settings *settings, struct trust_cache *cache,
                           char *error, size_t error_size)
{
	int r = trust_store_new(settings, cache, &context->trust, error, error_size);

	if (r == 0)
		SSL_CTX_set1_cert_store(context->ssl_ctx, context->trust->x509);
	return r;
}

/* NULL, or an option's own list. */
static const char *either(const char *given, const char *otherwise)
{
	return given ? given : otherwise;
}

static int configure_lists(SSL_CTX *ssl_ctx, const struct tls_settings *settings, char *error, size_t error_size)
{
	const char *what = NULL;

	if (!SSL_CTX_set_cipher_list(ssl_ctx, either(settings->ciphers, SUITES_1_2)))
		what = "ciphers";
	else if (!SSL_CTX_set_ciphersuites(ssl_ctx, either(settings->cipher_suites, SUITES_1_3)))
		what = "cipher suites";
	else if (!SSL_CTX_set1_groups_list(ssl_ctx, either(settings->groups, GROUPS)))
		what = "groups";
	else if (!SSL_CTX_set1_sigalgs_list(ssl_ctx, either(settings->signature_algorithms, SIGNATURE_ALGORITHMS)))
		what = "signature algorithms";
	return what ? settings_refuse(error, error_size, "%s: %s", what, openssl_reason()) : 0;
}

static int configure_protocol(SSL_CTX *ssl_ctx, const struct tls_settings *settings, char *error, size_t error_size)
{
	/* Before anything that the level filters. Debian's openssl.cnf is not read, so nobody else sets it. */
	SSL_CTX_set_security_level(ssl_ctx, VERIFY_SECURITY_LEVEL);
	if (settings->min_version < TLS1_2_VERSION || settings->max_version > TLS1_3_VERSION ||
	    settings->min_version > settings->max_version ||
	    !SSL_CTX_set_min_proto_version(ssl_ctx, settings->min_version) ||
	    !SSL_CTX_set_max_proto_version(ssl_ctx, settings->max_version))
		return settings_refuse(error, error_size, "TLS versions 0x%04x to 0x%04x cannot be had",
		                       (unsigned int)settings->min_version, (unsigned int)settings->max_version);
	if (configure_lists(ssl_ctx, settings, error, error_size) < 0)
		return -EINVAL;
	/*
	 * A backend that ends without close_notify has truncated. Post-handshake authentication, early data and a PSK
	 * without (EC)DHE are off unless asked for.
	 */
	SSL_CTX_clear_options(ssl_ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_LEGACY_SERVER_CONNECT);
	SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	/* The relay's buffer is not where it was at the next try, and a full socket takes what it can. */
	SSL_CTX_set_mode(ssl_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ssl_ctx, 0);
	return 0;
}

static int configure_alpn(struct tls_context *context, enum alpn_protocol alpn)
{
	unsigned char list[16];
	size_t length;

	switch (alpn) {
	case ALPN_NONE:
		return 0;
	case ALPN_HTTP_1_1:
		context->alpn = "http/1.1";
		break;
	case ALPN_H2:
		context->alpn = "h2";
		context->alpn_required = true;
		break;
	default:
		return -EINVAL;
	}
	length = strlen(context->alpn);
	list[0] = (unsigned char)length;
	memcpy(list + 1, context->alpn, length);
	return SSL_CTX_set_alpn_protos(context->ssl_ctx, list, (unsigned int)length + 1) == 0 ? 0 : -ENOMEM;
}

/* The settings belong to a snapshot that may go before the last session does. */
static int copy_identity(struct tls_context *context, const struct tls_settings *settings)
{
	size_t count = settings->subject_alt_name_count;

	context->hostname = strdup(settings->hostname);
	context->subject_alt_names = calloc(count + 1, sizeof(*context->subject_alt_names));
	context->pins = calloc(settings->pin_count + 1, sizeof(*context->pins));
	if (!context->hostname || !context->subject_alt_names || !context->pins)
		return -ENOMEM;
	if (settings->pin_count > 0)
		memcpy(context->pins, settings->pins, settings->pin_count * sizeof(*context->pins));
	context->identity = (struct verify_identity){
	        .hostname = context->hostname,
	        .names = context->subject_alt_names,
	        .pins = context->pins,
	        .pin_count = settings->pin_count,
	};
	for (size_t i = 0; i < count; i++) {
		context->subject_alt_names[i].type = settings->subject_alt_names[i].type;
		context->subject_alt_names[i].value = strdup(settings->subject_alt_names[i].value);
		if (!context->subject_alt_names[i].value)
			return -ENOMEM;
		context->identity.name_count++;
	}
	return 0;
}

int context_use_client_certificate(SSL *ssl, const struct client_certificate *certificate)
{
	if (SSL_use_cert_and_key(ssl, certificate->leaf, certificate->key, certificate->chain, 1))
		return 0;
	ERR_clear_error();
	return -EINVAL;
}

static int configure_client_certificate(struct tls_context *context, const struct client_certificate *certificate,
                                        char *error, size_t error_size)
{
	if (!certificate)
		return 0;
	if (!SSL_CTX_use_cert_and_key(context->ssl_ctx, certificate->leaf, certificate->key, certificate->chain, 1))
		return settings_refuse(error, error_size, "client certificate: %s", openssl_reason());
	context->shows_client_certificate = true;
	return 0;
}

static int64_t wall_clock(void)
{
	return time(NULL);
}

static int configure_caches(struct tls_context *context, bool resumption)
{
	context->wall_clock = wall_clock;
	context->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	context->verifications = verification_cache_new();
	if (!context->sha256 || !context->verifications)
		return -ENOMEM;
	SSL_CTX_set_cert_verify_callback(context->ssl_ctx, peer_on_verify, context);
	SSL_CTX_set_session_cache_mode(context->ssl_ctx, SSL_SESS_CACHE_OFF);
	if (!resumption)
		return 0;
	context->sessions = session_cache_new();
	if (!context->sessions)
		return -ENOMEM;
	/* OpenSSL's own cache knows no owners: it tells of new sessions, and keeps none. */
	SSL_CTX_set_session_cache_mode(context->ssl_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context->ssl_ctx, session_on_new_session);
	return 0;
}

int tls_context_new(const struct tls_settings *settings, struct tls_context **context, char *error, size_t error_size)
{
	return tls_context_new_sharing(settings, NULL, context, error, error_size);
}

int tls_context_new_sharing(const struct tls_settings *settings, struct trust_cache *cache,
                            struct tls_context **context, char *error, size_t error_size)
{
	_cleanup_(context_cleanup) struct tls_context *new = calloc(1, sizeof(*new));
	int r;

	if (!new)
		return -ENOMEM;
	atomic_init(&new->references, 1);
	if (!settings->hostname || settings->hostname[0] == '\0' ||
	    strlen(settings->hostname) > TLSEXT_MAXLEN_host_name)
		return settings_refuse(error, error_size, "hostname: empty, or longer than %d bytes",
		                       TLSEXT_MAXLEN_host_name);
	new->ssl_ctx = SSL_CTX_new_ex(provider_library_context(), NULL, TLS_client_method());
	if (!new->ssl_ctx)
		return -ENOMEM;
	r = copy_identity(new, settings);
	if (r == 0)
		r = configure_protocol(new->ssl_ctx, settings, error, error_size);
	if (r == 0)
		r = configure_trust(new, settings, cache, error, error_size);
	if (r == 0)
		r = configure_client_certificate(new, settings->client_certificate, error, error_size);
	if (r == 0)
		r = configure_alpn(new, settings->alpn);
	if (r == 0)
		r = configure_caches(new, settings->resumption);
	if (r < 0)
		return r;
	SSL_CTX_set_verify(new->ssl_ctx, SSL_VERIFY_PEER, NULL);
	/* TLS 1.2 tells its master secret otherwise, and the library context of our own all. */
	if (settings->max_version >= TLS1_3_VERSION && !provider_library_context())
		SSL_CTX_set_keylog_callback(new->ssl_ctx, session_on_keylog);
	SSL_CTX_set_msg_callback(new->ssl_ctx, session_on_message);
	*context = TAKE_PTR(new);
	return 0;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
	atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
	return context;
}

void tls_context_unref(struct tls_context *context)
{
	if (!context || atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) != 1)
		return;
	SSL_CTX_free(context->ssl_ctx);
	trust_store_unref(context->trust);
	session_cache_free(context->sessions);
	verification_cache_free(context->verifications);
	EVP_MD_free(context->sha256);
	for (size_t i = 0; i < context->identity.name_count; i++)
		free(context->subject_alt_names[i].value);
	free(context->subject_alt_names);
	free(context->pins);
	free(context->hostname);
	free(context);
}
