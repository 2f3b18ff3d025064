/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hold.c: what connect-hold costs a connection: a gateway connects, sends a byte, gets one back and closes, through a
 * worker of the agent that relays in the clear (HOLD answered PLAIN), and through an accept-first relay. Gateway, hop
 * and backend each are a process with a clock of its own; the gateway's network namespace is not the hop's, as in a
 * cluster. The gateway behind the worker has all hooks on; the other one has none.
 *
 * The worker is the product's own; the answer to HOLD is played by a callback. The witness is not attached: by the
 * kernel's map the key is covered, or connect() would not send it here at all.
 *
 * Nothing waits in TIME_WAIT in the gateway's namespace (tcp_max_tw_buckets 0): tens of thousands of connections to one
 * address would fill the range of ports otherwise, and the kernel's search for a free one was half of all that was
 * measured. Connections end in order all the same, FIN by FIN.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/loop.h"
#include "datapath/context_table.h"
#include "datapath/proof.h"
#include "datapath/worker_internal.h"
#include "ends.h"
#include "hooks_fixture.h"
#include "placed.h"
#include "policy/snapshot_holder.h"
#include "report.h"

#define TARGET      "198.51.100.140"
#define BACKEND     "198.51.100.140"
#define TARGET_PORT 443
#define RELAY_PORT  15050 /* below the ports of the fixture's gateway */
#define CALLS       1000
#define CALLS_ALONE 250
#define AT_ONCE     16
#define REPEATS     21   /* POSTERN_BENCH_REPEATS: fewer */
#define CPU_GOAL    25.0 /* us */
#define REPLY_GOAL  60.0

struct hop {
	struct worker *workers[2];
	struct snapshot_holder *snapshots;
	struct failures *failures;
	struct context_table *contexts;
	struct proof proof;
	int gateway_netns;
	char other_cgroup[256];
};
static struct hop hop;

/*
 * The control thread would look at the source; here nothing covers anything, and the answer is there at once, without
 * the two wake-ups that it takes to ask another thread: a key that is TLS needs none, and that is what is played here.
 */
static int decide(void *context, unsigned int index, uint64_t question, const struct postern_destination_key *key)
{
	const struct hold_answer answer = {.question = question, .refusal = REASON_NONE};
	struct hop *self = context;

	(void)key;
	attempt_hold_answered(self->workers[index], monotonic_ns(), &answer, 1);
	return 0;
}

/* Of the namespace that this process is in. */
static void keep_no_time_wait(void)
{
	_cleanup_close_ int fd = open("/proc/sys/net/ipv4/tcp_max_tw_buckets", O_WRONLY | O_CLOEXEC);

	if (fd == -1 || write(fd, "0", 1) != 1)
		give_up("tcp_max_tw_buckets");
}

static void make_other_cgroup(struct fixture *fixture)
{
	snprintf(hop.other_cgroup, sizeof(hop.other_cgroup), "%.240s/other", fixture->cgroup_root);
	if (mkdir(hop.other_cgroup, 0755) == -1)
		give_up(hop.other_cgroup);
}

static void start_worker(struct fixture *fixture, unsigned int index)
{
	const struct worker_options options = {
	        .index = index,
	        .worker_count = 2,
	        .ring = hooks_ring_number(fixture->hooks, index),
	        .hooks = fixture->hooks,
	        .proof = &hop.proof,
	        .snapshots = hop.snapshots,
	        .failures = hop.failures,
	        .contexts = hop.contexts,
	        .request_decision = decide,
	        .context = &hop,
	        .dial_limit_ns = 10000000000ull,
	        .handshake_limit_ns = 10000000000ull,
	        .hold_limit_ns = 3000000000ull,
	        .max_attempts = 4096,
	        .max_connections = 65536,
	        .timeouts = {.ticket_window_ns = 1000000000ull, .half_closed_ns = 30000000000ull},
	};

	if (worker_start(&options, &hop.workers[index]) != 0 ||
	    worker_add_gateway(hop.workers[index], fixture->gateway) != 0)
		give_up("a worker");
}

static void prepare(struct fixture *fixture)
{
	static char path[64];

	hop.gateway_netns = open("/proc/self/ns/net", O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), hop.gateway_netns);
	fixture->options.netns = path;
	keep_no_time_wait();
	make_other_cgroup(fixture);
	step_into(hop.other_cgroup);
	/* The hop's own namespace. */
	if (hop.gateway_netns == -1 || unshare(CLONE_NEWNET) == -1)
		give_up("network namespaces");
	fixture_start(fixture, NULL);
	step_into(hop.other_cgroup);
	fixture_close_rings(fixture); /* the workers read them */
	set_destination(fixture, TARGET, TARGET_PORT, POSTERN_VERDICT_TLS, 1);
	hop.snapshots = snapshot_holder_new();
	hop.failures = failures_new();
	hop.contexts = context_table_new();
	for (unsigned int i = 0; i < ARRAY_SIZE(hop.workers); i++)
		start_worker(fixture, i);
}

/* ---- runs ---- */

struct setting {
	pid_t backend;
	pid_t relay; /* accept-first; 0: this process is the hop */
	const char *gateway_cgroup;
	const char *address;
	uint16_t port;
};

struct figures {
	double cpu_us;      /* of a connection, all parts */
	double hop_us;      /* of that, the hop's */
	double reply_us[3]; /* p50, p99, mean */
};

static void run(const struct setting *setting, size_t calls, size_t at_once, double *us, struct figures *figures)
{
	struct caller caller = {
	        .address = setting->address, .port = setting->port, .count = calls, .at_once = at_once, .us = us};
	double *gateway_ns = shared_memory(sizeof(double));
	double hop_ns, backend_ns, sum = 0;
	pid_t gateway = fork();

	if (gateway == 0) {
		step_into(setting->gateway_cgroup);
		if (setns(hop.gateway_netns, CLONE_NEWNET) == -1)
			give_up("setns");
		double before = cpu_ns(0);
		int status = caller_run(&caller);
		*gateway_ns = cpu_ns(0) - before;
		_exit(status);
	}
	/* Behind the fork, which is this process's and would be in what its workers spend. */
	hop_ns = cpu_ns(setting->relay);
	backend_ns = cpu_ns(setting->backend);
	await_end(gateway, "the gateway");
	hop_ns = cpu_ns(setting->relay) - hop_ns;
	backend_ns = cpu_ns(setting->backend) - backend_ns;
	figures->hop_us = hop_ns / 1e3 / (double)calls;
	figures->cpu_us = (hop_ns + backend_ns + *gateway_ns) / 1e3 / (double)calls;
	for (size_t i = 0; i < calls; i++)
		sum += us[i];
	figures->reply_us[0] = quantile(us, calls, 0.5);
	figures->reply_us[1] = quantile(us, calls, 0.99);
	figures->reply_us[2] = sum / (double)calls;
}

/* Who is first alternates: what changes steadily in the meantime is in both. */
static void run_both(const struct setting *held, const struct setting *first, size_t turn, size_t calls, size_t at_once,
                     double *us, struct figures *with, struct figures *without)
{
	if (turn % 2)
		run(first, calls, at_once, us, without);
	run(held, calls, at_once, us, with);
	if (turn % 2 == 0)
		run(first, calls, at_once, us, without);
}

/* Of the repeats, the medians of the differences: what a run has of its own (other load, clock speed) is in both. */
struct series {
	double held[REPEATS], first[REPEATS], added[REPEATS];
};

static void show(const char *name, struct series *series, size_t repeats, const char *goal_name, double goal)
{
	char text[96];

	snprintf(text, sizeof(text), "%s, accept-first relay", name);
	report(text, "us", series->first, repeats, NULL, 0, NULL);
	snprintf(text, sizeof(text), "%s, connect-hold", name);
	report(text, "us", series->held, repeats, "accept-first", quantile(series->first, repeats, 0.5), NULL);
	snprintf(text, sizeof(text), "%s, added by hold", name);
	report(text, "us", series->added, repeats, goal_name, goal, goal_name ? "<= 1.00" : NULL);
}

static void note(struct series *series, size_t i, double held, double first)
{
	series->held[i] = held;
	series->first[i] = first;
	series->added[i] = held - first;
}

static size_t repeats_wanted(void)
{
	const char *text = getenv("POSTERN_BENCH_REPEATS");
	unsigned long count = text ? strtoul(text, NULL, 10) : 0;

	return count > 0 && count < REPEATS ? count : REPEATS;
}

static void hold(struct fixture *fixture)
{
	static struct series cpu, own, p50, p99;
	static struct echo echo = {.port = TARGET_PORT};
	static struct accept_first relay = {.port = RELAY_PORT, .backend = BACKEND, .backend_port = TARGET_PORT};
	double *us = shared_memory(CALLS * sizeof(double));
	pid_t backend = place_listener(hop.other_cgroup, hop.gateway_netns, echo_run, &echo, &echo.ready);
	const struct setting held = {
	        .backend = backend, .gateway_cgroup = fixture->gateway_cgroup, .address = TARGET, .port = TARGET_PORT};
	const struct setting first = {
	        .backend = backend,
	        .relay = place_listener(hop.other_cgroup, hop.gateway_netns, accept_first_run, &relay, &relay.ready),
	        .gateway_cgroup = hop.other_cgroup,
	        .address = "127.0.0.1",
	        .port = RELAY_PORT,
	};
	const size_t repeats = repeats_wanted();
	struct figures with, without;

	run(&held, CALLS / 4, AT_ONCE, us, &with);
	run(&first, CALLS / 4, AT_ONCE, us, &without);
	for (size_t i = 0; i < repeats; i++) {
		run_both(&held, &first, i, CALLS, AT_ONCE, us, &with, &without);
		note(&cpu, i, with.cpu_us, without.cpu_us);
		note(&own, i, with.hop_us, without.hop_us);
		run_both(&held, &first, i, CALLS_ALONE, 1, us, &with, &without);
		note(&p50, i, with.reply_us[0], without.reply_us[0]);
		note(&p99, i, with.reply_us[1], without.reply_us[1]);
	}
	show("connection, CPU of all parts", &cpu, repeats, "25 us", CPU_GOAL);
	show("connection, CPU of the hop's process", &own, repeats, NULL, 0);
	show("first reply byte, p50", &p50, repeats, "60 us", REPLY_GOAL);
	show("first reply byte, p99", &p99, repeats, NULL, 0);
	take_away(first.relay);
	take_away(backend);
	for (unsigned int i = 0; i < ARRAY_SIZE(hop.workers); i++)
		worker_stop(hop.workers[i]);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {{"hold", hold}};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
