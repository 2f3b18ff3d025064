/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pod_namespace.h: the network namespace of a pod, by the processes in its cgroup. The sandbox's process (pause) comes
 * first: it is the namespace's keeper, and no container can make it another one. It is the one whose cgroup is named by
 * no container of the Pod's status. Where the runtime has dropped it (CRI-O), any container's process. The runtime's
 * own helpers in there (conmon, shims) live in the host's namespace and are passed over.
 *
 * What is opened is checked afterwards: the process is still in the pod's cgroup, so its number was not given to
 * another one in between; a pod that is not hostNetwork is not in the namespace of process 1, and one that is, is.
 *
 * Process numbers are those of `proc`, the setting hostProc. Where cgroup.procs shows none of them (an agent in a PID
 * namespace of its own), all processes of proc are looked through for those in the pod's cgroup. Control thread.
 */
#ifndef POSTERN_NODE_POD_NAMESPACE_H
#define POSTERN_NODE_POD_NAMESPACE_H

#include <stdbool.h>
#include <stddef.h>

struct pod;

/*
 * cgroup: of pod_cgroup_find(). A descriptor of the namespace, close-on-exec, or -EAGAIN: not there yet; -ENOTSUP: the
 * pod's connections are made where no hook sees them (gVisor, Kata); -EIO; each with the problem.
 */
int pod_namespace_open(const struct pod *pod, const char *cgroup, const char *proc, char *problem, size_t size);

/*
 * Does a process of the pod run that is not the sandbox's (pause) or the runtime's? Then it may have dialed already.
 * False if no process can be seen.
 */
bool pod_has_begun(const char *cgroup, const char *proc);

/* Is it the network namespace of process 1, where hostPorts are reached? False if that cannot be seen. */
bool is_node_namespace(int netns_fd, const char *proc);

#endif
