// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_hold.c: connect-hold: what the worker is told, and that nothing but its own SYN completes a connect().
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "datapath/packet.h"
#include "hooks_fixture.h"

#define TARGET_V4 "198.51.100.10"
#define TARGET_V6 "fd00:99::10"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	set_destination(fixture, TARGET_V4, 443, POSTERN_VERDICT_TLS, 1);
	set_destination(fixture, TARGET_V6, 443, POSTERN_VERDICT_TLS, 1);
}

/* G, after connect(); its SYN record in *syn. */
static int held(struct fixture *fixture, const char *address, const struct postern_syn_record **syn)
{
	int g = g_socket(fixture, strchr(address, ':') ? AF_INET6 : AF_INET);

	expect_error(fixture, "connect()", EINPROGRESS, dial(g, address, 443));
	*syn = await_syn(fixture, local_port(g), 0, PATIENCE_MS);
	expect_number(fixture, "a SYN record", 1, *syn != NULL);
	return g;
}

static void records(struct fixture *fixture)
{
	static const char *const addresses[] = {TARGET_V4, TARGET_V6};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		const struct postern_syn_record *syn;
		_cleanup_close_ int g = held(fixture, addresses[i], &syn);
		const struct postern_connect_record *connect = await_record(fixture, POSTERN_RECORD_CONNECT,
		                                                            local_port(g), 0, PATIENCE_MS);

		if (!syn || !expect_number(fixture, "a CONNECT record", 1, connect != NULL))
			continue;
		expect_number(fixture, "sequence numbers that agree", syn->header.isn, connect->header.isn);
		expect_number(fixture, "tuples that agree", 0,
		              memcmp(&syn->header.tuple, &connect->header.tuple, sizeof(syn->header.tuple)));
		expect_number(fixture, "family", i == 0 ? AF_INET : AF_INET6, syn->family);
		expect_at_least(fixture, "length of the SYN's header", 20, syn->tcp_header_length);
		expect_number(fixture, "the header's own length", syn->tcp_header_length,
		              (syn->tcp_header[12] >> 4) * 4);
		expect_number(fixture, "its flags", 0x02, syn->tcp_header[13] & 0x3f);
		expect_at_least(fixture, "time of the SYN after CONNECT, ns", 0,
		                (long long)(syn->header.time_ns - connect->header.time_ns));
		expect_number(fixture, "G's cookie is set", 1, connect->socket.cookie != 0);
		expect_number(fixture, "no lane slot", POSTERN_NO_LANE_SLOT, connect->socket.lane_slot);
	}
}

/* What B must copy from G. */
static void mark_and_tos(struct fixture *fixture)
{
	static const struct {
		int family;
		const char *address;
		int level, option;
	} cases[] = {
	        {AF_INET, TARGET_V4, IPPROTO_IP, IP_TOS},
	        {AF_INET6, TARGET_V6, IPPROTO_IPV6, IPV6_TCLASS},
	        {AF_INET6, "::ffff:" TARGET_V4, IPPROTO_IP, IP_TOS},
	};
	const int mark = 0x4321, tos = 0x28;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_close_ int g = g_socket(fixture, cases[i].family);
		const struct postern_connect_record *connect;

		expect_number(fixture, "SO_MARK", 0, setsockopt(g, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)));
		expect_number(fixture, "TOS", 0, setsockopt(g, cases[i].level, cases[i].option, &tos, sizeof(tos)));
		dial(g, cases[i].address, 443);
		connect = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, PATIENCE_MS);
		if (!expect_number(fixture, "a CONNECT record", 1, connect != NULL))
			continue;
		expect_number(fixture, "its mark", mark, connect->socket_mark);
		expect_number(fixture, "its TOS", tos, connect->tos);
	}
}

static void blocking_flag(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket_of(fixture, AF_INET, SOCK_STREAM, 0);
	const struct timeval soon = {.tv_usec = 100000};
	const struct postern_connect_record *connect;

	setsockopt(g, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
	expect_error(fixture, "a blocking connect() that nobody answers", EINPROGRESS, dial(g, TARGET_V4, 443));
	connect = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, PATIENCE_MS);
	if (expect_number(fixture, "a CONNECT record", 1, connect != NULL))
		expect_number(fixture, "its flags", 0, connect->socket.flags);
}

static void bound_source(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	const struct postern_connect_record *connect;
	struct sockaddr_storage source;
	socklen_t length = socket_address("198.51.100.1", 0, &source);
	char text[ADDRESS_TEXT_MAX];

	expect_number(fixture, "bind()", 0, bind(g, (struct sockaddr *)&source, length));
	dial(g, TARGET_V4, 443);
	connect = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, PATIENCE_MS);
	if (!expect_number(fixture, "a CONNECT record", 1, connect != NULL))
		return;
	expect_number(fixture, "flags", POSTERN_G_BOUND | POSTERN_G_NONBLOCK, connect->socket.flags);
	expect_text(fixture, "source", "198.51.100.1", address_format(&connect->header.tuple.local, text));
	_cleanup_close_ int a = establish(fixture, g);
}

static void retransmit(struct fixture *fixture)
{
	const struct postern_syn_record *syn;
	_cleanup_close_ int g = held(fixture, TARGET_V4, &syn);
	uint16_t port = local_port(g);
	uint32_t isn = syn ? syn->header.isn : 0;
	const struct postern_syn_record *second = await_syn(fixture, port, 1, RETRANSMIT_MS);
	const struct postern_connect_record *again = await_record(fixture, POSTERN_RECORD_CONNECT, port, 1,
	                                                          PATIENCE_MS);

	if (!expect_number(fixture, "the second SYN record", 1, second != NULL) ||
	    !expect_number(fixture, "the second CONNECT record", 1, again != NULL))
		return;
	expect_number(fixture, "sequence number of the second SYN", isn, second->header.isn);
	expect_number(fixture, "sequence number of the second CONNECT", isn, again->header.isn);
	expect_number(fixture, "destination port in it", 443, ntohs(again->socket.destination.port));
	send_syn_again(fixture, second);
	expect_error(fixture, "connect() after the release", 0, await_connected(g, PATIENCE_MS));
	_cleanup_close_ int a = await_accept(listener_of(fixture, second), PATIENCE_MS);
	expect_number(fixture, "A", 1, a >= 0);
}

static void gone(struct fixture *fixture)
{
	const struct postern_syn_record *syn;
	int g = held(fixture, TARGET_V4, &syn);
	uint16_t port = local_port(g);

	close(g);
	expect_number(fixture, "a GONE record", 1,
	              await_record(fixture, POSTERN_RECORD_GONE, port, 0, PATIENCE_MS) != NULL);
	expect_number(fixture, "a CLOSED record", 0, await_record(fixture, POSTERN_RECORD_CLOSED, port, 0, 0) != NULL);
}

static void refused(struct fixture *fixture)
{
	static const struct {
		const char *address;
		bool unreachable;
		int error;
	} cases[] = {
	        {TARGET_V4, false, ECONNREFUSED},
	        {TARGET_V6, false, ECONNREFUSED},
	        {TARGET_V4, true, EHOSTUNREACH},
	        {TARGET_V6, true, EHOSTUNREACH},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct postern_syn_record *syn;
		_cleanup_close_ int g = held(fixture, cases[i].address, &syn);
		uint16_t port = local_port(g);

		if (!syn)
			return;
		refuse_syn(fixture, syn, cases[i].unreachable);
		expect_error(fixture, cases[i].address, cases[i].error, await_connected(g, PATIENCE_MS));
		expect_number(fixture, "a GONE record", 1,
		              await_record(fixture, POSTERN_RECORD_GONE, port, 0, PATIENCE_MS) != NULL);
	}
}

static int raw_socket(int family, uint32_t priority)
{
	int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);

	setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof(priority));
	return fd;
}

/* Somebody in the namespace forges the released SYN without the secret. */
static void wrong_priority(struct fixture *fixture)
{
	static const char *const addresses[] = {TARGET_V4, TARGET_V6};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		const struct postern_syn_record *syn;
		_cleanup_close_ int g = held(fixture, addresses[i], &syn);
		_cleanup_close_ int raw = raw_socket(i == 0 ? AF_INET : AF_INET6,
		                                     hooks_release_priority(fixture->hooks) + 1);
		long long held_before = counter(fixture, POSTERN_COUNT_SYN_HELD);
		long long released_before = counter(fixture, POSTERN_COUNT_SYN_RELEASED);
		struct sockaddr_storage address;
		struct packet packet;

		if (!syn || packet_syn(syn, &packet) != 0)
			return;
		socklen_t length = address_to_sockaddr(&packet.destination, 0, &address);
		expect_number(fixture, "sendto()", (long long)packet.length,
		              sendto(raw, packet.bytes, packet.length, 0, (struct sockaddr *)&address, length));
		/* The kernel may put off what sendto() has put into the loopback's queue. */
		expect_number(fixture, "syn_held", held_before + 1,
		              await_counter(fixture, POSTERN_COUNT_SYN_HELD, held_before + 1, PATIENCE_MS));
		expect_number(fixture, "syn_released", released_before, counter(fixture, POSTERN_COUNT_SYN_RELEASED));
		expect_error(fixture, "connect()", ETIMEDOUT, await_connected(g, 0));
		expect_number(fixture, "accept()", -1, await_accept(listener_of(fixture, syn), 0));
	}
}

/* A process that no gateway is, at the agent's port: its SYN is held, and no CONNECT record comes with it. */
static void direct_dial(struct fixture *fixture)
{
	_cleanup_close_ int stranger = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	dial(stranger, "127.0.0.1", fixture->gateway->listeners[0].port);
	uint16_t port = local_port(stranger);
	const struct postern_syn_record *syn = await_syn(fixture, port, 0, PATIENCE_MS);
	expect_number(fixture, "a SYN record", 1, syn != NULL);
	expect_number(fixture, "a CONNECT record", 0,
	              await_record(fixture, POSTERN_RECORD_CONNECT, port, 0, 0) != NULL);
	expect_error(fixture, "its connect()", ETIMEDOUT, await_connected(stranger, 0));
}

/* G at the agent's port: to the hook it is a destination like any other, to the worker a SYN that nobody announced. */
static void direct_dial_of_gateway(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);

	dial(g, "127.0.0.1", fixture->gateway->listeners[0].port);
	expect_number(fixture, "a SYN record", 1, await_syn(fixture, local_port(g), 0, PATIENCE_MS) != NULL);
	expect_number(fixture, "a CONNECT record", 0,
	              await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, 0) != NULL);
}

/* A SYN with FIN is none. (A wrong header length or checksum the kernel drops before the filter.) */
static void malformed(struct fixture *fixture)
{
	const struct postern_syn_record *syn;
	_cleanup_close_ int g = held(fixture, TARGET_V4, &syn);
	_cleanup_close_ int raw = raw_socket(AF_INET, 0);
	long long unparsed = counter(fixture, POSTERN_COUNT_SYN_UNPARSED);
	struct sockaddr_storage address;
	struct packet packet;

	if (!syn || packet_syn(syn, &packet) != 0)
		return;
	uint8_t *tcp = packet.bytes + 20;
	uint32_t checksum = (uint32_t)tcp[16] << 8 | tcp[17];
	tcp[13] |= 0x01;
	/* RFC 1624: a word that grows by one takes one from the sum's complement. */
	checksum = checksum == 0 ? 0xfffe : checksum - 1;
	tcp[16] = (uint8_t)(checksum >> 8);
	tcp[17] = (uint8_t)checksum;
	socklen_t length = address_to_sockaddr(&packet.destination, 0, &address);
	expect_number(fixture, "sendto()", (long long)packet.length,
	              sendto(raw, packet.bytes, packet.length, 0, (struct sockaddr *)&address, length));
	expect_number(fixture, "syn_unparsed", unparsed + 1,
	              await_counter(fixture, POSTERN_COUNT_SYN_UNPARSED, unparsed + 1, PATIENCE_MS));
	expect_error(fixture, "connect()", ETIMEDOUT, await_connected(g, 0));
}

static void mptcp(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket_of(fixture, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_MPTCP);
	const struct postern_connect_record *connect;

	if (g == -1) {
		fixture_skip(fixture, "this kernel has no MPTCP");
		return;
	}
	expect_error(fixture, "connect()", EINPROGRESS, dial(g, TARGET_V4, 443));
	_cleanup_close_ int a = establish(fixture, g);
	connect = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, 0);
	if (connect)
		expect_number(fixture, "the MPTCP flag", POSTERN_G_MPTCP, connect->socket.flags & POSTERN_G_MPTCP);
	char byte = 'm';
	expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
	expect_number(fixture, "bytes at A", 1, await_bytes(a, &byte, 1, PATIENCE_MS));
}

/* Records are lost when nobody reads the ring; G's next SYN brings both again. */
static void full_ring(struct fixture *fixture)
{
	long long full = counter(fixture, POSTERN_COUNT_RING_FULL);
	size_t limit = 2 * 2 * POSTERN_RING_BYTES / sizeof(struct postern_syn_record), opened = 0;
	int last = -1;

	shell("sysctl -w net.ipv4.ip_local_port_range='16000 60000'");
	while (counter(fixture, POSTERN_COUNT_RING_FULL) < full + 4 && opened++ < limit) {
		if (last >= 0)
			close(last); /* a GONE record, too */
		last = g_socket(fixture, AF_INET);
		dial(last, TARGET_V4, 443);
	}
	_cleanup_close_ int g = last;
	expect_at_least(fixture, "ring_full", full + 4, counter(fixture, POSTERN_COUNT_RING_FULL));
	forget_records(fixture); /* ports were used several times */
	const struct postern_syn_record *syn = await_syn(fixture, local_port(g), 0, RETRANSMIT_MS);
	if (!expect_number(fixture, "the SYN record of the retransmit", 1, syn != NULL))
		return;
	_cleanup_close_ int a = establish(fixture, g);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"CONNECT and SYN agree", records},
	        {"mark and TOS of G", mark_and_tos},
	        {"a blocking G", blocking_flag},
	        {"a bound source", bound_source},
	        {"SYN retransmit: both records again", retransmit},
	        {"G gives up: GONE", gone},
	        {"refused: RST and ICMP", refused},
	        {"forged: the wrong priority", wrong_priority},
	        {"forged: a stranger at the agent's port", direct_dial},
	        {"forged: G at the agent's port", direct_dial_of_gateway},
	        {"forged: SYN and FIN", malformed},
	        {"MPTCP", mptcp},
	        {"a full ring heals", full_ring},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
