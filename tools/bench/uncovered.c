/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * uncovered.c: what an enrolled gateway pays for traffic that is none of postern's business: a connect to a destination
 * that no policy covers, and the bytes of a connection to it (the guard sees each of its packets). The gateway is a
 * process that moves between a cgroup with all hooks and one without, and measures its own CPU time; the turns
 * alternate. The policy has 10,000 keys; the destination is a miss outside the cluster (as the Internet is), a miss
 * inside it, and a key that is known and PLAIN. A third cgroup has programs that do nothing in the places of ours: what
 * the kernel takes for calling any. What each program takes by the kernel's own count is measured in turns of its own.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "ends.h"
#include "hooks_fixture.h"
#include "placed.h"
#include "programs.h"
#include "report.h"

#define KEYS      10000
#define PORT      9100
#define OUTSIDE   "198.51.100.20"
#define INSIDE    "203.0.113.20"
#define KNOWN     "203.0.113.21"
#define CONNECTS  5000
#define MEGABYTES 128
#define TURNS     21 /* POSTERN_BENCH_REPEATS: fewer */
#define COUNTED   5  /* turns in which the kernel counts what programs run */

static size_t turns = TURNS;
static char other_cgroup[256];
static char empty_cgroup[256];
static uint8_t bytes[65536];

static void make_cgroup(const struct fixture *fixture, const char *name, char path[static 256])
{
	snprintf(path, 256, "%.240s/%s", fixture->cgroup_root, name);
	if (mkdir(path, 0755) == -1)
		give_up(path);
}

static void attach_empty(int cgroup, enum bpf_prog_type type, enum bpf_attach_type attach_type)
{
	static const struct bpf_insn go_on[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
	                                        {.code = BPF_JMP | BPF_EXIT}};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach_type);
	int program = bpf_prog_load(type, "empty", "GPL", go_on, ARRAY_SIZE(go_on), &options);

	if (program < 0 || bpf_prog_attach(program, cgroup, attach_type, BPF_F_ALLOW_MULTI) != 0)
		give_up("an empty program");
	close(program);
}

static void attach_empty_hooks(void)
{
	int cgroup = open(empty_cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (cgroup == -1)
		give_up(empty_cgroup);
	attach_empty(cgroup, BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS);
	attach_empty(cgroup, BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS);
	attach_empty(cgroup, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT);
	close(cgroup);
}

static void prepare(struct fixture *fixture)
{
	char address[32];

	make_cgroup(fixture, "other", other_cgroup);
	make_cgroup(fixture, "empty", empty_cgroup);
	attach_empty_hooks();
	fixture_start(fixture, NULL);
	set_cidr(fixture, "203.0.113.0/24", true);
	hooks_set_guarded_port(fixture->hooks, 443, true);
	for (int i = 0; i < KEYS; i++) {
		snprintf(address, sizeof(address), "203.0.%d.%d", 114 + i / 250, 1 + i % 250);
		set_destination(fixture, address, 443, POSTERN_VERDICT_TLS, 1);
	}
	set_destination(fixture, KNOWN, PORT, POSTERN_VERDICT_PLAIN, 0);
}

struct turn {
	const char *address;
	double ns; /* shared: of one connect, or of one MB */
};

/* UDP-free and without a handshake to wait for: a blocking connect on loopback is over when it returns. */
static int connects(void *context)
{
	struct turn *turn = context;
	struct sockaddr_storage to;
	socklen_t length = socket_address(turn->address, PORT, &to);
	const struct linger reset = {.l_onoff = 1};
	double before = cpu_ns(0);

	for (int i = 0; i < CONNECTS; i++) {
		int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd == -1 || connect(fd, (struct sockaddr *)&to, length) == -1)
			give_up("connect");
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
	}
	turn->ns = (cpu_ns(0) - before) / CONNECTS;
	return 0;
}

/* Sender and receiver in one process: what the guard costs is in its CPU time. */
static int stream(void *context)
{
	struct turn *turn = context;
	struct sockaddr_storage to;
	socklen_t length = socket_address(turn->address, PORT + 1, &to);
	int listener = server(PORT + 1), sender = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), receiver;
	double before;

	if (sender == -1 || connect(sender, (struct sockaddr *)&to, length) == -1 ||
	    (receiver = accept(listener, NULL, NULL)) == -1)
		give_up("a stream");
	before = cpu_ns(0);
	for (size_t i = 0; i < ((size_t)MEGABYTES << 20) / sizeof(bytes); i++) {
		if (send(sender, bytes, sizeof(bytes), MSG_NOSIGNAL) != (ssize_t)sizeof(bytes) ||
		    recv(receiver, bytes, sizeof(bytes), MSG_WAITALL) != (ssize_t)sizeof(bytes))
			give_up("a stream");
	}
	turn->ns = (cpu_ns(0) - before) / MEGABYTES;
	return 0;
}

static double once(const char *cgroup, struct turn *turn, int (*run)(void *context))
{
	await_end(place(cgroup, -1, run, turn), "a turn");
	return turn->ns;
}

/* Alternating turns; which of the two goes first alternates, too. */
static void compare(const char *cgroup, struct turn *turn, int (*run)(void *context), double *with, double *without,
                    double *difference, double *ratio)
{
	for (size_t i = 0; i < turns; i++) {
		if (i % 2)
			without[i] = once(other_cgroup, turn, run);
		with[i] = once(cgroup, turn, run);
		if (i % 2 == 0)
			without[i] = once(other_cgroup, turn, run);
		difference[i] = (with[i] - without[i]) / 1e3;
		ratio[i] = with[i] / without[i];
		with[i] /= 1e3;
		without[i] /= 1e3;
	}
}

/* Each program's time of a run, and how often it ran in a connect or for a MB. */
static void show_programs(const char *cgroup, const char *what, struct turn *turn, int (*run)(void *context),
                          size_t units)
{
	double ns[PROGRAMS_MAX][COUNTED], runs[PROGRAMS_MAX];
	struct program_times before, after;
	int counting = programs_count();
	char name[128];

	for (size_t i = 0; i < COUNTED; i++) {
		programs_read(cgroup, &before);
		(void)once(cgroup, turn, run);
		programs_read(cgroup, &after);
		for (size_t j = 0; j < after.count; j++) {
			uint64_t times = after.at[j].runs - before.at[j].runs;

			ns[j][i] = times ? (double)(after.at[j].ns - before.at[j].ns) / (double)times : 0;
			runs[j] = (double)times / (double)units;
		}
	}
	close(counting);
	for (size_t j = 0; j < after.count; j++) {
		if (runs[j] < 0.5)
			continue;
		snprintf(name, sizeof(name), "%s, program %s, %.1f times", what, after.at[j].name, runs[j]);
		report(name, "ns", ns[j], COUNTED, NULL, 0, NULL);
	}
}

static void uncovered(struct fixture *fixture)
{
	static const struct {
		const char *name;
		const char *address;
	} destinations[] = {{"outside the cluster", OUTSIDE}, {"inside, unknown", INSIDE}, {"known and plain", KNOWN}};
	static struct echo echo = {.port = PORT};
	double with[TURNS], without[TURNS], difference[TURNS], ratio[TURNS];
	const char *wanted = getenv("POSTERN_BENCH_REPEATS");
	struct turn *turn = shared_memory(sizeof(*turn));
	pid_t backend = place_listener(other_cgroup, -1, echo_run, &echo, &echo.ready);
	char name[96];

	if (wanted && strtoul(wanted, NULL, 10) > 0 && strtoul(wanted, NULL, 10) < TURNS)
		turns = strtoul(wanted, NULL, 10);
	for (size_t i = 0; i < ARRAY_SIZE(destinations); i++) {
		turn->address = destinations[i].address;
		compare(fixture->gateway_cgroup, turn, connects, with, without, difference, ratio);
		snprintf(name, sizeof(name), "uncovered connect, %s, no hooks", destinations[i].name);
		report(name, "us", without, turns, NULL, 0, NULL);
		snprintf(name, sizeof(name), "uncovered connect, %s, added", destinations[i].name);
		report(name, "us", difference, turns, "2 us", 2, "<= 1.00");
		snprintf(name, sizeof(name), "uncovered connect, %s", destinations[i].name);
		show_programs(fixture->gateway_cgroup, name, turn, connects, CONNECTS);
	}
	turn->address = OUTSIDE;
	compare(empty_cgroup, turn, connects, with, without, difference, ratio);
	report("uncovered connect, added by programs that do nothing", "us", difference, turns, NULL, 0, NULL);
	show_programs(empty_cgroup, "uncovered connect", turn, connects, CONNECTS);
	compare(empty_cgroup, turn, stream, with, without, difference, ratio);
	report("uncovered MB, with programs that do nothing", "x", ratio, turns, "no hooks", 1, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(destinations); i++) {
		turn->address = destinations[i].address;
		compare(fixture->gateway_cgroup, turn, stream, with, without, difference, ratio);
		snprintf(name, sizeof(name), "uncovered MB, %s, no hooks", destinations[i].name);
		report(name, "us", without, turns, NULL, 0, NULL);
		snprintf(name, sizeof(name), "uncovered MB, %s, with hooks", destinations[i].name);
		report(name, "x", ratio, turns, "no hooks", 1, "<= 1.01");
		snprintf(name, sizeof(name), "uncovered MB, %s", destinations[i].name);
		show_programs(fixture->gateway_cgroup, name, turn, stream, MEGABYTES);
	}
	take_away(backend);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {{"uncovered", uncovered}};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
