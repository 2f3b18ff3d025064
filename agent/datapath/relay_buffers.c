/* SPDX-License-Identifier: GPL-2.0-only */
/* How much memory of the kernel A and B may hold, and what they hold. */
#include "datapath/relay_internal.h"

#include <linux/sock_diag.h>
#include <sys/socket.h>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

/* Below this, kernel TLS on B sends records one by one. The kernel doubles it. */
#define B_SEND_MIN (64u << 10)

/* None of these can fail on a TCP socket of a process that may force them; one that may not gets what sysctl allows. */
static void set_buffer(const struct relay *relay, int fd, int force, int name, uint32_t size)
{
	const struct kernel_io *io = relay->worker->io;
	const int value = (int)size;

	if (io->setsockopt(fd, SOL_SOCKET, force, &value, sizeof(value)) == -1)
		(void)io->setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value));
}

void relay_limit_buffers(struct relay *relay, uint32_t size)
{
	const struct kernel_io *io = relay->worker->io;
	const int unlocked = 0;

	if (size == 0) {
		/* The kernel sizes them again by what the connection needs. */
		(void)io->setsockopt(relay->a_fd, SOL_SOCKET, SO_BUF_LOCK, &unlocked, sizeof(unlocked));
		if (!relay->room_made)
			(void)io->setsockopt(relay->b_fd, SOL_SOCKET, SO_BUF_LOCK, &unlocked, sizeof(unlocked));
		return;
	}
	set_buffer(relay, relay->a_fd, SO_RCVBUFFORCE, SO_RCVBUF, size);
	set_buffer(relay, relay->a_fd, SO_SNDBUFFORCE, SO_SNDBUF, size);
	set_buffer(relay, relay->b_fd, SO_RCVBUFFORCE, SO_RCVBUF, size);
	/* The room that was made for close_notify stays. */
	if (!relay->room_made)
		set_buffer(relay, relay->b_fd, SO_SNDBUFFORCE, SO_SNDBUF, size < B_SEND_MIN ? B_SEND_MIN : size);
}

static uint64_t memory_of(const struct relay *relay, int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t length = sizeof(info);

	if (relay->worker->io->getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) == -1)
		return 0;
	return (uint64_t)info[SK_MEMINFO_RMEM_ALLOC] + info[SK_MEMINFO_WMEM_QUEUED] + info[SK_MEMINFO_FWD_ALLOC] +
	       info[SK_MEMINFO_BACKLOG];
}

uint64_t relay_socket_memory(const struct relay *relay)
{
	return memory_of(relay, relay->a_fd) + memory_of(relay, relay->b_fd);
}
