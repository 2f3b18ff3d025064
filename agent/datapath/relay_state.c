/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/relay_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"

/* A look that is owed (relay_look()) comes at once, from the loop. */
#define LOOK_NOW_NS 1

void relay_state_wipe(struct relay_state *state)
{
	OPENSSL_cleanse(&state->secrets, sizeof(state->secrets));
}

bool relay_may_leave(const struct relay *relay)
{
	enum relay_mode up = relay->to_backend.mode, down = relay->to_gateway.mode;

	/* With a KeyUpdate of ours on its way the next one would not know which key is whose. */
	return !relay->ended && !relay->session && !relay->key_update_due && up == down &&
	       (up == RELAY_PLAIN || up == RELAY_KTLS_COPY);
}

static void describe_direction(const struct relay_direction *direction, struct relay_direction_state *state)
{
	*state = (struct relay_direction_state){
	        .bytes = direction->bytes,
	        .key_blocks = direction->key_blocks,
	        .moved_ns = direction->moved_ns,
	        .rest = direction->rest.bytes ? direction->rest.bytes + direction->rest.offset : NULL,
	        .rest_size = direction->rest.size - direction->rest.offset,
	};
}

uint64_t relay_describe(const struct relay *relay, struct relay_state *state)
{
	*state = (struct relay_state){
	        .kernel_tls = relay->to_backend.mode == RELAY_KTLS_COPY,
	        .version = relay->version,
	        .limits_key = relay->limits_key,
	        .first_read = relay->first_read,
	        .gateway_ended = relay->gateway_ended,
	        .room_made = relay->room_made,
	        .lane = relay->lane_slot != NULL,
	        .update_wanted = relay->update_wanted,
	        .transmit = relay->transmit,
	        .receive = relay->receive,
	        .handshake = relay->handshake,
	        .warnings = relay->warnings,
	        .tickets_dropped = relay->tickets_dropped,
	        .key_updates = relay->key_updates,
	        .secrets = relay->secrets,
	};
	describe_direction(&relay->to_backend, &state->to_backend);
	describe_direction(&relay->to_gateway, &state->to_gateway);
	return relay->idle_ns;
}

static void set_low_water(const struct relay *relay, int fd, int size)
{
	/* What is asked for here was accepted before, or is the default. */
	(void)relay->worker->io->setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &size, sizeof(size));
}

void relay_offer(const struct relay *relay)
{
	if (relay->low_water != 1)
		set_low_water(relay, relay->b_fd, 1);
	if (relay_gather_low_water(relay) != 1)
		set_low_water(relay, relay->a_fd, 1);
}

void relay_stay(const struct relay *relay)
{
	if (relay->low_water != 1)
		set_low_water(relay, relay->b_fd, relay->low_water);
	if (relay_gather_low_water(relay) != 1)
		set_low_water(relay, relay->a_fd, relay_gather_low_water(relay));
}

int relay_a_fd(const struct relay *relay)
{
	return relay->a_fd;
}

int relay_b_fd(const struct relay *relay)
{
	return relay->b_fd;
}

void relay_leave(struct relay *relay)
{
	relay->on_end = NULL;
	/* These are not the last descriptors of A and B: nothing is reset by closing them. */
	relay_abort(relay, REASON_NONE, "");
}

static int adopt_direction(struct relay_direction *direction, const struct relay_direction_state *state,
                           enum relay_mode mode)
{
	direction->mode = mode;
	direction->splicing = false;
	direction->bytes = state->bytes;
	direction->key_blocks = state->key_blocks;
	direction->moved_ns = state->moved_ns;
	if (state->rest_size == 0)
		return 0;
	direction->rest.bytes = OPENSSL_malloc(state->rest_size);
	if (!direction->rest.bytes)
		return -ENOMEM;
	memcpy(direction->rest.bytes, state->rest, state->rest_size);
	direction->rest.size = state->rest_size;
	return 0;
}

static int set_timers(struct relay *relay)
{
	const struct relay_timeouts *timeouts = &relay->worker->timeouts;
	struct loop *loop = relay->worker->loop;
	bool blocked = relay->transmit == TRANSMIT_BLOCKED || relay->receive == RECEIVE_BLOCKED;
	int error = 0;

	if (relay->transmit == TRANSMIT_DEFERRED)
		error = loop_timer_set(loop, &relay->half_closed_timer, timeouts->half_closed_ns);
	if (!error && blocked && timeouts->stall_ns)
		error = loop_timer_set(loop, &relay->stall_timer, timeouts->stall_ns);
	if (!error && relay->hides_key_update)
		error = loop_timer_set(loop, &relay->look_timer, LOOK_NOW_NS);
	return error;
}

/* What the states want of A and B: see relay_transmit.c and relay_receive.c. */
static int ask_for_events(struct relay *relay)
{
	struct loop *loop = relay->worker->loop;
	bool up_waits = relay->transmit == TRANSMIT_BLOCKED || relay->transmit == TRANSMIT_CLOSING;
	bool down_waits = relay->receive == RECEIVE_BLOCKED;
	int error = loop_set_events(loop, &relay->a,
	                            (relay_transmit_reads(relay) ? EPOLLIN : 0u) | (down_waits ? EPOLLOUT : 0u));

	if (error)
		return error;
	return loop_set_events(loop, &relay->b,
	                       (relay_receive_reads(relay) ? EPOLLIN : 0u) | (up_waits ? EPOLLOUT : 0u));
}

static int adopt_state(struct relay *relay, const struct relay_options *options, const struct relay_state *state)
{
	enum relay_mode mode = state->kernel_tls ? RELAY_KTLS_COPY : RELAY_PLAIN;
	int error = adopt_direction(&relay->to_backend, &state->to_backend, mode);

	if (!error)
		error = adopt_direction(&relay->to_gateway, &state->to_gateway, mode);
	if (error)
		return error;
	relay->version = state->version;
	relay->limits_key = state->limits_key;
	relay->no_pad = state->kernel_tls && options->no_pad;
	relay->hides_key_update = state->kernel_tls && options->kernel_rekey && state->version == TLS_VERSION_1_3;
	relay->rekeys_transmit = state->kernel_tls && options->kernel_rekey_transmit &&
	                         state->version == TLS_VERSION_1_3;
	relay->update_wanted = state->update_wanted;
	relay->secrets = state->secrets;
	relay->mode_reason = REASON_NONE;
	relay->first_read = state->first_read;
	relay->gateway_ended = state->gateway_ended;
	relay->awaits_answer = state->to_backend.moved_ns > state->to_gateway.moved_ns;
	relay->room_made = state->room_made;
	relay->transmit = state->transmit;
	relay->receive = state->receive;
	relay->handshake = state->handshake;
	relay->warnings = state->warnings;
	relay->tickets_dropped = state->tickets_dropped;
	relay->key_updates = state->key_updates;
	error = set_timers(relay);
	return error ? error : ask_for_events(relay);
}

int relay_adopt(struct relay_worker *worker, const struct relay_options *options, const struct relay_state *state,
                struct relay **result)
{
	struct relay_options start = *options;
	struct relay *relay = NULL;
	int error;

	*result = NULL;
	start.session = NULL;
	/* One that runs in the loop as a new one does; no event is seen before its state is set. */
	error = relay_start(worker, &start, &relay);
	if (error)
		return error;
	error = adopt_state(relay, options, state);
	if (error) {
		relay_fail(relay, REASON_NO_MEMORY, "handed over: %s", strerror(-error));
		return 0;
	}
	*result = relay;
	return 0;
}
