/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/failures.h"
#include "datapath/packet.h"
#include "datapath/worker_internal.h"

/* From the release to accept(): both happen on loopback inside one call, so a second means that G is gone. */
#define ACCEPT_LIMIT_NS 1000000000ull
/* It could not be sent, and waits for another SYN of G. */
#define RESEND_LIMIT_NS 5000000000ull
/* Without a descriptor or memory even to reset what is in the accept queue. */
#define ACCEPT_REST_NS 10000000ull

/* 0 or negative errno. */
static int send_packet(const struct worker_gateway *gateway, const struct packet *packet)
{
	int fd = packet->family == AF_INET ? gateway->gateway->raw_v4 : gateway->gateway->raw_v6;
	struct sockaddr_storage destination;
	/* Raw IPv6 sockets refuse a port. */
	socklen_t length = address_to_sockaddr(&packet->destination, 0, &destination);

	if (fd < 0)
		return -EAFNOSUPPORT;
	if (sendto(fd, packet->bytes, packet->length, 0, (struct sockaddr *)&destination, length) == -1)
		return -errno;
	return 0;
}

static bool accept_next(struct worker_listener *listener, int listener_fd);

static int descriptor_for(const struct worker_listener *listener, const struct attempt *attempt)
{
	return attempt->syn.family == AF_INET ? listener->listener->fd_v4 : listener->listener->fd_v6;
}

void release_syn(struct attempt *attempt)
{
	struct worker *worker = attempt->worker;
	struct worker_listener *listener = worker_find_listener(worker, attempt->syn.listener_cookie);
	struct packet packet;
	char detail[96];
	int error = listener ? packet_syn(&attempt->syn, &packet) : -ENOENT;

	if (!error) {
		/* Before the packet: the whole handshake runs inside the call, and accept() looks at the state. */
		attempt->state = ATTEMPT_RELEASED;
		(void)loop_timer_set(worker->loop, &attempt->timer, ACCEPT_LIMIT_NS);
		error = send_packet(attempt->gateway, &packet);
	}
	if (error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM) {
		/* As if the packet were lost: G's next SYN comes a second after the last, or two. */
		attempt_enter(attempt, ATTEMPT_READY, RESEND_LIMIT_NS);
		return;
	}
	if (error) {
		snprintf(detail, sizeof(detail), "sending the SYN again: %s", strerror(-error));
		attempt_refuse(attempt, REASON_RELEASE_FAILED, detail);
		return;
	}
	/* As a rule it is alone in the queue: the loop tells of what else is there. */
	(void)accept_next(listener, descriptor_for(listener, attempt));
}

static bool send_refusal(struct worker *worker, const struct worker_gateway *gateway, const struct packet *packet)
{
	/* G's own timer ends it, then: it waits longer, and nothing is let through. */
	if (send_packet(gateway, packet) == 0)
		return true;
	failures_count(worker->options.failures, REASON_RELEASE_FAILED);
	return false;
}

void release_refusal(struct attempt *attempt)
{
	struct packet packet;
	int error = attempt->unreachable ? packet_unreachable(&attempt->syn, &packet)
	                                 : packet_reset(&attempt->syn, &packet);

	if (!error && send_refusal(attempt->worker, attempt->gateway, &packet))
		attempt->answered = true;
}

void release_reset(struct worker *worker, const struct worker_gateway *gateway, const struct postern_syn_record *syn)
{
	struct packet packet;

	if (packet_reset(syn, &packet) == 0)
		(void)send_refusal(worker, gateway, &packet);
}

static struct attempt *attempt_of_peer(struct worker_listener *listener, const struct sockaddr_storage *peer,
                                       struct postern_tuple *tuple)
{
	*tuple = (struct postern_tuple){.remote_port = listener->listener->port};
	if (address_from_sockaddr(peer, &tuple->local, &tuple->local_port) != 0)
		return NULL;
	return attempt_find(listener->worker, listener->gateway, tuple);
}

/* One accepted socket: it belongs to a released attempt, or it is reset without being read. */
static void accepted(struct worker_listener *listener, int a_fd, const struct sockaddr_storage *peer)
{
	const struct postern_destination_key unknown = {0};
	struct postern_tuple tuple;
	struct attempt *attempt = attempt_of_peer(listener, peer, &tuple);
	struct trace_subject subject = {
	        .gateway = listener->gateway,
	        .gateway_port = tuple.local_port,
	        .destination = &unknown,
	        .verdict = TRACE_NO_VERDICT,
	};

	if (attempt && attempt->state == ATTEMPT_RELEASED) {
		if (gate_is_dialed(attempt))
			gate_answer(attempt, a_fd);
		else
			connection_start(attempt, a_fd);
		return;
	}
	/* SO_LINGER{1,0} is inherited from the listener, so this is a reset. */
	close(a_fd);
	if (attempt)
		subject = attempt_subject(attempt);
	worker_report(listener->worker, subject, "", REASON_UNVERIFIED_ACCEPT, "");
}

static int accept_one(int listener_fd, struct sockaddr_storage *peer)
{
	socklen_t length = sizeof(*peer);

	return accept4(listener_fd, (struct sockaddr *)peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void look_again(struct worker_listener *listener, uint32_t events)
{
	struct loop *loop = listener->worker->loop;

	if (listener->source_v4.registered)
		(void)loop_set_events(loop, &listener->source_v4, events);
	if (listener->source_v6.registered)
		(void)loop_set_events(loop, &listener->source_v6, events);
}

static void on_rested(struct loop_timer *timer)
{
	look_again(container_of(timer, struct worker_listener, rest), EPOLLIN);
}

/*
 * What is in the queue can be neither accepted nor reset now, and announces itself in every round: it is looked at
 * again in a moment.
 */
static void rest(struct worker_listener *listener)
{
	listener->rest.on_expire = on_rested;
	if (loop_timer_set(listener->worker->loop, &listener->rest, ACCEPT_REST_NS) == 0)
		look_again(listener, 0);
}

/*
 * There is no descriptor, or no memory for one, for what is in the queue, and as long as it is there the loop would not
 * rest. The spare one is given up for a moment to reset it. False: not even that was possible.
 */
static bool shed(struct worker_listener *listener, int listener_fd, enum postern_reason reason)
{
	struct worker *worker = listener->worker;
	struct sockaddr_storage peer;
	struct postern_tuple tuple;
	struct attempt *attempt;
	int a_fd;

	failures_count(worker->options.failures, reason);
	if (worker->spare_fd != -1)
		close(worker->spare_fd);
	a_fd = accept_one(listener_fd, &peer);
	if (a_fd != -1) {
		close(a_fd);
		attempt = attempt_of_peer(listener, &peer, &tuple);
		if (attempt)
			attempt_refuse(attempt, reason, "accept");
	}
	worker->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return a_fd != -1;
}

/* False: the queue is empty, or cannot be emptied now. */
static bool accept_next(struct worker_listener *listener, int listener_fd)
{
	struct sockaddr_storage peer;
	int a_fd = accept_one(listener_fd, &peer);
	enum postern_reason reason;

	if (a_fd != -1) {
		accepted(listener, a_fd, &peer);
		return true;
	}
	reason = reason_of_errno(errno, REASON_NONE);
	if (reason == REASON_NONE)
		return errno == ECONNABORTED || errno == EINTR;
	if (shed(listener, listener_fd, reason))
		return true;
	rest(listener);
	return false;
}

void release_accept(struct worker_listener *listener, int listener_fd)
{
	while (accept_next(listener, listener_fd))
		;
}

bool release_is_over(struct attempt *attempt)
{
	const struct postern_tuple tuple = attempt->connect.header.tuple;
	struct worker *worker = attempt->worker;
	struct worker_gateway *gateway = attempt->gateway;
	struct worker_listener *listener = worker_find_listener(worker, attempt->syn.listener_cookie);

	if (listener)
		release_accept(listener, descriptor_for(listener, attempt));
	return attempt_find(worker, gateway, &tuple) == attempt && attempt->state == ATTEMPT_RELEASED;
}
