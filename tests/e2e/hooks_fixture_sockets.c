// SPDX-License-Identifier: GPL-2.0-only
/*
 * hooks_fixture_sockets.c: sockets and policy of the hooks' tests.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/loop.h"
#include "hooks_fixture.h"

static void must(bool done, const char *what)
{
	if (done)
		return;
	printf("     cannot go on: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

int g_socket_of(struct fixture *fixture, int family, int type, int protocol)
{
	int fd;

	step_into(fixture->gateway_cgroup);
	fd = socket(family, type | SOCK_CLOEXEC, protocol);
	step_into(fixture->agent_cgroup);
	return fd;
}

int g_socket(struct fixture *fixture, int family)
{
	int fd = g_socket_of(fixture, family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	must(fd != -1, "a socket in the gateway's cgroup");
	return fd;
}

socklen_t socket_address(const char *text, uint16_t port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	must(inet_pton(AF_INET6, text, &v6->sin6_addr) == 1, text);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof(*v6);
}

int dial(int fd, const char *address, uint16_t port)
{
	struct sockaddr_storage storage;
	socklen_t length = socket_address(address, port, &storage);

	return connect(fd, (struct sockaddr *)&storage, length) == -1 ? errno : 0;
}

int await_connected(int fd, int milliseconds)
{
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	socklen_t length = sizeof(int);
	int error = 0;

	if (poll(&wait, 1, milliseconds) != 1)
		return ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == -1)
		return errno;
	return error;
}

int server(uint16_t port)
{
	const int off = 0, on = 1;
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage any;
	socklen_t length = socket_address("::", port, &any);

	must(fd != -1, "a server's socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	must(bind(fd, (struct sockaddr *)&any, length) == 0 && listen(fd, 64) == 0, "a server");
	return fd;
}

int await_accept(int listener, int milliseconds)
{
	struct pollfd wait = {.fd = listener, .events = POLLIN};

	return poll(&wait, 1, milliseconds) == 1 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
}

uint16_t local_port(int fd)
{
	struct sockaddr_storage storage;
	struct postern_address address;
	socklen_t length = sizeof(storage);
	uint16_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&storage, &length) == 0)
		address_from_sockaddr(&storage, &address, &port);
	return port;
}

const char *peer_name(int fd)
{
	static char name[INET6_ADDRSTRLEN + 8];
	char text[INET6_ADDRSTRLEN] = "";
	struct sockaddr_storage storage;
	socklen_t length = sizeof(storage);
	const struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
	const struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;

	if (getpeername(fd, (struct sockaddr *)&storage, &length) == -1)
		return strerror(errno);
	if (storage.ss_family == AF_INET)
		inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
	else
		inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
	snprintf(name, sizeof(name), "%s %u", text, ntohs(storage.ss_family == AF_INET ? v4->sin_port : v6->sin6_port));
	return name;
}

long await_bytes(int fd, void *buffer, size_t size, int milliseconds)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	ssize_t length;

	if (poll(&wait, 1, milliseconds) != 1)
		return -1;
	length = recv(fd, buffer, size, 0);
	if (length >= 0)
		return length;
	return errno == ECONNRESET ? -2 : -1;
}

/* ---- policy ---- */

struct postern_destination_key key_of(const char *address, uint16_t port)
{
	struct postern_address parsed;

	must(address_parse(address, &parsed) == 0, address);
	return destination_key(&parsed, port);
}

void set_destination(struct fixture *fixture, const char *address, uint16_t port, enum postern_verdict verdict,
                     uint32_t settings_id)
{
	const struct postern_destination_key key = key_of(address, port);
	const struct postern_destination destination = {.verdict = verdict, .settings_id = settings_id};

	expect_error(fixture, "hooks_set_destination()", 0, -hooks_set_destination(fixture->hooks, &key, &destination));
}

void delete_destination(struct fixture *fixture, const char *address, uint16_t port)
{
	const struct postern_destination_key key = key_of(address, port);

	expect_error(fixture, "hooks_delete_destination()", 0, -hooks_delete_destination(fixture->hooks, &key));
}

void set_cidr(struct fixture *fixture, const char *text, bool present)
{
	struct cidr cidr;

	must(cidr_parse(text, &cidr) == 0, text);
	expect_error(fixture, "hooks_set_cidr()", 0, -hooks_set_cidr(fixture->hooks, &cidr, present));
}

void set_config(struct fixture *fixture, bool strict, bool lane)
{
	const struct postern_runtime_config config = {.strict = strict, .lane_enabled = lane};

	expect_error(fixture, "hooks_set_runtime_config()", 0, -hooks_set_runtime_config(fixture->hooks, &config));
}

long long counter(struct fixture *fixture, enum postern_counter which)
{
	uint64_t counters[POSTERN_COUNTERS];

	must(hooks_counters(fixture->hooks, counters) == 0, "hooks_counters()");
	return (long long)counters[which];
}

/* A counter is no event that one could wait for: it is looked at again and again. */
long long await_counter(struct fixture *fixture, enum postern_counter which, long long least, int milliseconds)
{
	uint64_t deadline = monotonic_ns() + (uint64_t)milliseconds * 1000000;

	while (counter(fixture, which) < least && monotonic_ns() < deadline)
		poll(NULL, 0, 1);
	return counter(fixture, which);
}
