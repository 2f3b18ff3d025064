/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * probe_peer.h: the built-in TLS peer that /readyz dials (path_probe.h): a throw-away certificate, and a server that
 * sends back what it gets, one connection at a time. Control thread; nothing here waits. A handshake costs it about a
 * millisecond.
 */
#ifndef POSTERN_CONTROL_PROBE_PEER_H
#define POSTERN_CONTROL_PROBE_PEER_H

#include <stddef.h>

#include <openssl/ssl.h>

#include "base/loop.h"

#define PROBE_PEER_NAME "postern-probe" /* in the certificate, and what is verified */

struct probe_peer {
	struct loop *loop;
	SSL_CTX *context;
	char *certificate_pem; /* self-signed: the CA of who dials */
	struct loop_source listener;
	struct loop_source connection;
	SSL *session; /* NULL: nobody is connected */
};

/* Makes key and certificate. 0 or -ENOMEM. */
int probe_peer_make(struct probe_peer *peer, struct loop *loop);
/* A listening socket, owned from now on. 0 or negative errno: it is the caller's still. */
int probe_peer_listen(struct probe_peer *peer, int fd);
/* The connection that there is ends with a reset. */
void probe_peer_hang_up(struct probe_peer *peer);
void probe_peer_free(struct probe_peer *peer); /* idempotent */

#endif
