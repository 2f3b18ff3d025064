/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/failures.h"
#include "datapath/dial_reason.h"
#include "datapath/gateway.h"
#include "datapath/hooks.h"
#include "datapath/proof.h"
#include "datapath/traffic.h"
#include "datapath/worker_internal.h"
#include "datapath/worker_trace.h"
#include "policy/snapshot.h"

#define TURN_NS UINT64_C(10000000) /* how often a last turn is looked for */

#define KEEPALIVE_IDLE_SECONDS     60
#define KEEPALIVE_INTERVAL_SECONDS 10
#define KEEPALIVE_PROBES           6

/* What the agent was doing, and the system's word for what went wrong. */
static void refuse_errno(struct attempt *attempt, enum postern_reason reason, const char *what, int error)
{
	char detail[128];

	snprintf(detail, sizeof(detail), "%s: %s", what, strerror(error));
	attempt_refuse(attempt, reason, detail);
}

static int set_option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) == -1 ? -errno : 0;
}

/*
 * B from birth: a killed agent must be a reset to the backend, never a clean end in mid-body. The rest is what G asked
 * for (mark, TOS) and what keeps a dead backend from holding a connection: keepalive when nothing is on its way, else
 * the system's tcp_retries2, as for a socket of G's own. No TCP_USER_TIMEOUT: Linux applies it to a closed window, too,
 * and would reset a backend that answers every probe and reads later (net/ipv4/tcp_timer.c, tcp_probe_timer(); RFC
 * 9293, 3.8.6.1: such a connection stays open).
 */
static int configure(int fd, const struct postern_connect_record *connect, bool v4)
{
	const struct linger reset_at_close = {.l_onoff = 1, .l_linger = 0};
	int error = 0;

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_at_close, sizeof(reset_at_close)) == -1)
		return -errno;
	error = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (!error)
		error = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (!error)
		error = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS);
	if (!error)
		error = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS);
	if (!error)
		error = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	if (!error && connect->socket_mark)
		error = set_option(fd, SOL_SOCKET, SO_MARK, (int)connect->socket_mark);
	if (!error && connect->tos)
		error = v4 ? set_option(fd, IPPROTO_IP, IP_TOS, (int)connect->tos)
		           : set_option(fd, IPPROTO_IPV6, IPV6_TCLASS, (int)connect->tos);
	return error;
}

/* G bound a source address (it is not loopback): B uses the same one; the port is not kept. */
static int bind_source(int fd, const struct postern_tuple *tuple, bool v4)
{
	struct sockaddr_storage source;
	socklen_t length;
	int error;

	if (address_is_loopback(&tuple->local))
		return 0;
	if (address_is_v4(&tuple->local) != v4)
		return -EADDRNOTAVAIL;
	length = address_to_sockaddr(&tuple->local, 0, &source);
	error = set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (error)
		return error;
	return bind(fd, (struct sockaddr *)&source, length) == -1 ? -errno : 0;
}

static int set_witness(struct attempt *attempt, enum postern_backend_phase phase)
{
	const struct postern_backend_socket state = {
	        .destination = attempt->connect.socket.destination,
	        .phase = phase,
	        .gateway_id = attempt->connect.socket.gateway_id,
	};

	return hooks_set_backend(attempt->worker->options.hooks, attempt->b_fd, &state);
}

static uint64_t limit_of(unsigned int milliseconds, uint64_t default_ns)
{
	return milliseconds ? milliseconds * 1000000ull : default_ns;
}

void dial_start(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	const struct postern_connect_record *connect_record = &attempt->connect;
	const struct postern_destination_key *key = &connect_record->socket.destination;
	bool v4 = address_is_v4(&key->address);
	struct sockaddr_storage destination;
	socklen_t length = address_to_sockaddr(&key->address, ntohs(key->port), &destination);
	uint64_t limit = limit_of(attempt->settings ? attempt->settings->connect_timeout_ms : 0,
	                          worker->options.dial_limit_ns);
	int error;

	if (attempt->settings && attempt->settings->ktls == SWITCH_REQUIRE && !worker->options.kernel_tls) {
		attempt_refuse(attempt, REASON_KTLS_OFF, "the policy requires kernel TLS");
		return;
	}
	attempt->b_fd = gateway_socket(attempt->gateway->gateway, v4 ? AF_INET : AF_INET6,
	                               SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (attempt->b_fd < 0) {
		error = -attempt->b_fd;
		attempt->b_fd = -1;
		refuse_errno(attempt, dial_reason(error), "socket", error);
		return;
	}
	error = set_witness(attempt, attempt->verdict == POSTERN_VERDICT_PLAIN ? POSTERN_B_PLAIN : POSTERN_B_HANDSHAKE);
	if (error) {
		refuse_errno(attempt, reason_of_errno(-error, REASON_INTERNAL), "the witness's storage", -error);
		return;
	}
	error = configure(attempt->b_fd, connect_record, v4);
	if (error) {
		refuse_errno(attempt, reason_of_errno(-error, REASON_INTERNAL), "socket options of B", -error);
		return;
	}
	error = bind_source(attempt->b_fd, &connect_record->header.tuple, v4);
	if (error) {
		refuse_errno(attempt, reason_of_errno(-error, REASON_SOURCE_ADDRESS), "bind", -error);
		return;
	}
	if (connect(attempt->b_fd, (struct sockaddr *)&destination, length) == -1 && errno != EINPROGRESS) {
		error = errno;
		refuse_errno(attempt, dial_reason(error), "connect", error);
		return;
	}
	error = loop_add(worker->loop, &attempt->b_source, attempt->b_fd, EPOLLOUT);
	if (!error)
		error = loop_timer_set(worker->loop, &attempt->timer, limit);
	if (error) {
		refuse_errno(attempt, dial_reason(-error), "epoll", -error);
		return;
	}
	attempt->state = ATTEMPT_DIALING;
	worker_trace(worker, TRACE_DIAL, attempt_subject(attempt), REASON_NONE, "%s",
	             attempt->settings ? attempt->settings->hostname : "plain");
}

/* May kernel TLS carry this direction of this session? The reason if not. */
static enum postern_reason kernel_tls_refused(const struct attempt *attempt, enum tls_direction direction,
                                              const struct tls_session_info *info)
{
	const struct worker_options *options = &attempt->worker->options;

	if (!options->kernel_tls || attempt->settings->ktls == SWITCH_OFF)
		return options->proof->kernel_tls ? REASON_KTLS_OFF : REASON_KTLS_UNAVAILABLE;
	if (!options->proof->kernel_tls)
		return REASON_KTLS_UNAVAILABLE;
	if (info->cipher == TLS_CIPHER_OTHER)
		return REASON_KTLS_CIPHER;
	if (!proof_allows(options->proof, PROOF_COPY, direction, info->version, info->cipher))
		return REASON_KTLS_UNPROVED;
	return REASON_NONE;
}

/* Arm TLS_TX. REASON_NONE, or why this session's records are made in user space. False: B is of no use any more. */
static bool arm_transmit(struct attempt *attempt, const struct tls_session_info *info, enum postern_reason *refused)
{
	int error;

	*refused = kernel_tls_refused(attempt, TLS_DIRECTION_TRANSMIT, info);
	if (*refused != REASON_NONE)
		return true;
	error = tls_session_arm_transmit(attempt->session);
	if (error == -EIO) {
		attempt_refuse(attempt, REASON_KERNEL_TLS_FAILED, "TLS_TX failed half way");
		return false;
	}
	if (error)
		*refused = error == -ENOENT ? REASON_KTLS_CIPHER : REASON_KERNEL_TLS_FAILED;
	attempt->transmit_armed = error == 0;
	return true;
}

static void verified(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	struct tls_session_info info;
	enum postern_reason refused;
	int error;

	tls_session_info(attempt->session, &info);
	traffic_handshake(attempt->gateway->traffic, monotonic_ns() - attempt->handshake_begun_ns);
	statistic_add(info.resumed ? &worker->statistics.handshakes_resumed : &worker->statistics.handshakes_full, 1);
	/* The write keys go first: a session whose TLS_TX is not armed stays in user space both ways. */
	if (!arm_transmit(attempt, &info, &refused))
		return;
	if (refused == REASON_NONE)
		refused = kernel_tls_refused(attempt, TLS_DIRECTION_RECEIVE, &info);
	attempt->user_mode_reason = refused;
	if (refused != REASON_NONE) {
		failures_count(worker->options.failures, refused);
		if (attempt->settings->ktls == SWITCH_REQUIRE) {
			attempt_refuse(attempt, refused, "the policy requires kernel TLS");
			return;
		}
	}
	error = set_witness(attempt, POSTERN_B_ARMED);
	if (error) {
		refuse_errno(attempt, reason_of_errno(-error, REASON_INTERNAL), "the witness's storage", -error);
		return;
	}
	worker_trace(worker, TRACE_HANDSHAKE, attempt_subject(attempt), refused, "%s %s, %s, verified as %s",
	             tls_version_name(info.version), info.cipher_name, info.resumed ? "resumed" : "full",
	             info.peer_identity);
	attempt_ready(attempt);
}

static void note_answer(struct attempt *attempt)
{
	handshake_line_answered(&attempt->worker->line, attempt->handshake_number, &attempt->connect.socket.destination,
	                        monotonic_ns());
}

static void step_handshake(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	int error = 0;

	switch (tls_session_handshake(attempt->session)) {
	case TLS_STEP_DONE:
		note_answer(attempt);
		verified(attempt);
		return;
	case TLS_STEP_WANT_READ:
		error = loop_set_events(worker->loop, &attempt->b_source, EPOLLIN);
		break;
	case TLS_STEP_WANT_WRITE:
		error = loop_set_events(worker->loop, &attempt->b_source, EPOLLOUT);
		break;
	case TLS_STEP_FAILED:
		note_answer(attempt);
		attempt_refuse(attempt, tls_session_reason(attempt->session), tls_session_detail(attempt->session));
		return;
	}
	if (error)
		refuse_errno(attempt, reason_of_errno(-error, REASON_INTERNAL), "epoll", -error);
}

/* A step costs hundreds of microseconds; to know whose they are costs one of them. */
static void step_measured(struct attempt *attempt)
{
	struct traffic_handshakes *traffic = attempt->gateway->traffic; /* the attempt may be gone afterwards */
	uint64_t before = traffic ? traffic_cpu_ns() : 0;

	step_handshake(attempt);
	if (traffic)
		traffic_add(&traffic->cpu_ns, traffic_cpu_ns() - before);
}

static void await_step(struct attempt *attempt, uint64_t now)
{
	if (!attempt->list)
		attempt->queued_ns = now;
	attempt_list_append(&attempt->worker->steps, attempt);
}

static uint64_t handshake_limit(const struct attempt *attempt)
{
	return limit_of(attempt->settings->handshake_timeout_ms, attempt->worker->options.handshake_limit_ns);
}

/* What it has waited for its turn, of the time that its limit runs. */
static uint64_t queued_for(const struct attempt *attempt, uint64_t now)
{
	uint64_t from = attempt->queued_ns > attempt->limit_from_ns ? attempt->queued_ns : attempt->limit_from_ns;

	return attempt->list ? now - from : 0;
}

/* The backend was at work on those before it until then. */
static void move_limit(struct attempt *attempt)
{
	uint64_t moved = handshake_line_moved_ns(&attempt->worker->line, attempt->handshake_number,
	                                         &attempt->connect.socket.destination);

	if (moved <= attempt->limit_from_ns)
		return;
	attempt->limit_from_ns = moved;
	attempt->queue_ns = 0;
}

/*
 * The limit is the backend's. In a crowd a handshake waits longer for the worker than for its backend, and there for
 * those before it; if that counted, all of them would be worked at and few would be finished in time (seen: 40 of 300,
 * then 63, where the machine did seven a second). And if the agent itself stood still (SIGSTOP) until the limit had
 * passed, what the backend has said meanwhile has one last turn. How long all of it may last is G's own timer's to say.
 */
bool dial_handshake_expired(struct attempt *attempt)
{
	uint64_t now = monotonic_ns(), limit = handshake_limit(attempt), used, wait = TURN_NS;

	move_limit(attempt);
	used = now - attempt->limit_from_ns - attempt->queue_ns - queued_for(attempt, now);
	if (used < limit)
		wait = limit - used;
	else if (attempt->list && (!attempt->last_turn_ns || attempt->last_turn_ns == attempt->queued_ns))
		attempt->last_turn_ns = attempt->queued_ns;
	else
		return true;
	return loop_timer_set(attempt->worker->loop, &attempt->timer, wait) != 0;
}

bool dial_run_handshakes(struct worker *worker, uint64_t budget_ns)
{
	uint64_t end = 0;

	while (worker->steps.head) {
		struct attempt *attempt = worker->steps.head;
		uint64_t now = monotonic_ns();

		if (end == 0)
			end = now + budget_ns;
		else if (now >= end)
			return true;
		attempt->queue_ns += queued_for(attempt, now); /* the agent's own time */
		attempt_list_remove(attempt);
		step_measured(attempt);
	}
	return false;
}

static void connected(struct attempt *attempt)
{
	const struct tls_session_owner owner = {
	        .gateway_id = attempt->gateway->gateway->id,
	        .backend = attempt->connect.socket.destination,
	        .client_certificate = attempt->client_certificate,
	};
	struct worker *worker = attempt->worker;
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(attempt->b_fd, SOL_SOCKET, SO_ERROR, &error, &length) == -1)
		error = errno;
	if (error) {
		refuse_errno(attempt, dial_reason(error), "connect", error);
		return;
	}
	if (attempt->verdict == POSTERN_VERDICT_PLAIN) {
		attempt_ready(attempt);
		return;
	}
	error = tls_session_new(attempt->context, attempt->b_fd, &owner, &attempt->session);
	if (!error)
		error = loop_timer_set(worker->loop, &attempt->timer, handshake_limit(attempt));
	if (error) {
		refuse_errno(attempt, REASON_NO_MEMORY, "TLS session", -error);
		return;
	}
	attempt->handshake_begun_ns = attempt->limit_from_ns = monotonic_ns();
	attempt->handshake_number = handshake_line_join(&worker->line);
	attempt->queue_ns = attempt->last_turn_ns = 0;
	attempt->state = ATTEMPT_HANDSHAKE;
	await_step(attempt, attempt->handshake_begun_ns);
}

void dial_on_event(struct attempt *attempt, uint32_t events)
{
	(void)events; /* errors show up in SO_ERROR and in the handshake's own reads */
	switch (attempt->state) {
	case ATTEMPT_DIALING:
		connected(attempt);
		break;
	case ATTEMPT_HANDSHAKE:
		await_step(attempt, monotonic_ns());
		break;
	case ATTEMPT_ORPHAN:
	case ATTEMPT_WAITING:
	case ATTEMPT_READY:
	case ATTEMPT_RELEASED:
	case ATTEMPT_REFUSED:
	case ATTEMPT_ACCEPTED:
		loop_remove(attempt->worker->loop, &attempt->b_source);
		break;
	}
}

void dial_cancel(struct attempt *attempt)
{
	attempt_list_remove(attempt);
	loop_remove(attempt->worker->loop, &attempt->b_source);
	tls_session_free(attempt->session);
	attempt->session = NULL;
	if (attempt->b_fd >= 0)
		close(attempt->b_fd); /* a reset: SO_LINGER{1,0} */
	attempt->b_fd = -1;
}
