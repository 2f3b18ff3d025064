// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_hooks_restart.c: what outlives the agent, what a new agent takes over, what is refused, and that uninstall
 * leaves nothing.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "hooks_fixture.h"

#define SERVER_PORT 8080
#define COVERED     "198.51.100.140"
#define UNCOVERED   "198.51.100.141"
#define HOOKS       8 /* on a gateway's cgroup */

static int server_fd;
static char pins[PATH_MAX];      /* <bpffs>/postern */
static char link_pins[PATH_MAX]; /* of the gateway */

/* Each row begins with nothing pinned and nothing loaded. */
static void prepare(struct fixture *fixture)
{
	server_fd = server(SERVER_PORT);
	snprintf(pins, sizeof(pins), "%s/postern", fixture->bpffs);
	snprintf(link_pins, sizeof(link_pins), "%s/postern/v%d/links/test_2fgateway_2eone", fixture->bpffs,
	         POSTERN_ABI_VERSION);
}

static void begin(struct fixture *fixture)
{
	fixture_start(fixture, pins);
	set_destination(fixture, COVERED, 443, POSTERN_VERDICT_TLS, 1);
}

static void finish(struct fixture *fixture)
{
	fixture_stop(fixture);
	expect_at_least(fixture, "hooks_uninstall()", 0, hooks_uninstall(pins));
}

/* ---- what is attached ---- */

static const enum bpf_attach_type attach_types[] = {
        BPF_CGROUP_INET_EGRESS,       BPF_CGROUP_SOCK_OPS,      BPF_CGROUP_INET4_GETPEERNAME,
        BPF_CGROUP_INET6_GETPEERNAME, BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT,
};

static unsigned int programs_on(const char *cgroup)
{
	_cleanup_close_ int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned int total = 0;

	for (size_t i = 0; i < ARRAY_SIZE(attach_types); i++) {
		uint32_t count = 0;

		if (bpf_prog_query(fd, attach_types[i], 0, NULL, NULL, &count) == 0)
			total += count;
	}
	return total;
}

static struct bpf_link_info link_info(const char *program)
{
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", link_pins, program);
	_cleanup_close_ int fd = bpf_obj_get(path);
	if (fd >= 0)
		bpf_obj_get_info_by_fd(fd, &info, &size);
	return info;
}

static void expect_covered_connect(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);

	forget_records(fixture);
	expect_error(fixture, "connect() to a covered destination", EINPROGRESS, dial(g, COVERED, 443));
	_cleanup_close_ int a = establish(fixture, g);
	expect_text(fixture, "getpeername()", COVERED " 443", peer_name(g));
}

static void expect_uncovered_connect(struct fixture *fixture)
{
	_cleanup_close_ int g = g_socket(fixture, AF_INET);

	dial(g, UNCOVERED, SERVER_PORT);
	expect_error(fixture, "connect() to an uncovered destination", 0, await_connected(g, PATIENCE_MS));
	_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
}

/* ---- rows ---- */

/* A connect that the maps say nothing of, as a new node's: it is held, and refused when nobody listens. */
static void new_node(struct fixture *fixture)
{
	_cleanup_close_ int g = -1;

	fixture->policy_unknown = true;
	fixture_start(fixture, pins);
	fixture->policy_unknown = false;
	g = g_socket(fixture, AF_INET);
	expect_error(fixture, "connect() before there is a policy", EINPROGRESS, dial(g, UNCOVERED, SERVER_PORT));
	expect_number(fixture, "its SYN is held by the agent", true,
	              await_syn(fixture, local_port(g), 0, PATIENCE_MS) != NULL);
	expect_number(fixture, "the backend got nothing", -1, await_accept(server_fd, 300));
	_cleanup_close_ int home = g_socket(fixture, AF_INET);
	dial(home, "127.0.0.1", SERVER_PORT);
	expect_error(fixture, "loopback is none of ours", 0, await_connected(home, PATIENCE_MS));
	_cleanup_close_ int at_home = await_accept(server_fd, PATIENCE_MS);

	/* The agent dies before it knew one: still nothing passes. */
	fixture_stop(fixture);
	_cleanup_close_ int refused = g_socket(fixture, AF_INET);
	expect_error(fixture, "connect() without an agent", ECONNREFUSED, dial(refused, UNCOVERED, SERVER_PORT));

	/* It knew one, and dies: what the maps say stays in force. */
	fixture->policy_unknown = true;
	fixture_start(fixture, pins);
	expect_number(fixture, "hooks_policy_is_known()", 0, hooks_policy_is_known(fixture->hooks));
	expect_uncovered_connect(fixture);
	fixture_stop(fixture);
	expect_uncovered_connect(fixture);
	fixture_start(fixture, pins);
	fixture->policy_unknown = false;
	expect_uncovered_connect(fixture);
	finish(fixture);
}

static void agent_gone(struct fixture *fixture)
{
	begin(fixture);
	fixture_stop(fixture);
	expect_number(fixture, "programs on the cgroup", HOOKS, programs_on(fixture->gateway_cgroup));
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	expect_error(fixture, "connect() to a covered destination", ECONNREFUSED, dial(g, COVERED, 443));
	expect_uncovered_connect(fixture);
	expect_at_least(fixture, "hooks_uninstall()", 0, hooks_uninstall(pins));
}

static void pooled_while_gone(struct fixture *fixture)
{
	_cleanup_close_ int g = -1;
	const struct postern_destination_key key = key_of(UNCOVERED, SERVER_PORT);
	const struct postern_destination covered = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	char byte = 'x';

	begin(fixture);
	g = g_socket(fixture, AF_INET);
	dial(g, UNCOVERED, SERVER_PORT);
	expect_error(fixture, "connect()", 0, await_connected(g, PATIENCE_MS));
	_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
	hooks_set_destination(fixture->hooks, &key, &covered);
	fixture_stop(fixture);
	expect_number(fixture, "send()", 1, send(g, &byte, 1, 0));
	expect_number(fixture, "bytes at the backend", -1, await_bytes(accepted, &byte, 1, 300));
	expect_at_least(fixture, "hooks_uninstall()", 0, hooks_uninstall(pins));
}

static void taken_over(struct fixture *fixture)
{
	uint16_t ports[POSTERN_MAX_PORTS] = {0};
	struct bpf_link_info before, after;

	begin(fixture);
	expect_covered_connect(fixture);
	for (size_t i = 0; i < fixture->gateway->listener_count; i++)
		ports[i] = fixture->gateway->listeners[i].port;
	before = link_info("connect4");
	fixture_stop(fixture);

	fixture_start(fixture, pins);
	after = link_info("connect4");
	expect_number(fixture, "programs on the cgroup", HOOKS, programs_on(fixture->gateway_cgroup));
	expect_number(fixture, "programs on the agent's cgroup", 1, programs_on(fixture->agent_cgroup));
	expect_number(fixture, "the link's id", before.id, after.id);
	expect_number(fixture, "the same program in the link", 0, before.prog_id == after.prog_id);
	for (size_t i = 0; i < fixture->gateway->listener_count; i++)
		expect_number(fixture, "port", ports[i], fixture->gateway->listeners[i].port);
	/* The destinations are still there, without having been set again. */
	expect_covered_connect(fixture);
	finish(fixture);
}

/* G's SYN was held by an agent that is gone: its next SYN finds the new one. */
static void held_over_restart(struct fixture *fixture)
{
	begin(fixture);
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	dial(g, COVERED, 443);
	uint16_t port = local_port(g);
	expect_number(fixture, "a SYN record", 1, await_syn(fixture, port, 0, PATIENCE_MS) != NULL);
	fixture_stop(fixture);
	fixture_start(fixture, pins);
	if (await_connected(g, 0) == ECONNREFUSED) {
		/* Right as well: the SYN that came in between found nobody. */
		fixture_skip(fixture, "loading took longer than G's second: its next SYN was refused");
		finish(fixture);
		return;
	}
	_cleanup_close_ int a = -1;
	if (expect_number(fixture, "a SYN record at the new agent", 1,
	                  await_syn(fixture, port, 0, RETRANSMIT_MS) != NULL))
		a = establish(fixture, g);
	expect_at_least(fixture, "A", 0, a);
	finish(fixture);
}

static void cgroup_again(struct fixture *fixture)
{
	uint32_t dead;

	begin(fixture);
	dead = link_info("connect4").id;
	fixture_stop(fixture);
	expect_number(fixture, "rmdir()", 0, rmdir(fixture->gateway_cgroup));
	expect_number(fixture, "mkdir()", 0, mkdir(fixture->gateway_cgroup, 0755));
	expect_number(fixture, "programs on the new cgroup", 0, programs_on(fixture->gateway_cgroup));
	fixture_start(fixture, pins);
	expect_number(fixture, "programs on the new cgroup", HOOKS, programs_on(fixture->gateway_cgroup));
	expect_number(fixture, "the dead link", 0, link_info("connect4").id == dead);
	expect_covered_connect(fixture);
	/* And under a running agent. */
	expect_number(fixture, "rmdir()", 0, rmdir(fixture->gateway_cgroup));
	expect_number(fixture, "gateway_check()", 1, gateway_check(fixture->gateway, fixture->hooks));
	expect_text(fixture, "state", "lost", gateway_state_name(fixture->gateway->state));
	expect_number(fixture, "gateway_advance() without its cgroup", 0,
	              gateway_advance(fixture->gateway, fixture->hooks, &fixture->options));
	expect_number(fixture, "mkdir()", 0, mkdir(fixture->gateway_cgroup, 0755));
	expect_number(fixture, "gateway_advance()", 1,
	              gateway_advance(fixture->gateway, fixture->hooks, &fixture->options));
	expect_covered_connect(fixture);
	finish(fixture);
}

static void detached_by_hand(struct fixture *fixture)
{
	static const char *const programs[] = {"guard",        "guard_inbound", "hold_attempt", "lane_join",
	                                       "getpeername4", "getpeername6",  "connect4",     "connect6"};

	begin(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		char path[PATH_MAX + 64];

		snprintf(path, sizeof(path), "%s/%s", link_pins, programs[i]);
		_cleanup_close_ int link = bpf_obj_get(path);
		expect_number(fixture, "attached", 1, hooks_gateway_attached(fixture->hooks, "test/gateway.one"));
		expect_number(fixture, programs[i], 0, bpf_link_detach(link));
		expect_number(fixture, programs[i], HOOKS - 1, programs_on(fixture->gateway_cgroup));
		expect_number(fixture, "attached", 0, hooks_gateway_attached(fixture->hooks, "test/gateway.one"));
		expect_number(fixture, "gateway_check()", 0, gateway_check(fixture->gateway, fixture->hooks));
		expect_number(fixture, programs[i], HOOKS, programs_on(fixture->gateway_cgroup));
	}
	/* A pin that somebody removed comes back, or the hook would end with the agent. */
	char path[PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/connect4", link_pins);
	expect_number(fixture, "unlink()", 0, unlink(path));
	expect_error(fixture, "hooks_attach_gateway()", 0,
	             -hooks_attach_gateway(fixture->hooks, "test/gateway.one", fixture->gateway_cgroup, GATEWAY_ID));
	expect_number(fixture, "the pin", 0, access(path, F_OK));
	expect_covered_connect(fixture);
	finish(fixture);
}

static bool as_told(void *context, uint64_t cgroup)
{
	return cgroup && *(const bool *)context;
}

/* A former gateway's processes still run: its hooks refuse, whoever has its name, until they end. */
static void former_gateway_that_runs(struct fixture *fixture)
{
	static const char *const kept[] = {"test/gateway.one", "test/gateway_one"};
	char former[PATH_MAX], other[PATH_MAX];
	bool lives = true;

	begin(fixture);
	snprintf(former, sizeof(former), "%s/former", fixture->cgroup_root);
	snprintf(other, sizeof(other), "%s/other", fixture->cgroup_root);
	mkdir(former, 0755);
	mkdir(other, 0755);
	expect_error(fixture, "hooks_attach_gateway()", 0,
	             -hooks_attach_gateway(fixture->hooks, kept[1], former, GATEWAY_ID));
	expect_error(fixture, "hooks_set_aside()", 0, -hooks_set_aside(fixture->hooks, kept[1]));
	expect_error(fixture, "hooks_set_aside(), nothing pinned", ENOENT, -hooks_set_aside(fixture->hooks, kept[1]));
	expect_error(fixture, "the name again", 0, -hooks_attach_gateway(fixture->hooks, kept[1], other, GATEWAY_ID));
	expect_number(fixture, "programs on the new one", HOOKS, programs_on(other));
	/* The id is that of one that is ready, and no longer its own. */
	step_into(former);
	_cleanup_close_ int g = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	expect_error(fixture, "connect() to a covered destination", ECONNREFUSED, dial(g, COVERED, 443));
	step_into(fixture->gateway_cgroup);
	for (int i = 0; i < 2; i++) {
		fixture_stop(fixture);
		fixture_start(fixture, pins);
		expect_number(fixture, "hooks_keep_gateways(), it runs", 0,
		              hooks_keep_gateways(fixture->hooks, kept, 2, as_told, &lives));
		expect_number(fixture, "programs on it", HOOKS, programs_on(former));
	}
	/* The other loses its object, too, and an agent that did not see it comes. */
	expect_number(fixture, "hooks_keep_gateways(), both run", 0,
	              hooks_keep_gateways(fixture->hooks, kept, 1, as_told, &lives));
	expect_number(fixture, "programs on the other", HOOKS, programs_on(other));
	lives = false;
	expect_number(fixture, "hooks_keep_gateways(), they have ended", 2,
	              hooks_keep_gateways(fixture->hooks, kept, 1, as_told, &lives));
	expect_number(fixture, "programs on it", 0, programs_on(former));
	expect_number(fixture, "programs on the other", 0, programs_on(other));
	expect_number(fixture, "programs on the kept one", HOOKS, programs_on(fixture->gateway_cgroup));
	finish(fixture);
}

static void former_gateways(struct fixture *fixture)
{
	static const char *const kept[] = {"test/gateway.one"};
	char other[PATH_MAX];
	bool lives = false;

	begin(fixture);
	snprintf(other, sizeof(other), "%s/other", fixture->cgroup_root);
	mkdir(other, 0755);
	expect_error(fixture, "hooks_attach_gateway()", 0,
	             -hooks_attach_gateway(fixture->hooks, "test/gateway_one", other, GATEWAY_ID + 1));
	fixture_stop(fixture);
	fixture_start(fixture, pins);
	expect_number(fixture, "programs on the former gateway", HOOKS, programs_on(other));
	expect_number(fixture, "hooks_keep_gateways()", 1,
	              hooks_keep_gateways(fixture->hooks, kept, 1, as_told, &lives));
	expect_number(fixture, "programs on the former gateway", 0, programs_on(other));
	expect_number(fixture, "programs on the kept one", HOOKS, programs_on(fixture->gateway_cgroup));
	expect_error(fixture, "hooks_detach_gateway()", 0,
	             -hooks_detach_gateway(fixture->hooks, "test/gateway.one", fixture->gateway_cgroup));
	expect_number(fixture, "programs after it", 0, programs_on(fixture->gateway_cgroup));
	expect_number(fixture, "attached", 0, hooks_gateway_attached(fixture->hooks, "test/gateway.one"));
	finish(fixture);
}

static void uninstall(struct fixture *fixture)
{
	begin(fixture);
	/* While the agent still runs: its own descriptors must not keep the links alive. */
	expect_at_least(fixture, "hooks_uninstall()", HOOKS + 1, hooks_uninstall(pins));
	expect_number(fixture, "programs on the gateway's cgroup", 0, programs_on(fixture->gateway_cgroup));
	expect_number(fixture, "programs on the agent's cgroup", 0, programs_on(fixture->agent_cgroup));
	expect_number(fixture, "the directory", -1, access(pins, F_OK));
	fixture_stop(fixture);
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	dial(g, COVERED, SERVER_PORT);
	expect_error(fixture, "connect() without hooks", 0, await_connected(g, PATIENCE_MS));
	_cleanup_close_ int accepted = await_accept(server_fd, PATIENCE_MS);
	expect_number(fixture, "hooks_uninstall() of nothing", 0, hooks_uninstall(pins));
}

static int load_error(const char *bpffs)
{
	const struct hooks_options options = {.bpffs = bpffs, .worker_count = 1};
	struct hooks *hooks = NULL;
	int error = hooks_load(&options, &hooks);

	hooks_free(hooks);
	return -error;
}

static void refused_pins(struct fixture *fixture)
{
	char map_path[PATH_MAX + 64];
	uint32_t index = 0;
	struct postern_meta meta = {.abi_version = POSTERN_ABI_VERSION + 1};

	expect_error(fixture, "not a bpf file system", EMEDIUMTYPE, load_error("/tmp/no-bpffs"));
	expect_number(fixture, "nothing was made there", -1, access("/tmp/no-bpffs", F_OK));
	expect_error(fixture, "no such directory", ENOENT, load_error("/tmp/no/such/place"));

	begin(fixture);
	fixture_stop(fixture);
	snprintf(map_path, sizeof(map_path), "%s/v%d/meta", pins, POSTERN_ABI_VERSION);
	_cleanup_close_ int map = bpf_obj_get(map_path);
	expect_number(fixture, "write into the pinned map", 0, bpf_map_update_elem(map, &index, &meta, BPF_ANY));
	expect_error(fixture, "another version in our place", EPROTO, load_error(pins));
	expect_number(fixture, "hooks that go on", HOOKS, programs_on(fixture->gateway_cgroup));
	meta.abi_version = POSTERN_ABI_VERSION;
	bpf_map_update_elem(map, &index, &meta, BPF_ANY);

	snprintf(map_path, sizeof(map_path), "%s/v%d/would_map", pins, POSTERN_ABI_VERSION);
	unlink(map_path);
	_cleanup_close_ int wrong = bpf_map_create(BPF_MAP_TYPE_HASH, "wrong", 4, 4, 1, NULL);
	expect_number(fixture, "a map of another shape", 0, bpf_obj_pin(wrong, map_path));
	expect_error(fixture, "a map of another shape", EINVAL, load_error(pins));
	expect_number(fixture, "hooks that go on", HOOKS, programs_on(fixture->gateway_cgroup));
	unlink(map_path);
	expect_error(fixture, "all in order again", 0, load_error(pins));
	expect_at_least(fixture, "hooks_uninstall()", 0, hooks_uninstall(pins));
}

/* What an agent of another ABI number left on another gateway's cgroup goes when its gateway has our hooks, or is none.
 */
static void other_versions(struct fixture *fixture)
{
	const char *const configured[] = {"not/attached"};
	char version[PATH_MAX + 16], links[PATH_MAX + 32], kept[PATH_MAX + 64], former[PATH_MAX + 64];

	begin(fixture);
	expect_number(fixture, "hooks_other_versions() without any", false, hooks_other_versions(fixture->hooks));
	snprintf(version, sizeof(version), "%s/v%d", pins, POSTERN_ABI_VERSION + 1);
	snprintf(links, sizeof(links), "%s/links", version);
	snprintf(kept, sizeof(kept), "%s/not_2fattached", links);
	snprintf(former, sizeof(former), "%s/former", links);
	mkdir(version, 0700);
	mkdir(links, 0700);
	mkdir(kept, 0700);
	mkdir(former, 0700);
	expect_number(fixture, "hooks_other_versions()", true, hooks_other_versions(fixture->hooks));
	expect_number(fixture, "directories taken away while one drains", 0,
	              hooks_clear_other_versions(fixture->hooks, NULL, 0, true));
	expect_number(fixture, "the former gateway's, while one drains", 0, access(former, F_OK));
	expect_number(fixture, "directories taken away", 0,
	              hooks_clear_other_versions(fixture->hooks, configured, ARRAY_SIZE(configured), false));
	expect_number(fixture, "the former gateway's", -1, access(former, F_OK));
	expect_number(fixture, "the hooks of one that has none of ours", 0, access(kept, F_OK));
	expect_number(fixture, "directories taken away, nobody's", 1,
	              hooks_clear_other_versions(fixture->hooks, NULL, 0, false));
	expect_number(fixture, "the other version's directory", -1, access(version, F_OK));
	expect_number(fixture, "hooks that go on", HOOKS, programs_on(fixture->gateway_cgroup));
	fixture_stop(fixture);
	expect_at_least(fixture, "hooks_uninstall()", 0, hooks_uninstall(pins));
}

/* ---- two agents at once ---- */

#define ROUNDS 2000

struct former {
	struct hooks *hooks;
	struct postern_destination_key find;
	_Atomic unsigned long looks; /* calls that have ended */
	_Atomic bool ends;
};

/* The agent that drains: it finds again and again that the key is nobody's. */
static void *let_pass(void *argument)
{
	struct former *former = argument;

	while (!former->ends) {
		(void)hooks_let_pass_unless_known(former->hooks, &former->find);
		former->looks++;
	}
	return NULL;
}

/* Until no call is under way that began before this one. */
static void await_look(struct former *former)
{
	unsigned long before = former->looks;

	while (former->looks < before + 2)
		sched_yield();
}

static bool is_plain(int map_fd, const struct postern_destination_key *key)
{
	struct postern_destination seen;

	return bpf_map_lookup_elem(map_fd, key, &seen) == 0 && seen.verdict == POSTERN_VERDICT_PLAIN;
}

/* The new agent covers the address as kernel_maps_apply() does, and then looks as kernel_maps_adopt() does. */
static void find_beside_any_port(struct fixture *fixture)
{
	const struct postern_destination covered = {.verdict = POSTERN_VERDICT_TLS, .settings_id = 1};
	const struct postern_destination_key any_port = key_of(UNCOVERED, 0);
	struct former former = {.find = key_of(UNCOVERED, 443)};
	char path[PATH_MAX + 40];
	int hidden = 0;
	pthread_t thread;

	begin(fixture);
	former.hooks = fixture->hooks;
	snprintf(path, sizeof(path), "%s/v%d/destination_map", pins, POSTERN_ABI_VERSION);
	_cleanup_close_ int map_fd = bpf_obj_get(path);
	expect_at_least(fixture, "destination_map", 0, map_fd);
	expect_number(fixture, "pthread_create()", 0, pthread_create(&thread, NULL, let_pass, &former));
	for (int i = 0; i < ROUNDS; i++) {
		hooks_delete_destination(fixture->hooks, &former.find);
		hooks_set_destination(fixture->hooks, &any_port, &covered);
		if (is_plain(map_fd, &former.find))
			hooks_delete_destination(fixture->hooks, &former.find);
		await_look(&former);
		hidden += is_plain(map_fd, &former.find);
		hooks_delete_destination(fixture->hooks, &any_port);
		await_look(&former);
	}
	former.ends = true;
	pthread_join(thread, NULL);
	expect_number(fixture, "moments after which PLAIN stands in front of a covered address", 0, hidden);
	finish(fixture);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"a new node: nothing passes before there is a policy", new_node},
	        {"agent gone: covered is refused, the rest is untouched", agent_gone},
	        {"agent gone: the guard goes on", pooled_while_gone},
	        {"restart: taken over in place", taken_over},
	        {"restart: a held SYN", held_over_restart},
	        {"a cgroup that went and came", cgroup_again},
	        {"detached by hand", detached_by_hand},
	        {"former gateways", former_gateways},
	        {"former gateways whose processes still run", former_gateway_that_runs},
	        {"uninstall leaves nothing", uninstall},
	        {"pins that are refused", refused_pins},
	        {"pins of another ABI number", other_versions},
	        {"a drained agent's find and a covered address, at the same moment", find_beside_any_port},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
