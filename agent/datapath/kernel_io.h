/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel_io.h: the one seam between the relay and the kernel, as s2n-tls has it. Every socket call of the relay goes
 * through this table, so that KeyUpdate, EKEYEXPIRED, ENOMEM, short writes and resets are unit-tested on any kernel.
 * The functions have the system calls' contracts: -1 and errno.
 */
#ifndef POSTERN_DATAPATH_KERNEL_IO_H
#define POSTERN_DATAPATH_KERNEL_IO_H

#include <sys/socket.h>
#include <sys/types.h>

struct kernel_io {
	ssize_t (*recv)(int fd, void *buffer, size_t size, int flags);
	ssize_t (*send)(int fd, const void *buffer, size_t size, int flags);
	ssize_t (*recvmsg)(int fd, struct msghdr *message, int flags);
	ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
	ssize_t (*splice)(int in, int out, size_t size, unsigned int flags); /* never with offsets */
	ssize_t (*read)(int fd, void *buffer, size_t size);                  /* of the worker's pipe only */
	int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *length);
	int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t length);
	int (*input_size)(int fd, int *size); /* SIOCINQ: bytes that TCP holds */
	int (*shutdown)(int fd, int how);
	int (*close)(int fd);
};

extern const struct kernel_io kernel_io_system;

#endif
