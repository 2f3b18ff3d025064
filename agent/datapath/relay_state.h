/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * relay_state.h: a live relay as data, for the way to another agent: what is not in the kernel's two sockets. The
 * lane's slot and the descriptors travel beside it. Worker thread.
 *
 * Only a relay whose bytes and keys are all in the kernel can go (PLAIN, or kernel TLS both ways); OpenSSL's state
 * cannot. What the next agent may do with the connection (splice, padding, looking behind KeyUpdate) is a matter of its
 * own proof and switches, and is not carried. The secrets of TLS 1.3 are: its holder calls relay_state_wipe().
 */
#ifndef POSTERN_DATAPATH_RELAY_STATE_H
#define POSTERN_DATAPATH_RELAY_STATE_H

#include "datapath/relay.h"
#include "datapath/relay_internal.h"

struct relay_direction_state {
	uint64_t bytes;
	uint64_t key_blocks;
	uint64_t moved_ns;   /* CLOCK_MONOTONIC is the machine's: it means the same to another process */
	const uint8_t *rest; /* read, and not written yet: borrowed */
	size_t rest_size;
};

struct relay_state {
	bool kernel_tls; /* false: PLAIN */
	enum tls_version version;
	bool limits_key;
	bool first_read;
	bool gateway_ended;
	bool room_made;
	bool lane;          /* A is in the lane */
	bool update_wanted; /* the backend was asked for a KeyUpdate, and none has come yet */
	enum transmit_state transmit;
	enum receive_state receive;
	struct relay_handshake_reader handshake;
	unsigned int warnings;
	uint64_t tickets_dropped;
	uint64_t key_updates;
	struct tls_rekey_secrets secrets; /* length 0: none. The holder wipes them */
	struct relay_direction_state to_backend;
	struct relay_direction_state to_gateway;
};

void relay_state_wipe(struct relay_state *state);

bool relay_may_leave(const struct relay *relay);
/*
 * Describe it; *state borrows from the relay, and nothing of it may run before relay_leave() or relay_stay(). Returns
 * its idle timeout.
 */
uint64_t relay_describe(const struct relay *relay, struct relay_state *state);
/*
 * Its sockets are about to be sent: how their bytes were batched (SO_RCVLOWAT) is this agent's business, and would stay
 * with them. Then either relay_leave(), or relay_stay(): nobody took them, and it goes on as it was.
 */
void relay_offer(const struct relay *relay);
void relay_stay(const struct relay *relay);
int relay_a_fd(const struct relay *relay);
int relay_b_fd(const struct relay *relay);
/* Another process has A and B: close ours without a word to either peer. The relay is gone; on_end is not called. */
void relay_leave(struct relay *relay);
/*
 * Go on where another agent stopped. options: descriptors, lane slot, switches, on_end; session is NULL. The rests are
 * copied. 0, also with *relay NULL: it has ended, and on_end was called; negative errno: the descriptors stay the
 * caller's.
 */
int relay_adopt(struct relay_worker *worker, const struct relay_options *options, const struct relay_state *state,
                struct relay **relay);

#endif
