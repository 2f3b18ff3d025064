// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_guard.c: nothing plain leaves the gateway for a covered destination, whatever made the packet; and nothing
 * else is touched.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "hooks_fixture.h"

#define SERVER_PORT 8080
#define SEGMENTS    64  /* more than the guard waits for before it makes a note */
#define A_MOMENT    100 /* ms: long enough for a byte that is not dropped, on loopback */

static int server_fd;
static bool make_long; /* connections get so long that the guard notes what it found */

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	server_fd = server(SERVER_PORT);
}

static const char *const both_families[] = {"198.51.100.70", "fd00:99::70"};

static int g_for(struct fixture *fixture, const char *address)
{
	return g_socket(fixture, strchr(address, ':') ? AF_INET6 : AF_INET);
}

static bool note_of(struct fixture *fixture, int g, struct postern_judged_socket *note)
{
	return bpf_map_lookup_elem(hooks_judged_socket_fd(fixture->hooks), &g, note) == 0;
}

/* Each byte a segment of its own. */
static void lengthen(struct fixture *fixture, int g, int accepted)
{
	struct postern_judged_socket note = {0};
	const int on = 1;
	char byte = 'l';

	setsockopt(g, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (int i = 0; i < SEGMENTS; i++) {
		if (send(g, &byte, 1, 0) != 1 || await_bytes(accepted, &byte, 1, PATIENCE_MS) != 1) {
			expect_number(fixture, "segments that came", SEGMENTS, i);
			return;
		}
	}
	expect_number(fixture, "the guard's note", 1, note_of(fixture, g, &note) && note.generation != 0);
}

/* A plain connection of the gateway, up and proved by a byte. */
static int pooled(struct fixture *fixture, const char *address, int *accepted)
{
	int g = g_for(fixture, address);
	char byte = 'p';

	dial(g, address, SERVER_PORT);
	expect_error(fixture, "connect()", 0, await_connected(g, PATIENCE_MS));
	*accepted = await_accept(server_fd, PATIENCE_MS);
	expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
	expect_number(fixture, "bytes before the policy", 1, await_bytes(*accepted, &byte, 1, PATIENCE_MS));
	if (make_long)
		lengthen(fixture, g, *accepted);
	return g;
}

/* Every packet over IPv4 that arrives at the device. */
static int packets_of(const char *device)
{
	const struct sockaddr_ll place = {
	        .sll_family = AF_PACKET,
	        .sll_protocol = htons(ETH_P_IP),
	        .sll_ifindex = (int)if_nametoindex(device),
	};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd != -1 && bind(fd, (const struct sockaddr *)&place, sizeof(place)) == -1) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void expect_dropped(struct fixture *fixture, int g, int accepted)
{
	long long before = counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
	char byte = 's';

	expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
	expect_at_least(fixture, "guard_payload_dropped", before + 1,
	                await_counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED, before + 1, PATIENCE_MS));
	expect_number(fixture, "bytes at the backend", -1, await_bytes(accepted, &byte, 1, A_MOMENT));
}

static void expect_passed(struct fixture *fixture, int g, int accepted)
{
	char byte = 's';

	expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
	expect_number(fixture, "bytes at the backend", 1, await_bytes(accepted, &byte, 1, PATIENCE_MS));
}

/* ---- pooled connections ---- */

static void pooled_payload(struct fixture *fixture)
{
	static const enum postern_verdict verdicts[] = {POSTERN_VERDICT_TLS, POSTERN_VERDICT_DENY};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(both_families); i++) {
		const char *address = both_families[i / 2];
		_cleanup_close_ int accepted = -1;
		_cleanup_close_ int g = pooled(fixture, address, &accepted);

		set_destination(fixture, address, SERVER_PORT, verdicts[i % 2], 1);
		expect_dropped(fixture, g, accepted);
		/* Taken back: TCP sends what was dropped again, and it arrives. */
		delete_destination(fixture, address, SERVER_PORT);
		char byte;
		expect_number(fixture, "bytes after the policy is gone", 1,
		              await_bytes(accepted, &byte, 1, RETRANSMIT_MS));
	}
}

static void pooled_hold(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	_cleanup_close_ int g = pooled(fixture, "203.0.113.70", &accepted);

	set_cidr(fixture, "203.0.113.0/24", true);
	expect_passed(fixture, g, accepted);
	hooks_set_guarded_port(fixture->hooks, SERVER_PORT, true);
	expect_dropped(fixture, g, accepted);
	hooks_set_guarded_port(fixture->hooks, SERVER_PORT, false);
	set_cidr(fixture, "203.0.113.0/24", false);
}

static void pooled_end(struct fixture *fixture)
{
	static const struct linger reset = {.l_onoff = 1, .l_linger = 0};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(both_families); i++) {
		const char *address = both_families[i / 2];
		_cleanup_close_ int accepted = -1;
		int g = pooled(fixture, address, &accepted);
		bool abort_it = i % 2;
		char byte;

		set_destination(fixture, address, SERVER_PORT, POSTERN_VERDICT_TLS, 1);
		if (abort_it)
			setsockopt(g, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(g);
		expect_number(fixture, abort_it ? "RST at the backend" : "FIN at the backend", abort_it ? -2 : 0,
		              await_bytes(accepted, &byte, 1, PATIENCE_MS));
		delete_destination(fixture, address, SERVER_PORT);
	}
}

/* The backend's own bytes, and G's acknowledgements of them, are no secret of the gateway's. */
static void pooled_receives(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	_cleanup_close_ int g = pooled(fixture, both_families[0], &accepted);
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);
	char bytes[1000] = "";

	set_destination(fixture, both_families[0], SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	expect_number(fixture, "send() of the backend", sizeof(bytes), send(accepted, bytes, sizeof(bytes), 0));
	expect_number(fixture, "bytes at G", sizeof(bytes), await_bytes(g, bytes, sizeof(bytes), PATIENCE_MS));
	getsockopt(accepted, IPPROTO_TCP, TCP_INFO, &info, &length);
	expect_number(fixture, "unacknowledged segments", 0, info.tcpi_unacked);
	delete_destination(fixture, both_families[0], SERVER_PORT);
}

/* ---- what is not dropped ---- */

static void uncovered(struct fixture *fixture)
{
	set_cidr(fixture, "198.51.100.0/24", true);
	set_cidr(fixture, "fd00:99::/64", true);
	set_destination(fixture, "198.51.100.71", SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	for (size_t i = 0; i < ARRAY_SIZE(both_families); i++) {
		_cleanup_close_ int accepted = -1;
		_cleanup_close_ int g = pooled(fixture, both_families[i], &accepted);

		expect_passed(fixture, g, accepted);
		set_destination(fixture, both_families[i], SERVER_PORT, POSTERN_VERDICT_PLAIN, 0);
		expect_passed(fixture, g, accepted);
		delete_destination(fixture, both_families[i], SERVER_PORT);
	}
	delete_destination(fixture, "198.51.100.71", SERVER_PORT);
	set_cidr(fixture, "198.51.100.0/24", false);
	set_cidr(fixture, "fd00:99::/64", false);
}

/* A covered address in the gateway's own loopback never leaves the namespace. */
static void loopback(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	_cleanup_close_ int g = pooled(fixture, "127.0.0.9", &accepted);

	set_destination(fixture, "127.0.0.9", SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	expect_passed(fixture, g, accepted);
	delete_destination(fixture, "127.0.0.9", SERVER_PORT);
}

static void datagrams(struct fixture *fixture)
{
	_cleanup_close_ int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int g = g_socket_of(fixture, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_storage address;
	socklen_t length = socket_address("198.51.100.72", SERVER_PORT, &address);
	char byte = 'u';

	set_destination(fixture, "198.51.100.72", SERVER_PORT, POSTERN_VERDICT_DENY, 0);
	expect_number(fixture, "bind()", 0, bind(receiver, (struct sockaddr *)&address, length));
	expect_number(fixture, "sendto()", 1, sendto(g, &byte, 1, 0, (struct sockaddr *)&address, length));
	expect_number(fixture, "bytes of a datagram", 1, await_bytes(receiver, &byte, 1, PATIENCE_MS));
	delete_destination(fixture, "198.51.100.72", SERVER_PORT);
}

static int g_listener(struct fixture *fixture, uint16_t port)
{
	int fd = g_socket_of(fixture, AF_INET, SOCK_STREAM, 0);
	struct sockaddr_storage address;
	socklen_t length = socket_address("198.51.100.1", port, &address);
	const int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	expect_number(fixture, "the gateway's listener", 0,
	              bind(fd, (struct sockaddr *)&address, length) == 0 ? listen(fd, 8) : -1);
	return fd;
}

/* What the gateway answers to its clients is not taken for a request, even if a client's address is a backend's. */
static void inbound(struct fixture *fixture)
{
	_cleanup_close_ int listener = g_listener(fixture, 8000);
	_cleanup_close_ int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage address;
	socklen_t length = socket_address("203.0.113.80", 0, &address);
	char byte = 'i';

	set_cidr(fixture, "203.0.113.0/24", true);
	set_config(fixture, true, false); /* every miss in the cluster is HOLD */
	expect_number(fixture, "bind() of the client", 0, bind(client, (struct sockaddr *)&address, length));
	expect_error(fixture, "connect() of the client", 0, dial(client, "198.51.100.1", 8000));
	_cleanup_close_ int served = await_accept(listener, PATIENCE_MS);
	expect_number(fixture, "send() of the gateway", 1, send(served, &byte, 1, 0));
	expect_number(fixture, "bytes at the client", 1, await_bytes(client, &byte, 1, PATIENCE_MS));
	set_config(fixture, false, false);
	set_cidr(fixture, "203.0.113.0/24", false);
}

/*
 * Both ends send a SYN: here they are one socket, which dials its own address. The kernel calls such a connection
 * passive; it is one that the gateway opened.
 */
static void opened_by_both(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	struct sockaddr_storage address;
	socklen_t length = socket_address("203.0.113.81", SERVER_PORT + 1, &address);
	char byte = 'b';

	set_cidr(fixture, "203.0.113.0/24", true);
	expect_number(fixture, "bind()", 0, bind(g, (struct sockaddr *)&address, length));
	dial(g, "203.0.113.81", SERVER_PORT + 1);
	expect_error(fixture, "connect()", 0, await_connected(g, PATIENCE_MS));
	expect_passed(fixture, g, g);
	set_destination(fixture, "203.0.113.81", SERVER_PORT + 1, POSTERN_VERDICT_TLS, 1);
	expect_dropped(fixture, g, g);
	delete_destination(fixture, "203.0.113.81", SERVER_PORT + 1);
	expect_number(fixture, "bytes after the policy is gone", 1, await_bytes(g, &byte, 1, RETRANSMIT_MS));
	set_cidr(fixture, "203.0.113.0/24", false);
}

/* ---- a socket that was sent to the agent ---- */

/* It is bound to a device afterwards: what it sends to loopback goes out by that device, to whoever answers there. */
static void bound_afterwards(struct fixture *fixture)
{
	static const char device[] = "elsewhere";
	struct sockaddr_storage source;
	socklen_t length = socket_address("203.0.113.82", 0, &source);
	_cleanup_close_ int g = g_socket(fixture, AF_INET), a = -1, wire = -1;
	char bytes[] = "what nobody may see", seen[256];
	long long before;

	if (!shell("ip link add elsewhere type veth peer name beyond && ip addr add 203.0.113.82/32 dev elsewhere && "
	           "ip link set "
	           "elsewhere up arp off && ip link set beyond up")) {
		fixture_skip(fixture, "no veth devices here");
		return;
	}
	set_destination(fixture, "198.51.100.74", SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	expect_number(fixture, "bind()", 0, bind(g, (struct sockaddr *)&source, length));
	dial(g, "198.51.100.74", SERVER_PORT);
	a = establish(fixture, g);
	wire = packets_of("beyond");
	expect_at_least(fixture, "the wire's socket", 0, wire);
	expect_number(fixture, "SO_BINDTODEVICE", 0,
	              setsockopt(g, SOL_SOCKET, SO_BINDTODEVICE, device, sizeof(device)));
	before = counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
	expect_number(fixture, "send()", sizeof(bytes), send(g, bytes, sizeof(bytes), 0));
	expect_at_least(fixture, "guard_payload_dropped", before + 1,
	                await_counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED, before + 1, PATIENCE_MS));
	expect_number(fixture, "packets on the device", -1, await_bytes(wire, seen, sizeof(seen), A_MOMENT));
	delete_destination(fixture, "198.51.100.74", SERVER_PORT);
	shell("ip link del elsewhere");
}

/* ---- modes ---- */

static void observed(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	_cleanup_close_ int g = pooled(fixture, both_families[0], &accepted);
	struct postern_gateway own, entry;

	hooks_get_gateway(fixture->hooks, GATEWAY_ID, &own);
	entry = own;
	entry.mode = POSTERN_MODE_OBSERVE;
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &entry);
	set_destination(fixture, both_families[0], SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	long long before = counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
	expect_passed(fixture, g, accepted);
	expect_number(fixture, "guard_payload_dropped", before, counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED));
	delete_destination(fixture, both_families[0], SERVER_PORT);
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &own);
}

static void without_entry(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	_cleanup_close_ int g = pooled(fixture, both_families[0], &accepted);
	struct postern_gateway own;

	hooks_get_gateway(fixture->hooks, GATEWAY_ID, &own);
	hooks_delete_gateway(fixture->hooks, GATEWAY_ID);
	set_destination(fixture, both_families[0], SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	expect_dropped(fixture, g, accepted);
	delete_destination(fixture, both_families[0], SERVER_PORT);
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &own);
}

/* ---- NAT behind connect(): the VIP of an uncovered Service ---- */

static bool translate(bool add)
{
	const char *rule = "OUTPUT -t nat -d 198.51.100.90 -p tcp --dport 80 -j DNAT --to-destination "
	                   "198.51.100.91:8080";
	char command[256];

	snprintf(command, sizeof(command), "iptables %s %s", add ? "-A" : "-D", rule);
	return shell(command);
}

static int dial_vip(struct fixture *fixture, int *accepted)
{
	int g = g_socket(fixture, AF_INET);

	dial(g, "198.51.100.90", 80);
	expect_error(fixture, "connect() to the VIP", 0, await_connected(g, PATIENCE_MS));
	*accepted = await_accept(server_fd, PATIENCE_MS);
	if (make_long)
		lengthen(fixture, g, *accepted);
	return g;
}

static void translated(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1, other_accepted = -1, g = -1, other = -1;

	if (!translate(true)) {
		fixture_skip(fixture, "iptables cannot make a DNAT rule here");
		return;
	}
	/* The VIP is PLAIN, the endpoint that it ends on is covered: this works, and in plain. */
	set_destination(fixture, "198.51.100.90", 80, POSTERN_VERDICT_PLAIN, 0);
	set_destination(fixture, "198.51.100.91", SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	g = dial_vip(fixture, &accepted);
	expect_passed(fixture, g, accepted);
	/* The VIP becomes covered: now the same connection is held, whatever its endpoint is. */
	set_destination(fixture, "198.51.100.90", 80, POSTERN_VERDICT_TLS, 1);
	expect_dropped(fixture, g, accepted);
	delete_destination(fixture, "198.51.100.91", SERVER_PORT);
	expect_dropped(fixture, g, accepted);
	set_destination(fixture, "198.51.100.91", SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	/* A VIP that nobody knows says nothing: then the packet decides, and its end is covered. */
	delete_destination(fixture, "198.51.100.90", 80);
	long long before = counter(fixture, POSTERN_COUNT_GUARD_SYN_DROPPED);
	other = g_socket(fixture, AF_INET);
	dial(other, "198.51.100.90", 80);
	expect_at_least(fixture, "guard_syn_dropped", before + 1,
	                await_counter(fixture, POSTERN_COUNT_GUARD_SYN_DROPPED, before + 1, PATIENCE_MS));
	expect_number(fixture, "the backend's accept()", -1, other_accepted = await_accept(server_fd, A_MOMENT));
	close(TAKE_FD(other)); /* or its SYN would come again, and be accepted by the next row */
	delete_destination(fixture, "198.51.100.91", SERVER_PORT);
	translate(false);
}

/* ---- long connections: what was noted is good for one generation of the policy, and for one connect() ---- */

static void noted(struct fixture *fixture, void (*run)(struct fixture *fixture))
{
	make_long = true;
	run(fixture);
	make_long = false;
}

static void noted_payload(struct fixture *fixture)
{
	noted(fixture, pooled_payload);
}

static void noted_hold(struct fixture *fixture)
{
	noted(fixture, pooled_hold);
}

static void noted_uncovered(struct fixture *fixture)
{
	noted(fixture, uncovered);
}

static void noted_without_entry(struct fixture *fixture)
{
	noted(fixture, without_entry);
}

static void noted_translated(struct fixture *fixture)
{
	noted(fixture, translated);
}

/* Every switch that makes a miss a HOLD. */
static void noted_strict(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	int g;

	set_cidr(fixture, "203.0.113.0/24", true);
	make_long = true;
	g = pooled(fixture, "203.0.113.71", &accepted);
	make_long = false;
	set_config(fixture, true, false);
	expect_dropped(fixture, g, accepted);
	set_config(fixture, false, false);
	set_cidr(fixture, "203.0.113.0/24", false);
	close(g);
}

/* A policy that changes all the time: each byte after it is judged by it, however short before it was noted again. */
static void noted_again(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1, g = -1;

	make_long = true;
	g = pooled(fixture, both_families[0], &accepted);
	make_long = false;
	for (int i = 0; i < 20; i++) {
		char byte;

		set_destination(fixture, "198.51.100.99", 1, POSTERN_VERDICT_TLS, 1); /* another one's */
		expect_passed(fixture, g, accepted);
		set_destination(fixture, both_families[0], SERVER_PORT, POSTERN_VERDICT_TLS, 1);
		expect_dropped(fixture, g, accepted);
		delete_destination(fixture, both_families[0], SERVER_PORT);
		expect_number(fixture, "bytes sent again", 1, await_bytes(accepted, &byte, 1, RETRANSMIT_MS));
		delete_destination(fixture, "198.51.100.99", 1);
	}
}

static void noted_and_used_again(struct fixture *fixture)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	struct postern_judged_socket note;
	_cleanup_close_ int accepted = -1, g = -1;

	make_long = true;
	g = pooled(fixture, both_families[0], &accepted);
	make_long = false;
	set_destination(fixture, "198.51.100.73", SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	expect_number(fixture, "connect() to nowhere", 0, connect(g, &nowhere, sizeof(nowhere)));
	dial(g, "198.51.100.73", SERVER_PORT);
	expect_number(fixture, "a note after the next connect()", 0, note_of(fixture, g, &note));
	delete_destination(fixture, "198.51.100.73", SERVER_PORT);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"pooled: payload is dropped", pooled_payload},
	        {"pooled: payload is dropped on HOLD", pooled_hold},
	        {"pooled: FIN and RST get out", pooled_end},
	        {"pooled: receiving goes on", pooled_receives},
	        {"passes: uncovered", uncovered},
	        {"passes: loopback", loopback},
	        {"passes: datagrams", datagrams},
	        {"passes: answers to clients", inbound},
	        {"both ends open: payload is dropped", opened_by_both},
	        {"sent to the agent: bound to a device afterwards", bound_afterwards},
	        {"observe: nothing is dropped", observed},
	        {"no entry: it guards all the same", without_entry},
	        {"NAT: judged by what was dialed", translated},
	        {"noted: payload is dropped", noted_payload},
	        {"noted: payload is dropped on HOLD", noted_hold},
	        {"noted: payload is dropped in strict mode", noted_strict},
	        {"noted: uncovered passes", noted_uncovered},
	        {"noted: no entry", noted_without_entry},
	        {"noted: NAT", noted_translated},
	        {"noted: again and again", noted_again},
	        {"noted: used again", noted_and_used_again},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
