// SPDX-License-Identifier: GPL-2.0-only
#include "source/stable_read.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/wiping.h"

/*
 * The lease ends with the descriptor. A writer that comes meanwhile waits in open(), and we are sent a signal: by
 * default SIGIO, which would kill us, so one that is ignored by default.
 */
static bool is_being_written(int fd)
{
	if (fcntl(fd, F_SETSIG, SIGURG) == -1)
		return false;
	return fcntl(fd, F_SETLEASE, F_RDLCK) == -1 && errno == EAGAIN;
}

static int read_all(int fd, size_t limit, char **text, size_t *size)
{
	_cleanup_wiping_free_ char *buffer = NULL;
	size_t length = 0, capacity = 0;

	for (;;) {
		ssize_t got;

		if (length == capacity) {
			size_t wanted = capacity ? capacity * 2 : 16384;
			char *grown = wiping_realloc(buffer, wanted + 1);

			if (!grown)
				return -ENOMEM;
			buffer = grown;
			capacity = wanted;
		}
		got = read(fd, buffer + length, capacity - length);
		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1)
			return -errno;
		if (!got)
			break;
		length += (size_t)got;
		if (length > limit)
			return -EFBIG;
	}
	buffer[length] = '\0';
	*text = TAKE_PTR(buffer);
	*size = length;
	return 0;
}

int stable_read(int directory_fd, const char *name, size_t limit, char **text, size_t *size, struct stat *status)
{
	/* O_NONBLOCK: a FIFO must not hang us. */
	_cleanup_close_ int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool busy;
	int result;

	if (fd == -1 || fstat(fd, status) == -1)
		return -errno;
	if (!S_ISREG(status->st_mode))
		return -EINVAL;
	if (status->st_size > 0 && (size_t)status->st_size > limit)
		return -EFBIG;
	busy = is_being_written(fd);
	if (fstat(fd, status) == -1) /* again: it may have changed until the lease was there */
		return -errno;
	result = read_all(fd, limit, text, size);
	return result == 0 && busy ? -EBUSY : result;
}
