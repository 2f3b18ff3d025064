/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cgroup.h: the processes of a cgroup2, by its cgroup.procs and cgroup.events
 * (Documentation/admin-guide/cgroup-v2.rst). Paths are those of directories below the mount. Any thread; no state.
 */
#ifndef POSTERN_BASE_CGROUP_H
#define POSTERN_BASE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Calls for each process of this very cgroup, until `each` returns false; 0 is one of another PID namespace, which has
 * no number here. False: `each` has ended it. A cgroup that is gone, or cannot be read, has none.
 */
bool cgroup_for_each_process(const char *cgroup, bool (*each)(void *context, pid_t process), void *context);
/* Does a process run in it, or in one below it? True, too, if that cannot be read (no descriptor, no memory). */
bool cgroup_is_populated(const char *cgroup);
/*
 * The directory below `mount` of the cgroup with this id (its inode); free(). By a walk through all of them, which
 * needs no privilege, as open_by_handle_at() would. NULL and errno: ENOENT, there is none; anything else, it is not
 * known.
 */
char *cgroup_find(const char *mount, uint64_t id);
/* The calling process goes there, with all its threads. 0 or negative errno. */
int cgroup_join(const char *cgroup);

#endif
