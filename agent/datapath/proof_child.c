/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/proof_child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SEND_MESSAGE_BYTES 700 /* small and odd: many messages, none on a boundary */
#define SEND_WAIT_MS       2000

enum operation {
	OPERATION_CONNECT,
	OPERATION_CONNECTED,
	OPERATION_SEND,
	OPERATION_QUEUED,
	OPERATION_CLOSE,
	OPERATION_ROUND_TRIP,
};

struct command {
	enum operation operation;
	uint32_t first;    /* address, milliseconds, or the pattern's position */
	uint32_t second;   /* port or size */
	uint32_t limit_ms; /* of a round trip, for each of its waits */
	uint64_t nonce;
};

uint8_t proof_pattern(uint32_t position)
{
	uint32_t mixed = position * 2654435761u;

	return (uint8_t)(mixed >> 24 ^ mixed >> 9);
}

/* ---- in the child ---- */

static int set_up_loopback(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(PROOF_CHILD_ADDRESS)};

	if (fd == -1 || ioctl(fd, SIOCSIFFLAGS, &request) == -1)
		return -errno;
	/* An alias label makes it a second address. */
	memset(&request, 0, sizeof(request));
	memcpy(request.ifr_name, "lo:1", sizeof("lo:1"));
	memcpy(&request.ifr_addr, &address, sizeof(address));
	if (ioctl(fd, SIOCSIFADDR, &request) == -1)
		return -errno;
	return 0;
}

static int do_connect(int *g, const struct command *command)
{
	struct sockaddr_in address = {
	        .sin_family = AF_INET,
	        .sin_port = htons((uint16_t)command->second),
	        .sin_addr.s_addr = htonl(command->first),
	};

	if (*g >= 0)
		close(*g);
	*g = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*g == -1)
		return -errno;
	if (connect(*g, (struct sockaddr *)&address, sizeof(address)) == -1 && errno != EINPROGRESS)
		return -errno;
	return 0;
}

static int do_connected(int g, const struct command *command)
{
	struct pollfd wait = {.fd = g, .events = POLLOUT};
	int error = 0;
	socklen_t length = sizeof(error);
	int ready = poll(&wait, 1, (int)command->first);

	if (ready == -1)
		return -errno;
	if (ready == 0)
		return -EINPROGRESS;
	if (getsockopt(g, SOL_SOCKET, SO_ERROR, &error, &length) == -1)
		return -errno;
	return -error;
}

static int do_send(int g, const struct command *command)
{
	uint32_t sent = 0;

	while (sent < command->second) {
		uint8_t message[SEND_MESSAGE_BYTES];
		uint32_t size = command->second - sent < sizeof(message) ? command->second - sent : sizeof(message);
		struct pollfd wait = {.fd = g, .events = POLLOUT};
		ssize_t written;

		for (uint32_t i = 0; i < size; i++)
			message[i] = proof_pattern(command->first + sent + i);
		written = send(g, message, size, MSG_NOSIGNAL);
		if (written >= 0)
			sent += (uint32_t)written;
		else if (errno != EAGAIN)
			return -errno;
		else if (poll(&wait, 1, SEND_WAIT_MS) != 1)
			return -ETIMEDOUT;
	}
	return (int)sent;
}

static int do_queued(int g, const struct command *command)
{
	struct pollfd wait = {.fd = g, .events = POLLIN};
	int queued = 0;

	if (poll(&wait, 1, (int)command->first) != 1)
		return -ETIMEDOUT;
	if (ioctl(g, FIONREAD, &queued) == -1)
		return -errno;
	return queued;
}

#define STAGE_SHIFT 16

static int fail_at(enum proof_trip stage, int error)
{
	return -((int)stage << STAGE_SHIFT | error);
}

static int await_answer(int g, const struct command *command)
{
	struct pollfd wait = {.fd = g, .events = POLLIN};
	uint64_t answer = 0;
	ssize_t got;

	if (poll(&wait, 1, (int)command->limit_ms) != 1)
		return fail_at(PROOF_TRIP_ANSWER, ETIMEDOUT);
	got = recv(g, &answer, sizeof(answer), MSG_DONTWAIT);
	if (got == -1)
		return fail_at(PROOF_TRIP_ANSWER, errno);
	/* Eight bytes are one record, and come in one piece. */
	return got == sizeof(answer) && answer == command->nonce ? 0 : fail_at(PROOF_TRIP_ANSWER, EBADMSG);
}

static int do_round_trip(int *g, const struct command *command)
{
	const struct command wait = {.first = command->limit_ms};
	int result = do_connect(g, command);

	if (result)
		return fail_at(*g == -1 ? PROOF_TRIP_SOCKET : PROOF_TRIP_CONNECT, -result);
	result = do_connected(*g, &wait);
	if (result)
		return fail_at(PROOF_TRIP_CONNECT, result == -EINPROGRESS ? ETIMEDOUT : -result);
	if (send(*g, &command->nonce, sizeof(command->nonce), MSG_NOSIGNAL) != sizeof(command->nonce))
		return fail_at(PROOF_TRIP_SEND, errno);
	return await_answer(*g, command);
}

static int obey(int *g, const struct command *command)
{
	switch (command->operation) {
	case OPERATION_CONNECT:
		return do_connect(g, command);
	case OPERATION_CONNECTED:
		return do_connected(*g, command);
	case OPERATION_SEND:
		return do_send(*g, command);
	case OPERATION_QUEUED:
		return do_queued(*g, command);
	case OPERATION_CLOSE:
		if (*g >= 0)
			close(*g);
		*g = -1;
		return 0;
	case OPERATION_ROUND_TRIP: {
		int result = do_round_trip(g, command);

		if (*g >= 0)
			close(*g);
		*g = -1;
		return result;
	}
	}
	return -EINVAL;
}

static _Noreturn void run_child(int commands)
{
	struct command command;
	int g = -1;
	int answer;

	/* Nobody else would end it if the agent dies. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The agent's locks and sockets are the agent's alone. */
	if (dup2(commands, 0) == -1 || close_range(1, ~0u, 0) == -1)
		_exit(1);
	commands = 0;
	answer = set_up_loopback();
	do {
		if (send(commands, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
			break;
		if (recv(commands, &command, sizeof(command), 0) != sizeof(command))
			break;
		answer = obey(&g, &command);
	} while (true);
	_exit(0);
}

/* ---- in the parent ---- */

static int answer_of(struct proof_child *child)
{
	int answer;

	if (recv(child->commands, &answer, sizeof(answer), 0) != sizeof(answer))
		return -EPIPE;
	return answer;
}

static int tell(struct proof_child *child, enum operation operation, uint32_t first, uint32_t second)
{
	const struct command command = {.operation = operation, .first = first, .second = second};

	if (send(child->commands, &command, sizeof(command), MSG_NOSIGNAL) != sizeof(command))
		return -EPIPE;
	return answer_of(child);
}

int proof_child_connect(struct proof_child *child, uint32_t address, uint16_t port)
{
	return tell(child, OPERATION_CONNECT, address, port);
}

int proof_child_connected(struct proof_child *child, unsigned int wait_ms)
{
	return tell(child, OPERATION_CONNECTED, wait_ms, 0);
}

int proof_child_send(struct proof_child *child, uint32_t first, uint32_t size)
{
	return tell(child, OPERATION_SEND, first, size);
}

int proof_child_queued(struct proof_child *child, unsigned int wait_ms)
{
	return tell(child, OPERATION_QUEUED, wait_ms, 0);
}

int proof_child_close(struct proof_child *child)
{
	return tell(child, OPERATION_CLOSE, 0, 0);
}

int proof_child_begin_round_trip(struct proof_child *child, uint32_t address, uint16_t port, uint64_t nonce,
                                 unsigned int limit_ms)
{
	const struct command command = {
	        .operation = OPERATION_ROUND_TRIP,
	        .first = address,
	        .second = port,
	        .limit_ms = limit_ms,
	        .nonce = nonce,
	};

	return send(child->commands, &command, sizeof(command), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(command)
	               ? 0
	               : -EPIPE;
}

int proof_child_end_round_trip(struct proof_child *child, enum proof_trip *stage)
{
	int answer;

	*stage = PROOF_TRIP_SOCKET;
	if (recv(child->commands, &answer, sizeof(answer), MSG_DONTWAIT) != sizeof(answer))
		return -EPIPE;
	if (answer == 0)
		return 0;
	*stage = (enum proof_trip)(-answer >> STAGE_SHIFT);
	return -(-answer & ((1 << STAGE_SHIFT) - 1));
}

int proof_child_start(int cgroup_fd, struct proof_child *child)
{
	/* A socket belongs to the cgroup that its creator is in: the child must be born there. */
	struct clone_args arguments = {
	        .flags = CLONE_INTO_CGROUP | CLONE_NEWNET,
	        .exit_signal = SIGCHLD,
	        .cgroup = (uint64_t)cgroup_fd,
	};
	int pair[2];
	long pid;
	int error;

	child->pid = -1;
	child->commands = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return -errno;
	pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
	if (pid == -1) {
		error = -errno;
		close(pair[0]);
		close(pair[1]);
		return error;
	}
	if (pid == 0) {
		close(pair[0]);
		run_child(pair[1]);
	}
	close(pair[1]);
	child->pid = (pid_t)pid;
	child->commands = pair[0];
	error = answer_of(child);
	if (error)
		proof_child_stop(child);
	return error;
}

void proof_child_stop(struct proof_child *child)
{
	if (child->commands >= 0)
		close(child->commands);
	child->commands = -1;
	/* It has nothing to lose, and may be stopped, or wait for something: nobody waits for it. */
	if (child->pid > 0)
		(void)kill(child->pid, SIGKILL);
	if (child->pid > 0 && waitpid(child->pid, NULL, 0) == -1)
		return;
	child->pid = -1;
}
