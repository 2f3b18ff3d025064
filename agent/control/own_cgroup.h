/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * own_cgroup.h: the cgroup that the agent lives in. B belongs to the cgroup that its creator was in at socket(): the
 * witness looks there, and no gateway may be above or below it. Control thread, at start, before there are others.
 */
#ifndef POSTERN_CONTROL_OWN_CGROUP_H
#define POSTERN_CONTROL_OWN_CGROUP_H

/*
 * Finds or makes it, and is in it afterwards. wanted: a path that the configuration names (absolute, or from the
 * cgroup2 mount), which is made and joined; "": the one that the process is in, or one of its own if that is the root.
 * 0 and its absolute path in *path (free()); negative errno, logged with what to do.
 *
 * In a container whose runtime gave it a cgroup namespace of its own, /proc/self/cgroup says "/", and nothing outside
 * of that namespace may be written (cgroup2's nsdelegate). The agent enters the namespace of process 1 then, which is
 * the node's where the pod has hostPID.
 */
int own_cgroup_settle(const char *wanted, char **path);

#endif
