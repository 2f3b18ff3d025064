// SPDX-License-Identifier: GPL-2.0-only
/*
 * connect_load ADDRESS PORT COUNT PARALLEL: a gateway that opens a connection for each request. COUNT requests in all,
 * by PARALLEL threads, one after the other in each; prints how many were answered, how many of those by a backend that
 * had resumed a TLS session (it says reused=r), and the longest wait in milliseconds, as JSON. Status 1: some were not
 * answered.
 *
 * connect_load ADDRESS PORT: one connection, requests one after the other until the standard input ends; prints how
 * many were answered, and the waits of all but the first: median, 99th percentile, longest.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define PARALLEL_MAX 1024
#define WAITS_MAX    100000

static const char request[] = "GET / HTTP/1.0\r\nHost: echo.example\r\n\r\n";

struct caller {
	pthread_t thread;
	const struct sockaddr_in *to;
	unsigned long count;
	unsigned long answered;
	unsigned long resumed;
	double longest_ms;
};

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The whole answer as a string; false: none, or not all of it. */
static bool ask(const struct sockaddr_in *to, char *answer, size_t size)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t length = 0;
	ssize_t n = 1;

	if (fd == -1 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) == -1 ||
	    send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
		return false;
	while (n > 0 && length + 1 < size) {
		n = recv(fd, answer + length, size - 1 - length, 0);
		if (n > 0)
			length += (size_t)n;
	}
	answer[length] = '\0';
	return n == 0 && strstr(answer, " 200 ");
}

static void *call(void *argument)
{
	struct caller *caller = argument;
	char answer[4096];

	for (unsigned long i = 0; i < caller->count; i++) {
		double began = now_ms(), waited;

		if (!ask(caller->to, answer, sizeof(answer)))
			continue;
		waited = now_ms() - began;
		if (waited > caller->longest_ms)
			caller->longest_ms = waited;
		caller->answered++;
		caller->resumed += strstr(answer, "reused=r") != NULL;
	}
	return NULL;
}

static int compare(const void *left, const void *right)
{
	double difference = *(const double *)left - *(const double *)right;

	return (difference > 0) - (difference < 0);
}

static bool is_over(void)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&input, 1, 0) != 0;
}

/* The answer's last line is verified=... */
static bool ask_again(int fd)
{
	static const char again[] = "GET / HTTP/1.1\r\nHost: echo.example\r\n\r\n";
	char answer[4096];
	size_t length = 0;

	if (send(fd, again, sizeof(again) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(again) - 1)
		return false;
	for (;;) {
		ssize_t n = recv(fd, answer + length, sizeof(answer) - 1 - length, 0);
		const char *last;

		if (n <= 0)
			return false;
		length += (size_t)n;
		answer[length] = '\0';
		last = strstr(answer, "\nverified=");
		if (last && strchr(last + 1, '\n'))
			return true;
	}
}

static int keep_asking(const struct sockaddr_in *to)
{
	static double waits[WAITS_MAX];
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t count = 0;

	if (fd == -1 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) == -1 || !ask_again(fd))
		return 1;
	puts("begun");
	(void)fflush(stdout);
	while (count < WAITS_MAX && (count == 0 || !is_over())) {
		double began = now_ms();

		if (!ask_again(fd))
			return 1;
		waits[count++] = now_ms() - began;
	}
	qsort(waits, count, sizeof(*waits), compare);
	printf("{\"answered\":%zu,\"median_ms\":%.3f,\"p99_ms\":%.3f,\"longest_ms\":%.3f}\n", count, waits[count / 2],
	       waits[count * 99 / 100], waits[count - 1]);
	return 0;
}

int main(int argc, char **argv)
{
	static struct caller callers[PARALLEL_MAX];
	struct sockaddr_in to = {.sin_family = AF_INET};
	unsigned long count, parallel, answered = 0, resumed = 0;
	double longest = 0;

	if ((argc != 3 && argc != 5) || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
	if (argc == 3)
		return keep_asking(&to);
	count = strtoul(argv[3], NULL, 10);
	parallel = strtoul(argv[4], NULL, 10);
	if (parallel == 0 || parallel > PARALLEL_MAX)
		return 2;
	for (unsigned long i = 0; i < parallel; i++) {
		callers[i].to = &to;
		callers[i].count = count / parallel + (i < count % parallel);
		if (pthread_create(&callers[i].thread, NULL, call, &callers[i]) != 0)
			return 2;
	}
	for (unsigned long i = 0; i < parallel; i++) {
		pthread_join(callers[i].thread, NULL);
		answered += callers[i].answered;
		resumed += callers[i].resumed;
		if (callers[i].longest_ms > longest)
			longest = callers[i].longest_ms;
	}
	printf("{\"answered\":%lu,\"resumed\":%lu,\"longest_ms\":%.3f}\n", answered, resumed, longest);
	return answered == count ? 0 : 1;
}
