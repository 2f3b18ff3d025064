/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A connect() as the gateway makes it: a child moves into a cgroup of the gateway that may hold processes (a socket
 * belongs to the cgroup that its maker was in), enters its network namespace, and connects. It does nothing else.
 */
#include "explain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "datapath/gateway_internal.h"

#define CONNECT_MS 15000

struct told {
	int problem; /* negative errno: it did not get there */
	int error;
	uint16_t port;
	int milliseconds;
};

/* A pod's own cgroup takes no processes while its children have controllers: one of these does. */
static bool enter_any(void *context, const char *path, uint64_t id)
{
	int *result = context;

	(void)id;
	*result = cgroup_join(path);
	return *result != 0; /* go on until one takes us */
}

static int enter(const char *netns, const char *cgroup)
{
	_cleanup_close_ int namespace = open(netns, O_RDONLY | O_CLOEXEC);
	int result = -ENOENT;

	if (namespace == -1)
		return -errno;
	if (cgroup_walk(cgroup, enter_any, &result) < 0 || result)
		return result ? result : -ENOENT;
	return setns(namespace, CLONE_NEWNET) == 0 ? 0 : -errno;
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void connect_there(const struct postern_destination_key *key, struct told *told)
{
	struct sockaddr_storage address;
	struct sockaddr_storage own = {0};
	socklen_t size = address_to_sockaddr(&key->address, ntohs(key->port), &address);
	socklen_t own_size = sizeof(own);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd event = {.fd = fd, .events = POLLOUT};
	struct postern_address unused;
	long long began = now_ms();
	socklen_t length = sizeof(told->error);

	if (fd == -1) {
		told->problem = -errno;
		return;
	}
	if (connect(fd, (struct sockaddr *)&address, size) == 0) {
		told->error = 0;
	} else if (errno != EINPROGRESS) {
		told->error = errno;
	} else {
		(void)getsockname(fd, (struct sockaddr *)&own,
		                  &own_size); /* a socket that failed has no name any more */
		if (poll(&event, 1, CONNECT_MS) != 1)
			told->error = ETIMEDOUT;
		else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &told->error, &length) == -1)
			told->error = errno;
	}
	if (own_size == sizeof(own))
		(void)getsockname(fd, (struct sockaddr *)&own, &own_size);
	(void)address_from_sockaddr(&own, &unused, &told->port);
	told->milliseconds = (int)(now_ms() - began);
}

int explain_connect(const char *netns, const char *cgroup, const struct postern_destination_key *key,
                    struct explain_connect *result)
{
	struct told told = {.problem = -EIO};
	int answer[2];
	int hold[2];
	pid_t child;

	if (pipe2(answer, O_CLOEXEC) == -1)
		return -errno;
	if (pipe2(hold, O_CLOEXEC) == -1) {
		close(answer[0]);
		close(answer[1]);
		return -EMFILE;
	}
	(void)fflush(NULL);
	child = fork();
	if (child == 0) {
		char byte;

		close(hold[1]);
		told.problem = enter(netns, cgroup);
		if (told.problem == 0)
			connect_there(key, &told);
		if (write(answer[1], &told, sizeof(told)) == sizeof(told))
			(void)!read(hold[0], &byte, 1);
		_exit(0);
	}
	close(answer[1]);
	close(hold[0]);
	if (child < 0 || read(answer[0], &told, sizeof(told)) != sizeof(told))
		told.problem = -EIO;
	close(answer[0]);
	*result = (struct explain_connect){.error = told.error,
	                                   .port = told.port,
	                                   .milliseconds = told.milliseconds,
	                                   .hold_fd = hold[1],
	                                   .child = child};
	if (told.problem)
		explain_connect_end(result);
	return told.problem;
}

void explain_connect_end(struct explain_connect *result)
{
	close(result->hold_fd);
	if (result->child > 0)
		(void)waitpid(result->child, NULL, 0);
}
