// SPDX-License-Identifier: GPL-2.0-only
#include "tls/context.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "tls/context_private.h"
#include "tls/session_private.h"

/* ECDHE and AEAD only: forward secrecy, and nothing that the kernel could not take over. */
#define SUITES_1_2                                                                                                     \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                                   \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                                   \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define SUITES_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
/* Set, not left to the library: OpenSSL 3.5's default adds an ML-KEM key share of 1.2 KB and 70 us to each hello. */
#define GROUPS "X25519:P-256:P-384"

static void bio_cleanup(BIO **bio)
{
	BIO_free(*bio);
}

static void x509_cleanup(X509 **certificate)
{
	X509_free(*certificate);
}

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

__attribute__((format(printf, 3, 4))) static int invalid(char *error, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, size, format, arguments);
	va_end(arguments);
	ERR_clear_error();
	return -EINVAL;
}

static const char *openssl_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "unknown error";
}

/* Every CERTIFICATE block of the PEM becomes a trust anchor; other blocks are skipped, as OpenSSL's readers do. */
static int add_trust_anchors(X509_STORE *store, const char *pem, char *error, size_t error_size)
{
	_cleanup_(bio_cleanup) BIO *bio = BIO_new_mem_buf(pem, -1);
	unsigned int count = 0;

	if (!bio)
		return -ENOMEM;
	ERR_clear_error();
	for (;;) {
		_cleanup_(x509_cleanup) X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);

		if (!certificate)
			break;
		if (!X509_STORE_add_cert(store, certificate))
			return invalid(error, error_size, "CA certificate %u: %s", count + 1, openssl_reason());
		count++;
	}
	if (ERR_GET_LIB(ERR_peek_last_error()) != ERR_LIB_PEM ||
	    ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return invalid(error, error_size, "CA certificate %u: %s", count + 1, openssl_reason());
	ERR_clear_error();
	if (count == 0)
		return invalid(error, error_size, "no CA certificate in the PEM");
	return 0;
}

static int configure_trust(SSL_CTX *ssl_ctx, const struct tls_settings *settings, char *error, size_t error_size)
{
	if (!settings->ca_pem && !settings->system_ca)
		return invalid(error, error_size, "no CA: neither certificates nor the system's");
	if (settings->system_ca && !SSL_CTX_set_default_verify_paths(ssl_ctx))
		return invalid(error, error_size, "the system's CA certificates: %s", openssl_reason());
	if (!settings->ca_pem)
		return 0;
	return add_trust_anchors(SSL_CTX_get_cert_store(ssl_ctx), settings->ca_pem, error, error_size);
}

static int configure_protocol(SSL_CTX *ssl_ctx, const struct tls_settings *settings, char *error, size_t error_size)
{
	/* Before anything that the level filters. Debian's openssl.cnf is not read, so nobody else sets it. */
	SSL_CTX_set_security_level(ssl_ctx, VERIFY_SECURITY_LEVEL);
	if (settings->min_version < TLS1_2_VERSION || settings->max_version > TLS1_3_VERSION ||
	    settings->min_version > settings->max_version ||
	    !SSL_CTX_set_min_proto_version(ssl_ctx, settings->min_version) ||
	    !SSL_CTX_set_max_proto_version(ssl_ctx, settings->max_version))
		return invalid(error, error_size, "TLS versions 0x%04x to 0x%04x cannot be had",
		               (unsigned int)settings->min_version, (unsigned int)settings->max_version);
	if (!SSL_CTX_set_cipher_list(ssl_ctx, SUITES_1_2) || !SSL_CTX_set_ciphersuites(ssl_ctx, SUITES_1_3) ||
	    !SSL_CTX_set1_groups_list(ssl_ctx, GROUPS))
		return invalid(error, error_size, "cipher suites and groups: %s", openssl_reason());
	/*
	 * A backend that ends without close_notify has truncated. Post-handshake authentication and early data are
	 * off unless asked for. Tickets are read and forgotten: there is no session cache yet.
	 */
	SSL_CTX_clear_options(ssl_ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_LEGACY_SERVER_CONNECT);
	SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);
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
	context->subject_alt_names = calloc(count > 0 ? count : 1, sizeof(*context->subject_alt_names));
	if (!context->hostname || !context->subject_alt_names)
		return -ENOMEM;
	context->identity = (struct verify_identity){context->hostname, context->subject_alt_names, 0};
	for (size_t i = 0; i < count; i++) {
		context->subject_alt_names[i].type = settings->subject_alt_names[i].type;
		context->subject_alt_names[i].value = strdup(settings->subject_alt_names[i].value);
		if (!context->subject_alt_names[i].value)
			return -ENOMEM;
		context->identity.name_count++;
	}
	return 0;
}

static int on_verify(X509_STORE_CTX *store_context, void *argument)
{
	const struct tls_context *context = argument;
	SSL *ssl = X509_STORE_CTX_get_ex_data(store_context, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_session *session = SSL_get_app_data(ssl);

	return verify_store_context(store_context, &context->identity, &session->verified);
}

int tls_context_new(const struct tls_settings *settings, struct tls_context **context, char *error, size_t error_size)
{
	_cleanup_(context_cleanup) struct tls_context *new = calloc(1, sizeof(*new));
	int r;

	if (!new)
		return -ENOMEM;
	atomic_init(&new->references, 1);
	if (!settings->hostname || settings->hostname[0] == '\0' ||
	    strlen(settings->hostname) > TLSEXT_MAXLEN_host_name)
		return invalid(error, error_size, "hostname: empty, or longer than %d bytes", TLSEXT_MAXLEN_host_name);
	new->ssl_ctx = SSL_CTX_new(TLS_client_method());
	if (!new->ssl_ctx)
		return -ENOMEM;
	r = copy_identity(new, settings);
	if (r == 0)
		r = configure_protocol(new->ssl_ctx, settings, error, error_size);
	if (r == 0)
		r = configure_trust(new->ssl_ctx, settings, error, error_size);
	if (r == 0)
		r = configure_alpn(new, settings->alpn);
	if (r < 0)
		return r;
	SSL_CTX_set_verify(new->ssl_ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(new->ssl_ctx, on_verify, new);
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
	for (size_t i = 0; i < context->identity.name_count; i++)
		free(context->subject_alt_names[i].value);
	free(context->subject_alt_names);
	free(context->hostname);
	free(context);
}
