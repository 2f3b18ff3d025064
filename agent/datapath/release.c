/* SPDX-License-Identifier: GPL-2.0-only */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/failures.h"
#include "datapath/packet.h"
#include "datapath/worker_internal.h"

/* From the release to accept(): both happen on loopback inside one call, so a second means that G is gone. */
#define ACCEPT_LIMIT_NS 1000000000ull

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
		error = loop_timer_set(worker->loop, &attempt->timer, ACCEPT_LIMIT_NS);
	}
	if (!error)
		error = send_packet(attempt->gateway, &packet);
	if (error) {
		snprintf(detail, sizeof(detail), "sending the SYN again: %s", strerror(-error));
		attempt_refuse(attempt, REASON_RELEASE_FAILED, detail);
		return;
	}
	release_accept(listener,
	               attempt->syn.family == AF_INET ? listener->listener->fd_v4 : listener->listener->fd_v6);
}

void release_refusal(struct attempt *attempt)
{
	struct packet packet;
	int error = attempt->unreachable ? packet_unreachable(&attempt->syn, &packet)
	                                 : packet_reset(&attempt->syn, &packet);

	if (!error)
		error = send_packet(attempt->gateway, &packet);
	/* G's own timer ends it, then: it waits longer, and nothing is let through. */
	if (error)
		failures_count(attempt->worker->options.failures, REASON_RELEASE_FAILED);
	else
		attempt->answered = true;
}

/* One accepted socket: it belongs to a released attempt, or it is reset without being read. */
static void accepted(struct worker_listener *listener, int a_fd, const struct sockaddr_storage *peer)
{
	struct worker *worker = listener->worker;
	struct postern_tuple tuple = {.remote_port = listener->listener->port};
	struct attempt *attempt = NULL;

	if (address_from_sockaddr(peer, &tuple.local, &tuple.local_port) == 0)
		attempt = attempt_find(worker, listener->gateway, &tuple);
	if (!attempt || attempt->state != ATTEMPT_RELEASED) {
		const struct postern_destination_key unknown = {0};

		/* SO_LINGER{1,0} is inherited from the listener, so this is a reset. */
		close(a_fd);
		worker_report(worker, listener->gateway, tuple.local_port,
		              attempt ? &attempt->connect.socket.destination : &unknown, "", REASON_UNVERIFIED_ACCEPT,
		              "");
		return;
	}
	connection_start(attempt, a_fd);
}

void release_accept(struct worker_listener *listener, int listener_fd)
{
	for (;;) {
		struct sockaddr_storage peer;
		socklen_t length = sizeof(peer);
		int a_fd = accept4(listener_fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (a_fd == -1) {
			if (errno == ECONNABORTED || errno == EINTR)
				continue;
			if (errno == EMFILE || errno == ENFILE)
				failures_count(listener->worker->options.failures, REASON_NO_DESCRIPTORS);
			return;
		}
		accepted(listener, a_fd, &peer);
	}
}
