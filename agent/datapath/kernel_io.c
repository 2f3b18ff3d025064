/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/kernel_io.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

static ssize_t system_splice(int in, int out, size_t size, unsigned int flags)
{
	return splice(in, NULL, out, NULL, size, flags);
}

static int system_input_size(int fd, int *size)
{
	return ioctl(fd, SIOCINQ, size);
}

const struct kernel_io kernel_io_system = {
        .recv = recv,
        .send = send,
        .recvmsg = recvmsg,
        .sendmsg = sendmsg,
        .splice = system_splice,
        .read = read,
        .getsockopt = getsockopt,
        .setsockopt = setsockopt,
        .input_size = system_input_size,
        .shutdown = shutdown,
        .close = close,
};
