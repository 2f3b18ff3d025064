/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * LD_PRELOADed into posternd by a test: makes system calls fail. $POSTERN_INJECT names a file of one pair of int32 for
 * each call of the enum: the errno, and how many calls are still to fail (-1: all). Only what concerns TCP sockets is
 * touched, and updates of BPF maps; so the status socket lives.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum call {
	CALL_SOCKET,
	CALL_CONNECT,
	CALL_ACCEPT,
	CALL_EPOLL_ADD,
	CALL_SETSOCKOPT,
	CALL_RAW_SEND,
	CALL_MAP_UPDATE,
	CALLS,
};

struct fault {
	_Atomic int32_t error;
	_Atomic int32_t left;
};

static struct fault *faults;

__attribute__((constructor)) static void attach(void)
{
	const char *path = getenv("POSTERN_INJECT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *memory = fd == -1 ? MAP_FAILED
	                        : mmap(NULL, CALLS * sizeof(struct fault), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		_exit(125);
	close(fd);
	faults = memory;
}

static bool fails(enum call call)
{
	int32_t left = atomic_load(&faults[call].left);

	/* Of two threads that find one left, one has it: below zero all would fail. */
	while (left > 0 && !atomic_compare_exchange_weak(&faults[call].left, &left, left - 1))
		;
	if (left == 0)
		return false;
	errno = atomic_load(&faults[call].error);
	return true;
}

static bool is_tcp(int fd)
{
	int domain = 0, type = 0;
	socklen_t length = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && (domain == AF_INET || domain == AF_INET6) &&
	       type == SOCK_STREAM;
}

#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

int socket(int domain, int type, int protocol)
{
	if ((domain == AF_INET || domain == AF_INET6) && (type & 0xf) == SOCK_STREAM && fails(CALL_SOCKET))
		return -1;
	return REAL(socket)(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	if (is_tcp(fd) && fails(CALL_CONNECT))
		return -1;
	return REAL(connect)(fd, address, length);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	struct pollfd queue = {.fd = fd, .events = POLLIN};

	/* The kernel asks for memory only when there is something to accept. */
	if (is_tcp(fd) && poll(&queue, 1, 0) == 1 && fails(CALL_ACCEPT))
		return -1;
	return REAL(accept4)(fd, address, length, flags);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	if (operation == EPOLL_CTL_ADD && is_tcp(fd) && fails(CALL_EPOLL_ADD))
		return -1;
	return REAL(epoll_ctl)(epoll, operation, fd, event);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	if (is_tcp(fd) && fails(CALL_SETSOCKOPT))
		return -1;
	return REAL(setsockopt)(fd, level, name, value, length);
}

ssize_t sendto(int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
	if (to && (to->sa_family == AF_INET || to->sa_family == AF_INET6) && fails(CALL_RAW_SEND))
		return -1;
	return REAL(sendto)(fd, bytes, size, flags, to, length);
}

long syscall(long number, ...)
{
	long a[6];
	va_list arguments;

	va_start(arguments, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(arguments, long);
	va_end(arguments);
	if (number == __NR_bpf && a[0] == BPF_MAP_UPDATE_ELEM && fails(CALL_MAP_UPDATE))
		return -1;
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
