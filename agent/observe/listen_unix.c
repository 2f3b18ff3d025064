/* SPDX-License-Identifier: GPL-2.0-only */
#include "observe/listen_unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

#define BACKLOG        16
#define DIRECTORY_MODE 0755
#define SOCKET_MODE    0600
#define LOCK_SUFFIX    ".lock"

struct place {
	const char *directory;
	struct sockaddr_un address;
	char *error;
	size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int fail(const struct place *place, int number, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(place->error, place->error_size, format, args);
	va_end(args);
	return -number;
}

static int fail_errno(const struct place *place, const char *what)
{
	int number = errno;

	return fail(place, number, "%.90s: %s: %s", place->address.sun_path, what, strerror(number));
}

static int make_directory(const struct place *place)
{
	if (mkdir(place->directory, DIRECTORY_MODE) == 0) {
		/* A umask of 077 would hide the socket from a status reader that may traverse. */
		if (chmod(place->directory, DIRECTORY_MODE) == -1)
			return fail_errno(place, "chmod of its directory");
	} else if (errno != EEXIST) {
		return fail_errno(place, "mkdir of its directory");
	}
	return 0;
}

/*
 * Two agents that start at once must not both find the same stale socket: the second would remove the first one's new
 * one. A file of its own, since any user may lock a directory that he can read, and so keep the agent from starting.
 */
static int lock(const struct place *place)
{
	char path[sizeof(place->address.sun_path) + sizeof(LOCK_SUFFIX)];
	_cleanup_close_ int fd = -1;

	(void)snprintf(path, sizeof(path), "%s%s", place->address.sun_path, LOCK_SUFFIX);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, SOCKET_MODE);
	if (fd == -1)
		return fail_errno(place, "open of its lock file");
	if (flock(fd, LOCK_EX) == -1)
		return fail_errno(place, "flock");
	return TAKE_FD(fd);
}

/* 0 if nobody listens and the name is free now. */
static int remove_stale(const struct place *place)
{
	struct stat status;
	_cleanup_close_ int probe = -1;

	if (lstat(place->address.sun_path, &status) == -1)
		return errno == ENOENT ? 0 : fail_errno(place, "stat");
	if (!S_ISSOCK(status.st_mode))
		return fail(place, EADDRINUSE, "%.90s: exists and is no socket", place->address.sun_path);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (probe == -1)
		return fail_errno(place, "socket");
	/* EAGAIN is a full backlog: somebody listens. */
	if (connect(probe, (const struct sockaddr *)&place->address, sizeof(place->address)) == 0 || errno == EAGAIN)
		return fail(place, EADDRINUSE, "%.90s: another posternd listens there", place->address.sun_path);
	if (errno != ECONNREFUSED)
		return fail_errno(place, "connect");
	if (unlink(place->address.sun_path) == -1)
		return fail_errno(place, "unlink of the stale socket");
	return 0;
}

int listen_unix(const char *directory, const char *name, struct stat *identity, char *error, size_t error_size)
{
	struct place place = {.directory = directory, .error = error, .error_size = error_size};
	_cleanup_close_ int lock_fd = -1;
	_cleanup_close_ int fd = -1;
	int length;
	int result;

	place.address.sun_family = AF_UNIX;
	length = snprintf(place.address.sun_path, sizeof(place.address.sun_path), "%s/%s", directory, name);
	if (length < 0 || (size_t)length >= sizeof(place.address.sun_path))
		return fail(&place, ENAMETOOLONG, "%.90s...: the path of a socket is at most %zu bytes", directory,
		            sizeof(place.address.sun_path) - 1);
	result = make_directory(&place);
	if (result)
		return result;
	lock_fd = lock(&place);
	if (lock_fd < 0)
		return lock_fd;
	result = remove_stale(&place);
	if (result)
		return result;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return fail_errno(&place, "socket");
	/* bind() gives the file the mode of the socket's own inode (net/unix/af_unix.c): no moment of a wider one. */
	if (fchmod(fd, SOCKET_MODE) == -1)
		return fail_errno(&place, "fchmod");
	if (bind(fd, (const struct sockaddr *)&place.address, sizeof(place.address)) == -1)
		return fail_errno(&place, "bind");
	if (lstat(place.address.sun_path, identity) == -1 || listen(fd, BACKLOG) == -1) {
		result = fail_errno(&place, "listen");
		(void)unlink(place.address.sun_path);
		return result;
	}
	return TAKE_FD(fd);
}

void unlink_unix(const char *directory, const char *name, const struct stat *identity)
{
	struct sockaddr_un address;
	struct stat status;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", directory, name);
	if (lstat(address.sun_path, &status) == 0 && status.st_dev == identity->st_dev &&
	    status.st_ino == identity->st_ino)
		(void)unlink(address.sun_path);
}
