/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * peer_bytes.h: a verified peer as bytes (the certificates' DER, one after the other, the leaf first), for a connection
 * that another agent goes on with. What comes back is not verified: the caller judges it (peer.h). Any thread.
 */
#ifndef POSTERN_TLS_PEER_BYTES_H
#define POSTERN_TLS_PEER_BYTES_H

#include <stddef.h>
#include <stdint.h>

struct tls_peer;

#define PEER_BYTES_MAX ((size_t)256 << 10)

/* *bytes is OPENSSL_free()d by the caller. 0, -ENOMEM, or -E2BIG. */
int tls_peer_encode(const struct tls_peer *peer, uint8_t **bytes, size_t *size);
/* One reference. 0; -EBADMSG: no certificates and nothing else; -ENOMEM. */
int tls_peer_decode(const uint8_t *bytes, size_t size, struct tls_peer **peer);

#endif
