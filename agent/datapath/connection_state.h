/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * connection_state.h: a live connection as bytes, between an agent and its successor. Pure.
 *
 * The form has a number of its own (CONNECTION_STATE_FORMAT): a change of any field is a new number, and another number
 * is refused, not guessed at; its connections are drained by the agent that has them. Every length is checked. What the
 * bytes say is checked, too: they come from a process of root's, but perhaps from a broken one.
 *
 * Ids of settings are of one process; so are enums of another version. What travels is the destination, by which the
 * successor looks up its own policy, and the chain that the peer showed, which it verifies by that policy.
 */
#ifndef POSTERN_DATAPATH_CONNECTION_STATE_H
#define POSTERN_DATAPATH_CONNECTION_STATE_H

#include "datapath/relay_state.h"
#include "postern/abi.h"
#include "tls/session.h"

#define CONNECTION_STATE_FORMAT 1
#define CONNECTION_STATE_MAX    ((size_t)4 << 20) /* two rests of the worker's buffer, and a chain */

struct connection_state {
	char gateway[384]; /* its name */
	struct postern_destination_key destination;
	uint16_t gateway_port;
	uint16_t b_port;
	uint32_t ring; /* that G's records go to */
	uint32_t lane_slot;
	uint64_t gateway_cookie;
	uint64_t begun_ns;
	uint64_t idle_ns;
	char policy[256];
	char sni[256];

	/* TLS: what the handshake agreed on. */
	enum tls_cipher cipher;
	char cipher_name[64];
	char alpn[16];
	char peer_identity[TLS_DETAIL_MAX];
	bool resumed;
	int64_t peer_not_after;
	int64_t peer_valid_until;
	bool shows_certificate;
	uint8_t certificate_digest[32];
	const uint8_t *chain; /* DER, the leaf first; borrowed */
	size_t chain_size;

	struct relay_state relay;
};

/* *bytes (OPENSSL_clear_free() it) holds the state. 0, -ENOMEM, or -E2BIG. */
int connection_state_encode(const struct connection_state *state, uint8_t **bytes, size_t *size);
/* The state borrows from the bytes, and may hold secrets: relay_state_wipe(). 0; -EPROTO: another format; -EBADMSG: it
 * cannot be what was encoded. */
int connection_state_decode(const uint8_t *bytes, size_t size, struct connection_state *state);

#endif
