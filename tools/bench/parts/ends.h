/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ends.h: the ends of a connection whose hop is measured, each to be run by place(): who connects, sends a byte, waits
 * for one and closes; who sends it back; and the hop that hold is measured against.
 */
#ifndef POSTERN_BENCH_ENDS_H
#define POSTERN_BENCH_ENDS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Who listens says so: place() and wait until that is true. */
pid_t place_listener(const char *cgroup, int netns_fd, int (*run)(void *context), void *context, int *ready);

/* Accepts at every address and sends back what comes, until the other end closes. Never returns. */
struct echo {
	uint16_t port;
	int ready; /* of place_listener() */
};
int echo_run(void *context);

/* `count` connections, `at_once` of them at a time. us[i]: from connect() to the reply's first byte. */
struct caller {
	const char *address;
	uint16_t port;
	size_t count;
	size_t at_once;
	double *us; /* shared; NULL: not wanted */
};
int caller_run(void *context);

/*
 * Takes a connection at once, dials the backend only then, copies both ways: what sidecars and transparent proxies do,
 * as plainly as it can be done without blocking. Never returns.
 */
struct accept_first {
	uint16_t port;
	const char *backend;
	uint16_t backend_port;
	int ready;
};
int accept_first_run(void *context);

#endif
