/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pod_cgroup.h: from a Pod object to its pod-level cgroup, as the kubelet makes it. The runtime (containerd, CRI-O)
 * puts the sandbox and every container below it, so hooks on it are there before the first container is, and stay when
 * one restarts.
 *
 *   driver systemd   [ROOT.slice/]kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice
 *                    with '_' for each '-' of the uid; guaranteed pods have no class; below a root "a/b" every part of
 *                    the path begins with "a-b-"
 *   driver cgroupfs  [ROOT/]kubepods/burstable/podUID
 *
 * UID is the Pod's; of a static pod it is the hash of its manifest (annotation kubernetes.io/config.hash). What the API
 * says is hostile until checked: a uid of anything but letters, digits and '-' gives no path. Control thread.
 *
 * (kubernetes v1.31: pkg/kubelet/cm/cgroup_manager_linux.go, pod_container_manager_linux.go.)
 */
#ifndef POSTERN_NODE_POD_CGROUP_H
#define POSTERN_NODE_POD_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

struct pod;

#define POD_UID_MAX 64 /* a UUID has 36, a static pod's hash 32 */

/* What the cgroup is named by. NULL: there is none, or it could not be a part of a path. */
const char *pod_cgroup_uid(const struct pod *pod, const char *uid);

/*
 * The pod's cgroup below the cgroup2 mount; free(). root: where the kubelet's tree begins, "" for the usual place
 * (--cgroup-root, and "kubelet" in kind); both drivers and every class are tried, the Pod's own first. NULL: it is not
 * there, and problem says what was looked for, or that it is in the v1 hierarchy alone, where no hook can be.
 */
char *pod_cgroup_find(const struct pod *pod, const char *uid, const char *mount, const char *root, char *problem,
                      size_t size);

/* The other way: the uid of the pod whose pod-level cgroup this is; of a static pod, its hash. False: it is no pod's.
 */
bool pod_cgroup_names(const char *path, char uid[static POD_UID_MAX + 1]);

/* The last part of the path of a cgroup, which names the pod. Valid as long as path. */
const char *pod_cgroup_part(const char *path);
/* Is that a part of this path (of /proc/PID/cgroup, whatever stands before)? */
bool pod_cgroup_is_part(const char *path, const char *part);

#endif
