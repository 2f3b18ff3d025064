/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"

static bool path_of(const char *cgroup, char path[static PATH_MAX])
{
	return snprintf(path, PATH_MAX, "%s/cgroup.procs", cgroup) < PATH_MAX;
}

bool cgroup_for_each_process(const char *cgroup, bool (*each)(void *context, pid_t process), void *context)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[PATH_MAX];
	int process;

	if (path_of(cgroup, path))
		file = fopen(path, "re");
	while (file && fscanf(file, "%d", &process) == 1) {
		if (!each(context, process))
			return false;
	}
	return true;
}

int cgroup_join(const char *cgroup)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];

	if (!path_of(cgroup, path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, "0", 1) == 1 ? 0 : -errno;
}
