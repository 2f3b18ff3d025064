// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_lane.c: the sockmap lane: every byte once and in order, whatever G calls to send it; bounded by its
 * window; and no lane where it would do harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "hooks_fixture.h"
#include "lane_connection.h"

#define BOUND (64u << 20) /* far more than any queue of TCP; without a window G would not stop there either */

static uint8_t scratch[1 << 20];
static int pattern_file;

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	set_config(fixture, false, true);
	set_destination(fixture, LANE_TARGET, 443, POSTERN_VERDICT_TLS, 1);
	pattern_file = lane_make_pattern();
}

/* ---- rows ---- */

static void small_messages(struct fixture *fixture)
{
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));

	lane_send(&lane, 1); /* before A joined: by TCP */
	expect_number(fixture, "passed", 1, (long long)lane.slot->passed);
	lane_join(fixture, &lane);
	lane_send(&lane, 100); /* the first byte is still under way: by TCP, too, or it would be overtaken */
	expect_number(fixture, "passed", 2, (long long)lane.slot->passed);
	lane_receive_all(fixture, &lane);
	for (int i = 0; i < 1000; i++) {
		lane_send(&lane, 4096);
		if (i % 8 == 7)
			lane_receive_all(fixture, &lane);
	}
	expect_number(fixture, "redirected", 1000, (long long)lane.slot->redirected);
	expect_number(fixture, "redirected bytes", 4096000, (long long)lane.slot->redirected_bytes);
	expect_number(fixture, "passed", 2, (long long)lane.slot->passed);
}

static void other_direction(struct fixture *fixture)
{
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));
	size_t sent = 0, received = 0;

	lane_join(fixture, &lane);
	lane_send(&lane, 10);
	lane_receive_all(fixture, &lane);
	while (received < 1000000) {
		uint8_t bytes[4000];
		struct pollfd wait = {.fd = lane.g, .events = POLLIN};

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = lane_pattern(sent + i);
		ssize_t length = send(lane.a, bytes, sizeof(bytes), MSG_DONTWAIT);
		sent += length > 0 ? (size_t)length : 0;
		if (poll(&wait, 1, length > 0 ? 0 : PATIENCE_MS) != 1)
			continue;
		length = recv(lane.g, bytes, sizeof(bytes), 0);
		for (ssize_t i = 0; i < length; i++) {
			if (!expect_number(fixture, "byte", lane_pattern(received + (size_t)i), bytes[i]))
				return;
		}
		received += length > 0 ? (size_t)length : 0;
	}
}

/* Every way to send, in odd sizes, with a reader of odd patience. */
static void mixed(struct fixture *fixture)
{
	static const size_t sizes[] = {1, 3, 700, 4096, 16383, 16384, 16385, 65536, 200000};
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));
	uint32_t chance = 12345;

	lane_send(&lane, 5);
	lane_join(fixture, &lane);
	while (lane.sent < LANE_PATTERN_SIZE) {
		chance = chance * 1103515245u + 12345u;
		size_t size = sizes[(chance >> 16) % ARRAY_SIZE(sizes)], sent;

		size = size < LANE_PATTERN_SIZE - lane.sent ? size : LANE_PATTERN_SIZE - lane.sent;
		if ((chance >> 8) % 8 == 0)
			sent = lane_sendfile(&lane, size);
		else if ((chance >> 8) % 8 == 1)
			sent = lane_splice(&lane, size);
		else
			sent = lane_send(&lane, size);
		if (sent == 0 || (chance >> 24) % 4 == 0)
			lane_receive(fixture, &lane, 1 + (chance >> 4) % 100000);
		if ((chance >> 20) % 4 == 0)
			lane_receive_all(fixture, &lane);
	}
	lane_receive_all(fixture, &lane);
	printf("     %llu messages redirected, %llu passed\n", (unsigned long long)lane.slot->redirected,
	       (unsigned long long)lane.slot->passed);
	expect_at_least(fixture, "redirected", 10, (long long)lane.slot->redirected);
	expect_at_least(fixture, "passed", 10, (long long)lane.slot->passed);
}

/* The reader stalls: G must be stopped, by TCP's own limits; and afterwards the lane must come back. */
static void window(struct fixture *fixture)
{
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));

	lane_join(fixture, &lane);
	for (int round = 0; round < 3; round++) {
		uint64_t redirected_before = lane.slot->redirected_bytes, redirects;

		while (lane_send(&lane, 1000) > 0 && lane.sent - lane.received < BOUND)
			;
		expect_error(fixture, "send() of a G that must wait", EAGAIN, errno);
		expect_at_least(fixture, "bytes under the bound", 1,
		                (long long)BOUND - (long long)(lane.sent - lane.received));
		expect_at_least(fixture, "room in the window", 0,
		                POSTERN_LANE_WINDOW - (long long)(lane.slot->redirected_bytes - redirected_before));
		expect_at_least(fixture, "redirected bytes", POSTERN_LANE_WINDOW / 2,
		                (long long)(lane.slot->redirected_bytes - redirected_before));
		/* A message that TCP takes in part, or G would not know what the lane forgets. */
		lane_send(&lane, 900000);
		lane_receive_all(fixture, &lane);
		redirects = lane.slot->redirected;
		lane_send(&lane, 1000); /* may still go by the verdict of the partial send, see below */
		lane_receive_all(fixture, &lane);
		lane_send(&lane, 1000);
		expect_at_least(fixture, "redirected once all was read", (long long)redirects + 1,
		                (long long)lane.slot->redirected);
		lane_receive_all(fixture, &lane);
	}
}

static void partial_send(struct fixture *fixture)
{
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));
	size_t size = 1000000, taken;

	lane_join(fixture, &lane);
	do {
		taken = lane_send(&lane, size);
	} while (taken == size && lane.sent < BOUND);
	expect_at_least(fixture, "bytes of the partial send()", 1, (long long)taken);
	expect_at_least(fixture, "bytes that it left", 1, (long long)(size - taken));
	lane_receive_all(fixture, &lane);
	/* The kernel keeps the verdict of a send that it could not do wholly, and asks nobody for the next one. */
	lane_send(&lane, 1000);
	expect_number(fixture, "redirected at once", 0, (long long)lane.slot->redirected);
	lane_receive_all(fixture, &lane);
	lane_send(&lane, 1000);
	expect_number(fixture, "redirected afterwards", 1, (long long)lane.slot->redirected);
	lane_receive_all(fixture, &lane);
}

#define LEAVE_SIZE  LANE_PATTERN_SIZE
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
				bytes[i] = lane_pattern(lane->sent + i);
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

/* As lane_receive(), by splice(): it reads A's TCP queue alone, whatever else there is. */
static long splice_out(struct fixture *fixture, struct lane *lane, const int ends[2])
{
	ssize_t length = splice(lane->a, NULL, ends[1], NULL, 65536, SPLICE_F_NONBLOCK);

	if (length <= 0 || read(ends[0], scratch, (size_t)length) != length)
		return 0;
	for (ssize_t i = 0; i < length; i++) {
		if (scratch[i] == lane_pattern(lane->received + (uint64_t)i))
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
		long length = left ? splice_out(fixture, lane, ends) : lane_receive(fixture, lane, size);

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
		struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));
		struct writer writer = {.lane = &lane, .seed = i + 1};
		pthread_t thread;

		if (lane.a == -1)
			break;
		setsockopt(lane.g, SOL_SOCKET, SO_SNDBUF, &queue, sizeof(queue));
		setsockopt(lane.a, SOL_SOCKET, SO_RCVBUF, &queue, sizeof(queue));
		lane_join(fixture, &lane);
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
		lane_close(&lane);
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
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));
	struct pollfd wait = {.events = POLLIN | POLLRDHUP};

	wait.fd = lane.a;
	lane_join(fixture, &lane);
	lane_send(&lane, 50000);
	lane_receive_all(fixture, &lane);
	lane_send(&lane, 3000);
	lane_send(&lane, 16384);
	shutdown(lane.g, SHUT_WR);
	expect_number(fixture, "redirected", 2, (long long)lane.slot->redirected);
	while (lane.received < lane.sent) {
		if (lane_receive(fixture, &lane, 1000) < 0)
			break;
	}
	expect_number(fixture, "bytes before the end", (long long)lane.sent, (long long)lane.received);
	poll(&wait, 1, PATIENCE_MS);
	expect_number(fixture, "the end", -1, lane_receive(fixture, &lane, 1000));
}

static void closed(struct fixture *fixture)
{
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));
	const struct postern_connect_record *record;

	lane_join(fixture, &lane);
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
	lane_send(lane, 1000);
	lane_receive_all(fixture, lane);
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
	_cleanup_(lane_close) struct lane lane = lane_start(fixture, g_socket(fixture, AF_INET));
	set_config(fixture, false, true);
	check_not_joined(fixture, &lane);
}

static void blocking(struct fixture *fixture)
{
	int g = g_socket_of(fixture, AF_INET, SOCK_STREAM, 0);
	const struct timeval at_once = {.tv_usec = 1000};
	struct lane lane;

	setsockopt(g, SOL_SOCKET, SO_SNDTIMEO, &at_once, sizeof(at_once));
	lane = lane_start(fixture, g);
	check_not_joined(fixture, &lane);
	lane_close(&lane);
}

static void withdrawn(struct fixture *fixture)
{
	_cleanup_(lane_close) struct lane lane = {.g = g_socket(fixture, AF_INET), .a = -1};

	dial(lane.g, LANE_TARGET, 443);
	lane.port = local_port(lane.g);
	lane_offer(fixture, &lane);
	expect_error(fixture, "hooks_lane_withdraw()", 0, -hooks_lane_withdraw(fixture->hooks, lane.cookie));
	lane.a = establish(fixture, lane.g);
	expect_number(fixture, "G is in the lane", 0, hooks_lane_has_gateway(fixture->hooks, lane.cookie));
}

/* Bytes that TCP had before G joined (fast open) are counted, or later ones would overtake them. */
static void fast_open(struct fixture *fixture)
{
	_cleanup_(lane_close) struct lane lane = {.g = g_socket(fixture, AF_INET), .a = -1};
	struct sockaddr_storage address;
	socklen_t length = socket_address(LANE_TARGET, 443, &address);

	if (!shell("sysctl -w net.ipv4.tcp_fastopen=5")) {
		fixture_skip(fixture, "no TCP fast open without a cookie here");
		return;
	}
	for (size_t i = 0; i < 500; i++)
		scratch[i] = lane_pattern(i);
	ssize_t sent = sendto(lane.g, scratch, 500, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&address, length);
	lane.sent = sent > 0 ? (uint64_t)sent : 0;
	expect_number(fixture, "sendto() with MSG_FASTOPEN", 500, sent);
	lane.port = local_port(lane.g);
	lane_offer(fixture, &lane);
	const struct postern_syn_record *syn = await_syn(fixture, lane.port, 0, PATIENCE_MS);
	if (!expect_number(fixture, "a SYN record", 1, syn != NULL) || !lane.slot)
		return;
	send_syn_again(fixture, syn);
	lane.a = await_accept(listener_of(fixture, syn), PATIENCE_MS);
	lane_join(fixture, &lane);
	expect_number(fixture, "G is in the lane", 1, hooks_lane_has_gateway(fixture->hooks, lane.cookie));
	lane_send(&lane, 100);
	expect_number(fixture, "redirected over bytes in TCP", 0, (long long)lane.slot->redirected);
	lane_receive_all(fixture, &lane);
	lane_send(&lane, 100);
	expect_number(fixture, "redirected afterwards", 1, (long long)lane.slot->redirected);
	lane_receive_all(fixture, &lane);
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
