// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_lane.c: the sockmap lane: every byte once and in order, whatever G calls to send it; bounded by its
 * window; and no lane where it would do harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "hooks_fixture.h"

#define TARGET   "198.51.100.130"
#define MIX_SIZE 6000000u
#define BOUND    (64u << 20) /* far more than any queue of TCP; without a window G would not stop there either */

static uint8_t scratch[1 << 20];
static int pattern_file; /* MIX_SIZE bytes of the pattern, for sendfile() */

/* Byte number `position`: no period that a lost or doubled message could hide in. */
static uint8_t pattern(uint64_t position)
{
	uint64_t mixed = (position + 1) * 0x9e3779b97f4a7c15u;

	return (uint8_t)(mixed >> 56);
}

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	set_config(fixture, false, true);
	set_destination(fixture, TARGET, 443, POSTERN_VERDICT_TLS, 1);
	pattern_file = memfd_create("pattern", MFD_CLOEXEC);
	for (uint64_t position = 0; position < MIX_SIZE; position += sizeof(scratch)) {
		for (size_t i = 0; i < sizeof(scratch); i++)
			scratch[i] = pattern(position + i);
		if (write(pattern_file, scratch, sizeof(scratch)) != (ssize_t)sizeof(scratch))
			_exit(1);
	}
}

/* One connection, as G and as the worker sees it. */
struct lane {
	int g;
	int a;
	uint16_t port;
	uint64_t cookie;
	struct postern_lane_slot *slot;
	uint64_t sent;
	uint64_t received;
};

static void close_lane(struct lane *lane)
{
	if (lane->g >= 0)
		close(lane->g);
	if (lane->a >= 0)
		close(lane->a);
}

static void offer(struct fixture *fixture, struct lane *lane)
{
	const struct postern_connect_record *connect = await_record(fixture, POSTERN_RECORD_CONNECT, lane->port, 0,
	                                                            PATIENCE_MS);

	if (!expect_number(fixture, "a CONNECT record", 1, connect != NULL))
		return;
	lane->cookie = connect->socket.cookie;
	lane->slot = &hooks_lane_slots(fixture->hooks)[LANE_SLOT];
	memset(lane->slot, 0, sizeof(*lane->slot));
	expect_error(fixture, "hooks_lane_offer()", 0, -hooks_lane_offer(fixture->hooks, lane->cookie, LANE_SLOT));
}

static void join(struct fixture *fixture, struct lane *lane)
{
	expect_error(fixture, "hooks_lane_join_agent()", 0,
	             -hooks_lane_join_agent(fixture->hooks, lane->cookie, lane->a));
}

/* Established with an offered slot; A has not joined yet. */
static struct lane start(struct fixture *fixture, int g)
{
	struct lane lane = {.g = g, .a = -1};

	forget_records(fixture); /* of one before that had the same port */
	dial(g, TARGET, 443);
	lane.port = local_port(g);
	offer(fixture, &lane);
	lane.a = establish(fixture, g);
	fcntl(lane.a, F_SETFL, O_NONBLOCK);
	return lane;
}

/* How many bytes G got rid of; 0: it must wait. */
static size_t send_some(struct lane *lane, size_t size)
{
	size = size < sizeof(scratch) ? size : sizeof(scratch);
	for (size_t i = 0; i < size; i++)
		scratch[i] = pattern(lane->sent + i);
	ssize_t sent = send(lane->g, scratch, size, MSG_NOSIGNAL);
	lane->sent += sent > 0 ? (size_t)sent : 0;
	return sent > 0 ? (size_t)sent : 0;
}

static size_t sendfile_some(struct lane *lane, size_t size)
{
	off_t offset = (off_t)lane->sent;
	ssize_t sent = sendfile(lane->g, pattern_file, &offset, size);

	lane->sent += sent > 0 ? (size_t)sent : 0;
	return sent > 0 ? (size_t)sent : 0;
}

static size_t splice_some(struct lane *lane, size_t size)
{
	int ends[2];
	ssize_t sent = 0;

	if (pipe2(ends, O_CLOEXEC) == -1)
		return 0;
	size = size < 4096 ? size : 4096;
	for (size_t i = 0; i < size; i++)
		scratch[i] = pattern(lane->sent + i);
	if (write(ends[1], scratch, size) == (ssize_t)size)
		sent = splice(ends[0], NULL, lane->g, NULL, size, SPLICE_F_NONBLOCK);
	close(ends[0]);
	close(ends[1]);
	lane->sent += sent > 0 ? (size_t)sent : 0;
	return sent > 0 ? (size_t)sent : 0;
}

/* What is there, up to `size` bytes, checked and accounted. -1: the end. */
static long receive_some(struct fixture *fixture, struct lane *lane, size_t size)
{
	ssize_t length = recv(lane->a, scratch, size < sizeof(scratch) ? size : sizeof(scratch), MSG_DONTWAIT);

	if (length == 0)
		return -1;
	if (length < 0)
		return 0;
	for (ssize_t i = 0; i < length; i++) {
		uint64_t position = lane->received + (uint64_t)i;

		if (scratch[i] == pattern(position))
			continue;
		printf("     byte %llu: expected %u, seen %u\n", (unsigned long long)position, pattern(position),
		       scratch[i]);
		expect_number(fixture, "bytes in their place", 1, 0);
		_exit(1);
	}
	lane->received += (uint64_t)length;
	__atomic_fetch_add(&lane->slot->agent_read, (uint64_t)length, __ATOMIC_SEQ_CST);
	return length;
}

static void receive_all(struct fixture *fixture, struct lane *lane)
{
	while (lane->received < lane->sent) {
		struct pollfd wait = {.fd = lane->a, .events = POLLIN};

		if (receive_some(fixture, lane, sizeof(scratch)) <= 0 && poll(&wait, 1, PATIENCE_MS) != 1)
			break;
	}
	expect_number(fixture, "bytes received", (long long)lane->sent, (long long)lane->received);
}

/* ---- rows ---- */

static void small_messages(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));

	send_some(&lane, 1); /* before A joined: by TCP */
	expect_number(fixture, "passed", 1, (long long)lane.slot->passed);
	join(fixture, &lane);
	send_some(&lane, 100); /* the first byte is still under way: by TCP, too, or it would be overtaken */
	expect_number(fixture, "passed", 2, (long long)lane.slot->passed);
	receive_all(fixture, &lane);
	for (int i = 0; i < 1000; i++) {
		send_some(&lane, 4096);
		if (i % 8 == 7)
			receive_all(fixture, &lane);
	}
	expect_number(fixture, "redirected", 1000, (long long)lane.slot->redirected);
	expect_number(fixture, "redirected bytes", 4096000, (long long)lane.slot->redirected_bytes);
	expect_number(fixture, "passed", 2, (long long)lane.slot->passed);
}

static void other_direction(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));
	size_t sent = 0, received = 0;

	join(fixture, &lane);
	send_some(&lane, 10);
	receive_all(fixture, &lane);
	while (received < 1000000) {
		uint8_t bytes[4000];
		struct pollfd wait = {.fd = lane.g, .events = POLLIN};

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = pattern(sent + i);
		ssize_t length = send(lane.a, bytes, sizeof(bytes), MSG_DONTWAIT);
		sent += length > 0 ? (size_t)length : 0;
		if (poll(&wait, 1, length > 0 ? 0 : PATIENCE_MS) != 1)
			continue;
		length = recv(lane.g, bytes, sizeof(bytes), 0);
		for (ssize_t i = 0; i < length; i++) {
			if (!expect_number(fixture, "byte", pattern(received + (size_t)i), bytes[i]))
				return;
		}
		received += length > 0 ? (size_t)length : 0;
	}
}

/* Every way to send, in odd sizes, with a reader of odd patience. */
static void mixed(struct fixture *fixture)
{
	static const size_t sizes[] = {1, 3, 700, 4096, 16383, 16384, 16385, 65536, 200000};
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));
	uint32_t chance = 12345;

	send_some(&lane, 5);
	join(fixture, &lane);
	while (lane.sent < MIX_SIZE) {
		chance = chance * 1103515245u + 12345u;
		size_t size = sizes[(chance >> 16) % ARRAY_SIZE(sizes)], sent;

		size = size < MIX_SIZE - lane.sent ? size : MIX_SIZE - lane.sent;
		if ((chance >> 8) % 8 == 0)
			sent = sendfile_some(&lane, size);
		else if ((chance >> 8) % 8 == 1)
			sent = splice_some(&lane, size);
		else
			sent = send_some(&lane, size);
		if (sent == 0 || (chance >> 24) % 4 == 0)
			receive_some(fixture, &lane, 1 + (chance >> 4) % 100000);
		if ((chance >> 20) % 4 == 0)
			receive_all(fixture, &lane);
	}
	receive_all(fixture, &lane);
	printf("     %llu messages redirected, %llu passed\n", (unsigned long long)lane.slot->redirected,
	       (unsigned long long)lane.slot->passed);
	expect_at_least(fixture, "redirected", 10, (long long)lane.slot->redirected);
	expect_at_least(fixture, "passed", 10, (long long)lane.slot->passed);
}

/* The reader stalls: G must be stopped, by TCP's own limits; and afterwards the lane must come back. */
static void window(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));

	join(fixture, &lane);
	for (int round = 0; round < 3; round++) {
		uint64_t redirected_before = lane.slot->redirected_bytes, redirects;

		while (send_some(&lane, 1000) > 0 && lane.sent - lane.received < BOUND)
			;
		expect_error(fixture, "send() of a G that must wait", EAGAIN, errno);
		expect_at_least(fixture, "bytes under the bound", 1,
		                (long long)BOUND - (long long)(lane.sent - lane.received));
		expect_at_least(fixture, "room in the window", 0,
		                POSTERN_LANE_WINDOW - (long long)(lane.slot->redirected_bytes - redirected_before));
		expect_at_least(fixture, "redirected bytes", POSTERN_LANE_WINDOW / 2,
		                (long long)(lane.slot->redirected_bytes - redirected_before));
		/* A message that TCP takes in part, or G would not know what the lane forgets. */
		send_some(&lane, 900000);
		receive_all(fixture, &lane);
		redirects = lane.slot->redirected;
		send_some(&lane, 1000); /* may still go by the verdict of the partial send, see below */
		receive_all(fixture, &lane);
		send_some(&lane, 1000);
		expect_at_least(fixture, "redirected once all was read", (long long)redirects + 1,
		                (long long)lane.slot->redirected);
		receive_all(fixture, &lane);
	}
}

static void partial_send(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));
	size_t size = 1000000, taken;

	join(fixture, &lane);
	do {
		taken = send_some(&lane, size);
	} while (taken == size && lane.sent < BOUND);
	expect_at_least(fixture, "bytes of the partial send()", 1, (long long)taken);
	expect_at_least(fixture, "bytes that it left", 1, (long long)(size - taken));
	receive_all(fixture, &lane);
	/* The kernel keeps the verdict of a send that it could not do wholly, and asks nobody for the next one. */
	send_some(&lane, 1000);
	expect_number(fixture, "redirected at once", 0, (long long)lane.slot->redirected);
	receive_all(fixture, &lane);
	send_some(&lane, 1000);
	expect_number(fixture, "redirected afterwards", 1, (long long)lane.slot->redirected);
	receive_all(fixture, &lane);
}

#define LEAVE_SIZE  MIX_SIZE
#define MESSAGE_MAX 65536

struct writer {
	struct lane *lane;
	unsigned int seed;
	bool failed;
};

/*
 * G sends on a thread of its own, by send() and sendfile(), as fast as it can: 200 KB in small messages, which are
 * redirected, and 200 KB in large ones, in turn.
 */
static void *write_all(void *argument)
{
	static __thread uint8_t bytes[MESSAGE_MAX];
	struct writer *writer = argument;
	struct lane *lane = writer->lane;

	while (lane->sent < LEAVE_SIZE && !writer->failed) {
		bool large = lane->sent / 200000 % 2 != 0;
		size_t size = 1 + (size_t)rand_r(&writer->seed) % (large ? sizeof(bytes) : 3000);
		off_t offset = (off_t)lane->sent;
		ssize_t sent;

		if (size > LEAVE_SIZE - lane->sent)
			size = LEAVE_SIZE - lane->sent;
		if (rand_r(&writer->seed) % 4 == 0) {
			sent = sendfile(lane->g, pattern_file, &offset, size);
		} else {
			for (size_t i = 0; i < size; i++)
				bytes[i] = pattern(lane->sent + i);
			sent = send(lane->g, bytes, size, MSG_NOSIGNAL);
		}
		if (sent > 0) {
			__atomic_store_n(&lane->sent, lane->sent + (uint64_t)sent, __ATOMIC_RELAXED);
		} else if (errno == EAGAIN) {
			struct pollfd wait = {.fd = lane->g, .events = POLLOUT};

			writer->failed = poll(&wait, 1, PATIENCE_MS) != 1;
		} else {
			writer->failed = true;
		}
	}
	return NULL;
}

/* Until A's queues hold so much that whoever leaves too early loses some of it; or the writer has come to its end. */
static void await_backlog(const struct lane *lane)
{
	uint64_t sent;

	do {
		sched_yield();
		sent = __atomic_load_n(&lane->sent, __ATOMIC_RELAXED);
	} while (sent < LEAVE_SIZE && sent - lane->received < 100000);
}

/* As receive_some(), by splice(): it reads A's TCP queue alone, whatever else there is. */
static long splice_out(struct fixture *fixture, struct lane *lane, const int ends[2])
{
	ssize_t length = splice(lane->a, NULL, ends[1], NULL, 65536, SPLICE_F_NONBLOCK);

	if (length <= 0 || read(ends[0], scratch, (size_t)length) != length)
		return 0;
	for (ssize_t i = 0; i < length; i++) {
		if (scratch[i] == pattern(lane->received + (uint64_t)i))
			continue;
		expect_number(fixture, "spliced byte in its place", (long long)lane->received + i, -1);
		_exit(1);
	}
	lane->received += (uint64_t)length;
	return length;
}

/*
 * The agent's side of one connection, as relay_lane.c has it. True: it left the lane. It must, if the writer had more
 * than one message to go when it was asked to.
 */
static bool read_and_leave(struct fixture *fixture, struct lane *lane, unsigned int *seed, const int ends[2])
{
	uint64_t ask_at = (uint64_t)rand_r(seed) % (LEAVE_SIZE / 2);
	struct postern_lane_slot *slot = lane->slot;
	bool left = false, must_leave = false;

	while (lane->received < LEAVE_SIZE) {
		struct pollfd wait = {.fd = lane->a, .events = POLLIN};
		size_t size = rand_r(seed) % 2 ? sizeof(scratch) : 1 + (size_t)rand_r(seed) % 5000;
		long length = left ? splice_out(fixture, lane, ends) : receive_some(fixture, lane, size);

		if (length < 0 || (length == 0 && poll(&wait, 1, PATIENCE_MS) != 1))
			break;
		if (!slot->leave && lane->received >= ask_at) {
			await_backlog(lane);
			__atomic_store_n(&slot->leave, 1, __ATOMIC_SEQ_CST);
			must_leave = __atomic_load_n(&lane->sent, __ATOMIC_SEQ_CST) + 2 * MESSAGE_MAX < LEAVE_SIZE;
		}
		if (left || !__atomic_load_n(&slot->left, __ATOMIC_ACQUIRE) ||
		    (int32_t)((uint32_t)slot->agent_read - slot->redirected_until) < 0)
			continue;
		left = true;
		expect_error(fixture, "G leaves", 0, -hooks_lane_leave_gateway(fixture->hooks, lane->cookie));
		expect_error(fixture, "A leaves", 0, -hooks_lane_leave_agent(fixture->hooks, lane->cookie));
	}
	expect_number(fixture, "bytes received", LEAVE_SIZE, (long long)lane->received);
	if (must_leave)
		expect_number(fixture, "asked in time, it left", true, left);
	return left;
}

/* Both sockets leave in mid-stream, at any moment, and the rest is spliced: every byte once and in its place. */
static void leaving(struct fixture *fixture)
{
	const int queue = 1 << 18; /* or a writer that is alone on the CPU for a while has sent all before A asks */
	unsigned int seed = 1;
	unsigned int left = 0;
	unsigned long long redirected = 0;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) == -1)
		return;
	for (unsigned int i = 0; i < 40 && !fixture->row_failed; i++) {
		struct lane lane = start(fixture, g_socket(fixture, AF_INET));
		struct writer writer = {.lane = &lane, .seed = i + 1};
		pthread_t thread;

		if (lane.a == -1)
			break;
		setsockopt(lane.g, SOL_SOCKET, SO_SNDBUF, &queue, sizeof(queue));
		setsockopt(lane.a, SOL_SOCKET, SO_RCVBUF, &queue, sizeof(queue));
		join(fixture, &lane);
		if (pthread_create(&thread, NULL, write_all, &writer) != 0)
			break;
		left += read_and_leave(fixture, &lane, &seed, ends);
		writer.failed |= fixture->row_failed;
		pthread_join(thread, NULL);
		expect_number(fixture, "sends that failed", 0, writer.failed);
		redirected += lane.slot->redirected;
		close(lane.g);
		lane.g = -1;
		expect_number(fixture, "the end", 0, await_bytes(lane.a, scratch, 1, PATIENCE_MS));
		close_lane(&lane);
	}
	close(ends[0]);
	close(ends[1]);
	printf("     %u connections left\n", left);
	/* Who asks near the end gets no answer, perhaps: there was no message after it. */
	expect_at_least(fixture, "connections that left", 24, left);
	expect_at_least(fixture, "messages redirected before", 100, (long long)redirected);
}

static void end(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));
	struct pollfd wait = {.events = POLLIN | POLLRDHUP};

	wait.fd = lane.a;
	join(fixture, &lane);
	send_some(&lane, 50000);
	receive_all(fixture, &lane);
	send_some(&lane, 3000);
	send_some(&lane, 16384);
	shutdown(lane.g, SHUT_WR);
	expect_number(fixture, "redirected", 2, (long long)lane.slot->redirected);
	while (lane.received < lane.sent) {
		if (receive_some(fixture, &lane, 1000) < 0)
			break;
	}
	expect_number(fixture, "bytes before the end", (long long)lane.sent, (long long)lane.received);
	poll(&wait, 1, PATIENCE_MS);
	expect_number(fixture, "the end", -1, receive_some(fixture, &lane, 1000));
}

static void closed(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));
	const struct postern_connect_record *record;

	join(fixture, &lane);
	expect_number(fixture, "G is in the lane", 1, hooks_lane_has_gateway(fixture->hooks, lane.cookie));
	close(lane.g);
	lane.g = -1;
	close(lane.a);
	lane.a = -1;
	record = await_record(fixture, POSTERN_RECORD_CLOSED, lane.port, 0, PATIENCE_MS);
	if (expect_number(fixture, "a CLOSED record", 1, record != NULL)) {
		expect_number(fixture, "its slot", LANE_SLOT, record->socket.lane_slot);
		expect_number(fixture, "its cookie", (long long)lane.cookie, (long long)record->socket.cookie);
		expect_number(fixture, "its lane flag", POSTERN_G_LANE, record->socket.flags & POSTERN_G_LANE);
	}
	expect_number(fixture, "G is in the lane", 0, hooks_lane_has_gateway(fixture->hooks, lane.cookie));
}

static void check_not_joined(struct fixture *fixture, struct lane *lane)
{
	const struct postern_connect_record *record;

	expect_number(fixture, "G is in the lane", 0, hooks_lane_has_gateway(fixture->hooks, lane->cookie));
	send_some(lane, 1000);
	receive_all(fixture, lane);
	expect_number(fixture, "messages that the lane saw", 0,
	              (long long)(lane->slot->passed + lane->slot->redirected));
	close(lane->g);
	lane->g = -1;
	close(lane->a);
	lane->a = -1;
	/* The slot comes back all the same. */
	record = await_record(fixture, POSTERN_RECORD_CLOSED, lane->port, 0, PATIENCE_MS);
	if (expect_number(fixture, "a CLOSED record", 1, record != NULL))
		expect_number(fixture, "its slot", LANE_SLOT, record->socket.lane_slot);
}

static void switched_off(struct fixture *fixture)
{
	set_config(fixture, false, false);
	_cleanup_(close_lane) struct lane lane = start(fixture, g_socket(fixture, AF_INET));
	set_config(fixture, false, true);
	check_not_joined(fixture, &lane);
}

static void blocking(struct fixture *fixture)
{
	int g = g_socket_of(fixture, AF_INET, SOCK_STREAM, 0);
	const struct timeval at_once = {.tv_usec = 1000};
	struct lane lane;

	setsockopt(g, SOL_SOCKET, SO_SNDTIMEO, &at_once, sizeof(at_once));
	lane = start(fixture, g);
	check_not_joined(fixture, &lane);
	close_lane(&lane);
}

static void withdrawn(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = {.g = g_socket(fixture, AF_INET), .a = -1};

	dial(lane.g, TARGET, 443);
	lane.port = local_port(lane.g);
	offer(fixture, &lane);
	expect_error(fixture, "hooks_lane_withdraw()", 0, -hooks_lane_withdraw(fixture->hooks, lane.cookie));
	lane.a = establish(fixture, lane.g);
	expect_number(fixture, "G is in the lane", 0, hooks_lane_has_gateway(fixture->hooks, lane.cookie));
}

/* Bytes that TCP had before G joined (fast open) are counted, or later ones would overtake them. */
static void fast_open(struct fixture *fixture)
{
	_cleanup_(close_lane) struct lane lane = {.g = g_socket(fixture, AF_INET), .a = -1};
	struct sockaddr_storage address;
	socklen_t length = socket_address(TARGET, 443, &address);

	if (!shell("sysctl -w net.ipv4.tcp_fastopen=5")) {
		fixture_skip(fixture, "no TCP fast open without a cookie here");
		return;
	}
	for (size_t i = 0; i < 500; i++)
		scratch[i] = pattern(i);
	ssize_t sent = sendto(lane.g, scratch, 500, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&address, length);
	lane.sent = sent > 0 ? (uint64_t)sent : 0;
	expect_number(fixture, "sendto() with MSG_FASTOPEN", 500, sent);
	lane.port = local_port(lane.g);
	offer(fixture, &lane);
	const struct postern_syn_record *syn = await_syn(fixture, lane.port, 0, PATIENCE_MS);
	if (!expect_number(fixture, "a SYN record", 1, syn != NULL) || !lane.slot)
		return;
	send_syn_again(fixture, syn);
	lane.a = await_accept(listener_of(fixture, syn), PATIENCE_MS);
	join(fixture, &lane);
	expect_number(fixture, "G is in the lane", 1, hooks_lane_has_gateway(fixture->hooks, lane.cookie));
	send_some(&lane, 100);
	expect_number(fixture, "redirected over bytes in TCP", 0, (long long)lane.slot->redirected);
	receive_all(fixture, &lane);
	send_some(&lane, 100);
	expect_number(fixture, "redirected afterwards", 1, (long long)lane.slot->redirected);
	receive_all(fixture, &lane);
	shell("sysctl -w net.ipv4.tcp_fastopen=1");
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"small messages", small_messages},
	        {"the other direction", other_direction},
	        {"every way to send", mixed},
	        {"the window", window},
	        {"a partial send", partial_send},
	        {"leaving it in mid-stream", leaving},
	        {"the end of G's bytes", end},
	        {"the slot comes back", closed},
	        {"not joined: switched off", switched_off},
	        {"not joined: G is blocking", blocking},
	        {"not joined: withdrawn", withdrawn},
	        {"fast open", fast_open},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
