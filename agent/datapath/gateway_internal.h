/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gateway_internal.h: what the files of gateway.h share: gateway.c (states), gateway_cgroup.c (the cgroup tree),
 * gateway_namespace.c (the network namespace: where it is, and the agent's sockets in it).
 */
#ifndef POSTERN_DATAPATH_GATEWAY_INTERNAL_H
#define POSTERN_DATAPATH_GATEWAY_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "datapath/gateway.h"

struct hooks;

/* gateway_cgroup.c */

/*
 * Call for the cgroup and each below it, until `each` returns false. 0, or negative errno; a cgroup that vanishes on
 * the way is passed over.
 */
int cgroup_walk(const char *path, bool (*each)(void *context, const char *path, uint64_t id), void *context);
/* Call for each process of the cgroup and of those below it, until `each` returns false. */
int cgroup_walk_processes(const char *path, bool (*each)(void *context, pid_t process), void *context);

/* gateway_namespace.c */

/* A descriptor of the gateway's namespace, or -1 and the problem, for the operator. */
int gateway_find_namespace(const struct gateway *gateway, char *problem, size_t problem_size);
/* Nothing of the gateway is in the namespace any more, and something of it is in another one; or its path is gone. */
bool gateway_namespace_is_gone(const struct gateway *gateway);
/*
 * Listeners and raw sockets in netns_fd. wanted are ports (network byte order, 0 = none) that are tried first. 0, or
 * negative errno and the problem; what was made until then is taken away by gateway_leave_namespace().
 */
int gateway_enter_namespace(struct gateway *gateway, struct hooks *hooks, const struct gateway_options *options,
                            const uint16_t wanted[static POSTERN_MAX_PORTS], char *problem, size_t problem_size);
/* Close everything that belongs to the namespace; with NULL hooks, hooks_delete_gateway() must clean up. */
void gateway_leave_namespace(struct gateway *gateway, struct hooks *hooks);

#endif
