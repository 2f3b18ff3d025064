// SPDX-License-Identifier: GPL-2.0-only
#include "control/own_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/gateway.h"

#define DEFAULT_AGENT_CGROUP "/postern-agent"

/* Process 1 may not be ours to look at: then its namespace is taken for ours, and is_member() finds out. */
static int enter_node_namespace(void)
{
	_cleanup_close_ int fd = open("/proc/1/ns/cgroup", O_RDONLY | O_CLOEXEC);
	struct stat node, own;

	if (fd == -1 || fstat(fd, &node) == -1 || stat("/proc/self/ns/cgroup", &own) == -1 ||
	    (node.st_dev == own.st_dev && node.st_ino == own.st_ino))
		return 0;
	if (setns(fd, CLONE_NEWCGROUP) == -1) {
		int error = errno;

		log_error("cgroup namespace of process 1 not entered",
		          "error=\"%s\" remedy=\"the agent needs CAP_SYS_ADMIN\"", strerror(error));
		return -error;
	}
	log_info("cgroup namespace of process 1 entered", "namespace=%lu", (unsigned long)node.st_ino);
	return 0;
}

/* As the cgroup2 hierarchy ("0::/path") names it. NULL: not to be had. */
static char *read_own_path(const char *mount)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/cgroup", "re");
	char line[4096];
	char *path = NULL;

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (asprintf(&path, "%s%s", mount, strcmp(line + 3, "/") == 0 ? "" : line + 3) == -1)
			path = NULL;
		break;
	}
	return path;
}

static bool is_another(void *context, pid_t process)
{
	(void)context;
	return process != getpid();
}

static bool is_member(const char *cgroup)
{
	return !cgroup_for_each_process(cgroup, is_another, NULL);
}

static int make_and_join(const char *mount, const char *wanted, char **path)
{
	int error;

	if (asprintf(path, "%s%s", strncmp(wanted, mount, strlen(mount)) == 0 ? "" : mount, wanted) == -1) {
		*path = NULL;
		return -ENOMEM;
	}
	error = mkdir(*path, 0755) == -1 && errno != EEXIST ? -errno : cgroup_join(*path);
	if (error) {
		log_error("agent's cgroup not joined", "cgroup=%s error=\"%s\"", *path, strerror(-error));
		free(*path);
		*path = NULL;
	}
	return error;
}

int own_cgroup_settle(const char *wanted, char **path)
{
	const char *mount = cgroup2_mount();
	int error;

	*path = NULL;
	if (!mount) {
		log_error("no cgroup2", "remedy=\"mount cgroup2: its hooks see the gateways\"");
		return -ENOTSUP;
	}
	error = enter_node_namespace();
	if (error)
		return error;
	if (wanted[0] != '\0')
		return make_and_join(mount, wanted, path);
	*path = read_own_path(mount);
	if (!*path)
		return -ENOENT;
	if (!is_member(*path)) {
		log_error("the agent's own cgroup is not where /proc/self/cgroup says",
		          "cgroup=%s remedy=\"mount the node's cgroup file system and share its PID namespace "
		          "(hostPID), or set agentCgroup\"",
		          *path);
		free(*path);
		*path = NULL;
		return -ENOENT;
	}
	if (strcmp(*path, mount) != 0)
		return 0;
	free(*path);
	return make_and_join(mount, DEFAULT_AGENT_CGROUP, path);
}
