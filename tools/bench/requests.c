/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * requests.c: requests ADDRESS PORT PATH RATE SECONDS
 *
 * An open loop of HTTP/1.1 requests over kept connections: each has its time, and its latency runs from that time, also
 * when no connection was free then or this program was late itself. So what waits behind a slow answer is counted.
 * Prints {"count", "p50", "p99", "max"} in microseconds; status 1 if any answer was not 200 or did not come.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"

#define CONNECTIONS 64
#define LAST_NS     5000000000ull /* for the answers that are still under way at the end */

struct connection {
	int fd;
	uint64_t due_ns; /* of the request that is under way */
	char answer[8192];
	size_t length;
};

struct load {
	int epoll;
	struct connection connections[CONNECTIONS];
	struct connection *free[CONNECTIONS];
	size_t free_count;
	char request[512];
	double *us;
	size_t done;
};

__attribute__((noreturn)) static void give_up(const char *what)
{
	fprintf(stderr, "requests: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void open_connection(struct load *load, struct connection *connection, const struct sockaddr_in *to)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
	const int on = 1;

	connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd == -1 || connect(connection->fd, (const struct sockaddr *)to, sizeof(*to)) == -1)
		give_up("connect");
	(void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->fd, &event) == -1)
		give_up("epoll_ctl");
	load->free[load->free_count++] = connection;
}

static void begin(struct load *load, uint64_t due_ns)
{
	struct connection *connection = load->free[--load->free_count];
	size_t size = strlen(load->request);

	connection->due_ns = due_ns;
	connection->length = 0;
	if (send(connection->fd, load->request, size, MSG_NOSIGNAL) != (ssize_t)size)
		give_up("send");
}

/* Is the whole answer there? Its head says how long it is. */
static bool is_whole(const struct connection *connection)
{
	const char *end = strstr(connection->answer, "\r\n\r\n");
	const char *length = strcasestr(connection->answer, "\r\ncontent-length:");

	if (!end)
		return false;
	if (strncmp(connection->answer, "HTTP/1.1 200 ", 13) != 0 || !length || length > end) {
		errno = EPROTO;
		give_up("an answer");
	}
	return connection->length >= (size_t)(end + 4 - connection->answer) + strtoul(length + 17, NULL, 10);
}

static void receive(struct load *load, struct connection *connection)
{
	size_t room = sizeof(connection->answer) - 1 - connection->length;
	ssize_t got = recv(connection->fd, connection->answer + connection->length, room, MSG_DONTWAIT);

	if (got <= 0)
		give_up("recv");
	connection->length += (size_t)got;
	connection->answer[connection->length] = '\0';
	if (!is_whole(connection))
		return;
	load->us[load->done++] = (double)(monotonic_ns() - connection->due_ns) / 1e3;
	load->free[load->free_count++] = connection;
}

static void await(struct load *load, uint64_t until_ns)
{
	struct epoll_event events[CONNECTIONS];
	uint64_t now = monotonic_ns();
	uint64_t wait = until_ns > now ? until_ns - now : 0;
	const struct timespec time = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
	int count = epoll_pwait2(load->epoll, events, CONNECTIONS, &time, NULL);

	for (int i = 0; i < count; i++)
		receive(load, events[i].data.ptr);
}

static int compare(const void *left, const void *right)
{
	double difference = *(const double *)left - *(const double *)right;

	return (difference > 0) - (difference < 0);
}

static bool number(const char *text, unsigned long most, unsigned long *value)
{
	char *end;

	errno = 0;
	*value = strtoul(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *value > 0 && *value <= most;
}

int main(int argc, char **argv)
{
	static struct load load;
	struct sockaddr_in to = {.sin_family = AF_INET};
	unsigned long port, rate, seconds;
	size_t total, begun = 0;
	uint64_t start, interval;

	if (argc != 6 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || !number(argv[2], UINT16_MAX, &port) ||
	    !number(argv[4], 1000000, &rate) || !number(argv[5], 3600, &seconds)) {
		fprintf(stderr, "usage: requests ADDRESS PORT PATH RATE SECONDS\n");
		return 2;
	}
	to.sin_port = htons((uint16_t)port);
	snprintf(load.request, sizeof(load.request), "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", argv[3]);
	total = (size_t)(rate * seconds);
	interval = 1000000000ull / rate;
	load.us = calloc(total, sizeof(double));
	load.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!load.us || load.epoll == -1)
		give_up("memory");
	for (size_t i = 0; i < CONNECTIONS; i++)
		open_connection(&load, &load.connections[i], &to);
	start = monotonic_ns();
	while (load.done < total) {
		uint64_t due = start + begun * interval, now = monotonic_ns();

		if (begun < total && now >= due && load.free_count) {
			begin(&load, due);
			begun++;
		} else {
			await(&load, begun < total && load.free_count ? due : now + LAST_NS / 100);
		}
		if (now > start + total * interval + LAST_NS) {
			errno = ETIMEDOUT;
			give_up("the last answers");
		}
	}
	qsort(load.us, total, sizeof(double), compare);
	printf("{\"count\":%zu,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}\n", total, load.us[total / 2],
	       load.us[total * 99 / 100], load.us[total - 1]);
	free(load.us);
	return 0;
}
