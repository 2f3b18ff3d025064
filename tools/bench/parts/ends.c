/* SPDX-License-Identifier: GPL-2.0-only */
#include "ends.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "hooks_fixture.h"
#include "placed.h"

#define EVENTS  256
#define BACKLOG 4096

static void set_option(int fd, int level, int name)
{
	const int on = 1;

	if (setsockopt(fd, level, name, &on, sizeof(on)) == -1)
		give_up("setsockopt");
}

static void watch(int epoll, int operation, int fd, uint32_t events, epoll_data_t data)
{
	struct epoll_event event = {.events = events, .data = data};

	if (epoll_ctl(epoll, operation, fd, &event) == -1)
		give_up("epoll_ctl");
}

static int listen_at(const char *address, uint16_t port)
{
	struct sockaddr_storage storage;
	socklen_t length = socket_address(address, port, &storage);
	int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd == -1)
		give_up("socket");
	set_option(fd, SOL_SOCKET, SO_REUSEADDR);
	if (bind(fd, (struct sockaddr *)&storage, length) == -1 || listen(fd, BACKLOG) == -1)
		give_up("listen");
	return fd;
}

pid_t place_listener(const char *cgroup, int netns_fd, int (*run)(void *context), void *context, int *ready)
{
	eventfd_t value;
	pid_t process;

	*ready = eventfd(0, EFD_CLOEXEC);
	if (*ready == -1)
		give_up("eventfd");
	process = place(cgroup, netns_fd, run, context);
	if (eventfd_read(*ready, &value) == -1)
		give_up("eventfd");
	close(*ready);
	return process;
}

/* ---- who answers ---- */

static void echo(int epoll, int fd)
{
	char bytes[4096];
	ssize_t size = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (size > 0 && send(fd, bytes, (size_t)size, MSG_NOSIGNAL) == size)
		return;
	if (size == -1 && errno == EAGAIN)
		return;
	epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

int echo_run(void *context)
{
	const struct echo *server = context;
	int listener = listen_at("0.0.0.0", server->port), epoll = epoll_create1(0);
	struct epoll_event events[EVENTS];

	watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, (epoll_data_t){.fd = listener});
	eventfd_write(server->ready, 1);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1), fd;

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd != listener) {
				echo(epoll, events[i].data.fd);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) != -1) {
				set_option(fd, IPPROTO_TCP, TCP_NODELAY);
				watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, (epoll_data_t){.fd = fd});
			}
		}
	}
}

/* ---- who calls ---- */

struct call {
	int fd;
	bool sent;
	uint64_t begun_ns;
	size_t number;
};

static void begin_call(int epoll, const struct caller *caller, struct call *call, size_t number)
{
	struct sockaddr_storage storage;
	socklen_t length = socket_address(caller->address, caller->port, &storage);

	call->fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	call->sent = false;
	call->number = number;
	call->begun_ns = monotonic_ns();
	if (call->fd == -1 || (connect(call->fd, (struct sockaddr *)&storage, length) == -1 && errno != EINPROGRESS))
		give_up("connect");
	watch(epoll, EPOLL_CTL_ADD, call->fd, EPOLLOUT, (epoll_data_t){.ptr = call});
}

/* True: it is over. */
static bool go_on(int epoll, const struct caller *caller, struct call *call)
{
	int error = 0;
	socklen_t length = sizeof(error);
	char byte = 'b';

	if (!call->sent) {
		if (getsockopt(call->fd, SOL_SOCKET, SO_ERROR, &error, &length) == -1 || error ||
		    send(call->fd, &byte, 1, MSG_NOSIGNAL) != 1) {
			errno = error ? error : errno;
			give_up("a connect");
		}
		call->sent = true;
		watch(epoll, EPOLL_CTL_MOD, call->fd, EPOLLIN, (epoll_data_t){.ptr = call});
		return false;
	}
	if (recv(call->fd, &byte, 1, 0) != 1)
		give_up("a reply");
	if (caller->us)
		caller->us[call->number] = (double)(monotonic_ns() - call->begun_ns) / 1e3;
	close(call->fd);
	return true;
}

int caller_run(void *context)
{
	const struct caller *caller = context;
	struct call *calls = calloc(caller->at_once, sizeof(*calls));
	struct epoll_event events[EVENTS];
	int epoll = epoll_create1(0);
	size_t begun = 0, done = 0;

	while (calls && begun < caller->at_once && begun < caller->count) {
		begin_call(epoll, caller, &calls[begun], begun);
		begun++;
	}
	while (done < begun) {
		int count = epoll_wait(epoll, events, EVENTS, 10000);

		if (count <= 0)
			give_up("waiting for a reply");
		for (int i = 0; i < count; i++) {
			struct call *call = events[i].data.ptr;

			if (!go_on(epoll, caller, call))
				continue;
			done++;
			if (begun < caller->count)
				begin_call(epoll, caller, call, begun++);
		}
	}
	free(calls);
	return done == caller->count ? 0 : 1;
}

/* ---- accept first ---- */

struct pair;

struct end {
	int fd;
	struct pair *pair;
	struct end *other;
	bool connecting;
	bool ended;
};

struct pair {
	struct end ends[2];
	bool closed;
};

static void close_pair(struct pair *pair)
{
	pair->closed = true;
	for (int i = 0; i < 2; i++)
		close(pair->ends[i].fd);
}

static void take(int epoll, const struct accept_first *relay, int a_fd)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	struct sockaddr_storage storage;
	socklen_t length = socket_address(relay->backend, relay->backend_port, &storage);
	int b_fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!pair || b_fd == -1)
		give_up("a pair");
	set_option(a_fd, IPPROTO_TCP, TCP_NODELAY);
	set_option(b_fd, IPPROTO_TCP, TCP_NODELAY);
	pair->ends[0] = (struct end){.fd = a_fd, .pair = pair, .other = &pair->ends[1]};
	pair->ends[1] = (struct end){.fd = b_fd, .pair = pair, .other = &pair->ends[0], .connecting = true};
	if (connect(b_fd, (struct sockaddr *)&storage, length) == -1 && errno != EINPROGRESS)
		give_up("dial");
	watch(epoll, EPOLL_CTL_ADD, b_fd, EPOLLOUT, (epoll_data_t){.ptr = &pair->ends[1]});
}

/* The bytes are few, so a short write is the end of the measurement and not something to wait for. */
static void copy(struct end *end)
{
	char bytes[65536];
	ssize_t size = recv(end->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (size > 0 && send(end->other->fd, bytes, (size_t)size, MSG_NOSIGNAL) == size)
		return;
	if (size == -1 && errno == EAGAIN)
		return;
	if (size != 0) {
		close_pair(end->pair);
		return;
	}
	end->ended = true;
	if (end->other->ended)
		close_pair(end->pair);
	else
		shutdown(end->other->fd, SHUT_WR);
}

static void serve(int epoll, struct end *end)
{
	if (end->connecting) {
		end->connecting = false;
		watch(epoll, EPOLL_CTL_MOD, end->fd, EPOLLIN, (epoll_data_t){.ptr = end});
		watch(epoll, EPOLL_CTL_ADD, end->other->fd, EPOLLIN, (epoll_data_t){.ptr = end->other});
		return;
	}
	copy(end);
	if (end->ended && !end->pair->closed)
		watch(epoll, EPOLL_CTL_MOD, end->fd, 0, (epoll_data_t){.ptr = end});
}

int accept_first_run(void *context)
{
	const struct accept_first *relay = context;
	int listener = listen_at("127.0.0.1", relay->port), epoll = epoll_create1(0);
	struct epoll_event events[EVENTS];

	watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, (epoll_data_t){.ptr = NULL});
	eventfd_write(relay->ready, 1);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1), fd;

		for (int i = 0; i < count; i++) {
			struct end *end = events[i].data.ptr;

			if (!end) {
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) != -1)
					take(epoll, relay, fd);
			} else if (!end->pair->closed) {
				serve(epoll, end);
			}
		}
		/* Freed when no event of this round can name it any more. */
		for (int i = 0; i < count; i++) {
			struct end *end = events[i].data.ptr;

			if (!end || !end->pair->closed)
				continue;
			for (int j = i + 1; j < count; j++) {
				struct end *later = events[j].data.ptr;

				if (later && later->pair == end->pair)
					events[j].data.ptr = NULL;
			}
			free(end->pair);
		}
	}
}
