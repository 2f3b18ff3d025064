// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_trace.c: what the programs tell of themselves while somebody looks, by which filter, and that nothing is
 * lost in silence.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "datapath/hooks_trace.h"
#include "hooks_fixture.h"

#define PORT        443  /* covered */
#define SERVER_PORT 8080 /* a server of this program's own, at every address */
#define RECORDS_MAX 4096
#define FILLING     (POSTERN_TRACE_RING_BYTES / sizeof(struct postern_trace_record) + 200)

#define TLS   "198.51.100.1"
#define TLS6  "fd00:99::1"
#define DENY  "198.51.100.2"
#define PLAIN "198.51.100.3"
#define HOLD  "203.0.113.4"
#define MISS  "198.51.100.5"

static struct postern_trace_record records[RECORDS_MAX];
static size_t record_count;
static int server_fd;

static void on_record(void *context, const struct postern_trace_record *record)
{
	(void)context;
	if (record_count < RECORDS_MAX)
		records[record_count++] = *record;
}

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	server_fd = server(SERVER_PORT);
	if (hooks_trace_open(fixture->hooks, on_record, NULL) < 0) {
		perror("hooks_trace_open()");
		exit(1);
	}
	set_destination(fixture, TLS, PORT, POSTERN_VERDICT_TLS, 1);
	set_destination(fixture, TLS6, PORT, POSTERN_VERDICT_TLS, 1);
	set_destination(fixture, DENY, PORT, POSTERN_VERDICT_DENY, 0);
	set_destination(fixture, PLAIN, PORT, POSTERN_VERDICT_PLAIN, 0);
	set_cidr(fixture, "203.0.113.0/24", true);
	hooks_set_guarded_port(fixture->hooks, PORT, true);
}

static void read_all(struct fixture *fixture)
{
	while (hooks_trace_read(fixture->hooks) > 0)
		;
}

static void ask_until(struct fixture *fixture, struct postern_trace_filter filter, uint64_t until_ns)
{
	filter.until_ns = until_ns;
	read_all(fixture);
	record_count = 0;
	hooks_trace_ask(fixture->hooks, &filter);
}

static void ask(struct fixture *fixture, struct postern_trace_filter filter)
{
	ask_until(fixture, filter, monotonic_ns() + UINT64_C(60000000000));
}

static void ask_for_all(struct fixture *fixture)
{
	ask(fixture, (struct postern_trace_filter){0});
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
	return cookie;
}

/* One connect, and its end. Returns the cookie that G had. */
static uint64_t try(struct fixture *fixture, const char *address, uint16_t port)
{
	_cleanup_close_ int g = g_socket(fixture, strchr(address, ':') ? AF_INET6 : AF_INET);
	uint64_t cookie = cookie_of(g);

	(void)dial(g, address, port);
	return cookie;
}

static const struct postern_trace_record *find(struct fixture *fixture, enum postern_trace_place place,
                                               uint32_t counter)
{
	read_all(fixture);
	for (size_t i = 0; i < record_count; i++) {
		if (records[i].place == place && records[i].counter == counter)
			return &records[i];
	}
	return NULL;
}

static size_t count_of(struct fixture *fixture, enum postern_trace_place place)
{
	size_t count = 0;

	read_all(fixture);
	for (size_t i = 0; i < record_count; i++)
		count += records[i].place == place;
	return count;
}

struct wanted {
	enum postern_trace_place place;
	enum postern_counter counter;
	enum postern_verdict verdict;
	int error;
	const char *address;
	uint16_t port;
	uint64_t cookie;
};

/* The record, after everything in it was compared. NULL: it did not come. */
static const struct postern_trace_record *expect_record(struct fixture *fixture, const char *what,
                                                        const struct wanted *wanted)
{
	const struct postern_trace_record *record = find(fixture, wanted->place, wanted->counter);
	const struct postern_destination_key key = key_of(wanted->address, wanted->port);
	char expected[DESTINATION_TEXT_MAX], seen[DESTINATION_TEXT_MAX];

	if (!expect_number(fixture, what, 1, record != NULL))
		return NULL;
	expect_number(fixture, "verdict", wanted->verdict, record->verdict);
	expect_number(fixture, "error", wanted->error, record->error);
	expect_number(fixture, "gateway", GATEWAY_ID, record->gateway_id);
	expect_number(fixture, "cookie", (long long)wanted->cookie, (long long)record->cookie);
	expect_text(fixture, "destination", destination_format(&key, expected),
	            destination_format(&record->destination, seen));
	expect_number(fixture, "its time is past", 1,
	              record->time_ns <= monotonic_ns() && record->time_ns + UINT64_C(60000000000) > monotonic_ns());
	return record;
}

/* ---- rows ---- */

static void nobody_looks(struct fixture *fixture)
{
	static const char *const addresses[] = {TLS, TLS6, DENY, PLAIN, HOLD, MISS};

	ask_until(fixture, (struct postern_trace_filter){0}, 0);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
		try(fixture, addresses[i], PORT);
	expect_number(fixture, "records while the filter is off", 0,
	              (long long)count_of(fixture, POSTERN_TRACE_CONNECT));
	/* An agent that died looks no more when its time is over. */
	ask_until(fixture, (struct postern_trace_filter){0}, monotonic_ns() - 1);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
		try(fixture, addresses[i], PORT);
	read_all(fixture);
	expect_number(fixture, "records after the filter's end", 0, (long long)record_count);
}

static void connects(struct fixture *fixture)
{
	static const struct {
		const char *address;
		enum postern_verdict verdict;
		enum postern_counter counter;
		int error;
	} rows[] = {
	        {TLS, POSTERN_VERDICT_TLS, POSTERN_COUNT_CONNECT_TLS, 0},
	        {TLS6, POSTERN_VERDICT_TLS, POSTERN_COUNT_CONNECT_TLS, 0},
	        {HOLD, POSTERN_VERDICT_HOLD, POSTERN_COUNT_CONNECT_HOLD, 0},
	        {PLAIN, POSTERN_VERDICT_PLAIN, POSTERN_COUNT_CONNECT_PLAIN, 0},
	        {DENY, POSTERN_VERDICT_DENY, POSTERN_COUNT_CONNECT_DENY, -ECONNREFUSED},
	        {MISS, POSTERN_VERDICT_NONE, POSTERN_COUNT_CONNECT_MISS, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		ask_for_all(fixture);
		const struct wanted wanted = {
		        .place = POSTERN_TRACE_CONNECT,
		        .counter = rows[i].counter,
		        .verdict = rows[i].verdict,
		        .error = rows[i].error,
		        .address = rows[i].address,
		        .port = PORT,
		        .cookie = try(fixture, rows[i].address, PORT),
		};
		expect_record(fixture, rows[i].address, &wanted);
		expect_number(fixture, "connects told", 1, (long long)count_of(fixture, POSTERN_TRACE_CONNECT));
	}
}

static void refused(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	struct postern_gateway entry = {0}, none;
	struct wanted wanted = {
	        .place = POSTERN_TRACE_CONNECT,
	        .counter = POSTERN_COUNT_REFUSED_BOUND_DEVICE,
	        .verdict = POSTERN_VERDICT_TLS,
	        .error = -ECONNREFUSED,
	        .address = TLS,
	        .port = PORT,
	};

	ask_for_all(fixture);
	expect_error(fixture, "SO_BINDTODEVICE", 0, setsockopt(g, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) ? errno : 0);
	expect_error(fixture, "connect() of a socket that is bound to a device", ECONNREFUSED, dial(g, TLS, PORT));
	wanted.cookie = cookie_of(g);
	expect_record(fixture, "bound to a device", &wanted);

	hooks_get_gateway(fixture->hooks, GATEWAY_ID, &entry);
	none = entry;
	none.port_count = 0;
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &none);
	wanted.counter = POSTERN_COUNT_REFUSED_NOT_READY;
	wanted.cookie = try(fixture, TLS, PORT);
	expect_record(fixture, "without a listener", &wanted);
	none.port_count = 1;
	none.port[0] = htons(1); /* nobody listens there */
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &none);
	wanted.counter = POSTERN_COUNT_REFUSED_NO_AGENT;
	wanted.cookie = try(fixture, TLS, PORT);
	expect_record(fixture, "a dead agent", &wanted);
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &entry);
}

static void observed(struct fixture *fixture)
{
	struct postern_gateway entry = {0}, observing;
	struct wanted wanted = {
	        .place = POSTERN_TRACE_CONNECT,
	        .counter = POSTERN_COUNT_WOULD_DENY,
	        .verdict = POSTERN_VERDICT_DENY,
	        .address = DENY,
	        .port = PORT,
	};

	hooks_get_gateway(fixture->hooks, GATEWAY_ID, &entry);
	observing = entry;
	observing.mode = POSTERN_MODE_OBSERVE;
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &observing);
	ask_for_all(fixture);
	wanted.cookie = try(fixture, DENY, PORT);
	expect_record(fixture, "what would be refused", &wanted);
	hooks_set_gateway(fixture->hooks, GATEWAY_ID, &entry);
}

static void held(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	_cleanup_close_ int a = -1;
	const struct postern_trace_record *announced, *syn;
	const struct wanted wanted = {
	        .place = POSTERN_TRACE_ANNOUNCE,
	        .counter = POSTERN_COUNT_CONNECT_TLS,
	        .verdict = POSTERN_VERDICT_TLS,
	        .address = TLS,
	        .port = PORT,
	        .cookie = cookie_of(g),
	};

	ask_for_all(fixture);
	expect_error(fixture, "connect()", EINPROGRESS, dial(g, TLS, PORT));
	expect_number(fixture, "a SYN record", 1, await_syn(fixture, local_port(g), 0, PATIENCE_MS) != NULL);
	announced = expect_record(fixture, "what is announced", &wanted);
	syn = find(fixture, POSTERN_TRACE_SYN, POSTERN_COUNT_SYN_HELD);
	if (!expect_number(fixture, "a held SYN", 1, announced && syn))
		return;
	expect_number(fixture, "its gateway", GATEWAY_ID, syn->gateway_id);
	expect_number(fixture, "G's port, as announced", local_port(g), announced->tuple.local_port);
	expect_number(fixture, "the tuple of both", 0, memcmp(&announced->tuple, &syn->tuple, sizeof(syn->tuple)));
	a = establish(fixture, g);
	syn = find(fixture, POSTERN_TRACE_SYN, POSTERN_COUNT_SYN_RELEASED);
	if (expect_number(fixture, "a released SYN", 1, syn != NULL))
		expect_number(fixture, "its port", local_port(g), syn->tuple.local_port);
}

static void guarded(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	_cleanup_close_ int accepted = -1;
	const struct postern_trace_record *record;
	struct wanted wanted = {
	        .place = POSTERN_TRACE_GUARD,
	        .counter = POSTERN_COUNT_GUARD_PAYLOAD_DROPPED,
	        .verdict = POSTERN_VERDICT_TLS,
	        .address = MISS,
	        .port = SERVER_PORT,
	        .cookie = cookie_of(g),
	};

	(void)dial(g, MISS, SERVER_PORT);
	expect_error(fixture, "connect()", 0, await_connected(g, PATIENCE_MS));
	accepted = await_accept(server_fd, PATIENCE_MS);
	ask_for_all(fixture);
	set_destination(fixture, MISS, SERVER_PORT, POSTERN_VERDICT_TLS, 1);
	long long before = counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED);
	expect_number(fixture, "send()", 1, send(g, "x", 1, 0));
	await_counter(fixture, POSTERN_COUNT_GUARD_PAYLOAD_DROPPED, before + 1, PATIENCE_MS);
	record = expect_record(fixture, "a dropped payload", &wanted);
	if (record)
		expect_number(fixture, "G's port", local_port(g), record->tuple.local_port);
	delete_destination(fixture, MISS, SERVER_PORT);
}

static void witnessed(struct fixture *fixture)
{
	const struct postern_backend_socket state = {
	        .destination = key_of(TLS, PORT),
	        .phase = POSTERN_B_HANDSHAKE,
	        .gateway_id = GATEWAY_ID,
	};
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	_cleanup_close_ int b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int accepted = -1;
	const struct postern_trace_record *record;
	struct wanted wanted = {
	        .place = POSTERN_TRACE_WITNESS,
	        .counter = POSTERN_COUNT_WIRE_NOT_TLS,
	        .verdict = POSTERN_VERDICT_TLS,
	        .address = TLS,
	        .port = PORT,
	        .cookie = cookie_of(b),
	};

	setsockopt(b, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	expect_error(fixture, "hooks_set_backend()", 0, -hooks_set_backend(fixture->hooks, b, &state));
	expect_error(fixture, "connect() of B", 0, dial(b, MISS, SERVER_PORT));
	accepted = await_accept(server_fd, PATIENCE_MS);
	ask_for_all(fixture);
	long long before = counter(fixture, POSTERN_COUNT_WIRE_NOT_TLS);
	expect_number(fixture, "send()", 3, send(b, "GET", 3, 0));
	await_counter(fixture, POSTERN_COUNT_WIRE_NOT_TLS, before + 1, PATIENCE_MS);
	record = expect_record(fixture, "plaintext of B", &wanted);
	if (record)
		expect_number(fixture, "B's port", local_port(b), record->tuple.local_port);
}

/* What is told of connects to TLS, TLS6, DENY and PLAIN, in this order of bits. */
static void filters(struct fixture *fixture)
{
	static const char *const addresses[] = {TLS, TLS6, DENY, PLAIN};
	const struct {
		const char *what;
		struct postern_trace_filter filter;
		unsigned int told;
	} rows[] = {
	        {"the gateway", {.match = POSTERN_TRACE_BY_GATEWAY, .gateway_id = GATEWAY_ID}, 0xf},
	        {"another gateway", {.match = POSTERN_TRACE_BY_GATEWAY, .gateway_id = GATEWAY_ID + 1}, 0},
	        {"an address", {.match = POSTERN_TRACE_BY_ADDRESS, .destination = key_of(DENY, 0)}, 1u << 2},
	        {"an IPv6 address", {.match = POSTERN_TRACE_BY_ADDRESS, .destination = key_of(TLS6, 0)}, 1u << 1},
	        {"the port", {.match = POSTERN_TRACE_BY_PORT, .destination = key_of(MISS, PORT)}, 0xf},
	        {"another port", {.match = POSTERN_TRACE_BY_PORT, .destination = key_of(MISS, PORT + 1)}, 0},
	        {"an address and another port",
	         {.match = POSTERN_TRACE_BY_PORT | POSTERN_TRACE_BY_ADDRESS, .destination = key_of(TLS, PORT + 1)},
	         0},
	        {"a verdict", {.match = POSTERN_TRACE_BY_VERDICT, .verdicts = 1u << POSTERN_VERDICT_TLS}, 0x3},
	        {"two verdicts",
	         {.match = POSTERN_TRACE_BY_VERDICT,
	          .verdicts = 1u << POSTERN_VERDICT_DENY | 1u << POSTERN_VERDICT_PLAIN},
	         0xc},
	        {"what does not match does not count", {.gateway_id = 1, .verdicts = 1}, 0xf},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned int told = 0;

		ask(fixture, rows[i].filter);
		for (size_t each = 0; each < ARRAY_SIZE(addresses); each++)
			try(fixture, addresses[each], PORT);
		read_all(fixture);
		for (size_t each = 0; each < record_count; each++) {
			for (size_t bit = 0; bit < ARRAY_SIZE(addresses); bit++) {
				const struct postern_destination_key key = key_of(addresses[bit], PORT);

				if (records[each].place == POSTERN_TRACE_CONNECT &&
				    memcmp(&records[each].destination, &key, sizeof(key)) == 0)
					told |= 1u << bit;
			}
		}
		expect_number(fixture, rows[i].what, rows[i].told, told);
	}
}

static void overflow(struct fixture *fixture)
{
	uint64_t before;

	ask(fixture, (struct postern_trace_filter){.match = POSTERN_TRACE_BY_ADDRESS, .destination = key_of(DENY, 0)});
	before = hooks_trace_lost(fixture->hooks);
	for (size_t i = 0; i < FILLING; i++)
		try(fixture, DENY, PORT);
	read_all(fixture);
	uint64_t lost = hooks_trace_lost(fixture->hooks) - before;
	expect_at_least(fixture, "lost", 1, (long long)lost);
	expect_number(fixture, "read and lost", (long long)FILLING, (long long)(record_count + lost));
	record_count = 0;
	try(fixture, DENY, PORT);
	read_all(fixture);
	expect_number(fixture, "with room again", 1, (long long)record_count);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"nobody looks", nobody_looks},
	        {"connects by verdict", connects},
	        {"refused connects", refused},
	        {"an observed gateway", observed},
	        {"a held SYN", held},
	        {"the guard's drops", guarded},
	        {"the witness's drops", witnessed},
	        {"filters", filters},
	        {"a full ring", overflow},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
