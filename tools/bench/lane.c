/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lane.c: G -> A -> B -> backend, MB/s by the size of G's messages. G is a process that sends as fast as it can and
 * waits in poll(), with TCP_NODELAY as gateways that stream have it; the backend is one that throws away what comes; in
 * between runs the relay itself, without TLS. The lane's programs are the product's own.
 *
 *   TCP and recv, TCP and splice   each message wakes the relay, which copies, or splices once reads are full
 *   TCP as the relay reads it      it waits for a stream to bring more (relay_gather.c)
 *   lane                           the same, with G and A in the lane
 *
 * The ways alternate, and a ratio is the median of the turns' own ratios. All parts run before what else the machine
 * does (SCHED_FIFO), or the speed would be that of the neighbours. Beside the speed stands the CPU time of the three
 * processes for each MB.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "datapath/relay.h"
#include "hooks_fixture.h"
#include "placed.h"
#include "report.h"

#define TARGET    "198.51.100.141"
#define BYTES     (192u << 20) /* of one run; POSTERN_BENCH_MEGABYTES */
#define READ_SIZE 65536
#define MOST      16 /* repeats */
#define BOUND     (64u << 20)

static uint8_t buffer[256 << 10];

enum way {
	RECV,
	SPLICE,
	GATHERED,
	LANE,
	WAYS,
};

static size_t number_from(const char *variable, size_t fallback)
{
	const char *text = getenv(variable);
	long value = text ? strtol(text, NULL, 10) : 0;

	return value > 0 ? (size_t)value : fallback;
}

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	set_config(fixture, false, true);
	set_destination(fixture, TARGET, 443, POSTERN_VERDICT_TLS, 1);
}

struct hop {
	int g;
	int a;
	uint64_t cookie;
	struct postern_lane_slot *slot; /* NULL: no lane */
};

/* Where no slot is offered, G stays out of the lane. */
static struct hop connect_hop(struct fixture *fixture, bool lane)
{
	struct hop hop = {.g = g_socket(fixture, AF_INET)};
	const struct postern_connect_record *record;
	uint64_t cookie;

	forget_records(fixture);
	dial(hop.g, TARGET, 443);
	record = await_record(fixture, POSTERN_RECORD_CONNECT, local_port(hop.g), 0, PATIENCE_MS);
	if (!record)
		give_up("a CONNECT record");
	cookie = hop.cookie = record->socket.cookie;
	if (lane) {
		hop.slot = &hooks_lane_slots(fixture->hooks)[LANE_SLOT];
		memset(hop.slot, 0, sizeof(*hop.slot));
		if (hooks_lane_offer(fixture->hooks, cookie, LANE_SLOT) != 0)
			give_up("an offer of the lane");
	}
	hop.a = establish(fixture, hop.g);
	if (hop.a < 0 || (lane && hooks_lane_join_agent(fixture->hooks, cookie, hop.a) != 0))
		give_up("A");
	fcntl(hop.a, F_SETFL, O_NONBLOCK);
	return hop;
}

/* ---- G ---- */

struct sender {
	int fd;
	size_t size;
	size_t total;
	double cpu_ns; /* of it all */
};

static int send_all(void *context)
{
	struct sender *sender = context;
	struct pollfd wait = {.fd = sender->fd, .events = POLLOUT};
	double before = cpu_ns(0);
	size_t sent = 0;

	while (sent < sender->total) {
		ssize_t length = send(sender->fd, buffer, sender->size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (length > 0)
			sent += (size_t)length;
		else if (errno != EAGAIN || poll(&wait, 1, PATIENCE_MS) != 1)
			return 1;
	}
	sender->cpu_ns = cpu_ns(0) - before;
	return 0;
}

/* ---- the backend ---- */

struct sink {
	int fd;
	size_t total;
	double cpu_ns; /* of it all */
	uint64_t ended_ns;
};

static int take_all(void *context)
{
	struct sink *sink = context;
	double before = cpu_ns(0);
	size_t received = 0;

	while (received < sink->total) {
		/* Nothing is copied: what the backend does with it is not the question. */
		ssize_t length = recv(sink->fd, NULL, READ_SIZE, MSG_TRUNC);

		if (length <= 0)
			return 1;
		received += (size_t)length;
	}
	sink->cpu_ns = cpu_ns(0) - before;
	sink->ended_ns = monotonic_ns();
	return 0;
}

/* B, connected, and the backend's end of it. */
static void connect_backend(int *b, int *backend)
{
	int listener = server(0), on = 1;
	struct sockaddr_storage address;
	socklen_t length = socket_address("127.0.0.1", local_port(listener), &address);

	*b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*b == -1 || connect(*b, (struct sockaddr *)&address, length) == -1)
		give_up("B");
	*backend = accept(listener, NULL, NULL);
	close(listener);
	fcntl(*b, F_SETFL, O_NONBLOCK);
	setsockopt(*b, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* ---- the agent ---- */

struct hop_context {
	struct fixture *fixture;
	uint64_t cookie;
	bool ended;
};

static void on_relay_end(void *context, enum postern_reason reason, const char *detail)
{
	struct hop_context *hop = context;

	if (reason != REASON_NONE)
		fprintf(stderr, "the relay ended: %s %s\n", reason_name(reason), detail);
	hop->ended = true;
}

/* As connection_leave_lane(). */
static void leave_lane(void *context)
{
	struct hop_context *hop = context;

	(void)hooks_lane_leave_gateway(hop->fixture->hooks, hop->cookie);
	(void)hooks_lane_leave_agent(hop->fixture->hooks, hop->cookie);
}

struct speed {
	double mb_per_second;
	double us_per_mb; /* of CPU */
};

/* Relays until B has it all. Returns the CPU time. */
static double relay_all(const struct relay_options *options, bool gathers, size_t total, pid_t taker)
{
	const struct hop_context *hop = options->context;
	struct relay_stats stats = {0};
	struct relay_worker worker;
	struct relay *relay;
	struct loop *loop;
	double before = cpu_ns(0);

	if (loop_new(&loop) || relay_worker_init(&worker, loop, &kernel_io_system))
		give_up("a worker");
	if (!gathers)
		worker.timeouts.gather_ns = 0;
	if (relay_start(&worker, options, &relay))
		give_up("the relay");
	while (!hop->ended && stats.bytes_to_backend < total) {
		if (loop_step(loop, PATIENCE_MS) != 0)
			give_up("the loop");
		if (!hop->ended)
			relay_stats(relay, &stats);
	}
	before = cpu_ns(0) - before;
	if (hop->ended)
		give_up("relaying");
	/* By resets: the backend must have read it all before. */
	await_end(taker, "the backend");
	relay_abort(relay, REASON_NONE, "");
	relay_worker_destroy(&worker);
	loop_free(loop);
	return before;
}

static struct speed run(struct fixture *fixture, enum way way, size_t size, size_t total)
{
	static struct sender *sender;
	static struct sink *sink;
	struct hop hop = connect_hop(fixture, way == LANE);
	struct hop_context context = {.fixture = fixture, .cookie = hop.cookie};
	struct relay_options options = {
	        .a_fd = hop.a,
	        .splice_to_backend = way != RECV,
	        .lane_slot = hop.slot,
	        .leave_lane = leave_lane,
	        .on_end = on_relay_end,
	        .context = &context,
	};
	double megabytes = (double)total / 1e6, own_ns;
	int backend, on = 1;
	uint64_t begun;
	pid_t gateway, taker;

	setsockopt(hop.g, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	connect_backend(&options.b_fd, &backend);
	sender = sender ? sender : shared_memory(sizeof(*sender));
	sink = sink ? sink : shared_memory(sizeof(*sink));
	*sender = (struct sender){.fd = hop.g, .size = size, .total = total};
	*sink = (struct sink){.fd = backend, .total = total};
	begun = monotonic_ns();
	taker = place(fixture->agent_cgroup, -1, take_all, sink);
	gateway = place(fixture->gateway_cgroup, -1, send_all, sender);
	close(backend);
	own_ns = relay_all(&options, way != RECV && way != SPLICE, total, taker);
	begun = sink->ended_ns - begun;
	await_end(gateway, "the gateway");
	if (hop.slot && hop.slot->redirected == 0 && size <= POSTERN_LANE_MAX_MESSAGE)
		give_up("nothing was redirected");
	close(hop.g);
	/* The slot is free when G is gone. */
	if (hop.slot)
		await_record(fixture, POSTERN_RECORD_CLOSED, 0, 0, 100);
	return (struct speed){
	        .mb_per_second = megabytes / ((double)begun / 1e9),
	        .us_per_mb = (own_ns + sender->cpu_ns + sink->cpu_ns) / 1e3 / megabytes,
	};
}

static void show(size_t size, enum way way, const char *unit, double *values, size_t count)
{
	static const char *const names[WAYS] = {"TCP and recv", "TCP and splice", "TCP as the relay reads it", "lane"};
	char name[64];

	snprintf(name, sizeof(name), "G to A, %zu KB messages, %s", size >> 10, names[way]);
	report(name, unit, values, count, NULL, 0, NULL);
}

static void show_ratio(size_t size, const char *than, double *values, size_t count)
{
	char name[64];

	snprintf(name, sizeof(name), "G to A, %zu KB messages, lane over %s", size >> 10, than);
	report(name, "x", values, count, "as fast", 1, size == 4096 ? ">= 1.80" : ">= 0.98");
}

static void throughput(struct fixture *fixture)
{
	static const size_t sizes[] = {1 << 10, 4 << 10, 16 << 10, 64 << 10};
	size_t repeats = number_from("POSTERN_BENCH_REPEATS", 5);
	size_t total = number_from("POSTERN_BENCH_MEGABYTES", BYTES >> 20) << 20;

	repeats = repeats < MOST ? repeats : MOST;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		double speed[WAYS][MOST], cpu[WAYS][MOST], over_recv[MOST], over_splice[MOST];

		for (size_t turn = 0; turn < repeats; turn++) {
			for (enum way way = RECV; way < WAYS; way++) {
				struct speed seen = run(fixture, way, sizes[i], total);

				speed[way][turn] = seen.mb_per_second;
				cpu[way][turn] = seen.us_per_mb;
			}
			over_recv[turn] = speed[LANE][turn] / speed[RECV][turn];
			over_splice[turn] = speed[LANE][turn] / speed[SPLICE][turn];
		}
		for (enum way way = RECV; way < WAYS; way++) {
			show(sizes[i], way, "MB/s", speed[way], repeats);
			show(sizes[i], way, "us/MB", cpu[way], repeats);
		}
		show_ratio(sizes[i], "recv", over_recv, repeats);
		show_ratio(sizes[i], "splice", over_splice, repeats);
	}
}

/* A reader that stalls: how much G can send before it must wait. */
static void bounded(struct fixture *fixture)
{
	struct hop hop = connect_hop(fixture, true);
	double sent = 0;

	for (;;) {
		ssize_t length = send(hop.g, buffer, 4096, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (length <= 0 || sent > BOUND)
			break;
		sent += (double)length;
	}
	sent /= 1 << 20;
	report("lane: sent to a reader that stalls, 4 KB messages", "MB", &sent, 1, "64 MB", 64, "<= 1.00");
	close(hop.g);
	close(hop.a);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {{"throughput", throughput}, {"bounded", bounded}};

	const struct sched_param before_others = {.sched_priority = 10};

	if (sched_setscheduler(0, SCHED_FIFO, &before_others) == -1)
		perror("not before what else the machine does");
	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
