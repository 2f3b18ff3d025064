// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/err.h>

#include "sockets.h"
#include "tls_far_end.h"

void far_end_sockets(int pair[2], bool tcp)
{
	if (tcp)
		tcp_pair(pair, 0);
	else
		stream_pair(pair);
}

static int select_alpn(SSL *ssl, const unsigned char **selected, unsigned char *length, const unsigned char *offered,
                       unsigned int offered_length, void *argument)
{
	const struct far_end_options *options = argument;

	(void)ssl;
	*selected = (const unsigned char *)options->alpn;
	*length = (unsigned char)strlen(options->alpn);
	if (options->alpn_anyway)
		return SSL_TLSEXT_ERR_OK;
	for (unsigned int i = 0; i < offered_length; i += 1 + offered[i])
		if (offered[i] == *length && memcmp(offered + i + 1, options->alpn, *length) == 0)
			return SSL_TLSEXT_ERR_OK;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int accept_any_client(int verified, X509_STORE_CTX *store_context)
{
	(void)verified;
	(void)store_context;
	return 1;
}

static void on_message(int written, int version, int content_type, const void *bytes, size_t length, SSL *ssl,
                       void *argument)
{
	struct far_end *far_end = argument;

	(void)version;
	(void)ssl;
	if (!written && content_type == SSL3_RT_ALERT && length == 2)
		far_end->alert = ((const uint8_t *)bytes)[1];
	if (!written && content_type == SSL3_RT_HANDSHAKE && length > 0 &&
	    ((const uint8_t *)bytes)[0] == SSL3_MT_CLIENT_HELLO)
		far_end->client_hellos++;
}

static void on_keylog(const SSL *ssl, const char *line)
{
	static const char *const labels[2] = {"CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 "};
	struct far_end *far_end = SSL_get_app_data(ssl);

	for (int i = 0; i < 2; i++) {
		const char *hex = strrchr(line, ' ');
		long length;
		unsigned char *secret;

		if (strncmp(line, labels[i], strlen(labels[i])) != 0)
			continue;
		secret = OPENSSL_hexstr2buf(hex + 1, &length);
		assert_non_null(secret);
		assert_in_range(length, 1, TLS_SECRET_MAX);
		memcpy(far_end->secrets[i], secret, (size_t)length);
		far_end->secret_length = (size_t)length;
		OPENSSL_free(secret);
	}
}

SSL_CTX *far_end_new_ssl_ctx(const struct far_end_options *options)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	assert_non_null(ctx);
	SSL_CTX_set_security_level(ctx, 0); /* tests also serve what the client must refuse */
	SSL_CTX_set_min_proto_version(ctx, options->min_version ? options->min_version : TLS1_2_VERSION);
	SSL_CTX_set_max_proto_version(ctx, options->max_version ? options->max_version : TLS1_3_VERSION);
	assert_int_equal(SSL_CTX_use_certificate(ctx, options->leaf->x509), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, options->leaf->key), 1);
	if (options->intermediate)
		assert_int_equal(SSL_CTX_add1_chain_cert(ctx, options->intermediate->x509), 1);
	if (options->suites_1_2)
		assert_int_equal(SSL_CTX_set_cipher_list(ctx, options->suites_1_2), 1);
	if (options->suites_1_3)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, options->suites_1_3), 1);
	if (options->groups)
		assert_int_equal(SSL_CTX_set1_groups_list(ctx, options->groups), 1);
	if (options->signature_algorithms)
		assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, options->signature_algorithms), 1);
	if (options->alpn)
		SSL_CTX_set_alpn_select_cb(ctx, select_alpn, (void *)options);
	/* The same for all far ends: a ticket of one is good at another, as with replicas of a backend. */
	static unsigned char ticket_keys[80];
	assert_int_equal(SSL_CTX_set_tlsext_ticket_keys(ctx, ticket_keys, sizeof(ticket_keys)), 1);
	if (options->no_tickets) {
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		SSL_CTX_set_num_tickets(ctx, 0);
	} else if (options->tickets > 0) {
		SSL_CTX_set_num_tickets(ctx, options->tickets);
	}
	assert_int_equal(SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"far end", 7), 1);
	if (options->want_client_certificate)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any_client);
	SSL_CTX_set_keylog_callback(ctx, on_keylog);
	return ctx;
}

struct far_end *far_end_new(const struct far_end_options *options, int fd)
{
	struct far_end *new = calloc(1, sizeof(*new));

	assert_non_null(new);
	new->fd = fd;
	new->alert = -1;
	new->ssl_ctx = options->ssl_ctx ? options->ssl_ctx : far_end_new_ssl_ctx(options);
	if (options->ssl_ctx)
		SSL_CTX_up_ref(options->ssl_ctx);
	new->ssl = SSL_new(new->ssl_ctx);
	new->in = BIO_new(BIO_s_mem());
	new->out = BIO_new(BIO_s_mem());
	assert_non_null(new->ssl);
	SSL_set_bio(new->ssl, new->in, new->out);
	SSL_set_app_data(new->ssl, new);
	SSL_set_msg_callback(new->ssl, on_message);
	SSL_set_msg_callback_arg(new->ssl, new);
	SSL_set_accept_state(new->ssl);
	return new;
}

void far_end_free(struct far_end *far_end)
{
	if (!far_end)
		return;
	SSL_free(far_end->ssl);
	SSL_CTX_free(far_end->ssl_ctx);
	if (far_end->fd >= 0)
		close(far_end->fd);
	free(far_end);
}

void far_end_pull(struct far_end *far_end)
{
	char buffer[16384];
	ssize_t n;

	while ((n = recv(far_end->fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
		assert_int_equal(BIO_write(far_end->in, buffer, (int)n), n);
	assert_true(n == 0 || errno == EAGAIN || errno == ECONNRESET);
}

size_t far_end_pending(const struct far_end *far_end)
{
	return BIO_ctrl_pending(far_end->out);
}

size_t far_end_push(struct far_end *far_end, size_t most)
{
	size_t pushed = 0;

	while (pushed < most && far_end_pending(far_end) > 0) {
		char buffer[16384];
		size_t take = most - pushed < sizeof(buffer) ? most - pushed : sizeof(buffer);
		int length = BIO_read(far_end->out, buffer, (int)take);
		ssize_t n = send(far_end->fd, buffer, (size_t)length, MSG_NOSIGNAL);

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return pushed;
		assert_int_equal(n, length); /* tests keep below the socket's buffer */
		pushed += (size_t)length;
	}
	return pushed;
}

void far_end_step(struct far_end *far_end)
{
	far_end_pull(far_end);
	if (!far_end->accepted && !far_end->failed) {
		int r;

		ERR_clear_error();
		r = SSL_accept(far_end->ssl);
		far_end->accepted = r == 1;
		far_end->failed = r != 1 && SSL_get_error(far_end->ssl, r) != SSL_ERROR_WANT_READ;
		if (SSL_get_servername(far_end->ssl, TLSEXT_NAMETYPE_host_name))
			snprintf(far_end->server_name, sizeof(far_end->server_name), "%s",
			         SSL_get_servername(far_end->ssl, TLSEXT_NAMETYPE_host_name));
		ERR_clear_error();
	} else if (far_end->accepted) {
		SSL_peek(far_end->ssl, (char[1]){0}, 1); /* alerts are read on the way */
		ERR_clear_error();
	}
	far_end_push(far_end, SIZE_MAX);
}
