// SPDX-License-Identifier: GPL-2.0-only
/*
 * gateway_cgroup.c: the cgroup2 tree as the file system shows it.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "datapath/gateway_internal.h"

#define DEPTH_MAX 32 /* of a walk; container runtimes use five or six */

static char mount_point[PATH_MAX]; /* filled once, below */

/*
 * A line of mountinfo, proc(5): ID parent major:minor root MOUNT-POINT options [optional...] - TYPE source options.
 * Mount points with blanks are written with octal escapes and are not taken for a cgroup2 mount of any use.
 */
static bool read_mount_line(char *line, char point[static PATH_MAX])
{
	char *separator = strstr(line, " - ");
	char *rest = line, *field = NULL;

	if (!separator || strncmp(separator + 3, "cgroup2 ", 8) != 0)
		return false;
	for (int i = 0; i < 5; i++)
		field = strsep(&rest, " ");
	if (!field || strlen(field) >= PATH_MAX)
		return false;
	memcpy(point, field, strlen(field) + 1);
	return true;
}

static void find_mount_point(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/mountinfo", "re");
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0) {
		if (read_mount_line(line, mount_point))
			return;
	}
	mount_point[0] = '\0';
}

const char *cgroup2_mount(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, find_mount_point);
	return mount_point[0] ? mount_point : NULL;
}

uint64_t cgroup_id(const char *path)
{
	struct stat status;

	if (stat(path, &status) == -1)
		return 0;
	if (!S_ISDIR(status.st_mode)) {
		errno = ENOTDIR;
		return 0;
	}
	return status.st_ino;
}

struct walk {
	bool (*each)(void *context, const char *path, uint64_t id);
	void *context;
	bool stopped;
};

static int walk_below(struct walk *walk, const char *path, int depth)
{
	_cleanup_closedir_ DIR *directory = NULL;
	uint64_t id = cgroup_id(path);
	char child[PATH_MAX];

	if (id == 0)
		return errno == ENOENT ? 0 : -errno;
	if (depth == DEPTH_MAX)
		return -ELOOP;
	walk->stopped = !walk->each(walk->context, path, id);
	directory = walk->stopped ? NULL : opendir(path);
	if (!directory)
		return walk->stopped || errno == ENOENT ? 0 : -errno;
	for (struct dirent *entry = readdir(directory); entry && !walk->stopped; entry = readdir(directory)) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		int length = snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
		int error = length < (int)sizeof(child) ? walk_below(walk, child, depth + 1) : -ENAMETOOLONG;
		if (error)
			return error;
	}
	return 0;
}

int cgroup_walk(const char *path, bool (*each)(void *context, const char *path, uint64_t id), void *context)
{
	struct walk walk = {.each = each, .context = context};

	return walk_below(&walk, path, 0);
}

struct process_walk {
	bool (*each)(void *context, pid_t process);
	void *context;
};

static bool look_at_visible(void *context, pid_t process)
{
	const struct process_walk *walk = context;

	return process <= 0 || walk->each(walk->context, process);
}

static bool walk_processes_of(void *context, const char *path, uint64_t id)
{
	(void)id;
	return cgroup_for_each_process(path, look_at_visible, context);
}

int cgroup_walk_processes(const char *path, bool (*each)(void *context, pid_t process), void *context)
{
	struct process_walk walk = {.each = each, .context = context};

	return cgroup_walk(path, walk_processes_of, &walk);
}
