/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/probe_peer.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"

#define ECHO_MAX 64

static void cleanup_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void cleanup_certificate(X509 **certificate)
{
	X509_free(*certificate);
}

static void cleanup_bio(BIO **bio)
{
	BIO_free(*bio);
}

/* ---- the certificate ---- */

static bool add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool added = extension && X509_add_ext(certificate, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return added;
}

/* No clock may make it invalid: it is younger than this process, and known to nobody else. */
static X509 *make_certificate(EVP_PKEY *key)
{
	_cleanup_(cleanup_certificate) X509 *certificate = X509_new();
	X509_NAME *name = certificate ? X509_get_subject_name(certificate) : NULL;

	if (!name || X509_set_version(certificate, X509_VERSION_3) != 1 ||
	    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) != 1 ||
	    ASN1_TIME_set_string(X509_getm_notBefore(certificate), "20000101000000Z") != 1 ||
	    ASN1_TIME_set_string(X509_getm_notAfter(certificate), "99991231235959Z") != 1 ||
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)PROBE_PEER_NAME, -1, -1, 0) !=
	            1 ||
	    X509_set_issuer_name(certificate, name) != 1 || X509_set_pubkey(certificate, key) != 1 ||
	    !add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") ||
	    !add_extension(certificate, NID_key_usage, "critical,digitalSignature,keyCertSign") ||
	    !add_extension(certificate, NID_subject_alt_name, "DNS:" PROBE_PEER_NAME) ||
	    X509_sign(certificate, key, EVP_sha256()) == 0)
		return NULL;
	return TAKE_PTR(certificate);
}

static char *to_pem(X509 *certificate)
{
	_cleanup_(cleanup_bio) BIO *bio = BIO_new(BIO_s_mem());
	char *bytes = NULL;
	long size;

	if (!bio || PEM_write_bio_X509(bio, certificate) != 1)
		return NULL;
	size = BIO_get_mem_data(bio, &bytes);
	return size > 0 ? strndup(bytes, (size_t)size) : NULL;
}

int probe_peer_make(struct probe_peer *peer, struct loop *loop)
{
	_cleanup_(cleanup_key) EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(cleanup_certificate) X509 *certificate = key ? make_certificate(key) : NULL;

	*peer = (struct probe_peer){.loop = loop};
	if (certificate) {
		peer->certificate_pem = to_pem(certificate);
		peer->context = SSL_CTX_new(TLS_server_method());
	}
	if (!peer->certificate_pem || !peer->context || SSL_CTX_use_certificate(peer->context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey(peer->context, key) != 1) {
		ERR_clear_error();
		probe_peer_free(peer);
		return -ENOMEM;
	}
	/* Who dials resumes nothing. */
	(void)SSL_CTX_set_num_tickets(peer->context, 0);
	SSL_CTX_set_session_cache_mode(peer->context, SSL_SESS_CACHE_OFF);
	return 0;
}

/* ---- the server ---- */

void probe_peer_hang_up(struct probe_peer *peer)
{
	if (!peer->session)
		return;
	loop_remove(peer->loop, &peer->connection);
	close(peer->connection.fd);
	SSL_free(peer->session);
	peer->session = NULL;
}

/* What OpenSSL waits for. False: the session is over. */
static bool waits(struct probe_peer *peer, int result)
{
	int error = SSL_get_error(peer->session, result);
	uint32_t events = error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN;

	ERR_clear_error();
	return (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) &&
	       loop_set_events(peer->loop, &peer->connection, events) == 0;
}

/* Sends back what came, until there is no more. False: the session is over. */
static bool echo(struct probe_peer *peer)
{
	char bytes[ECHO_MAX];
	int size;

	if (!SSL_is_init_finished(peer->session)) {
		int result = SSL_accept(peer->session);

		if (result != 1)
			return waits(peer, result);
	}
	while ((size = SSL_read(peer->session, bytes, sizeof(bytes))) > 0) {
		/* A few bytes on an idle connection: they have room, or something is wrong. */
		if (SSL_write(peer->session, bytes, size) != size)
			return false;
	}
	if (SSL_get_shutdown(peer->session) & SSL_RECEIVED_SHUTDOWN) {
		(void)SSL_shutdown(peer->session);
		return false;
	}
	return waits(peer, size);
}

static void on_connection(struct loop_source *source, uint32_t events)
{
	struct probe_peer *peer = container_of(source, struct probe_peer, connection);

	(void)events;
	if (!echo(peer))
		probe_peer_hang_up(peer);
}

static void on_listener(struct loop_source *source, uint32_t events)
{
	struct probe_peer *peer = container_of(source, struct probe_peer, listener);
	int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd == -1)
		return;
	/* The one before is over, however it ended. */
	probe_peer_hang_up(peer);
	peer->session = SSL_new(peer->context);
	peer->connection.on_event = on_connection;
	if (!peer->session || SSL_set_fd(peer->session, fd) != 1 ||
	    loop_add(peer->loop, &peer->connection, fd, EPOLLIN) != 0) {
		ERR_clear_error();
		SSL_free(peer->session);
		peer->session = NULL;
		close(fd);
	}
}

int probe_peer_listen(struct probe_peer *peer, int fd)
{
	peer->listener.on_event = on_listener;
	return loop_add(peer->loop, &peer->listener, fd, EPOLLIN);
}

void probe_peer_free(struct probe_peer *peer)
{
	probe_peer_hang_up(peer);
	if (peer->listener.registered) {
		loop_remove(peer->loop, &peer->listener);
		close(peer->listener.fd);
	}
	SSL_CTX_free(peer->context);
	free(peer->certificate_pem);
	*peer = (struct probe_peer){0};
}
