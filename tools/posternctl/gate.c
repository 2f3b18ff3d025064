/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * `posternctl gate`: what a gateway's init container runs. It dials an address that leads nowhere until the connect
 * hook leads it to the agent; so an answer proves that the hooks are on. It needs no privileges, no mounts and no
 * network. It comes back when the agent has answered, so that the gateway's own containers start behind their hooks.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "posternctl.h"
#include "postern/gate.h"
#include "terminal.h"

#define TRY_MS      1000 /* one connect, or the wait for its line */
#define PAUSE_MS    200  /* to the next one */
#define COMPLAIN_MS 10000

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* 0, ETIMEDOUT or an errno. */
static int wait_for(int fd, short events)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	int count = poll(&poll_fd, 1, TRY_MS);

	if (count == -1)
		return errno;
	return count ? 0 : ETIMEDOUT;
}

static int dial(int fd)
{
	const struct sockaddr_in gate = {
	        .sin_family = AF_INET, .sin_port = htons(POSTERN_GATE_PORT), .sin_addr.s_addr = htonl(POSTERN_GATE_V4)};
	int error = 0;
	socklen_t length = sizeof(error);

	if (connect(fd, (const struct sockaddr *)&gate, sizeof(gate)) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	error = wait_for(fd, POLLOUT);
	if (!error && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == -1)
		error = errno;
	return error;
}

/* Whoever answers there without a hook has an address of the network; the agent is at home. */
static bool is_at_home(int fd)
{
	struct sockaddr_in own = {0};
	socklen_t length = sizeof(own);

	return getsockname(fd, (struct sockaddr *)&own, &length) == 0 && own.sin_family == AF_INET &&
	       ntohl(own.sin_addr.s_addr) >> 24 == 127;
}

/* 0 and the line without its end; or an errno, EPROTO for what is no answer of the agent. */
static int read_line(int fd, char *line, size_t size)
{
	size_t used = 0;

	while (used + 1 < size) {
		int error = wait_for(fd, POLLIN);
		ssize_t got = error ? -1 : recv(fd, line + used, size - 1 - used, 0);

		if (error)
			return error;
		if (got == -1)
			return errno;
		used += (size_t)got;
		line[used] = '\0';
		if (got == 0 || strchr(line, '\n'))
			break;
	}
	line[strcspn(line, "\n")] = '\0';
	return strncmp(line, POSTERN_GATE_ANSWER, strlen(POSTERN_GATE_ANSWER)) == 0 ? 0 : EPROTO;
}

/* 0 and the agent's line, or an errno. */
static int try_gate(char *line, size_t size)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = fd == -1 ? errno : dial(fd);

	line[0] = '\0';
	if (error)
		return error;
	if (!is_at_home(fd))
		return ENOTUNIQ;
	return read_line(fd, line, size);
}

static const char *meaning_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return "refused: the hooks are on, and the agent is not ready for this pod; or there are none, and the "
		       "network refuses";
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "no hook on this pod yet: no agent on this node, or this pod is not a gateway to it (label "
		       "gateway.networking.k8s.io/gateway-name, annotation postern.dev/gateway, or an adopting "
		       "Gateway)";
	case ENOTUNIQ:
		return "somebody of the network answers at the gate's address, and no hook leads to the agent";
	case EPROTO:
		return "what answers is not the agent";
	default:
		return strerror(error);
	}
}

const char gate_help[] =
        "For an init container of a gateway's pod, without mounts and privileges: it comes back when the\n"
        "agent has answered through the connect hook, so that nothing is dialed before the hooks are on.\n"
        "Exit status: 0 the hooks are on; 1 they are not, --timeout SECONDS later (0, the default: it\n"
        "waits for ever).\n";

int command_gate(const struct options *options)
{
	int64_t begun = now_ms(), complained = begun;
	long long limit;
	int last_error = 0;
	char line[512];

	if (!timeout_of(options->timeout, 0, &limit))
		return EXIT_USAGE;
	for (;;) {
		int error = try_gate(line, sizeof(line));
		int64_t now = now_ms();

		if (!error) {
			_cleanup_free_ char *safe = terminal_safe(line, NULL);

			printf("the hooks are on: %s\n", safe ? safe : "");
			return EXIT_FINE;
		}
		if (limit && now - begun >= limit) {
			fprintf(stderr, "posternctl: gate: %s\n", meaning_of(error));
			return EXIT_WRONG;
		}
		if (error != last_error || now - complained >= COMPLAIN_MS) {
			fprintf(stderr, "posternctl: gate: waiting: %s\n", meaning_of(error));
			complained = now;
		}
		last_error = error;
		(void)poll(NULL, 0, PAUSE_MS); /* nothing tells when an agent or a hook is there */
	}
}
