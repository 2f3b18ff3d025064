// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_connect.c: intercept: what connect() of a gateway comes to, for each verdict and family, and what the
 * gateway sees of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "hooks_fixture.h"

#define SETTINGS_ID 77
#define SERVER_PORT 8080 /* a server of this program's own, at every address */

static int server_fd;

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	server_fd = server(SERVER_PORT);
}

static void expect_key(struct fixture *fixture, const char *what, const char *address, uint16_t port,
                       const struct postern_destination_key *seen)
{
	const struct postern_destination_key expected = key_of(address, port);
	char expected_text[DESTINATION_TEXT_MAX], seen_text[DESTINATION_TEXT_MAX];

	destination_format(&expected, expected_text);
	destination_format(seen, seen_text);
	expect_text(fixture, what, expected_text, seen_text);
}

/* The same of a socket that is none of the agent's. */
static bool passed_storage_of(struct fixture *fixture, int g, struct postern_passed_socket *storage)
{
	return bpf_map_lookup_elem(hooks_passed_socket_fd(fixture->hooks), &g, storage) == 0;
}

/* G's storage, as the programs see it. false: it has none. */
static bool storage_of(struct fixture *fixture, int g, struct postern_gateway_socket *storage)
{
	return bpf_map_lookup_elem(hooks_gateway_socket_fd(fixture->hooks), &g, storage) == 0;
}

/* ---- TLS ---- */

struct family_case {
	int family;
	const char *address; /* as dialed */
	const char *key;     /* as stored */
	const char *agent;   /* where it goes instead */
	const char *peer;    /* what getpeername() says */
	uint32_t flags;
};

static void check_tls(struct fixture *fixture, const struct family_case *family)
{
	_cleanup_close_ int g = g_socket(fixture, family->family);
	_cleanup_close_ int a = -1;
	const struct postern_connect_record *connect;
	char text[ADDRESS_TEXT_MAX];

	set_destination(fixture, family->key, 443, POSTERN_VERDICT_TLS, SETTINGS_ID);
	long long before = counter(fixture, POSTERN_COUNT_CONNECT_TLS);
	expect_error(fixture, "connect()", EINPROGRESS, dial(g, family->address, 443));
	expect_number(fixture, "connect_tls", before + 1, counter(fixture, POSTERN_COUNT_CONNECT_TLS));
	expect_text(fixture, "getpeername() before the release", strerror(ENOTCONN), peer_name(g));
	a = establish(fixture, g);
	expect_text(fixture, "getpeername()", family->peer, peer_name(g));
	connect = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, 0);
	if (connect) {
		expect_key(fixture, "destination", family->key, 443, &connect->socket.destination);
		expect_number(fixture, "verdict", POSTERN_VERDICT_TLS, connect->socket.verdict);
		expect_number(fixture, "settings", SETTINGS_ID, connect->socket.settings_id);
		expect_number(fixture, "gateway", GATEWAY_ID, connect->socket.gateway_id);
		expect_number(fixture, "flags", family->flags | POSTERN_G_NONBLOCK, connect->socket.flags);
		expect_number(fixture, "namespace", (long long)fixture->gateway->netns_cookie,
		              (long long)connect->netns_cookie);
		expect_text(fixture, "the agent's address", family->agent,
		            address_format(&connect->header.tuple.remote, text));
	}
	delete_destination(fixture, family->key, 443);
}

static void tls_v4(struct fixture *fixture)
{
	check_tls(fixture, &(struct family_case){AF_INET, "198.51.100.10", "198.51.100.10", "127.0.0.1",
	                                         "198.51.100.10 443", 0});
}

static void tls_v6(struct fixture *fixture)
{
	check_tls(fixture, &(struct family_case){AF_INET6, "fd00:99::10", "fd00:99::10", "::1", "fd00:99::10 443", 0});
}

static void tls_mapped(struct fixture *fixture)
{
	check_tls(fixture, &(struct family_case){AF_INET6, "::ffff:198.51.100.10", "198.51.100.10", "127.0.0.1",
	                                         "::ffff:198.51.100.10 443", POSTERN_G_V4MAPPED});
}

static void tls_any_port(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	_cleanup_close_ int other = g_socket(fixture, AF_INET);

	set_destination(fixture, "198.51.100.11", 0, POSTERN_VERDICT_TLS, SETTINGS_ID);
	set_destination(fixture, "198.51.100.11", SERVER_PORT, POSTERN_VERDICT_PLAIN, 0);
	expect_error(fixture, "connect() to another port", EINPROGRESS, dial(g, "198.51.100.11", 12345));
	expect_number(fixture, "a CONNECT record", 1,
	              await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, PATIENCE_MS) != NULL);
	dial(other, "198.51.100.11", SERVER_PORT);
	expect_error(fixture, "connect() to the port that has its own key", 0, await_connected(other, PATIENCE_MS));
	_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
	delete_destination(fixture, "198.51.100.11", 0);
	delete_destination(fixture, "198.51.100.11", SERVER_PORT);
}

/* ---- the other verdicts ---- */

static void plain_and_none(struct fixture *fixture)
{
	static const struct {
		const char *address;
		bool known;
		enum postern_counter counter;
	} cases[] = {
	        {"198.51.100.20", true, POSTERN_COUNT_CONNECT_PLAIN},
	        {"fd00:99::20", true, POSTERN_COUNT_CONNECT_PLAIN},
	        {"198.51.100.21", false, POSTERN_COUNT_CONNECT_MISS},
	        {"fd00:99::21", false, POSTERN_COUNT_CONNECT_MISS},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_close_ int g = g_socket(fixture, strchr(cases[i].address, ':') ? AF_INET6 : AF_INET);
		long long before = counter(fixture, cases[i].counter);
		struct postern_gateway_socket storage;
		struct postern_passed_socket passed;
		char peer[64];

		if (cases[i].known)
			set_destination(fixture, cases[i].address, SERVER_PORT, POSTERN_VERDICT_PLAIN, 0);
		dial(g, cases[i].address, SERVER_PORT);
		expect_error(fixture, cases[i].address, 0, await_connected(g, PATIENCE_MS));
		_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
		expect_number(fixture, "counter", before + 1, counter(fixture, cases[i].counter));
		expect_number(fixture, "storage of one that went to the agent", 0, storage_of(fixture, g, &storage));
		/* It knows itself what it dialed. */
		expect_number(fixture, "storage of one that passed", 0, passed_storage_of(fixture, g, &passed));
		if (cases[i].known)
			delete_destination(fixture, cases[i].address, SERVER_PORT);
		snprintf(peer, sizeof(peer), "%s %u", cases[i].address, SERVER_PORT);
		expect_text(fixture, "getpeername()", peer, peer_name(g));
	}
}

static int32_t v4_of(const struct postern_destination_key *key)
{
	int32_t word;

	memcpy(&word, key->address.byte + 12, sizeof(word));
	return word;
}

/* A program behind ours, as a load balancer at the socket is one: every connect goes to one address. */
static int attach_balancer(struct fixture *fixture, const char *to, uint16_t port)
{
	const struct postern_destination_key key = key_of(to, port);
	const struct bpf_insn program[] = {
	        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = v4_of(&key)},
	        {.code = BPF_STX | BPF_MEM | BPF_W,
	         .dst_reg = BPF_REG_1,
	         .src_reg = BPF_REG_2,
	         .off = offsetof(struct bpf_sock_addr, user_ip4)},
	        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = key.port},
	        {.code = BPF_STX | BPF_MEM | BPF_W,
	         .dst_reg = BPF_REG_1,
	         .src_reg = BPF_REG_2,
	         .off = offsetof(struct bpf_sock_addr, user_port)},
	        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
	        {.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
	_cleanup_close_ int loaded = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "balancer", "GPL", program,
	                                           ARRAY_SIZE(program), &options);
	_cleanup_close_ int cgroup = open(fixture->gateway_cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int link = loaded >= 0 && cgroup >= 0 ? bpf_link_create(loaded, cgroup, BPF_CGROUP_INET4_CONNECT, NULL) : -1;
	expect_number(fixture, "the balancer's link", 1, link >= 0);
	return link;
}

/*
 * The VIP of an uncovered Service, which the balancer leads to a covered endpoint: in plain, until the VIP is covered.
 * The first one is noticed by where its socket goes, the second one is known before.
 */
static void plain_led_elsewhere(struct fixture *fixture)
{
	_cleanup_close_ int link = attach_balancer(fixture, "198.51.100.24", SERVER_PORT);

	set_destination(fixture, "198.51.100.24", SERVER_PORT, POSTERN_VERDICT_TLS, SETTINGS_ID);
	for (int i = 0; i < 2; i++) {
		_cleanup_close_ int g = g_socket(fixture, AF_INET);
		struct postern_passed_socket passed = {0};
		char byte = 'l';

		set_destination(fixture, "198.51.100.23", 80, POSTERN_VERDICT_PLAIN, 0);
		dial(g, "198.51.100.23", 80);
		expect_error(fixture, "connect() to the VIP", 0, await_connected(g, PATIENCE_MS));
		_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
		expect_number(fixture, "storage", 1, passed_storage_of(fixture, g, &passed));
		expect_number(fixture, "flags stored", 0, passed.flags);
		expect_key(fixture, "destination stored", "198.51.100.23", 80, &passed.destination);
		expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
		expect_number(fixture, "bytes at the endpoint", 1, await_bytes(accepted, &byte, 1, PATIENCE_MS));
		set_destination(fixture, "198.51.100.23", 80, POSTERN_VERDICT_TLS, SETTINGS_ID);
		expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
		expect_number(fixture, "bytes after the VIP is covered", -1, await_bytes(accepted, &byte, 1, 100));
		/* Nobody knows the VIP any more: where the packet goes decides, as it does behind netfilter. */
		delete_destination(fixture, "198.51.100.23", 80);
		long long before = counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
		expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
		expect_at_least(fixture, "guard_payload_dropped, the VIP gone", before + 1,
		                await_counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED, before + 1, PATIENCE_MS));
	}
	delete_destination(fixture, "198.51.100.24", SERVER_PORT);
}

static void deny(struct fixture *fixture)
{
	static const char *const addresses[] = {"198.51.100.22", "fd00:99::22"};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		_cleanup_close_ int g = g_socket(fixture, i == 0 ? AF_INET : AF_INET6);
		long long before = counter(fixture, POSTERN_COUNT_CONNECT_DENY);
		struct postern_gateway_socket storage;

		set_destination(fixture, addresses[i], SERVER_PORT, POSTERN_VERDICT_DENY, 0);
		expect_error(fixture, addresses[i], ECONNREFUSED, dial(g, addresses[i], SERVER_PORT));
		expect_number(fixture, "connect_deny", before + 1, counter(fixture, POSTERN_COUNT_CONNECT_DENY));
		expect_number(fixture, "storage", 0, storage_of(fixture, g, &storage));
		expect_number(fixture, "the server's accept()", -1, await_accept(server_fd, 0));
		delete_destination(fixture, addresses[i], SERVER_PORT);
	}
}

/* A miss: HOLD inside the cluster if the port is guarded, or in strict mode; else none of our business. */
static void hold(struct fixture *fixture)
{
	static const struct {
		const char *what, *address;
		uint16_t port;
		bool strict, held;
	} cases[] = {
	        {"guarded port in the cluster", "203.0.113.5", 9443, false, true},
	        {"other port in the cluster", "203.0.113.5", SERVER_PORT, false, false},
	        {"guarded port elsewhere", "198.51.100.5", 9443, false, false},
	        {"other port in the cluster, strict", "203.0.113.5", SERVER_PORT, true, true},
	        {"elsewhere, strict", "198.51.100.5", SERVER_PORT, true, false},
	        {"guarded port in the IPv6 cluster", "fd00:99::5", 9443, false, true},
	};

	set_cidr(fixture, "203.0.113.0/24", true);
	set_cidr(fixture, "fd00:99::/64", true);
	hooks_set_guarded_port(fixture->hooks, 9443, true);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_close_ int g = g_socket(fixture, strchr(cases[i].address, ':') ? AF_INET6 : AF_INET);
		long long held = counter(fixture, POSTERN_COUNT_CONNECT_HOLD);
		long long missed = counter(fixture, POSTERN_COUNT_CONNECT_MISS);
		const struct postern_connect_record *connect;

		set_config(fixture, cases[i].strict, false);
		dial(g, cases[i].address, cases[i].port);
		expect_number(fixture, cases[i].what, held + cases[i].held,
		              counter(fixture, POSTERN_COUNT_CONNECT_HOLD));
		expect_number(fixture, "connect_miss", missed + !cases[i].held,
		              counter(fixture, POSTERN_COUNT_CONNECT_MISS));
		if (!cases[i].held) {
			/* Where the server is it connects: the next row is not to find it there. */
			if (cases[i].port == SERVER_PORT) {
				expect_error(fixture, cases[i].what, 0, await_connected(g, PATIENCE_MS));
				close(await_accept(server_fd, PATIENCE_MS));
			}
			continue;
		}
		connect = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, PATIENCE_MS);
		if (expect_number(fixture, "a CONNECT record", 1, connect != NULL)) {
			expect_number(fixture, "its verdict", POSTERN_VERDICT_HOLD, connect->socket.verdict);
			expect_key(fixture, "its destination", cases[i].address, cases[i].port,
			           &connect->socket.destination);
		}
	}
	set_config(fixture, false, false);
	hooks_set_guarded_port(fixture->hooks, 9443, false);
	set_cidr(fixture, "203.0.113.0/24", false);
	set_cidr(fixture, "fd00:99::/64", false);
}

static void not_stream(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket_of(fixture, AF_INET, SOCK_DGRAM, 0);

	set_destination(fixture, "198.51.100.23", 443, POSTERN_VERDICT_DENY, 0);
	expect_error(fixture, "connect() of a UDP socket", 0, dial(g, "198.51.100.23", 443));
	expect_text(fixture, "its peer", "198.51.100.23 443", peer_name(g));
	delete_destination(fixture, "198.51.100.23", 443);
}

/* ---- refusals ---- */

/* The gateway's entry with these ports instead of its own; restored by restore_ports(). */
static struct postern_gateway own_entry;

static void replace_ports(struct fixture *fixture, uint16_t port, uint32_t count)
{
	struct postern_gateway entry;

	hooks_get_gateway(fixture->hooks, GATEWAY_ID, &own_entry);
	entry = own_entry;
	entry.port_count = count;
	entry.port[0] = htons(port);
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &entry);
}

static void restore_ports(struct fixture *fixture)
{
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &own_entry);
}

static void check_refused(struct fixture *fixture, const char *what, enum postern_counter why)
{
	static const struct {
		int family;
		const char *address, *key;
	} cases[] = {
	        {AF_INET, "198.51.100.30", "198.51.100.30"},
	        {AF_INET6, "fd00:99::30", "fd00:99::30"},
	        {AF_INET6, "::ffff:198.51.100.30", "198.51.100.30"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_close_ int g = g_socket(fixture, cases[i].family);
		long long before = counter(fixture, why);
		struct postern_gateway_socket storage;

		set_destination(fixture, cases[i].key, SERVER_PORT, POSTERN_VERDICT_TLS, SETTINGS_ID);
		/* Refused by connect() itself, in microseconds: no packet is waited for. */
		expect_error(fixture, what, ECONNREFUSED, dial(g, cases[i].address, SERVER_PORT));
		expect_number(fixture, "its counter", before + 1, counter(fixture, why));
		expect_number(fixture, "storage", 0, storage_of(fixture, g, &storage));
		delete_destination(fixture, cases[i].key, SERVER_PORT);
	}
	expect_number(fixture, "the server's accept()", -1, await_accept(server_fd, 0));
}

static void check_others_pass(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);

	dial(g, "198.51.100.31", SERVER_PORT);
	expect_error(fixture, "an uncovered connect() meanwhile", 0, await_connected(g, PATIENCE_MS));
	_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
}

static void not_ready(struct fixture *fixture)
{
	replace_ports(fixture, 0, 0);
	check_refused(fixture, "no port", POSTERN_COUNT_REFUSED_NOT_READY);
	check_others_pass(fixture);
	hooks_delete_gateway(fixture->hooks, GATEWAY_ID);
	check_refused(fixture, "no entry", POSTERN_COUNT_REFUSED_NOT_READY);
	check_others_pass(fixture);
}

static void no_listener(struct fixture *fixture)
{
	replace_ports(fixture, 1, 1);
	check_refused(fixture, "nobody listens", POSTERN_COUNT_REFUSED_NO_AGENT);
	check_others_pass(fixture);
	restore_ports(fixture);
}

static void foreign_listener(struct fixture *fixture)
{
	replace_ports(fixture, SERVER_PORT, 1);
	check_refused(fixture, "a foreign process has the port", POSTERN_COUNT_REFUSED_NO_AGENT);
	restore_ports(fixture);
}

/* A listener of the agent, but another gateway's: its worker would use the wrong client certificate. */
static void wrong_gateway(struct fixture *fixture)
{
	const struct postern_listener_mark mark = {POSTERN_LISTENER_MAGIC, 0, GATEWAY_ID + 1, 0};
	_cleanup_close_ int other = server(SERVER_PORT + 1);

	expect_error(fixture, "hooks_attach_listener()", 0, -hooks_attach_listener(fixture->hooks, other, &mark));
	replace_ports(fixture, SERVER_PORT + 1, 1);
	check_refused(fixture, "another gateway's listener", POSTERN_COUNT_REFUSED_NO_AGENT);
	restore_ports(fixture);
	hooks_detach_listeners(fixture->hooks, GATEWAY_ID + 1);
}

static void bound_device(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	long long before = counter(fixture, POSTERN_COUNT_REFUSED_BOUND_DEVICE);

	setsockopt(g, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
	set_destination(fixture, "198.51.100.32", SERVER_PORT, POSTERN_VERDICT_TLS, SETTINGS_ID);
	expect_error(fixture, "connect() with SO_BINDTODEVICE", ECONNREFUSED, dial(g, "198.51.100.32", SERVER_PORT));
	expect_number(fixture, "its counter", before + 1, counter(fixture, POSTERN_COUNT_REFUSED_BOUND_DEVICE));
	delete_destination(fixture, "198.51.100.32", SERVER_PORT);
}

/* How long a refusal takes, where a clock means something. */
static void refused_at_once(struct fixture *fixture)
{
	uint64_t best = UINT64_MAX;

	set_destination(fixture, "198.51.100.33", SERVER_PORT, POSTERN_VERDICT_DENY, 0);
	for (int i = 0; i < 50; i++) {
		_cleanup_close_ int g = g_socket(fixture, AF_INET);
		uint64_t begun = monotonic_ns();

		expect_error(fixture, "connect()", ECONNREFUSED, dial(g, "198.51.100.33", SERVER_PORT));
		uint64_t taken = monotonic_ns() - begun;
		best = taken < best ? taken : best;
	}
	printf("     a refusal takes %llu ns\n", (unsigned long long)best);
	expect_at_least(fixture, "1 ms minus the refusal's time, ns", 0, 1000000 - (long long)best);
	delete_destination(fixture, "198.51.100.33", SERVER_PORT);
}

/* ---- sockets that are used again ---- */

static void reused_after_refusal(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	struct postern_gateway_socket storage;
	const struct postern_syn_record *syn;

	set_destination(fixture, "198.51.100.40", 443, POSTERN_VERDICT_TLS, SETTINGS_ID);
	dial(g, "198.51.100.40", 443);
	uint16_t port = local_port(g);
	syn = await_syn(fixture, port, 0, PATIENCE_MS);
	if (!expect_number(fixture, "a SYN record", 1, syn != NULL))
		return;
	refuse_syn(fixture, syn, false);
	expect_error(fixture, "the refused connect()", ECONNREFUSED, await_connected(g, PATIENCE_MS));
	expect_number(fixture, "storage of the refused connect()", 1, storage_of(fixture, g, &storage));
	/* The first connect() after an asynchronous refusal only takes the socket back (inet_stream_connect()). */
	expect_error(fixture, "connect() that takes the socket back", ECONNABORTED,
	             dial(g, "198.51.100.41", SERVER_PORT));
	expect_error(fixture, "the second connect()", EINPROGRESS, dial(g, "198.51.100.41", SERVER_PORT));
	expect_error(fixture, "the second connect(), not covered", 0, await_connected(g, PATIENCE_MS));
	_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
	expect_number(fixture, "storage after the second connect()", 0, storage_of(fixture, g, &storage));
	expect_text(fixture, "getpeername()", "198.51.100.41 8080", peer_name(g));
	expect_number(fixture, "CONNECT record of the second connect()", 0,
	              await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), port == local_port(g), 0) != NULL);
	delete_destination(fixture, "198.51.100.40", 443);
}

static void reused_for_another(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	_cleanup_close_ int a = -1;
	const struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
	const struct postern_connect_record *record;

	set_destination(fixture, "198.51.100.42", SERVER_PORT, POSTERN_VERDICT_PLAIN, 0);
	set_destination(fixture, "198.51.100.43", 443, POSTERN_VERDICT_TLS, SETTINGS_ID);
	dial(g, "198.51.100.42", SERVER_PORT);
	expect_error(fixture, "the first connect()", 0, await_connected(g, PATIENCE_MS));
	_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
	expect_number(fixture, "connect() to AF_UNSPEC", 0, connect(g, &unspecified, sizeof(unspecified)));
	expect_error(fixture, "the second connect()", EINPROGRESS, dial(g, "198.51.100.43", 443));
	a = establish(fixture, g);
	record = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(g), 0, 0);
	if (record)
		expect_key(fixture, "destination", "198.51.100.43", 443, &record->socket.destination);
	delete_destination(fixture, "198.51.100.42", SERVER_PORT);
	delete_destination(fixture, "198.51.100.43", 443);
}

/* ---- observe ---- */

static void note_would(void *context, const struct postern_would_key *key, uint64_t count)
{
	uint64_t *seen = context;

	if (key->gateway_id == GATEWAY_ID && key->verdict <= POSTERN_VERDICT_HOLD)
		seen[key->verdict] += count;
}

static void observe(struct fixture *fixture)
{
	static const struct {
		enum postern_verdict verdict;
		enum postern_counter counter;
	} cases[] = {
	        {POSTERN_VERDICT_TLS, POSTERN_COUNT_WOULD_TLS},
	        {POSTERN_VERDICT_DENY, POSTERN_COUNT_WOULD_DENY},
	        {POSTERN_VERDICT_HOLD, POSTERN_COUNT_WOULD_HOLD},
	};
	uint64_t seen[POSTERN_VERDICT_HOLD + 1] = {0};
	struct postern_gateway entry;

	hooks_get_gateway(fixture->hooks, GATEWAY_ID, &own_entry);
	entry = own_entry;
	entry.mode = POSTERN_MODE_OBSERVE;
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &entry);
	set_cidr(fixture, "203.0.113.0/24", true);
	hooks_set_guarded_port(fixture->hooks, SERVER_PORT, true);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *address = cases[i].verdict == POSTERN_VERDICT_HOLD ? "203.0.113.9" : "198.51.100.50";
		long long before = counter(fixture, cases[i].counter);

		if (cases[i].verdict != POSTERN_VERDICT_HOLD)
			set_destination(fixture, address, SERVER_PORT, cases[i].verdict, 0);
		for (int twice = 0; twice < 2; twice++) {
			_cleanup_close_ int g = g_socket(fixture, AF_INET);

			dial(g, address, SERVER_PORT);
			expect_error(fixture, "connect()", 0, await_connected(g, PATIENCE_MS));
			_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
			char byte = 'x';
			expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
			expect_number(fixture, "bytes that came", 1, await_bytes(accepted, &byte, 1, PATIENCE_MS));
		}
		expect_number(fixture, "counter", before + 2, counter(fixture, cases[i].counter));
	}
	expect_error(fixture, "hooks_for_each_would()", 0, -hooks_for_each_would(fixture->hooks, note_would, seen));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_number(fixture, "counted per destination", 2, (long long)seen[cases[i].verdict]);
	delete_destination(fixture, "198.51.100.50", SERVER_PORT);
	hooks_set_guarded_port(fixture->hooks, SERVER_PORT, false);
	set_cidr(fixture, "203.0.113.0/24", false);
	restore_ports(fixture);
}

/* ---- the map ---- */

static void map_errors(struct fixture *fixture)
{
	const struct postern_destination_key key = key_of("198.51.100.60", 1);

	expect_error(fixture, "deleting a key that is not there", ENOENT,
	             -hooks_delete_destination(fixture->hooks, &key));
	expect_error(fixture, "a prefix that is not there", ENOENT,
	             -hooks_set_cidr(fixture->hooks, &(struct cidr){.prefix_length = 128}, false));
}

/* A full map must say so: what is missing then is HOLD or a miss, and the caller knows. */
static void map_full(struct fixture *fixture)
{
	const struct postern_destination destination = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	struct postern_destination_key key = key_of("fd00:aaaa::", 443);
	uint32_t stored = 0;
	int error = 0;

	for (; !error && stored <= POSTERN_MAX_DESTINATIONS; stored++) {
		memcpy(key.address.byte + 12, &stored, sizeof(stored));
		error = hooks_set_destination(fixture->hooks, &key, &destination);
	}
	expect_error(fixture, "hooks_set_destination() into a full map", E2BIG, -error);
	expect_number(fixture, "keys that went in", POSTERN_MAX_DESTINATIONS, (long long)stored - 1);
	for (uint32_t i = 0; i + 1 < stored; i++) {
		memcpy(key.address.byte + 12, &i, sizeof(i));
		error = hooks_delete_destination(fixture->hooks, &key);
		if (!expect_error(fixture, "hooks_delete_destination()", 0, -error))
			return;
	}
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"tls: IPv4", tls_v4},
	        {"tls: IPv6", tls_v6},
	        {"tls: IPv4-mapped", tls_mapped},
	        {"tls: a key for any port", tls_any_port},
	        {"plain, and none of our business", plain_and_none},
	        {"plain, led elsewhere by another program", plain_led_elsewhere},
	        {"deny", deny},
	        {"hold: what a miss is", hold},
	        {"not a stream", not_stream},
	        {"refused: nobody on the agent's port", no_listener},
	        {"refused: a foreign process on the agent's port", foreign_listener},
	        {"refused: another gateway's listener", wrong_gateway},
	        {"refused: bound to a device", bound_device},
	        {"refused at once", refused_at_once},
	        {"used again after a refusal", reused_after_refusal},
	        {"used again for another destination", reused_for_another},
	        {"observe", observe},
	        {"map: errors", map_errors},
	        {"map: full", map_full},
	        {"refused: not ready", not_ready}, /* last: it takes the gateway apart */
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
