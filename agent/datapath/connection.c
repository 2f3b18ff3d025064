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
#include "base/evidence.h"
#include "base/failures.h"
#include "base/log.h"
#include "datapath/hooks.h"
#include "datapath/proof.h"
#include "datapath/relay_state.h"
#include "datapath/traffic.h"
#include "datapath/worker_internal.h"
#include "datapath/worker_trace.h"
#include "policy/snapshot.h"

#ifndef SO_DETACH_FILTER
#define SO_DETACH_FILTER 27
#endif

static void give_names(struct connection *connection)
{
	struct names *names = &connection->worker->names;

	names_give(names, connection->policy);
	names_give(names, connection->sni);
	names_give(names, connection->cipher_name);
}

struct connection *connection_make(struct worker *worker, const char *policy, const char *sni, const char *cipher_name)
{
	struct connection *connection = slab_take(&worker->connection_slab);

	if (!connection)
		return NULL;
	connection->worker = worker;
	connection->policy = names_take(&worker->names, policy);
	connection->sni = names_take(&worker->names, sni);
	connection->cipher_name = cipher_name ? names_take(&worker->names, cipher_name) : NULL;
	if (connection->policy && connection->sni && (connection->cipher_name || !cipher_name))
		return connection;
	give_names(connection);
	slab_give(connection);
	return NULL;
}

void connection_forget(struct connection *connection)
{
	struct worker *worker = connection->worker;

	if (connection->previous)
		connection->previous->next = connection->next;
	else
		worker->connections = connection->next;
	if (connection->next)
		connection->next->previous = connection->previous;
	connection_review_leave(connection);
	worker_handover_leave(connection);
	lane_slot_leave(connection);
	give_names(connection);
	statistic_subtract(&worker->statistics.connections_live, 1);
	traffic_end(connection->traffic);
	connection_limits_leave(connection);
	loop_defer(worker->loop, slab_give, connection);
}

/* The access log: one line, when the connection is over. Names came from manifests, the identity from a certificate. */
static void log_end(const struct connection *connection, const struct relay_stats *stats, enum postern_reason reason)
{
	const struct tls_session_info *info = &connection->info;
	bool is_tls = connection->verdict == POSTERN_VERDICT_TLS;
	char destination[DESTINATION_TEXT_MAX];
	char identity[2 * TLS_DETAIL_MAX];
	char policy[280];
	char sni[280];

	log_access("connection ended",
	           "gateway=%s gateway_port=%u destination=%s policy=%s sni=%s identity=%s version=%s cipher=%s "
	           "resumed=%s to_backend=%s to_gateway=%s mode_reason=%s lane=%s bytes_to_backend=%llu "
	           "bytes_to_gateway=%llu duration_ms=%llu reason=%s",
	           connection->gateway->gateway->name, connection->gateway_port,
	           destination_format(&connection->destination, destination),
	           log_quote(connection->policy, policy, sizeof(policy)), log_quote(connection->sni, sni, sizeof(sni)),
	           log_quote(is_tls ? info->peer_identity : "", identity, sizeof(identity)),
	           is_tls ? tls_version_name(info->version) : "none",
	           is_tls && info->cipher_name ? info->cipher_name : "none", is_tls && info->resumed ? "yes" : "no",
	           relay_mode_name(stats->to_backend), relay_mode_name(stats->to_gateway),
	           reason_name(stats->mode_reason), stats->lane ? "yes" : "no",
	           (unsigned long long)stats->bytes_to_backend, (unsigned long long)stats->bytes_to_gateway,
	           (unsigned long long)((monotonic_ns() - connection->begun_ns) / 1000000), reason_name(reason));
}

void connection_on_end(void *context, enum postern_reason reason, const char *detail)
{
	struct connection *connection = context;
	struct worker *worker = connection->worker;

	if (connection->relay) {
		struct relay_stats stats;

		relay_stats(connection->relay, &stats);
		statistic_add(&worker->statistics.bytes_to_backend, stats.bytes_to_backend);
		statistic_add(&worker->statistics.bytes_to_gateway, stats.bytes_to_gateway);
		statistic_add(&worker->statistics.tickets_dropped, stats.tickets_dropped);
		if (worker->options.access_log && !connection->gateway->gateway->probe)
			log_end(connection, &stats, reason);
	}
	if (reason != REASON_NONE)
		worker_report(worker, connection_subject(connection), connection->policy, reason, detail);
	else
		worker_trace(worker, TRACE_CLOSE, connection_subject(connection), REASON_NONE, "in order");
	connection_forget(connection);
}

uint16_t connection_b_port(const struct connection *connection)
{
	struct sockaddr_storage local;
	socklen_t length = sizeof(local);
	struct postern_address address;
	uint16_t port;

	if (getsockname(relay_b_fd(connection->relay), (struct sockaddr *)&local, &length) == -1 ||
	    address_from_sockaddr(&local, &address, &port) != 0)
		return 0;
	return port;
}

void connection_enter(struct connection *connection)
{
	struct worker *worker = connection->worker;

	connection->next = worker->connections;
	if (connection->next)
		connection->next->previous = connection;
	worker->connections = connection;
	statistic_add(&worker->statistics.connections_live, 1);
	connection_limits_enter(connection);
}

static enum traffic_mode mode_of(const struct attempt *attempt)
{
	if (!attempt->session)
		return TRAFFIC_PLAIN;
	return attempt->user_mode_reason == REASON_NONE ? TRAFFIC_KERNEL_TLS : TRAFFIC_USER_TLS;
}

static struct connection *connection_new(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	char policy[256];
	struct connection *connection = connection_make(worker, attempt_policy_name(attempt, policy, sizeof(policy)),
	                                                attempt->settings ? attempt->settings->hostname : "", NULL);

	if (!connection)
		return NULL;
	connection->gateway = attempt->gateway;
	connection->destination = attempt->connect.socket.destination;
	connection->verdict = attempt->verdict;
	connection->gateway_port = attempt->connect.header.tuple.local_port;
	connection->gateway_cookie = attempt->connect.socket.cookie;
	connection->ring = attempt->connect.socket.worker;
	connection->lane_slot = POSTERN_NO_LANE_SLOT;
	connection->begun_ns = monotonic_ns();
	if (attempt->session) {
		tls_session_info(attempt->session, &connection->info);
		/* The session is freed before the connection ends: keep what it owns. */
		snprintf(connection->alpn, sizeof(connection->alpn), "%s", connection->info.alpn);
		connection->info.alpn = connection->alpn;
	}
	if (!connection->gateway->gateway->probe)
		connection->traffic = traffic_begin(worker->options.traffic, worker->options.index,
		                                    connection->gateway->gateway->name, connection->policy,
		                                    mode_of(attempt));
	connection_review_join(connection, attempt);
	connection_enter(connection);
	statistic_add(&worker->statistics.connections, 1);
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

/* A stream that the lane does not serve: both are plain TCP sockets from now on. Their closing may have done it. */
void connection_leave_lane(void *context)
{
	struct connection *connection = context;
	struct hooks *hooks = connection->worker->options.hooks;

	(void)hooks_lane_leave_gateway(hooks, connection->gateway_cookie);
	(void)hooks_lane_leave_agent(hooks, connection->gateway_cookie);
}

static void prepare_a(int a_fd)
{
	const int on = 1;

	/*
	 * Inherited from the listener, as SO_LINGER{1,0} and TCP_NODELAY are; the filter looks at bare SYNs only and
	 * may as well go. This cannot fail on a TCP socket.
	 */
	(void)setsockopt(a_fd, SOL_SOCKET, SO_DETACH_FILTER, &on, sizeof(on));
}

static void describe_relay(struct attempt *attempt, struct connection *connection, int a_fd,
                           struct relay_options *relay)
{
	const struct worker_options *options = &attempt->worker->options;

	*relay = (struct relay_options){
	        .a_fd = a_fd,
	        .b_fd = attempt->b_fd,
	        .b_source = &attempt->b_source,
	        .session = attempt->session,
	        .transmit_armed = attempt->transmit_armed,
	        .user_mode_reason = attempt->user_mode_reason,
	        .idle_ns = attempt->settings ? attempt->settings->idle_timeout_ms * 1000000ull : 0,
	        .leave_lane = connection_leave_lane,
	        .traffic = connection->traffic,
	        .on_end = connection_on_end,
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
		relay->kernel_rekey_transmit = proof->rekey[TLS_DIRECTION_TRANSMIT].verdict == PROOF_SAFE;
	}
}

/* For the auditor, and for who looks on. */
static void note_start(const struct connection *connection)
{
	struct worker *worker = connection->worker;
	struct evidence_row row = {.resumed = connection->info.resumed};
	struct relay_stats stats;

	(void)snprintf(row.gateway, sizeof(row.gateway), "%s", connection->gateway->gateway->name);
	(void)snprintf(row.policy, sizeof(row.policy), "%s", connection->policy);
	if (connection->verdict == POSTERN_VERDICT_TLS) {
		(void)snprintf(row.version, sizeof(row.version), "%s", tls_version_name(connection->info.version));
		(void)snprintf(row.cipher, sizeof(row.cipher), "%s", connection->info.cipher_name);
		(void)snprintf(row.peer, sizeof(row.peer), "%s", connection->info.peer_identity);
	}
	evidence_connection(worker->options.evidence, &row);
	if (!trace_active(worker->options.trace))
		return;
	relay_stats(connection->relay, &stats);
	worker_trace(worker, TRACE_OPEN, connection_subject(connection), stats.mode_reason,
	             "%s to the backend, %s to the gateway", relay_mode_name(stats.to_backend),
	             relay_mode_name(stats.to_gateway));
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
		worker_report(worker, attempt_subject(attempt), "", REASON_NO_MEMORY, "");
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
		connection_on_end(connection, reason_of_errno(-error, REASON_INTERNAL), detail);
	} else {
		connection_limits_apply(connection);
		note_start(connection);
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

int connection_list(struct worker *worker, bool with_ports, void **items, size_t *item_count)
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
			view->shows_certificate = connection->trust.shows_certificate;
			view->draining = connection->trust.drain_until_ns != 0;
			view->peer_valid_until = connection->trust.valid_until;
		}
		view->netns_cookie = connection->gateway->gateway->netns_cookie;
		view->b_port = with_ports ? connection_b_port(connection) : 0;
		view->age_ns = now - connection->begun_ns;
		relay_stats(connection->relay, &view->stats);
	}
	*items = views;
	*item_count = filled;
	return 0;
}
