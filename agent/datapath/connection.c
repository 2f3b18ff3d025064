/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/failures.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "datapath/proof.h"
#include "datapath/worker_internal.h"
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"

#ifndef SO_DETACH_FILTER
#define SO_DETACH_FILTER 27
#endif

static void forget(struct connection *connection)
{
	struct worker *worker = connection->worker;

	if (connection->previous)
		connection->previous->next = connection->next;
	else
		worker->connections = connection->next;
	if (connection->next)
		connection->next->previous = connection->previous;
	lane_slot_leave(connection);
	free(connection->policy);
	free(connection->sni);
	statistic_subtract(&worker->statistics.connections_live, 1);
	loop_defer_free(worker->loop, connection);
}

static void on_end(void *context, enum postern_reason reason, const char *detail)
{
	struct connection *connection = context;
	struct worker *worker = connection->worker;

	if (connection->relay) {
		struct relay_stats stats;

		relay_stats(connection->relay, &stats);
		statistic_add(&worker->statistics.bytes_to_backend, stats.bytes_to_backend);
		statistic_add(&worker->statistics.bytes_to_gateway, stats.bytes_to_gateway);
		statistic_add(&worker->statistics.tickets_dropped, stats.tickets_dropped);
	}
	if (reason != REASON_NONE)
		worker_report(worker, connection->gateway, connection->gateway_port, &connection->destination,
		              connection->policy, reason, detail);
	forget(connection);
}

static uint16_t local_port(int fd)
{
	struct sockaddr_storage local;
	socklen_t length = sizeof(local);
	struct postern_address address;
	uint16_t port;

	if (getsockname(fd, (struct sockaddr *)&local, &length) == -1 ||
	    address_from_sockaddr(&local, &address, &port) != 0)
		return 0;
	return port;
}

static struct connection *connection_new(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	struct connection *connection = calloc(1, sizeof(*connection));
	char policy[256];

	if (!connection)
		return NULL;
	connection->worker = worker;
	connection->gateway = attempt->gateway;
	connection->destination = attempt->connect.socket.destination;
	connection->verdict = attempt->verdict;
	connection->gateway_port = attempt->connect.header.tuple.local_port;
	connection->gateway_cookie = attempt->connect.socket.cookie;
	connection->lane_slot = POSTERN_NO_LANE_SLOT;
	connection->b_port = local_port(attempt->b_fd);
	connection->begun_ns = monotonic_ns();
	connection->policy = strdup(attempt_policy_name(attempt, policy, sizeof(policy)));
	connection->sni = strdup(attempt->settings ? attempt->settings->hostname : "");
	if (!connection->policy || !connection->sni) {
		free(connection->policy);
		free(connection->sni);
		free(connection);
		return NULL;
	}
	if (attempt->session) {
		tls_session_info(attempt->session, &connection->info);
		/* The session is freed before the connection ends: keep what it owns. */
		snprintf(connection->alpn, sizeof(connection->alpn), "%s", connection->info.alpn);
		connection->info.alpn = connection->alpn;
	}
	connection->next = worker->connections;
	if (connection->next)
		connection->next->previous = connection;
	worker->connections = connection;
	statistic_add(&worker->statistics.connections, 1);
	statistic_add(&worker->statistics.connections_live, 1);
	return connection;
}

/* A joins the lane; where it cannot, the lane's program finds no target and leaves everything to TCP. */
static bool join_lane(struct connection *connection, struct attempt *attempt, int a_fd)
{
	struct worker *worker = connection->worker;

	if (!lane_slot_pass_on(attempt, connection))
		return false;
	if (hooks_lane_join_agent(worker->options.hooks, connection->gateway_cookie, a_fd) != 0)
		return false;
	statistic_add(&worker->statistics.lane_connections, 1);
	return true;
}

static void prepare_a(int a_fd)
{
	const int on = 1;
	const struct linger reset_at_close = {.l_onoff = 1, .l_linger = 0};

	/* Inherited from the listener; the filter looks at bare SYNs only and may as well go. None can fail on a TCP
	 * socket. */
	(void)setsockopt(a_fd, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof(on));
	(void)setsockopt(a_fd, SOL_SOCKET, SO_LINGER, &reset_at_close, sizeof(reset_at_close));
	(void)setsockopt(a_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void describe_relay(const struct attempt *attempt, struct connection *connection, int a_fd,
                           struct relay_options *relay)
{
	const struct worker_options *options = &attempt->worker->options;

	*relay = (struct relay_options){
	        .a_fd = a_fd,
	        .b_fd = attempt->b_fd,
	        .session = attempt->session,
	        .transmit_armed = attempt->transmit_armed,
	        .user_mode_reason = attempt->user_mode_reason,
	        .idle_ns = attempt->settings ? attempt->settings->idle_timeout_ms * 1000000ull : 0,
	        .on_end = on_end,
	        .context = connection,
	};
	if (attempt->session) {
		const struct tls_session_info *info = &connection->info;
		const struct proof *proof = options->proof;

		relay->kernel_receive = attempt->transmit_armed && attempt->user_mode_reason == REASON_NONE;
		relay->splice_to_backend = options->splice && attempt->transmit_armed &&
		                           proof_allows(proof, PROOF_SPLICE, TLS_DIRECTION_TRANSMIT, info->version,
		                                        info->cipher);
		/* Copying is cheaper towards the gateway (relay-costs): splice there is not asked for. */
		relay->no_pad = relay->kernel_receive &&
		                proof_allows(proof, PROOF_NO_PAD, TLS_DIRECTION_RECEIVE, info->version, info->cipher);
		relay->kernel_rekey = proof->rekey[TLS_DIRECTION_RECEIVE].verdict == PROOF_SAFE;
	}
}

void connection_start(struct attempt *attempt, int a_fd)
{
	struct worker *worker = attempt->worker;
	struct connection *connection = connection_new(attempt);
	struct relay_options relay;
	int error;

	/* attempt_admit() has counted it towards the limit of connections. */
	if (!connection) {
		close(a_fd);
		worker_report(worker, attempt->gateway, attempt->connect.header.tuple.local_port,
		              &attempt->connect.socket.destination, "", REASON_NO_MEMORY, "");
		attempt_accepted(attempt);
		return;
	}
	prepare_a(a_fd);
	describe_relay(attempt, connection, a_fd, &relay);
	if (join_lane(connection, attempt, a_fd))
		relay.lane_slot = &hooks_lane_slots(worker->options.hooks)[connection->lane_slot];
	error = relay_start(&worker->relay, &relay, &connection->relay);
	if (error) {
		char detail[96];

		snprintf(detail, sizeof(detail), "the relay did not start: %s", strerror(-error));
		close(a_fd);
		on_end(connection, error == -ENOMEM ? REASON_NO_MEMORY : REASON_INTERNAL, detail);
	} else {
		/* They are the relay's now. */
		attempt->session = NULL;
		attempt->b_fd = -1;
	}
	attempt_accepted(attempt);
}

void connection_abort_all(struct worker *worker, const struct worker_gateway *gateway, enum postern_reason reason)
{
	struct connection *next;

	for (struct connection *connection = worker->connections; connection; connection = next) {
		next = connection->next;
		if (!gateway || connection->gateway == gateway)
			relay_abort(connection->relay, reason, "");
	}
}

void connection_policy_changed(struct worker *worker)
{
	struct snapshot *snapshot = snapshot_holder_get(worker->options.snapshots);
	struct connection *next;

	if (!snapshot)
		return;
	for (struct connection *connection = worker->connections; connection; connection = next) {
		const struct destination *destination = snapshot_find(snapshot, &connection->destination);

		next = connection->next;
		if (!destination)
			continue;
		if (destination->verdict == POSTERN_VERDICT_DENY)
			relay_abort(connection->relay, destination->reason, "the policy became unusable");
		else if (destination->verdict == POSTERN_VERDICT_TLS && connection->verdict == POSTERN_VERDICT_PLAIN)
			relay_abort(connection->relay, REASON_POLICY_CHANGED, "relayed in plain; covered now");
	}
	snapshot_unref(snapshot);
}

int connection_list(struct worker *worker, struct connection_view **result, size_t *result_count)
{
	size_t count = atomic_load_explicit(&worker->statistics.connections_live, memory_order_relaxed);
	struct connection_view *views = calloc(count ? count : 1, sizeof(*views));
	uint64_t now = monotonic_ns();
	size_t filled = 0;

	if (!views)
		return -ENOMEM;
	for (struct connection *connection = worker->connections; connection && filled < count;
	     connection = connection->next) {
		struct connection_view *view = &views[filled++];
		const struct tls_session_info *info = &connection->info;

		snprintf(view->gateway, sizeof(view->gateway), "%s", connection->gateway->gateway->name);
		view->gateway_port = connection->gateway_port;
		view->destination = connection->destination;
		snprintf(view->policy, sizeof(view->policy), "%s", connection->policy);
		snprintf(view->sni, sizeof(view->sni), "%s", connection->sni);
		if (connection->verdict == POSTERN_VERDICT_TLS) {
			snprintf(view->peer_identity, sizeof(view->peer_identity), "%s", info->peer_identity);
			snprintf(view->tls_version, sizeof(view->tls_version), "%s", tls_version_name(info->version));
			snprintf(view->cipher, sizeof(view->cipher), "%s", info->cipher_name ? info->cipher_name : "");
			snprintf(view->alpn, sizeof(view->alpn), "%s", connection->alpn);
			view->resumed = info->resumed;
		}
		view->netns_cookie = connection->gateway->gateway->netns_cookie;
		view->b_port = connection->b_port;
		view->age_ns = now - connection->begun_ns;
		relay_stats(connection->relay, &view->stats);
	}
	*result = views;
	*result_count = filled;
	return 0;
}
