/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tls_client.h: postern's own TLS client set against a far end, as several tests need it.
 */
#ifndef POSTERN_TESTS_TLS_CLIENT_H
#define POSTERN_TESTS_TLS_CLIENT_H

#include "policy/snapshot.h"
#include "tls/context.h"
#include "tls/session.h"
#include "tls_far_end.h"

struct tls_client {
	struct tls_context *context;
	struct tls_session *session;
	int fd;
};

/* Settings with TLS 1.2 and 1.3, hostname "backend.example", no ALPN, and the PEM (not copied). */
struct tls_settings client_settings(char *ca_pem);

/* A session over fd, which is owned from now on. The settings must be good. */
void client_start(struct tls_client *client, const struct tls_settings *settings, int fd);
void client_end(struct tls_client *client);

/*
 * Handshake and far_end_step() in turn until the client is done or has failed; then once more, so that the far end
 * has seen everything. A hang fails the test.
 */
enum tls_step client_handshake(struct tls_client *client, struct far_end *far_end);

#endif
