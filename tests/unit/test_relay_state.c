/* SPDX-License-Identifier: GPL-2.0-only */
/* A relay that leaves and goes on: on the mock kernel, whose two sockets outlive the descriptors that are closed. */
#include "relay_fixture.h"

#include <fcntl.h>

#include <openssl/crypto.h>

#include "datapath/connection_state.h"

#define RECORD    16384
#define PIECE     4096
#define LOW_WATER (128 << 10) /* of relay_stream.c, and of relay_gather.c */
#define MOST      (16 << 20)

/* What another process would do: another relay, on the same two sockets, from bytes. */
static void move(struct fixture *f)
{
	struct connection_state state = {.gateway = "g", .lane_slot = POSTERN_NO_LANE_SLOT}, arrived;
	int a = dup(f->kernel.a.fd), b = dup(f->kernel.b.fd);
	static const uint8_t chain[] = {1};
	uint8_t *bytes;
	size_t size;

	assert_true(relay_may_leave(f->relay));
	(void)relay_describe(f->relay, &state.relay);
	relay_offer(f->relay);
	assert_int_equal(f->kernel.a.receive_low_water, 1);
	assert_int_equal(f->kernel.b.receive_low_water, 1);
	if (state.relay.kernel_tls) {
		state.chain = chain;
		state.chain_size = sizeof(chain);
	}
	assert_int_equal(connection_state_encode(&state, &bytes, &size), 0);
	relay_leave(f->relay);
	assert_int_equal(f->ends, 0); /* nobody is told: it has not ended */
	assert_true(f->kernel.a.closed && f->kernel.b.closed);
	assert_false(f->kernel.a.shut_for_writing && f->kernel.b.shut_for_writing);
	assert_int_equal(loop_step(f->loop, 0), 0);

	/* The numbers that the sockets had, so that the mock knows them. */
	assert_int_equal(dup3(a, f->kernel.a.fd, O_CLOEXEC), f->kernel.a.fd);
	assert_int_equal(dup3(b, f->kernel.b.fd, O_CLOEXEC), f->kernel.b.fd);
	close(a);
	close(b);
	f->kernel.a.closed = f->kernel.b.closed = false;
	f->options.session = NULL;
	f->options.kernel_rekey = true;
	assert_int_equal(connection_state_decode(bytes, size, &arrived), 0);
	assert_int_equal(relay_adopt(&f->worker, &f->options, &arrived.relay, &f->relay), 0);
	assert_non_null(f->relay);
	OPENSSL_clear_free(bytes, size);
	f->kernel.a.source = &f->relay->a;
	f->kernel.b.source = &f->relay->b;
}

static void assert_text(struct mock_socket *socket, const char *expected)
{
	assert_out(socket, expected, strlen(expected));
}

static void flows(enum relay_mode mode)
{
	struct fixture *f = fixture_new(mode, TLS_VERSION_1_3);

	fixture_start(f);
	mock_feed(&f->kernel.a, "one ", 4);
	mock_feed(&f->kernel.b, "eins ", 5);
	fixture_run(f);
	move(f);
	mock_feed(&f->kernel.a, "two", 3);
	mock_feed(&f->kernel.b, "zwei", 4);
	fixture_run(f);
	assert_text(&f->kernel.b, "one two");
	assert_text(&f->kernel.a, "eins zwei");
	assert_int_equal(f->relay->to_backend.bytes, 7);
	assert_int_equal(f->relay->to_gateway.bytes, 9);
	fixture_free(f);
}

static void test_plain(void **unused)
{
	(void)unused;
	flows(RELAY_PLAIN);
}

static void test_kernel_tls(void **unused)
{
	(void)unused;
	flows(RELAY_KTLS_COPY);
}

/* Both sinks are full: what was read and not written goes along, and comes out in its place. */
static void test_rests(void **unused)
{
	struct fixture *f = fixture_new(RELAY_PLAIN, TLS_VERSION_1_3);

	(void)unused;
	fixture_start(f);
	f->kernel.a.room = f->kernel.b.room = 3;
	mock_feed(&f->kernel.a, "one two ", 8);
	mock_feed(&f->kernel.b, "eins zwei ", 10);
	fixture_run(f);
	assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
	assert_int_equal(f->relay->receive, RECEIVE_BLOCKED);
	move(f);
	assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
	mock_feed(&f->kernel.a, "three", 5);
	mock_feed(&f->kernel.b, "drei", 4);
	fixture_run(f);
	assert_text(&f->kernel.b, "one"); /* not before there is room, and nothing past it */
	f->kernel.a.room = f->kernel.b.room = 1000;
	fixture_run(f);
	assert_text(&f->kernel.b, "one two three");
	assert_text(&f->kernel.a, "eins zwei drei");
	fixture_free(f);
}

/*
 * The pipe is the worker's and stays behind: what splice() took into it, and a full backend did not take out, is a rest
 * like any other by the time that a connection can leave.
 */
static void test_bytes_of_the_pipe(void **unused)
{
	static const size_t first = 100000, room = 5000, second = 90000, third = 1000;
	struct fixture *f = fixture_new(RELAY_KTLS_SPLICE, TLS_VERSION_1_3);
	uint8_t *bytes = pattern(first + second + third);

	(void)unused;
	fixture_start(f);
	mock_feed(&f->kernel.a, bytes, first); /* large: splice from now on */
	fixture_run(f);
	f->kernel.b.room = room;
	mock_feed(&f->kernel.a, bytes + first, second);
	fixture_run(f);
	assert_true(f->kernel.a.splice_in_calls > 0);
	assert_int_equal(f->relay->transmit, TRANSMIT_BLOCKED);
	assert_int_equal(f->kernel.pipe_size, 0);
	assert_true(f->relay->to_backend.rest.size > 0);
	move(f);
	mock_feed(&f->kernel.a, bytes + first + second, third);
	f->kernel.b.room = first + second;
	fixture_run(f);
	assert_out(&f->kernel.b, bytes, first + second + third);
	assert_int_equal(f->relay->to_backend.bytes, first + second + third);
	free(bytes);
	fixture_free(f);
}

/* G has ended, B has not: the answer goes on with the next one, and its end is the proper one. */
static void test_half_closed(void **unused)
{
	static const struct {
		enum relay_mode mode;
		enum tls_version version;
		enum transmit_state transmit;
	} cases[] = {
	        {RELAY_PLAIN, TLS_VERSION_1_3, TRANSMIT_ENDED},
	        {RELAY_KTLS_COPY, TLS_VERSION_1_3, TRANSMIT_ENDED},
	        {RELAY_KTLS_COPY, TLS_VERSION_1_2, TRANSMIT_DEFERRED},
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f = fixture_new(cases[i].mode, cases[i].version);

		fixture_start(f);
		mock_feed(&f->kernel.a, "ask", 3);
		mock_feed(&f->kernel.b, "begin ", 6);
		fixture_run(f);
		mock_feed_fin(&f->kernel.a);
		fixture_run(f);
		assert_int_equal(f->relay->transmit, cases[i].transmit);
		move(f);
		assert_int_equal(f->relay->transmit, cases[i].transmit);
		mock_feed(&f->kernel.b, "end", 3);
		if (cases[i].mode == RELAY_KTLS_COPY)
			mock_feed_record(&f->kernel.b, TLS_CONTENT_ALERT, "\1\0", 2);
		mock_feed_fin(&f->kernel.b);
		fixture_run(f);
		assert_text(&f->kernel.a, "begin end");
		assert_int_equal(f->ends, 1);
		if (f->reason != REASON_NONE)
			fail_msg("case %zu: expected a proper end, seen %s (%s)", i, reason_name(f->reason), f->detail);
		fixture_free(f);
	}
}

/* The first half of a ticket was read before, the second comes after: it is one message. */
static void test_message_in_two_records(void **unused)
{
	static const uint8_t ticket[] = {4, 0, 0, 3, 'a', 'b', 'c'};
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);

	(void)unused;
	fixture_start(f);
	mock_feed(&f->kernel.b, "data", 4);
	fixture_run(f);
	mock_feed_record(&f->kernel.b, TLS_CONTENT_HANDSHAKE, ticket, 5);
	fixture_run(f);
	move(f);
	mock_feed_record(&f->kernel.b, TLS_CONTENT_HANDSHAKE, ticket + 5, 2);
	mock_feed(&f->kernel.b, " and more", 9);
	fixture_run(f);
	assert_int_equal(f->ends, 0);
	assert_text(&f->kernel.a, "data and more");
	assert_int_equal(f->relay->tickets_dropped, 1);
	fixture_free(f);
}

/* Keys are counted on, not anew. */
static void test_key_blocks(void **unused)
{
	struct fixture *f = fixture_new(RELAY_KTLS_COPY, TLS_VERSION_1_3);
	uint64_t before;

	(void)unused;
	fixture_start(f);
	mock_feed(&f->kernel.a, "0123456789abcdef", 16);
	mock_feed(&f->kernel.b, "data", 4);
	fixture_run(f);
	before = f->relay->to_backend.key_blocks;
	assert_true(before > 0);
	move(f);
	assert_int_equal(f->relay->to_backend.key_blocks, before);
	assert_true(f->relay->limits_key);
	fixture_free(f);
}

static void test_who_may_not_leave(void **unused)
{
	static const enum relay_mode modes[] = {RELAY_USER_TLS, RELAY_TICKETS};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct fixture *f = fixture_new(modes[i], TLS_VERSION_1_3);

		f->worker.timeouts.ticket_window_ns = 1000 * MILLISECOND;
		fixture_start(f);
		assert_false(relay_may_leave(f->relay));
		fixture_free(f);
	}
}

/* Until many records of B are read at a time; the timer may end such a stream on a slow machine. Returns its bytes. */
static size_t feed_stream(struct fixture *f, const uint8_t *sent)
{
	size_t at = 0;

	while (f->kernel.b.receive_low_water != LOW_WATER && at < MOST) {
		mock_feed(&f->kernel.b, sent + at, RECORD);
		fixture_run(f);
		at += RECORD;
	}
	assert_int_equal(f->kernel.b.receive_low_water, LOW_WATER);
	return at;
}

/* The next agent's wake-ups are its own business; nobody took the sockets: these are as they were. */
static void test_refused_stream(void **unused)
{
	static const enum relay_mode modes[] = {RELAY_PLAIN, RELAY_KTLS_COPY};
	uint8_t *sent = pattern(MOST + LOW_WATER);

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct fixture *f = fixture_new(modes[i], TLS_VERSION_1_3);
		size_t size;

		fixture_start(f);
		size = feed_stream(f, sent);
		relay_offer(f->relay);
		assert_int_equal(f->kernel.b.receive_low_water, 1);
		relay_stay(f->relay);
		assert_int_equal(f->kernel.b.receive_low_water, LOW_WATER);
		for (size_t at = 0; at < LOW_WATER; at += RECORD)
			mock_feed(&f->kernel.b, sent + size + at, RECORD);
		fixture_run(f);
		assert_out(&f->kernel.a, sent, size + LOW_WATER);
		assert_int_equal(f->ends, 0);
		fixture_free(f);
	}
	free(sent);
}

static void test_refused_requests(void **unused)
{
	uint8_t *sent = pattern(PIECE);
	struct fixture *f = fixture_new(RELAY_PLAIN, TLS_VERSION_1_3);

	(void)unused;
	fixture_start(f);
	for (size_t at = 0; at < MOST && f->relay->gathering.state == GATHER_EACH; at += PIECE) {
		mock_feed(&f->kernel.a, sent, PIECE);
		fixture_run(f);
	}
	assert_int_equal(f->kernel.a.receive_low_water, LOW_WATER);
	relay_offer(f->relay);
	assert_int_equal(f->kernel.a.receive_low_water, 1);
	relay_stay(f->relay);
	assert_int_equal(f->kernel.a.receive_low_water, LOW_WATER);
	assert_int_equal(f->relay->gathering.state, GATHER_GATHERING);
	free(sent);
	fixture_free(f);
}

/* Calls that thousands would make for nothing. */
static void test_offered_while_it_waits(void **unused)
{
	struct fixture *f = fixture_new(RELAY_PLAIN, TLS_VERSION_1_3);

	(void)unused;
	fixture_start(f);
	relay_offer(f->relay);
	relay_stay(f->relay);
	assert_int_equal(f->kernel.low_water_calls, 0);
	mock_feed(&f->kernel.b, "x", 1);
	fixture_run(f);
	assert_text(&f->kernel.a, "x");
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_plain),
	        cmocka_unit_test(test_kernel_tls),
	        cmocka_unit_test(test_rests),
	        cmocka_unit_test(test_bytes_of_the_pipe),
	        cmocka_unit_test(test_half_closed),
	        cmocka_unit_test(test_message_in_two_records),
	        cmocka_unit_test(test_key_blocks),
	        cmocka_unit_test(test_who_may_not_leave),
	        cmocka_unit_test(test_refused_stream),
	        cmocka_unit_test(test_refused_requests),
	        cmocka_unit_test(test_offered_while_it_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
