// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_fixture.c: the stage of the hooks' tests: namespaces, cgroups, rows and their results.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "hooks_fixture.h"

#define SKIPPED    77
#define WORKERS    2
#define PORTS_EACH 2
#define FIRST_PORT 15100
#define LAST_PORT  15999

__attribute__((noreturn)) static void die(const char *what)
{
	printf("     cannot go on: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

/* ---- results ---- */

static void failed(struct fixture *fixture)
{
	fixture->row_failed = true;
	fflush(stdout);
}

bool expect_number(struct fixture *fixture, const char *what, long long expected, long long seen)
{
	if (expected == seen)
		return true;
	printf("     %s: expected %lld, seen %lld\n", what, expected, seen);
	failed(fixture);
	return false;
}

bool expect_at_least(struct fixture *fixture, const char *what, long long least, long long seen)
{
	if (seen >= least)
		return true;
	printf("     %s: expected at least %lld, seen %lld\n", what, least, seen);
	failed(fixture);
	return false;
}

bool expect_error(struct fixture *fixture, const char *what, int expected, int seen)
{
	if (expected == seen)
		return true;
	printf("     %s: expected \"%s\", seen \"%s\"\n", what, strerror(expected), strerror(seen));
	failed(fixture);
	return false;
}

bool expect_text(struct fixture *fixture, const char *what, const char *expected, const char *seen)
{
	if (strcmp(expected, seen) == 0)
		return true;
	printf("     %s: expected \"%s\", seen \"%s\"\n", what, expected, seen);
	failed(fixture);
	return false;
}

void fixture_skip(struct fixture *fixture, const char *reason)
{
	printf("skip: %s\n", reason);
	fixture->row_skipped = true;
}

/* ---- the stage ---- */

bool shell(const char *command)
{
	char quiet[2 * PATH_MAX];

	snprintf(quiet, sizeof(quiet), "{ %s ; } >/dev/null 2>&1", command);
	return system(quiet) == 0;
}

void step_into(const char *cgroup)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd == -1 || write(fd, "0", 1) != 1)
		die(path);
}

static void make_cgroups(struct fixture *fixture)
{
	if (mkdir(fixture->cgroup_root, 0755) == -1 || mkdir(fixture->gateway_cgroup, 0755) == -1 ||
	    mkdir(fixture->agent_cgroup, 0755) == -1)
		die(fixture->cgroup_root);
}

/* Kills what is in the tree, waits until it is empty, removes it. */
static void remove_cgroups(const struct fixture *fixture)
{
	char path[PATH_MAX], text[128] = "";

	snprintf(path, sizeof(path), "%s/cgroup.kill", fixture->cgroup_root);
	_cleanup_close_ int killer = open(path, O_WRONLY | O_CLOEXEC);
	if (killer != -1 && write(killer, "1", 1) != 1)
		perror(path);
	snprintf(path, sizeof(path), "%s/cgroup.events", fixture->cgroup_root);
	_cleanup_close_ int events = open(path, O_RDONLY | O_CLOEXEC);
	for (int tries = 0; events != -1 && tries < 20; tries++) {
		struct pollfd change = {.fd = events, .events = POLLPRI};
		ssize_t length = pread(events, text, sizeof(text) - 1, 0);

		text[length > 0 ? length : 0] = '\0';
		if (strstr(text, "populated 0"))
			break;
		poll(&change, 1, 500);
	}
	snprintf(path, sizeof(path), "find %s -depth -type d -exec rmdir {} ';'", fixture->cgroup_root);
	if (!shell(path))
		printf("     cannot remove %s\n", fixture->cgroup_root);
}

/* lo answers for 198.51.100.0/24, 203.0.113.0/24 and fd00:99::/64: "far" destinations that are here. */
static void make_network(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) == -1)
		die("unshare");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1)
		die("private mounts");
	if (!shell("ip link set lo up && ip address add 198.51.100.1/24 dev lo && "
	           "ip address add 203.0.113.1/24 dev lo && ip address add fd00:99::1/128 dev lo nodad && "
	           "ip -6 route add local fd00:99::/64 dev lo"))
		die("addresses on lo");
}

static void make_bpffs(struct fixture *fixture)
{
	if (mount("none", "/tmp", "tmpfs", 0, "mode=1777") == -1)
		die("tmpfs on /tmp");
	snprintf(fixture->bpffs, sizeof(fixture->bpffs), "/tmp/bpf");
	if (mkdir(fixture->bpffs, 0700) == -1 || mount("bpf", fixture->bpffs, "bpf", 0, NULL) == -1)
		die("bpffs");
}

void fixture_start(struct fixture *fixture, const char *bpffs)
{
	const struct hooks_options options = {.bpffs = bpffs, .worker_count = WORKERS};
	char problem[256] = "";
	int error = hooks_load(&options, &fixture->hooks);

	errno = -error;
	if (error)
		die("hooks_load");
	/* The rows are about a policy that is known, but for the one that says otherwise. */
	if (!fixture->policy_unknown && hooks_policy_is_known(fixture->hooks) != 0)
		die("hooks_policy_is_known");
	error = hooks_attach_witness(fixture->hooks, fixture->agent_cgroup);
	errno = -error;
	if (error)
		die("hooks_attach_witness");
	error = gateway_new(&fixture->options, NULL, 0, &fixture->gateway, problem, sizeof(problem));
	errno = -error;
	if (error)
		die(problem);
	if (!gateway_advance(fixture->gateway, fixture->hooks, &fixture->options)) {
		errno = 0;
		die(fixture->gateway->reason);
	}
	fixture_open_rings(fixture);
}

void fixture_stop(struct fixture *fixture)
{
	fixture_close_rings(fixture);
	gateway_free(fixture->gateway);
	fixture->gateway = NULL;
	hooks_free(fixture->hooks);
	fixture->hooks = NULL;
}

/* ---- rows ---- */

static bool is_named(const char *name, int argc, char **argv)
{
	bool named = argc < 2;

	for (int i = 1; i < argc; i++)
		named |= strstr(name, argv[i]) != NULL;
	return named;
}

static int run_rows(struct fixture *fixture, const struct row *rows, size_t count, int argc, char **argv)
{
	unsigned int passed = 0, failures = 0, skipped = 0;

	for (size_t i = 0; i < count; i++) {
		if (!is_named(rows[i].name, argc, argv))
			continue;
		fixture->row_failed = fixture->row_skipped = false;
		printf("[ RUN      ] %s\n", rows[i].name);
		fflush(stdout);
		forget_records(fixture);
		rows[i].run(fixture);
		if (fixture->row_failed) {
			failures++;
			printf("FAIL %s\n", rows[i].name);
		} else if (fixture->row_skipped) {
			skipped++;
			printf("skip %s\n", rows[i].name);
		} else {
			passed++;
			printf("[       OK ] %s\n", rows[i].name);
		}
	}
	if (failures)
		printf("[  FAILED  ] %u test(s)\n", failures);
	printf("%u passed, %u failed, %u skipped\n", passed, failures, skipped);
	return failures ? 1 : 0;
}

static void play(struct fixture *fixture, const struct row *rows, size_t count, void (*prepare)(struct fixture *),
                 int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	make_network();
	make_bpffs(fixture);
	/* The namespace is found by a process of the gateway's cgroup; this one is there only for moments. */
	fixture->options.netns = "/proc/self/ns/net";
	step_into(fixture->agent_cgroup);
	if (prepare)
		prepare(fixture);
	int status = run_rows(fixture, rows, count, argc, argv);
	fixture_stop(fixture);
	exit(status); /* not _exit(): the leak check of the sanitizers is at exit */
}

static void fill_options(struct fixture *fixture)
{
	fixture->options = (struct gateway_options){
	        .name = "test/gateway.one",
	        .cgroup = fixture->gateway_cgroup,
	        .mode = POSTERN_MODE_ENFORCE,
	        .id = GATEWAY_ID,
	        .worker_count = WORKERS,
	        .ports_per_worker = PORTS_EACH,
	        .first_port = FIRST_PORT,
	        .last_port = LAST_PORT,
	        .agent_cgroup = fixture->agent_cgroup,
	};
}

int fixture_main(int argc, char **argv, const struct row *rows, size_t count, void (*prepare)(struct fixture *))
{
	static struct fixture fixture;
	int status;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid() != 0 || !cgroup2_mount()) {
		printf("network namespaces, cgroup2 and BPF need root\n");
		return SKIPPED;
	}
	log_set_level(getenv("POSTERN_TRACE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	snprintf(fixture.cgroup_root, sizeof(fixture.cgroup_root), "%s/postern-hooks-%d", cgroup2_mount(), getpid());
	snprintf(fixture.gateway_cgroup, sizeof(fixture.gateway_cgroup), "%s/gateway", fixture.cgroup_root);
	snprintf(fixture.agent_cgroup, sizeof(fixture.agent_cgroup), "%s/agent", fixture.cgroup_root);
	fill_options(&fixture);
	make_cgroups(&fixture);
	/* The child may crash or be killed; what outlives it is removed here. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	pid_t child = fork();
	if (child == 0) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		play(&fixture, rows, count, prepare, argc, argv);
	}
	if (child == -1 || waitpid(child, &status, 0) != child)
		status = 1;
	remove_cgroups(&fixture);
	if (WIFSIGNALED(status))
		printf("     ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
