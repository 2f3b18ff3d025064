/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tls_far_end.h: a real OpenSSL server at the other end of a socket, on memory BIOs, so that a test decides which of
 * its bytes leave, and when. No threads: far_end_step() does what can be done now. Failures of the test's own means
 * end the test (cmocka); what TLS makes of the client is for the caller to look at.
 */
#ifndef POSTERN_TESTS_TLS_FAR_END_H
#define POSTERN_TESTS_TLS_FAR_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>

#include "certificates.h"
#include "tls/keys.h"

struct far_end_options {
	SSL_CTX *ssl_ctx; /* of far_end_new_ssl_ctx(): one server for several connections; NULL: a server of its own */
	const struct certificate *leaf;
	const struct certificate *intermediate; /* sent too; NULL: none */
	int min_version;                        /* 0: TLS 1.2 */
	int max_version;                        /* 0: TLS 1.3 */
	const char *suites_1_2;                 /* NULL: OpenSSL's own list */
	const char *suites_1_3;
	const char *groups;
	const char *signature_algorithms;
	const char *alpn;             /* selected if it was offered; NULL: the extension is ignored */
	bool alpn_anyway;             /* selected even if it was not */
	bool no_tickets;              /* none, in either version */
	unsigned int tickets;         /* TLS 1.3; 0 with no_tickets false: OpenSSL's own number */
	bool want_client_certificate; /* any will do, none will not */
};

struct far_end {
	int fd; /* owned */
	SSL_CTX *ssl_ctx;
	SSL *ssl;
	BIO *in;
	BIO *out;
	bool accepted;                      /* its side of the handshake is done */
	bool failed;                        /* for good */
	int alert;                          /* the last alert that the client sent; -1: none */
	unsigned int client_hellos;         /* two: it answered the first with a HelloRetryRequest */
	char server_name[256];              /* the SNI it saw; "" if none */
	uint8_t secrets[2][TLS_SECRET_MAX]; /* TLS 1.3 application traffic secrets: client's, server's */
	size_t secret_length;
};

/* What the options say, but for ssl_ctx; SSL_CTX_free(). The options outlive it. */
SSL_CTX *far_end_new_ssl_ctx(const struct far_end_options *options);
struct far_end *far_end_new(const struct far_end_options *options, int fd);
void far_end_free(struct far_end *far_end); /* NULL-safe; closes the socket */

/* Bytes that the client sent into OpenSSL, without letting anything out. */
void far_end_pull(struct far_end *far_end);
/* At most `most` bytes of what OpenSSL wants to send go out. Returns how many went. */
size_t far_end_push(struct far_end *far_end, size_t most);
/* Pull, handshake or nothing, push everything. */
void far_end_step(struct far_end *far_end);
/* Bytes that OpenSSL wants to send and that have not been pushed. */
size_t far_end_pending(const struct far_end *far_end);

/* A connected pair of non-blocking stream sockets; tcp: over loopback, so that resets are possible. */
void far_end_sockets(int pair[2], bool tcp);

#endif
