// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_fixture_worker.c: the worker's part: records read from the rings, SYNs released or refused, A accepted.
 */
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/loop.h"
#include "datapath/packet.h"
#include "hooks_fixture.h"

/* Far more than both rings hold, so that none moves: a row keeps pointers to some while it reads others. */
#define RECORDS_MAX 100000

static void append(void *array, size_t *count, const void *record, size_t size)
{
	if (*count == RECORDS_MAX)
		abort();
	memcpy((char *)array + (*count)++ * size, record, size);
}

static int on_record(void *context, void *data, size_t size)
{
	struct fixture *fixture = context;
	const struct postern_record_header *header = data;

	if (header->type == POSTERN_RECORD_SYN && size >= sizeof(struct postern_syn_record))
		append(fixture->syns, &fixture->syn_count, data, sizeof(*fixture->syns));
	else if (header->type != POSTERN_RECORD_SYN && size >= sizeof(struct postern_connect_record))
		append(fixture->connects, &fixture->connect_count, data, sizeof(*fixture->connects));
	else
		expect_number(fixture, "size of a record", sizeof(struct postern_connect_record), (long long)size);
	return 0;
}

void fixture_open_rings(struct fixture *fixture)
{
	fixture->connects = calloc(RECORDS_MAX, sizeof(*fixture->connects));
	fixture->syns = calloc(RECORDS_MAX, sizeof(*fixture->syns));
	if (!fixture->connects || !fixture->syns)
		abort();
	for (unsigned int worker = 0; worker < fixture->options.worker_count; worker++) {
		int fd = hooks_ring_fd(fixture->hooks, worker), error = 0;

		if (!fixture->ring)
			fixture->ring = ring_buffer__new(fd, on_record, fixture, NULL);
		else
			error = ring_buffer__add(fixture->ring, fd, on_record, fixture);
		if (!fixture->ring || error) {
			printf("     cannot go on: ring of worker %u: %s\n", worker, strerror(errno));
			exit(1);
		}
	}
}

void fixture_close_rings(struct fixture *fixture)
{
	ring_buffer__free(fixture->ring);
	fixture->ring = NULL;
	free(fixture->connects);
	free(fixture->syns);
	fixture->connects = NULL;
	fixture->syns = NULL;
	fixture->connect_count = fixture->syn_count = 0;
}

void forget_records(struct fixture *fixture)
{
	if (fixture->ring)
		ring_buffer__consume(fixture->ring);
	fixture->connect_count = fixture->syn_count = 0;
}

void read_records(struct fixture *fixture, int milliseconds)
{
	ring_buffer__poll(fixture->ring, milliseconds);
}

static const struct postern_connect_record *find_record(const struct fixture *fixture, enum postern_record_type type,
                                                        uint16_t port, size_t nth)
{
	for (size_t i = 0; i < fixture->connect_count; i++) {
		const struct postern_record_header *header = &fixture->connects[i].header;

		if (header->type == (uint32_t)type && header->tuple.local_port == port && nth-- == 0)
			return &fixture->connects[i];
	}
	return NULL;
}

static const struct postern_syn_record *find_syn(const struct fixture *fixture, uint16_t port, size_t nth)
{
	for (size_t i = 0; i < fixture->syn_count; i++) {
		if (fixture->syns[i].header.tuple.local_port == port && nth-- == 0)
			return &fixture->syns[i];
	}
	return NULL;
}

static int milliseconds_until(uint64_t deadline)
{
	uint64_t now = monotonic_ns();

	return now >= deadline ? 0 : (int)((deadline - now) / 1000000) + 1;
}

const struct postern_connect_record *await_record(struct fixture *fixture, enum postern_record_type type, uint16_t port,
                                                  size_t nth, int milliseconds)
{
	uint64_t deadline = monotonic_ns() + (uint64_t)milliseconds * 1000000;

	read_records(fixture, 0);
	while (!find_record(fixture, type, port, nth) && milliseconds_until(deadline) > 0)
		read_records(fixture, milliseconds_until(deadline));
	return find_record(fixture, type, port, nth);
}

const struct postern_syn_record *await_syn(struct fixture *fixture, uint16_t port, size_t nth, int milliseconds)
{
	uint64_t deadline = monotonic_ns() + (uint64_t)milliseconds * 1000000;

	read_records(fixture, 0);
	while (!find_syn(fixture, port, nth) && milliseconds_until(deadline) > 0)
		read_records(fixture, milliseconds_until(deadline));
	return find_syn(fixture, port, nth);
}

static void send_packet(struct fixture *fixture, const struct packet *packet)
{
	int fd = packet->family == AF_INET ? fixture->gateway->raw_v4 : fixture->gateway->raw_v6;
	struct sockaddr_storage address;
	socklen_t length = address_to_sockaddr(&packet->destination, 0, &address);
	ssize_t sent = sendto(fd, packet->bytes, packet->length, 0, (struct sockaddr *)&address, length);

	expect_error(fixture, "sending by raw socket", 0, sent == -1 ? errno : 0);
}

void send_syn_again(struct fixture *fixture, const struct postern_syn_record *syn)
{
	struct packet packet;

	if (expect_number(fixture, "packet_syn()", 0, packet_syn(syn, &packet)))
		send_packet(fixture, &packet);
}

void refuse_syn(struct fixture *fixture, const struct postern_syn_record *syn, bool unreachable)
{
	struct packet packet;
	int error = unreachable ? packet_unreachable(syn, &packet) : packet_reset(syn, &packet);

	if (expect_number(fixture, "the refusing packet", 0, error))
		send_packet(fixture, &packet);
}

int listener_of(struct fixture *fixture, const struct postern_syn_record *syn)
{
	for (size_t i = 0; i < fixture->gateway->listener_count; i++) {
		const struct gateway_listener *listener = &fixture->gateway->listeners[i];

		if (listener->cookie_v4 == syn->listener_cookie)
			return listener->fd_v4;
		if (listener->cookie_v6 == syn->listener_cookie)
			return listener->fd_v6;
	}
	expect_number(fixture, "a listener with the record's cookie", 1, 0);
	return -1;
}

int establish(struct fixture *fixture, int g)
{
	uint16_t port = local_port(g);
	const struct postern_connect_record *connect = await_record(fixture, POSTERN_RECORD_CONNECT, port, 0,
	                                                            PATIENCE_MS);
	const struct postern_syn_record *syn = await_syn(fixture, port, 0, PATIENCE_MS);
	int a;

	expect_number(fixture, "a CONNECT record", 1, connect != NULL);
	expect_number(fixture, "a SYN record", 1, syn != NULL);
	if (!connect || !syn)
		return -1;
	expect_number(fixture, "the SYN's sequence number, by the CONNECT record", syn->header.isn,
	              connect->header.isn);
	expect_error(fixture, "connect() before the release", ETIMEDOUT, await_connected(g, 0));
	send_syn_again(fixture, syn);
	expect_error(fixture, "connect() after the release", 0, await_connected(g, PATIENCE_MS));
	a = await_accept(listener_of(fixture, syn), PATIENCE_MS);
	if (expect_number(fixture, "accept() of A", 1, a >= 0))
		setsockopt(a, SOL_SOCKET, SO_DETACH_FILTER, NULL, 0);
	return a;
}
