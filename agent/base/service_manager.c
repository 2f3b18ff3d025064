/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/service_manager.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

int service_manager_notify(const char *state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *name = getenv("NOTIFY_SOCKET");
	_cleanup_close_ int fd = -1;
	size_t length;

	if (!name || !name[0])
		return 0;
	length = strlen(name);
	if ((name[0] != '/' && name[0] != '@') || length >= sizeof(address.sun_path))
		return -EINVAL;
	memcpy(address.sun_path, name, length);
	if (name[0] == '@') /* the abstract namespace: no file, and no NUL at the end */
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -errno;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
	           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == -1)
		return -errno;
	return 1;
}

/* A decimal number without anything else; 0 if it is none. */
static uint64_t number_of(const char *text)
{
	char *end;
	unsigned long long number;

	if (!text || text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	return errno || *end ? 0 : number;
}

uint64_t service_manager_watchdog_ns(void)
{
	const char *process = getenv("WATCHDOG_PID");
	uint64_t microseconds = number_of(getenv("WATCHDOG_USEC"));

	if (process && number_of(process) != (uint64_t)getpid())
		return 0;
	return microseconds > UINT64_MAX / 1000 ? 0 : microseconds * 1000;
}
