/* SPDX-License-Identifier: GPL-2.0-only */
#include "node/pod_namespace.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/cgroup.h"
#include "base/cleanup.h"
#include "node/pod_cgroup.h"
#include "policy/object.h"

#define DEPTH_MAX        8  /* below the pod: a container, and what runs systemd in there */
#define CONTAINER_ID_MIN 12 /* shorter ones could be a part of anything */

struct search {
	const struct pod *pod;
	const char *proc;
	const char *part; /* of the path of every process of the pod */
	bool seen;        /* a process whose number is known */
	bool hidden;      /* a process of a PID namespace that is not ours */
	bool begun;       /* one that is no sandbox's and no helper */
	pid_t sandbox, container;
	const char *runtime; /* one that no hook sees into */
};

/* ---- one process ---- */

static int open_process(const char *proc, pid_t process, const char *file)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%d/%s", proc, (int)process, file) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd == -1 ? -errno : fd;
}

/* "" if it cannot be read. A long one is cut: what is looked for stands at its beginning. */
static void read_process(const char *proc, pid_t process, const char *file, char *text, size_t size)
{
	_cleanup_close_ int fd = open_process(proc, process, file);
	ssize_t got = fd >= 0 ? read(fd, text, size - 1) : 0;

	text[got > 0 ? got : 0] = '\0';
}

/* The path that the cgroup2 hierarchy has for it ("0::/path"); "" if it is gone. */
static void read_cgroup(const char *proc, pid_t process, char path[static PATH_MAX])
{
	char file[PATH_MAX];
	_cleanup_fclose_ FILE *stream = NULL;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	path[0] = '\0';
	if (snprintf(file, sizeof(file), "%s/%d/cgroup", proc, (int)process) >= (int)sizeof(file))
		return;
	stream = fopen(file, "re");
	while (stream && getline(&line, &size, stream) > 0) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, PATH_MAX, "%s", line + 3);
		return;
	}
}

static ino_t namespace_of(int fd)
{
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 ? status.st_ino : 0;
}

/* The last part of argv[0]; the name of the thread says "exe" for programs that start themselves anew. */
static void program_of(const char *proc, pid_t process, char *name, size_t size)
{
	char line[512];
	const char *slash;

	read_process(proc, process, "cmdline", line, sizeof(line));
	slash = strrchr(line, '/');
	snprintf(name, size, "%s", slash ? slash + 1 : line);
}

static bool begins_with(const char *text, const char *const *words)
{
	for (; *words; words++) {
		if (strncmp(text, *words, strlen(*words)) == 0)
			return true;
	}
	return false;
}

static const char *foreign_runtime(const char *program)
{
	static const char *const gvisor[] = {"runsc", "containerd-shim-runsc", NULL};
	static const char *const kata[] = {
	        "qemu", "cloud-hypervisor", "firecracker", "containerd-shim-kata", "stratovirt", NULL};

	if (begins_with(program, gvisor))
		return "gVisor";
	return begins_with(program, kata) ? "Kata Containers" : NULL;
}

/* ---- which processes ---- */

/* Is the cgroup that of a container which the Pod's status names? */
static bool names_container(const struct pod *pod, const char *cgroup)
{
	for (size_t i = 0; i < pod->container_id_count; i++) {
		const char *id = strstr(pod->container_ids[i], "://");

		id = id ? id + 3 : pod->container_ids[i];
		if (strlen(id) >= CONTAINER_ID_MIN && strstr(cgroup, id))
			return true;
	}
	return false;
}

static void look_at(struct search *search, pid_t process, const char *cgroup)
{
	static const char *const helpers[] = {"conmon", "containerd-shim", NULL};
	char program[64];
	const char *runtime;

	search->seen = true;
	program_of(search->proc, process, program, sizeof(program));
	runtime = foreign_runtime(program);
	search->runtime = runtime ? runtime : search->runtime;
	if (begins_with(program, helpers))
		return;
	search->begun |= strcmp(program, "pause") != 0;
	if (search->pod && names_container(search->pod, cgroup)) {
		search->container = search->container ? search->container : process;
	} else if (!search->sandbox) {
		search->sandbox = process;
	}
}

struct place {
	struct search *search;
	const char *path; /* of the cgroup */
};

static bool look_at_one_of(void *context, pid_t process)
{
	const struct place *place = context;

	if (process > 0)
		look_at(place->search, process, pod_cgroup_part(place->path));
	else
		place->search->hidden = true;
	return true;
}

static void walk_processes(struct search *search, const char *path)
{
	struct place place = {.search = search, .path = path};

	(void)cgroup_for_each_process(path, look_at_one_of, &place);
}

static void walk_cgroups(struct search *search, const char *path, int depth)
{
	_cleanup_closedir_ DIR *directory = opendir(path);
	char child[PATH_MAX];

	walk_processes(search, path);
	if (!directory || depth == DEPTH_MAX)
		return;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		if (snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) < (int)sizeof(child))
			walk_cgroups(search, child, depth + 1);
	}
}

static void walk_proc(struct search *search)
{
	_cleanup_closedir_ DIR *directory = opendir(search->proc);
	char cgroup[PATH_MAX];

	for (struct dirent *entry = directory ? readdir(directory) : NULL; entry; entry = readdir(directory)) {
		pid_t process = isdigit((unsigned char)entry->d_name[0]) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;

		if (process <= 0)
			continue;
		read_cgroup(search->proc, process, cgroup);
		if (pod_cgroup_is_part(cgroup, search->part))
			look_at(search, process, cgroup);
	}
}

/* ---- the namespace ---- */

/*
 * The runtime puts a process into the pod's cgroup first, and into its namespace then: in between it is still in the
 * host's. Where that one cannot be asked for, our own stands for it, which it is unless we are in a pod ourselves.
 */
static bool suits_host_network(const struct search *search, int fd)
{
	_cleanup_close_ int host = open_process(search->proc, 1, "ns/net");
	_cleanup_close_ int own = host < 0 ? open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) : -1;

	if (host < 0)
		return search->pod->host_network || namespace_of(own) != namespace_of(fd);
	return (namespace_of(host) == namespace_of(fd)) == search->pod->host_network;
}

/* A descriptor, or -EAGAIN: it ended, or is none of the pod's. */
static int open_namespace(const struct search *search, pid_t process)
{
	_cleanup_close_ int fd = process ? open_process(search->proc, process, "ns/net") : -1;
	char cgroup[PATH_MAX];

	if (fd < 0)
		return -EAGAIN;
	read_cgroup(search->proc, process, cgroup);
	if (!pod_cgroup_is_part(cgroup, search->part) || !suits_host_network(search, fd))
		return -EAGAIN;
	return TAKE_FD(fd);
}

static int say(char *problem, size_t size, int error, const char *words)
{
	snprintf(problem, size, "%s", words);
	return error;
}

int pod_namespace_open(const struct pod *pod, const char *cgroup, const char *proc, char *problem, size_t size)
{
	struct search search = {.pod = pod, .proc = proc, .part = pod_cgroup_part(cgroup)};
	int fd;

	walk_cgroups(&search, cgroup, 0);
	if (!search.seen && search.hidden)
		walk_proc(&search);
	if (search.runtime) {
		snprintf(problem, size,
		         "it runs in %s, whose connections no hook of this kernel sees: a gateway that is to be served "
		         "must run in an ordinary runtime class",
		         search.runtime);
		return -ENOTSUP;
	}
	if (!search.seen && search.hidden)
		return say(problem, size, -EIO,
		           "its processes are in another PID namespace: give the agent hostPID, or the host's /proc as "
		           "hostProc");
	if (!search.seen && pod->started && pod->runtime_class[0]) {
		snprintf(problem, size,
		         "its containers run and its cgroup has no process: runtime class %.64s keeps them where no "
		         "hook "
		         "of this kernel sees them",
		         pod->runtime_class);
		return -ENOTSUP;
	}
	if (!search.seen)
		return say(problem, size, -EAGAIN, "no process in its cgroup yet");
	fd = open_namespace(&search, search.sandbox);
	if (fd < 0)
		fd = open_namespace(&search, search.container);
	if (fd < 0)
		return say(problem, size, -EAGAIN,
		           pod->host_network ? "no process of it is in the host's network namespace yet"
		                             : "no process of it is in a network namespace of its own yet");
	return fd;
}

bool pod_has_begun(const char *cgroup, const char *proc)
{
	struct search search = {.proc = proc, .part = pod_cgroup_part(cgroup)};

	walk_cgroups(&search, cgroup, 0);
	if (!search.seen && search.hidden)
		walk_proc(&search);
	return search.begun;
}

bool is_node_namespace(int netns_fd, const char *proc)
{
	_cleanup_close_ int host = open_process(proc, 1, "ns/net");

	return host >= 0 && namespace_of(host) == namespace_of(netns_fd);
}
