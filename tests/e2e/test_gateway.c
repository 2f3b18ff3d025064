// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_gateway.c: enrolment: its rules, the search for the network namespace, the agent's ports in it, and what happens
 * when the gateway moves or goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "hooks_fixture.h"

static struct hooks *hooks;

static void prepare(struct fixture *fixture)
{
	const struct hooks_options options = {.worker_count = 2};

	if (hooks_load(&options, &hooks) != 0) {
		printf("     cannot go on: hooks_load()\n");
		_exit(1);
	}
	fixture->hooks = hooks;
}

/* ---- rules ---- */

static int try_new(const struct gateway_options *options, const struct gateway *const *others, size_t count,
                   char problem[static 256])
{
	struct gateway *gateway = NULL;
	int error;

	problem[0] = '\0';
	error = gateway_new(options, others, count, &gateway, problem, 256);
	gateway_free(gateway);
	return -error;
}

static void rules(struct fixture *fixture)
{
	const char *const agent = "/system.slice/posternd.service";
	const struct {
		const char *what, *cgroup, *agent;
		int error;
	} cases[] = {
	        {"relative to the mount", "/system.slice/nginx.service", agent, 0},
	        {"without a slash", "system.slice/nginx.service", agent, 0},
	        {"with slashes too many", "//system.slice//nginx.service/", agent, 0},
	        {"absolute", fixture->gateway_cgroup, fixture->agent_cgroup, 0},
	        {"a neighbour by name", "/system.slice/posternd.service2", agent, 0},
	        {"not there yet", "/no/such/cgroup", agent, 0},
	        {"the agent's own", "/system.slice/posternd.service", agent, EINVAL},
	        {"above the agent", "/system.slice", agent, EINVAL},
	        {"below the agent", "/system.slice/posternd.service/gateway", agent, EINVAL},
	        {"the agent in the root", "/system.slice/nginx.service", "/", EINVAL},
	        {"the root", "/", agent, EINVAL},
	        {"the mount itself", cgroup2_mount(), agent, EINVAL},
	        {"dots", "/system.slice/../nginx.service", agent, EINVAL},
	        {"nothing", "", agent, EINVAL},
	        {"no agent named", "/system.slice/nginx.service", NULL, 0},
	};
	char problem[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gateway_options options = fixture->options;

		options.cgroup = cases[i].cgroup;
		options.agent_cgroup = cases[i].agent;
		expect_error(fixture, cases[i].what, cases[i].error, try_new(&options, NULL, 0, problem));
		expect_number(fixture, "a problem is named", cases[i].error != 0, problem[0] != '\0');
	}
}

static void nesting(struct fixture *fixture)
{
	static const struct {
		const char *cgroup;
		int error;
	} cases[] = {
	        {"/kubepods/pod1", EINVAL}, {"/kubepods/pod1/nginx", EINVAL},
	        {"/kubepods", EINVAL},      {"/kubepods/pod10", 0},
	        {"/kubepods/pod2", 0},      {"/kubepods//pod1/", EINVAL},
	};
	struct gateway_options options = fixture->options;
	struct gateway *first = NULL;
	char problem[256];

	options.cgroup = "/kubepods/pod1";
	expect_error(fixture, "the first", 0, -gateway_new(&options, NULL, 0, &first, problem, sizeof(problem)));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		options.cgroup = cases[i].cgroup;
		expect_error(fixture, cases[i].cgroup, cases[i].error,
		             try_new(&options, (const struct gateway *const[]){first}, 1, problem));
	}
	gateway_free(first);
}

static void wrong_options(struct fixture *fixture)
{
	struct gateway_options options[6];
	char problem[256];

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		options[i] = fixture->options;
	options[0].id = 0;
	options[1].name = "";
	options[2].ports_per_worker = POSTERN_MAX_PORTS;
	options[3].worker_count = 0;
	options[4].last_port = options[4].first_port - 1;
	options[5].first_port = 0;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		expect_error(fixture, "gateway_new()", EINVAL, try_new(&options[i], NULL, 0, problem));
		expect_number(fixture, "a problem is named", 1, problem[0] != '\0');
	}
}

/* ---- namespaces ---- */

static void write_byte(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		_exit(1);
}

/* A process of the gateway's cgroup, in a network namespace of its own if wanted. */
static pid_t start_gateway(struct fixture *fixture, const char *prepare_network)
{
	int ready = eventfd(0, EFD_CLOEXEC);
	pid_t child = fork();
	uint64_t count;

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		step_into(fixture->gateway_cgroup);
		if (prepare_network && (unshare(CLONE_NEWNET) == -1 || !shell(prepare_network)))
			_exit(1);
		write_byte(ready);
		for (;;)
			pause();
	}
	if (read(ready, &count, sizeof(count)) != (ssize_t)sizeof(count))
		_exit(1);
	close(ready);
	return child;
}

static void stop_gateway(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static struct gateway *enrol(struct fixture *fixture, const struct gateway_options *options)
{
	struct gateway *gateway = NULL;
	char problem[256] = "";

	expect_error(fixture, "gateway_new()", 0, -gateway_new(options, NULL, 0, &gateway, problem, sizeof(problem)));
	return gateway;
}

static void remove_gateway(struct gateway *gateway)
{
	hooks_detach_gateway(hooks, gateway->name, gateway->cgroup_path);
	hooks_delete_gateway(hooks, gateway->id);
	gateway_free(gateway);
}

static ino_t own_namespace(void)
{
	struct stat status = {0};

	stat("/proc/thread-self/ns/net", &status);
	return status.st_ino;
}

static uint64_t cookie_of(int fd)
{
	socklen_t length = sizeof(uint64_t);
	uint64_t cookie = 0;

	getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length);
	return cookie;
}

static struct gateway_options by_process(const struct fixture *fixture)
{
	struct gateway_options options = fixture->options;

	options.netns = NULL;
	return options;
}

static void found_by_process(struct fixture *fixture)
{
	const struct gateway_options options = by_process(fixture);
	struct gateway *gateway = enrol(fixture, &options);
	_cleanup_close_ int own = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct postern_gateway entry = {0};
	ino_t before = own_namespace();

	/* Hooks first: they are on before there is a process. */
	expect_number(fixture, "ready without a process", 0, gateway_advance(gateway, hooks, &options));
	expect_text(fixture, "state", "attached", gateway_state_name(gateway->state));
	expect_number(fixture, "attached", 1, hooks_gateway_attached(hooks, gateway->name));
	hooks_get_gateway(hooks, gateway->id, &entry);
	expect_number(fixture, "ports in the kernel's entry", 0, entry.port_count);

	pid_t child = start_gateway(fixture, "ip link set lo up");
	expect_number(fixture, "ready", 1, gateway_advance(gateway, hooks, &options));
	expect_number(fixture, "ready by the second call", 0, gateway_advance(gateway, hooks, &options));
	hooks_get_gateway(hooks, gateway->id, &entry);
	expect_number(fixture, "ports in the kernel's entry", 4, entry.port_count);
	_cleanup_close_ int inside = gateway_socket(gateway, AF_INET, SOCK_STREAM, 0);
	expect_number(fixture, "namespace of gateway_socket()", (long long)gateway->netns_cookie,
	              (long long)cookie_of(inside));
	expect_number(fixture, "namespace of the kernel's entry", (long long)gateway->netns_cookie,
	              (long long)entry.netns_cookie);
	expect_number(fixture, "a namespace other than ours", 0, gateway->netns_cookie == cookie_of(own));
	expect_number(fixture, "own namespace afterwards", (long long)before, (long long)own_namespace());
	for (size_t i = 0; i < gateway->listener_count; i++) {
		expect_number(fixture, "namespace of a listener", (long long)gateway->netns_cookie,
		              (long long)cookie_of(gateway->listeners[i].fd_v4));
		expect_number(fixture, "its worker", (long long)i % 2, gateway->listeners[i].worker);
	}
	expect_number(fixture, "lost", 0, gateway_check(gateway, hooks));
	stop_gateway(child);
	/* Between two lives of the gateway nothing is lost: the cgroup is there, and nobody is elsewhere. */
	expect_number(fixture, "lost while empty", 0, gateway_check(gateway, hooks));

	child = start_gateway(fixture, "ip link set lo up");
	expect_number(fixture, "lost when it is in another namespace", 1, gateway_check(gateway, hooks));
	expect_text(fixture, "state", "lost", gateway_state_name(gateway->state));
	hooks_get_gateway(hooks, gateway->id, &entry);
	expect_number(fixture, "ports in the kernel's entry", 0, entry.port_count);
	expect_number(fixture, "ready in the new one", 1, gateway_advance(gateway, hooks, &options));
	stop_gateway(child);
	remove_gateway(gateway);
}

static void several_namespaces(struct fixture *fixture)
{
	const struct gateway_options options = by_process(fixture);
	struct gateway *gateway = enrol(fixture, &options);
	pid_t first = start_gateway(fixture, "true"), second = start_gateway(fixture, "true");

	expect_number(fixture, "ready", 0, gateway_advance(gateway, hooks, &options));
	expect_number(fixture, "the reason names it", 1, strstr(gateway->reason, "several network namespaces") != NULL);
	stop_gateway(second);
	expect_number(fixture, "ready with one", 1, gateway_advance(gateway, hooks, &options));
	stop_gateway(first);
	remove_gateway(gateway);
}

static void named_namespace(struct fixture *fixture)
{
	struct gateway_options options = fixture->options;
	struct gateway *gateway;
	char path[64];

	options.netns = "/proc/self/no-namespace";
	gateway = enrol(fixture, &options);
	expect_number(fixture, "ready", 0, gateway_advance(gateway, hooks, &options));
	expect_number(fixture, "the reason names the path", 1, strstr(gateway->reason, options.netns) != NULL);
	remove_gateway(gateway);

	pid_t child = start_gateway(fixture, "true");
	snprintf(path, sizeof(path), "/proc/%d/ns/net", child);
	options.netns = path;
	gateway = enrol(fixture, &options);
	expect_number(fixture, "ready", 1, gateway_advance(gateway, hooks, &options));
	expect_number(fixture, "lost", 0, gateway_check(gateway, hooks));
	stop_gateway(child);
	expect_number(fixture, "lost when its path is gone", 1, gateway_check(gateway, hooks));
	remove_gateway(gateway);
}

static void no_ipv6(struct fixture *fixture)
{
	const struct gateway_options options = by_process(fixture);
	pid_t child = start_gateway(fixture, "sysctl -w net.ipv6.conf.all.disable_ipv6=1; ip link set lo up");
	struct gateway *gateway = enrol(fixture, &options);

	expect_number(fixture, "ready", 1, gateway_advance(gateway, hooks, &options));
	for (size_t i = 0; i < gateway->listener_count; i++)
		expect_number(fixture, "IPv6 listener", -1, gateway->listeners[i].fd_v6);
	expect_number(fixture, "IPv6 raw socket", -1, gateway->raw_v6);
	stop_gateway(child);
	remove_gateway(gateway);
}

/* ---- ports ---- */

static void ports(struct fixture *fixture)
{
	struct gateway_options options = fixture->options;
	struct gateway *gateway;

	/* NodePorts, ephemeral ports and a taken one lie in the range. */
	options.first_port = 29996;
	options.last_port = 32800;
	shell("sysctl -w net.ipv4.ip_local_port_range='32770 40000'");
	_cleanup_close_ int taken = server(32769);
	gateway = enrol(fixture, &options);
	expect_number(fixture, "ready", 1, gateway_advance(gateway, hooks, &options));
	for (size_t i = 0; i < gateway->listener_count; i++) {
		uint16_t port = gateway->listeners[i].port;

		expect_number(fixture, "a NodePort", 0, port >= 30000 && port <= 32767);
		expect_number(fixture, "an ephemeral port", 0, port >= 32770);
		expect_number(fixture, "the taken port", 0, port == 32769);
	}
	remove_gateway(gateway);

	options.first_port = 29999;
	options.last_port = 32769;
	gateway = enrol(fixture, &options);
	expect_number(fixture, "ready with two ports of four", 0, gateway_advance(gateway, hooks, &options));
	expect_text(fixture, "state", "attached", gateway_state_name(gateway->state));
	expect_number(fixture, "the reason", 1, strstr(gateway->reason, "2 of 4 listeners") != NULL);
	expect_number(fixture, "listeners", 0, (long long)gateway->listener_count);
	remove_gateway(gateway);
	shell("sysctl -w net.ipv4.ip_local_port_range='32768 60999'");
}

/* Two gateways of one namespace (host network) have ports and marks of their own. */
static void shared_namespace(struct fixture *fixture)
{
	struct gateway_options first = fixture->options, second = fixture->options;
	struct gateway *one, *two;
	char cgroup[PATH_MAX];

	snprintf(cgroup, sizeof(cgroup), "%s/second", fixture->cgroup_root);
	mkdir(cgroup, 0755);
	second.cgroup = cgroup;
	second.name = "test/second";
	second.id = first.id + 1;
	one = enrol(fixture, &first);
	two = enrol(fixture, &second);
	expect_number(fixture, "the first is ready", 1, gateway_advance(one, hooks, &first));
	expect_number(fixture, "the second is ready", 1, gateway_advance(two, hooks, &second));
	for (size_t i = 0; i < one->listener_count * two->listener_count; i++)
		expect_number(fixture, "a port of both", 0,
		              one->listeners[i / two->listener_count].port ==
		                      two->listeners[i % two->listener_count].port);
	remove_gateway(one);
	remove_gateway(two);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"rules", rules},
	        {"rules: nesting", nesting},
	        {"rules: options", wrong_options},
	        {"namespace: found by a process", found_by_process},
	        {"namespace: several", several_namespaces},
	        {"namespace: named", named_namespace},
	        {"namespace: no IPv6", no_ipv6},
	        {"ports", ports},
	        {"two gateways in one namespace", shared_namespace},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
