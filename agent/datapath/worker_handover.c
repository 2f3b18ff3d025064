/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/worker_handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "datapath/proof.h"
#include "datapath/traffic.h"
#include "datapath/worker_internal.h"
#include "tls/peer.h"
#include "tls/peer_bytes.h"

#define NEXT_PASS_NS 20000000ull
#define REVIEW_NS    10000000ull

/* ---- they go ---- */

static void describe(const struct connection *connection, struct connection_state *state)
{
	const struct tls_session_info *info = &connection->info;

	*state = (struct connection_state){
	        .destination = connection->destination,
	        .gateway_port = connection->gateway_port,
	        .b_port = connection_b_port(connection),
	        .ring = connection->ring,
	        .lane_slot = connection->lane_slot,
	        .gateway_cookie = connection->gateway_cookie,
	        .begun_ns = connection->begun_ns,
	        .cipher = info->cipher,
	        .resumed = info->resumed,
	        .peer_not_after = info->peer_not_after,
	        .peer_valid_until = info->peer_valid_until,
	        .shows_certificate = connection->trust.shows_certificate,
	};
	snprintf(state->gateway, sizeof(state->gateway), "%s", connection->gateway->gateway->name);
	snprintf(state->policy, sizeof(state->policy), "%s", connection->policy);
	snprintf(state->sni, sizeof(state->sni), "%s", connection->sni);
	snprintf(state->cipher_name, sizeof(state->cipher_name), "%s", info->cipher_name ? info->cipher_name : "");
	snprintf(state->alpn, sizeof(state->alpn), "%s", connection->alpn);
	snprintf(state->peer_identity, sizeof(state->peer_identity), "%s", info->peer_identity);
	memcpy(state->certificate_digest, connection->trust.certificate_digest, sizeof(state->certificate_digest));
}

static int send_connection(struct connection *connection)
{
	const struct worker_handover *handover = &connection->worker->handover;
	struct connection_state state;
	uint8_t *chain = NULL, *bytes = NULL;
	size_t size;
	int error = 0;

	describe(connection, &state);
	if (connection->trust.peer) {
		error = tls_peer_encode(connection->trust.peer, &chain, &state.chain_size);
		state.chain = chain;
	}
	if (!error) {
		state.idle_ns = relay_describe(connection->relay, &state.relay);
		error = connection_state_encode(&state, &bytes, &size);
		relay_state_wipe(&state.relay);
	}
	OPENSSL_free(chain);
	if (error)
		return -EAGAIN; /* as if there were nobody: it is drained here */
	relay_offer(connection->relay);
	error = handover->send(handover->context, bytes, size, relay_a_fd(connection->relay),
	                       relay_b_fd(connection->relay));
	if (error == -EAGAIN)
		relay_stay(connection->relay);
	OPENSSL_clear_free(bytes, size);
	return error;
}

static void hand_over(struct connection *connection)
{
	struct worker *worker = connection->worker;
	int error = send_connection(connection);

	if (error == -EAGAIN) {
		worker->handover.send = NULL;
		return;
	}
	if (error) {
		worker->handover.send = NULL;
		relay_abort(connection->relay, REASON_HANDOVER_FAILED, "on its way to the next agent");
		return;
	}
	statistic_add(&worker->statistics.handed_over, 1);
	lane_slot_hand_over(connection);
	relay_leave(connection->relay);
	connection_forget(connection);
}

static void on_next_pass(struct loop_timer *timer)
{
	struct worker *worker = container_of(timer, struct worker, handover.timer);

	worker->handover.next = worker->connections;
	loop_wake(worker->loop);
}

bool worker_handover_run(struct worker *worker, uint64_t budget_ns)
{
	struct worker_handover *handover = &worker->handover;
	uint64_t end = monotonic_ns() + budget_ns;

	if (!handover->next)
		return false;
	while (handover->next && handover->send) {
		struct connection *connection = handover->next;

		handover->next = connection->next;
		if (relay_may_leave(connection->relay))
			hand_over(connection);
		if (handover->next && monotonic_ns() >= end)
			return true;
	}
	handover->next = NULL;
	if (handover->send && loop_timer_set(worker->loop, &handover->timer, NEXT_PASS_NS) != 0)
		log_error("no memory", "what=\"timer of the handover\"");
	return false;
}

void worker_handover_stop(struct worker *worker)
{
	if (!worker->loop)
		return;
	loop_timer_cancel(worker->loop, &worker->handover.timer);
	loop_timer_cancel(worker->loop, &worker->handover.review_timer);
}

struct begin_message {
	struct inbox_message inbox;
	int (*send)(void *context, const uint8_t *bytes, size_t size, int a_fd, int b_fd);
	void *context;
};

static void run_begin(struct worker *worker, struct inbox_message *inbox)
{
	struct begin_message *message = container_of(inbox, struct begin_message, inbox);

	worker->handover.send = message->send;
	worker->handover.context = message->context;
	worker->handover.timer.on_expire = on_next_pass;
	on_next_pass(&worker->handover.timer);
	worker_finish(worker, inbox);
}

void worker_hand_over(struct worker *worker,
                      int (*send)(void *context, const uint8_t *bytes, size_t size, int a_fd, int b_fd), void *context)
{
	struct begin_message message = {.inbox.run = run_begin, .send = send, .context = context};

	worker_post_and_wait(worker, &message.inbox);
}

/* ---- they come ---- */

struct arrival_message {
	struct inbox_message inbox;
	struct arrival arrival;
};

static struct worker_gateway *gateway_of(struct worker *worker, const char *name)
{
	for (struct worker_gateway *gateway = worker->gateways; gateway; gateway = gateway->next) {
		if (strcmp(gateway->gateway->name, name) == 0)
			return gateway;
	}
	return NULL;
}

static void fill_info(struct connection *connection, const struct connection_state *state)
{
	struct tls_session_info *info = &connection->info;

	snprintf(connection->alpn, sizeof(connection->alpn), "%s", state->alpn);
	info->version = state->relay.version;
	info->cipher = state->cipher;
	info->cipher_name = connection->cipher_name;
	info->alpn = connection->alpn;
	snprintf(info->peer_identity, sizeof(info->peer_identity), "%s", state->peer_identity);
	info->resumed = state->resumed;
	info->peer_not_after = state->peer_not_after;
	info->peer_valid_until = state->peer_valid_until;
	/* No id: by whose settings it was verified is not known here, so it is verified again. */
	connection->trust.valid_until = state->peer_valid_until;
	connection->trust.shows_certificate = state->shows_certificate;
	memcpy(connection->trust.certificate_digest, state->certificate_digest,
	       sizeof(connection->trust.certificate_digest));
}

static struct connection *make_connection(struct worker *worker, struct worker_gateway *gateway,
                                          const struct connection_state *state)
{
	struct connection *connection = connection_make(worker, state->policy, state->sni, state->cipher_name);

	if (!connection)
		return NULL;
	connection->gateway = gateway;
	connection->destination = state->destination;
	connection->verdict = state->relay.kernel_tls ? POSTERN_VERDICT_TLS : POSTERN_VERDICT_PLAIN;
	connection->gateway_port = state->gateway_port;
	connection->lane_slot = POSTERN_NO_LANE_SLOT;
	connection->handed_over = true;
	connection->ring = state->ring;
	connection->gateway_cookie = state->gateway_cookie;
	connection->begun_ns = state->begun_ns;
	if (state->relay.kernel_tls)
		fill_info(connection, state);
	return connection;
}

static void on_review(struct loop_timer *timer)
{
	connection_policy_changed(container_of(timer, struct worker, handover.review_timer));
}

/* One pass for all that come within a moment. */
static void review_soon(struct worker *worker)
{
	struct loop_timer *timer = &worker->handover.review_timer;

	timer->on_expire = on_review;
	if (timer->due_ns == 0 && loop_timer_set(worker->loop, timer, REVIEW_NS) != 0)
		connection_policy_changed(worker);
}

static enum postern_reason take_over(struct worker *worker, struct arrival *arrival)
{
	const struct worker_options *options = &worker->options;
	const struct connection_state *state = &arrival->state;
	struct worker_gateway *gateway = gateway_of(worker, state->gateway);
	struct connection *connection = gateway ? make_connection(worker, gateway, state) : NULL;
	struct relay_options relay = {
	        .a_fd = arrival->a_fd,
	        .b_fd = arrival->b_fd,
	        .splice_to_backend = options->splice && state->relay.kernel_tls &&
	                             proof_allows(options->proof, PROOF_SPLICE, TLS_DIRECTION_TRANSMIT,
	                                          state->relay.version, state->cipher),
	        .kernel_rekey = options->proof->rekey[TLS_DIRECTION_RECEIVE].verdict == PROOF_SAFE,
	        .kernel_rekey_transmit = options->proof->rekey[TLS_DIRECTION_TRANSMIT].verdict == PROOF_SAFE,
	        .idle_ns = state->idle_ns,
	        .leave_lane = connection_leave_lane,
	        .on_end = connection_on_end,
	        .context = connection,
	};

	if (!connection)
		return gateway ? REASON_NO_MEMORY : REASON_GATEWAY_REMOVED;
	connection->lane_slot = state->lane_slot; /* G has it until its end, whether it is of use or not */
	if (state->relay.lane)
		relay.lane_slot = &hooks_lane_slots(options->hooks)[state->lane_slot];
	connection->trust.peer = TAKE_PTR(arrival->peer);
	lane_slot_take_over(connection);
	connection->traffic = traffic_begin(options->traffic, options->index, state->gateway, state->policy,
	                                    state->relay.kernel_tls ? TRAFFIC_KERNEL_TLS : TRAFFIC_PLAIN);
	relay.traffic = connection->traffic;
	connection_enter(connection);
	if (relay_adopt(&worker->relay, &relay, &state->relay, &connection->relay) != 0) {
		connection_on_end(connection, REASON_NO_MEMORY, "handed over, and the relay did not start");
		return REASON_NONE;
	}
	/* They are the relay's, or closed by it. */
	arrival->a_fd = arrival->b_fd = -1;
	statistic_add(&worker->statistics.taken_over, 1);
	review_soon(worker);
	return REASON_NONE;
}

static void drop_arrival(struct inbox_message *inbox)
{
	struct arrival_message *message = container_of(inbox, struct arrival_message, inbox);

	arrival_release(&message->arrival);
	free(message);
}

static void run_arrival(struct worker *worker, struct inbox_message *inbox)
{
	struct arrival_message *message = container_of(inbox, struct arrival_message, inbox);
	enum postern_reason reason = take_over(worker, &message->arrival);

	if (reason != REASON_NONE)
		failures_count(worker->options.failures, reason);
	drop_arrival(inbox);
}

void arrival_release(struct arrival *arrival)
{
	relay_state_wipe(&arrival->state.relay);
	OPENSSL_clear_free(arrival->bytes, arrival->size);
	arrival->bytes = NULL;
	tls_peer_unref(arrival->peer);
	arrival->peer = NULL;
	if (arrival->a_fd >= 0)
		close(arrival->a_fd); /* the last descriptors: resets, by SO_LINGER{1,0} */
	if (arrival->b_fd >= 0)
		close(arrival->b_fd);
	arrival->a_fd = arrival->b_fd = -1;
}

int worker_take_over(struct worker *worker, const struct arrival *arrival)
{
	struct arrival_message *message = calloc(1, sizeof(*message));

	if (!message)
		return -ENOMEM;
	message->inbox.run = run_arrival;
	message->inbox.drop = drop_arrival;
	message->arrival = *arrival;
	worker_post(worker, &message->inbox);
	return 0;
}

/* ---- they end ---- */

struct end_message {
	struct inbox_message inbox;
	enum postern_reason reason;
};

static void end_attempt(struct attempt *attempt, void *context)
{
	const enum postern_reason *reason = context;

	attempt_refuse(attempt, *reason, "");
	attempt_free(attempt);
}

static void run_end_all(struct worker *worker, struct inbox_message *inbox)
{
	struct end_message *message = container_of(inbox, struct end_message, inbox);

	attempt_for_each(worker, NULL, end_attempt, &message->reason);
	connection_abort_all(worker, NULL, message->reason);
	worker_finish(worker, inbox);
}

void worker_end_all(struct worker *worker, enum postern_reason reason)
{
	struct end_message message = {.inbox.run = run_end_all, .reason = reason};

	worker_post_and_wait(worker, &message.inbox);
}
