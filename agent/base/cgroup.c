/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static bool path_of(const char *cgroup, const char *file, char path[static PATH_MAX])
{
	return snprintf(path, PATH_MAX, "%s/%s", cgroup, file) < PATH_MAX;
}

bool cgroup_for_each_process(const char *cgroup, bool (*each)(void *context, pid_t process), void *context)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[PATH_MAX];
	int process;

	if (path_of(cgroup, "cgroup.procs", path))
		file = fopen(path, "re");
	while (file && fscanf(file, "%d", &process) == 1) {
		if (!each(context, process))
			return false;
	}
	return true;
}

bool cgroup_is_populated(const char *cgroup)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[PATH_MAX], key[32];
	int value;

	if (!path_of(cgroup, "cgroup.events", path))
		return true;
	file = fopen(path, "re");
	if (!file)
		return errno != ENOENT && errno != ENODEV;
	while (fscanf(file, "%31s %d", key, &value) == 2) {
		if (strcmp(key, "populated") == 0)
			return value;
	}
	return ferror(file) && errno != ENODEV; /* it went after it was opened */
}

/* One that goes while it is looked through was not it, or is gone. */
char *cgroup_find(const char *mount, uint64_t id)
{
	_cleanup_closedir_ DIR *directory = opendir(mount);
	char path[PATH_MAX];

	if (!directory)
		return NULL;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		char *found;

		if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    snprintf(path, sizeof(path), "%s/%s", mount, entry->d_name) >= (int)sizeof(path))
			continue;
		if (entry->d_ino == id)
			return strdup(path);
		found = cgroup_find(path, id);
		if (found || (errno != ENOENT && errno != ENODEV))
			return found;
	}
	errno = ENOENT;
	return NULL;
}

int cgroup_join(const char *cgroup)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_MAX];

	if (!path_of(cgroup, "cgroup.procs", path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, "0", 1) == 1 ? 0 : -errno;
}
