// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_witness.c: what may leave B. The bytes are made by hand, so that each rule is tried alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "hooks_fixture.h"

#define SERVER_PORT 8443
#define A_MOMENT    100 /* ms */

#define ALERT     21
#define HANDSHAKE 22
#define DATA      23

static int server_fd;

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	server_fd = server(SERVER_PORT);
}

struct pair {
	int b;
	int backend;
};

static void close_pair(struct pair *pair)
{
	close(pair->b);
	close(pair->backend);
}

static void set_phase(struct fixture *fixture, int b, const char *address, enum postern_backend_phase phase)
{
	const struct postern_backend_socket state = {.destination = key_of(address, SERVER_PORT), .phase = phase};

	expect_error(fixture, "hooks_set_backend()", 0, -hooks_set_backend(fixture->hooks, b, &state));
}

/* phase 0: a socket of the agent that is no B. */
static struct pair connect_b(struct fixture *fixture, const char *address, enum postern_backend_phase phase)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* or TCP goes on trying after close() */
	const int on = 1;
	struct pair pair;

	pair.b = socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(pair.b, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(pair.b, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (phase)
		set_phase(fixture, pair.b, address, phase);
	expect_error(fixture, "connect() of B", 0, dial(pair.b, address, SERVER_PORT));
	pair.backend = await_accept(server_fd, PATIENCE_MS);
	return pair;
}

static void expect_sent(struct fixture *fixture, const char *what, const struct pair *pair, const void *bytes,
                        size_t size)
{
	char seen[70000];
	size_t arrived = 0;

	expect_number(fixture, what, (long long)size, send(pair->b, bytes, size, 0));
	while (arrived < size) {
		long length = await_bytes(pair->backend, seen + arrived, sizeof(seen) - arrived, PATIENCE_MS);

		if (length <= 0)
			break;
		arrived += (size_t)length;
	}
	expect_number(fixture, what, (long long)size, (long long)arrived);
	expect_number(fixture, what, 0, memcmp(bytes, seen, size));
}

static void expect_held_back(struct fixture *fixture, const char *what, const struct pair *pair, const void *bytes,
                             size_t size, enum postern_counter why)
{
	long long before = counter(fixture, why);
	char seen[100];

	expect_number(fixture, what, (long long)size, send(pair->b, bytes, size, 0));
	expect_at_least(fixture, what, before + 1, await_counter(fixture, why, before + 1, PATIENCE_MS));
	expect_number(fixture, what, -1, await_bytes(pair->backend, seen, sizeof(seen), A_MOMENT));
}

/* A record of that type and length of its body; returns its size. */
static size_t record(uint8_t *bytes, uint8_t type, uint16_t length)
{
	bytes[0] = type;
	bytes[1] = 3;
	bytes[2] = 3;
	bytes[3] = (uint8_t)(length >> 8);
	bytes[4] = (uint8_t)length;
	memset(bytes + POSTERN_TLS_HEADER, 'G', length); /* "GGGG" would be no header */
	return POSTERN_TLS_HEADER + (size_t)length;
}

static void expect_record_sent(struct fixture *fixture, const char *what, const struct pair *pair, uint8_t type,
                               uint16_t length)
{
	uint8_t bytes[70000];

	expect_sent(fixture, what, pair, bytes, record(bytes, type, length));
}

static const char request[] = "GET / HTTP/1.1\r\n\r\n";

static void plaintext_first(struct fixture *fixture)
{
	static const char *const addresses[] = {"198.51.100.120", "fd00:99::120"};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		_cleanup_(close_pair) struct pair pair = connect_b(fixture, addresses[i], POSTERN_B_HANDSHAKE);

		expect_held_back(fixture, "plaintext", &pair, request, sizeof(request), POSTERN_COUNT_WIRE_NOT_TLS);
		expect_held_back(fixture, "a ClientHello behind it", &pair, "\x16\x03\x01\x00\x01x", 6,
		                 POSTERN_COUNT_WIRE_NOT_TLS);
	}
}

static void wrong_first_header(struct fixture *fixture)
{
	static const struct {
		const char *what;
		uint8_t bytes[6];
		size_t size;
	} cases[] = {
	        {"application data first", {DATA, 3, 3, 0, 1, 'x'}, 6},
	        {"alert first", {ALERT, 3, 3, 0, 1, 'x'}, 6},
	        {"another version", {HANDSHAKE, 2, 0, 0, 1, 'x'}, 6},
	        {"a version to come", {HANDSHAKE, 3, 5, 0, 1, 'x'}, 6},
	        {"no length", {HANDSHAKE, 3, 1, 0, 0, 'x'}, 6},
	        {"too long", {HANDSHAKE, 3, 1, 0x48, 1, 'x'}, 6},
	        {"one byte", {'G'}, 1},
	        {"two bytes", {HANDSHAKE, 'E'}, 2},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(close_pair) struct pair pair = connect_b(fixture, "198.51.100.121", POSTERN_B_HANDSHAKE);

		expect_held_back(fixture, cases[i].what, &pair, cases[i].bytes, cases[i].size,
		                 POSTERN_COUNT_WIRE_NOT_TLS);
	}
}

static void handshake_and_data(struct fixture *fixture)
{
	static const char *const addresses[] = {"198.51.100.122", "fd00:99::122"};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		_cleanup_(close_pair) struct pair pair = connect_b(fixture, addresses[i], POSTERN_B_HANDSHAKE);
		long long before = counter(fixture, POSTERN_COUNT_WIRE_NOT_TLS);

		expect_record_sent(fixture, "ClientHello", &pair, HANDSHAKE, 512);
		expect_record_sent(fixture, "Finished", &pair, DATA, 53);
		set_phase(fixture, pair.b, addresses[i], POSTERN_B_ARMED);
		expect_record_sent(fixture, "a full record", &pair, DATA, 16384 + 17);
		expect_record_sent(fixture, "a small one", &pair, DATA, 18);
		expect_record_sent(fixture, "close_notify", &pair, ALERT, 19);
		expect_number(fixture, "wire_not_tls", before, counter(fixture, POSTERN_COUNT_WIRE_NOT_TLS));
	}
}

/* The kernel's TLS is not on, though everyone believes so. */
static void plaintext_after_arming(struct fixture *fixture)
{
	_cleanup_(close_pair) struct pair pair = connect_b(fixture, "198.51.100.123", POSTERN_B_HANDSHAKE);

	expect_record_sent(fixture, "ClientHello", &pair, HANDSHAKE, 200);
	set_phase(fixture, pair.b, "198.51.100.123", POSTERN_B_ARMED);
	expect_held_back(fixture, "plaintext", &pair, request, sizeof(request), POSTERN_COUNT_WIRE_NOT_TLS);
}

static void plaintext_behind_records(struct fixture *fixture)
{
	_cleanup_(close_pair) struct pair pair = connect_b(fixture, "198.51.100.124", POSTERN_B_HANDSHAKE);
	uint8_t bytes[2000];
	size_t size;

	expect_record_sent(fixture, "ClientHello", &pair, HANDSHAKE, 200);
	set_phase(fixture, pair.b, "198.51.100.124", POSTERN_B_ARMED);
	size = record(bytes, DATA, 100);
	size += record(bytes + size, DATA, 50);
	memcpy(bytes + size, request, sizeof(request));
	expect_held_back(fixture, "records and plaintext in one packet", &pair, bytes, size + sizeof(request),
	                 POSTERN_COUNT_WIRE_NOT_TLS);
}

/* The same records in packets of odd sizes: headers lie across the packets' ends. */
static void split_headers(struct fixture *fixture)
{
	static const size_t steps[] = {1, 2, 3, 4, 5, 6, 7, 11};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		_cleanup_(close_pair) struct pair pair = connect_b(fixture, "198.51.100.125", POSTERN_B_HANDSHAKE);
		uint8_t bytes[200];
		size_t size = record(bytes, HANDSHAKE, 9);

		size += record(bytes + size, DATA, 1);
		size += record(bytes + size, DATA, 20);
		size += record(bytes + size, ALERT, 2);
		for (size_t sent = 0; sent < size; sent += steps[i]) {
			size_t step = size - sent < steps[i] ? size - sent : steps[i];

			expect_sent(fixture, "a part of records", &pair, bytes + sent, step);
		}
		expect_held_back(fixture, "plaintext behind them", &pair, request, sizeof(request),
		                 POSTERN_COUNT_WIRE_NOT_TLS);
	}
}

/* What is lost on the way is sent again, and in other cuts; none of that may look like plaintext. */
static void retransmissions(struct fixture *fixture)
{
	_cleanup_(close_pair) struct pair pair = connect_b(fixture, "198.51.100.126", POSTERN_B_HANDSHAKE);
	long long before = counter(fixture, POSTERN_COUNT_WIRE_NOT_TLS);
	struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	const struct sock_fprog deaf = {.len = ARRAY_SIZE(nothing), .filter = nothing};
	uint8_t bytes[8000], seen[8000];
	size_t size = record(bytes, HANDSHAKE, 700), half = 400, arrived = 0;

	size += record(bytes + size, DATA, 5000);
	setsockopt(pair.backend, SOL_SOCKET, SO_ATTACH_FILTER, &deaf, sizeof(deaf));
	expect_number(fixture, "send()", (long long)half, send(pair.b, bytes, half, 0));
	expect_number(fixture, "send()", (long long)(size - half), send(pair.b, bytes + half, size - half, 0));
	expect_number(fixture, "bytes that came to deaf ears", -1,
	              await_bytes(pair.backend, seen, sizeof(seen), A_MOMENT));
	setsockopt(pair.backend, SOL_SOCKET, SO_DETACH_FILTER, &deaf, sizeof(deaf));
	while (arrived < size) {
		long length = await_bytes(pair.backend, seen + arrived, sizeof(seen) - arrived, RETRANSMIT_MS);

		if (length <= 0)
			break;
		arrived += (size_t)length;
	}
	expect_number(fixture, "bytes after the retransmission", (long long)size, (long long)arrived);
	expect_number(fixture, "bytes that differ", 0, memcmp(bytes, seen, size));
	expect_number(fixture, "wire_not_tls", before, counter(fixture, POSTERN_COUNT_WIRE_NOT_TLS));
	set_phase(fixture, pair.b, "198.51.100.126", POSTERN_B_ARMED);
	expect_held_back(fixture, "plaintext behind all that", &pair, request, sizeof(request),
	                 POSTERN_COUNT_WIRE_NOT_TLS);
}

/* What docs say: it looks at the first headers after arming, not for ever. */
static void enough(struct fixture *fixture)
{
	_cleanup_(close_pair) struct pair pair = connect_b(fixture, "198.51.100.127", POSTERN_B_HANDSHAKE);

	expect_record_sent(fixture, "ClientHello", &pair, HANDSHAKE, 200);
	set_phase(fixture, pair.b, "198.51.100.127", POSTERN_B_ARMED);
	for (int i = 0; i < 16; i++)
		expect_record_sent(fixture, "a record", &pair, DATA, 100);
	expect_sent(fixture, "bytes of any kind", &pair, request, sizeof(request));
}

static void decided_plain(struct fixture *fixture)
{
	static const enum postern_verdict verdicts[] = {POSTERN_VERDICT_TLS, POSTERN_VERDICT_DENY,
	                                                POSTERN_VERDICT_HOLD};
	const char *address = "203.0.113.120";

	hooks_set_guarded_port(fixture->hooks, SERVER_PORT, true);
	for (size_t i = 0; i < ARRAY_SIZE(verdicts); i++) {
		set_destination(fixture, address, SERVER_PORT, POSTERN_VERDICT_PLAIN, 0);
		_cleanup_(close_pair) struct pair pair = connect_b(fixture, address, POSTERN_B_PLAIN);
		char end;

		expect_sent(fixture, "plaintext", &pair, request, sizeof(request));
		if (verdicts[i] == POSTERN_VERDICT_HOLD) {
			set_cidr(fixture, "203.0.113.0/24", true);
			delete_destination(fixture, address, SERVER_PORT);
		} else {
			set_destination(fixture, address, SERVER_PORT, verdicts[i], 1);
		}
		shutdown(pair.backend, SHUT_WR);
		expect_number(fixture, "B still receives", 0, await_bytes(pair.b, &end, 1, PATIENCE_MS));
		expect_held_back(fixture, "plaintext to a key that is no longer PLAIN", &pair, request, sizeof(request),
		                 POSTERN_COUNT_WITNESS_PLAIN_DROPPED);
	}
	set_cidr(fixture, "203.0.113.0/24", false);
	hooks_set_guarded_port(fixture->hooks, SERVER_PORT, false);
}

static void not_a_b(struct fixture *fixture)
{
	_cleanup_(close_pair) struct pair pair = connect_b(fixture, "198.51.100.128", 0);

	expect_sent(fixture, "plaintext of another socket of the agent", &pair, request, sizeof(request));
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"plaintext first", plaintext_first},
	        {"a wrong first header", wrong_first_header},
	        {"handshake and data pass", handshake_and_data},
	        {"plaintext after arming", plaintext_after_arming},
	        {"plaintext behind records", plaintext_behind_records},
	        {"headers across packets", split_headers},
	        {"retransmissions pass", retransmissions},
	        {"enough was seen", enough},
	        {"decided PLAIN", decided_plain},
	        {"not a B", not_a_b},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
