// SPDX-License-Identifier: GPL-2.0-only
/*
 * test_sweep.c: when a key becomes covered, the gateway's plain sockets on it are destroyed, and no other.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "datapath/sweep.h"
#include "hooks_fixture.h"

#define SERVER_PORT 8080

static int server_fd;

static void prepare(struct fixture *fixture)
{
	fixture_start(fixture, NULL);
	server_fd = server(SERVER_PORT);
}

/* Which keys are covered: what the control thread answers from its snapshot. */
struct covered {
	struct postern_destination_key keys[4];
	size_t count;
	size_t asked;
};

static bool is_covered(void *context, const struct postern_destination_key *remote)
{
	struct covered *covered = context;

	covered->asked++;
	for (size_t i = 0; i < covered->count; i++) {
		if (memcmp(&covered->keys[i], remote, sizeof(*remote)) == 0)
			return true;
	}
	return false;
}

static struct covered cover(const char *address, uint16_t port)
{
	return (struct covered){.keys = {key_of(address, port)}, .count = 1};
}

static void expect_sweep(struct fixture *fixture, struct covered *covered, size_t destroyed)
{
	struct sweep_result result;

	expect_error(fixture, "sweep_gateway()", 0,
	             -sweep_gateway(fixture->gateway, fixture->hooks, is_covered, covered, &result));
	expect_number(fixture, "destroyed", (long long)destroyed, (long long)result.destroyed);
	expect_number(fixture, "failed", 0, (long long)result.failed);
}

static int connected_as(struct fixture *fixture, int fd, const char *address, int *accepted)
{
	dial(fd, address, SERVER_PORT);
	expect_error(fixture, "connect()", 0, await_connected(fd, PATIENCE_MS));
	*accepted = await_accept(server_fd, PATIENCE_MS);
	return fd;
}

static int connected(struct fixture *fixture, const char *address, int *accepted)
{
	int g = g_socket(fixture, strchr(address, ':') ? AF_INET6 : AF_INET);

	return connected_as(fixture, g, address, accepted);
}

static void expect_alive(struct fixture *fixture, const char *what, int fd)
{
	char byte;

	expect_number(fixture, what, -1, await_bytes(fd, &byte, 1, 0));
	expect_number(fixture, what, 1, send(fd, "x", 1, MSG_NOSIGNAL));
}

static void expect_destroyed(struct fixture *fixture, const char *what, int fd)
{
	char byte;

	poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, PATIENCE_MS);
	ssize_t length = recv(fd, &byte, 1, MSG_DONTWAIT);
	expect_error(fixture, what, ECONNABORTED, length == -1 ? errno : 0);
}

static void covered_key(struct fixture *fixture)
{
	static const char *const addresses[] = {"198.51.100.150", "fd00:99::150", "::ffff:198.51.100.150"};
	static const char *const keys[] = {"198.51.100.150", "fd00:99::150", "198.51.100.150"};

	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		_cleanup_close_ int accepted = -1, other_accepted = -1;
		_cleanup_close_ int g = connected(fixture, addresses[i], &accepted);
		_cleanup_close_ int other = connected(fixture, "198.51.100.151", &other_accepted);
		struct covered covered = cover(keys[i], SERVER_PORT);

		expect_sweep(fixture, &covered, 1);
		expect_destroyed(fixture, addresses[i], g);
		expect_alive(fixture, "a connection to another address", other);
		expect_sweep(fixture, &covered, 0);
	}
}

static void another_port(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	_cleanup_close_ int g = connected(fixture, "198.51.100.152", &accepted);
	struct covered covered = cover("198.51.100.152", SERVER_PORT + 1);

	expect_sweep(fixture, &covered, 0);
	expect_alive(fixture, "a connection to another port", g);
}

static void not_the_gateways(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	_cleanup_close_ int b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct covered covered = cover("198.51.100.153", SERVER_PORT);

	connected_as(fixture, b, "198.51.100.153", &accepted);
	expect_sweep(fixture, &covered, 0);
	expect_number(fixture, "a socket of the agent", 1, send(b, "x", 1, MSG_NOSIGNAL));
}

/* A container of the pod has a cgroup of its own below the gateway's. */
static void cgroup_below(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	struct covered covered = cover("198.51.100.154", SERVER_PORT);
	char below[PATH_MAX];

	snprintf(below, sizeof(below), "%s/container/worker", fixture->gateway_cgroup);
	*strrchr(below, '/') = '\0';
	mkdir(below, 0755);
	strcat(below, "/worker");
	mkdir(below, 0755);
	step_into(below);
	_cleanup_close_ int g = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	step_into(fixture->agent_cgroup);
	connected_as(fixture, g, "198.51.100.154", &accepted);
	expect_sweep(fixture, &covered, 1);
	expect_destroyed(fixture, "a socket of a cgroup below", g);
}

/* PLAIN was found for the VIP: the VIP counts, not where the packets end. Here they end where they were sent. */
static void plain_storage(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	struct covered covered = cover("198.51.100.155", SERVER_PORT);
	struct covered other = cover("198.51.100.156", SERVER_PORT);

	set_destination(fixture, "198.51.100.155", SERVER_PORT, POSTERN_VERDICT_PLAIN, 0);
	_cleanup_close_ int g = connected(fixture, "198.51.100.155", &accepted);
	expect_sweep(fixture, &other, 0);
	expect_alive(fixture, "a PLAIN connection", g);
	expect_sweep(fixture, &covered, 1);
	expect_destroyed(fixture, "a PLAIN connection whose destination is covered", g);
	delete_destination(fixture, "198.51.100.155", SERVER_PORT);
}

/* As behind a socket-level load balancer: the kernel's remote is the endpoint, G's storage has the VIP. */
static void plain_storage_of_another_remote(struct fixture *fixture)
{
	_cleanup_close_ int accepted = -1;
	struct covered endpoint = cover("198.51.100.158", SERVER_PORT);
	struct covered vip = cover("198.51.100.157", 80);

	if (!shell("iptables -t nat -A OUTPUT -d 198.51.100.157 -p tcp --dport 80 -j DNAT "
	           "--to-destination 198.51.100.158:8080")) {
		fixture_skip(fixture, "iptables cannot make a DNAT rule here");
		return;
	}
	set_destination(fixture, "198.51.100.157", 80, POSTERN_VERDICT_PLAIN, 0);
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	dial(g, "198.51.100.157", 80);
	expect_error(fixture, "connect() to the VIP", 0, await_connected(g, PATIENCE_MS));
	accepted = await_accept(server_fd, PATIENCE_MS);
	expect_sweep(fixture, &endpoint, 0);
	expect_alive(fixture, "the VIP of an uncovered Service", g);
	expect_sweep(fixture, &vip, 1);
	expect_destroyed(fixture, "the VIP, covered now", g);
	delete_destination(fixture, "198.51.100.157", 80);
	shell("iptables -t nat -F OUTPUT");
}

static void redirected(struct fixture *fixture)
{
	struct covered covered = cover("198.51.100.159", 443);

	set_destination(fixture, "198.51.100.159", 443, POSTERN_VERDICT_TLS, 1);
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	dial(g, "198.51.100.159", 443);
	_cleanup_close_ int a = establish(fixture, g);
	expect_sweep(fixture, &covered, 0);
	expect_alive(fixture, "a connection to the agent", g);
	delete_destination(fixture, "198.51.100.159", 443);
}

/* A client that happens to have a covered address (strict mode: any of the cluster) is no backend. */
static void inbound(struct fixture *fixture)
{
	_cleanup_close_ int listener = g_socket_of(fixture, AF_INET, SOCK_STREAM, 0);
	_cleanup_close_ int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage address;
	socklen_t length = socket_address("203.0.113.160", 9000, &address);

	set_cidr(fixture, "203.0.113.0/24", true);
	expect_number(fixture, "bind() of the client", 0, bind(client, (struct sockaddr *)&address, length));
	length = socket_address("198.51.100.1", 8001, &address);
	expect_number(fixture, "bind()", 0, bind(listener, (struct sockaddr *)&address, length));
	expect_number(fixture, "listen()", 0, listen(listener, 8));
	expect_error(fixture, "connect() of the client", 0, dial(client, "198.51.100.1", 8001));
	_cleanup_close_ int served = await_accept(listener, PATIENCE_MS);
	struct covered covered = cover("203.0.113.160", 9000);
	expect_sweep(fixture, &covered, 0);
	expect_alive(fixture, "a client's connection", served);
	set_cidr(fixture, "203.0.113.0/24", false);
}

static void connecting(struct fixture *fixture)
{
	struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	const struct sock_fprog deaf = {.len = ARRAY_SIZE(nothing), .filter = nothing};
	_cleanup_close_ int silent = server(SERVER_PORT + 1);
	_cleanup_close_ int g = g_socket(fixture, AF_INET);
	struct covered covered = cover("198.51.100.161", SERVER_PORT + 1);

	setsockopt(silent, SOL_SOCKET, SO_ATTACH_FILTER, &deaf, sizeof(deaf));
	expect_error(fixture, "connect()", EINPROGRESS, dial(g, "198.51.100.161", SERVER_PORT + 1));
	expect_sweep(fixture, &covered, 1);
	expect_error(fixture, "connect() of a destroyed socket", ECONNABORTED, await_connected(g, PATIENCE_MS));
}

static void many(struct fixture *fixture)
{
	enum { SOCKETS = 300 };
	struct covered covered = cover("198.51.100.162", SERVER_PORT);
	int g[SOCKETS], accepted[SOCKETS];

	for (int i = 0; i < SOCKETS; i++)
		g[i] = connected(fixture, "198.51.100.162", &accepted[i]);
	expect_sweep(fixture, &covered, SOCKETS);
	for (int i = 0; i < SOCKETS; i++) {
		close(g[i]);
		close(accepted[i]);
	}
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
	        {"a covered key", covered_key},
	        {"another port", another_port},
	        {"not the gateway's", not_the_gateways},
	        {"of a cgroup below", cgroup_below},
	        {"PLAIN storage", plain_storage},
	        {"PLAIN storage, and packets that end elsewhere", plain_storage_of_another_remote},
	        {"redirected to the agent", redirected},
	        {"a client's connection", inbound},
	        {"connecting", connecting},
	        {"many", many},
	};

	return fixture_main(argc, argv, rows, ARRAY_SIZE(rows), prepare);
}
