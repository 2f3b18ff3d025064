/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel_sockets.h: the kernel's own list of a gateway's connections: TCP sockets of its network namespace by sock_diag
 * (libnl), with their ULP (agent/datapath/ulp_info.h) and with what the hooks keep in their BPF storage
 * (INET_DIAG_SK_BPF_STORAGES): of G the original destination and the verdict, of B its destination and phase.
 *
 * It is the kernel's word without the agent's: it is asked for from the namespace of the path that the agent names, or
 * of a process of the cgroup that the hooks are on.
 */
#ifndef POSTERNCTL_KERNEL_SOCKETS_H
#define POSTERNCTL_KERNEL_SOCKETS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel_view.h"

struct kernel_socket {
	bool is_backend; /* B; else G */
	uint16_t local_port;
	struct postern_destination_key destination; /* by the storage */
	uint32_t verdict;                           /* of G */
	uint32_t gateway_id;                        /* of G */
	uint32_t phase;                             /* of B */
	uint64_t netns;                             /* inode: namespaces are told apart by it */
	char ulp[128];                              /* "" if it carries none */
};

struct kernel_sockets {
	struct kernel_socket *at;
	size_t count;
	char error[256]; /* the first one; "" if all was read */
};

/* Of every gateway of kernel_gateways(); status: the agent's, or NULL. */
void kernel_sockets_read(struct kernel_view *view, const json_t *gateways, const json_t *status,
                         struct kernel_sockets *sockets);
void kernel_sockets_free(struct kernel_sockets *sockets);

/* G or B with this port of its own and this destination; NULL: none. */
const struct kernel_socket *kernel_socket_find(const struct kernel_sockets *sockets, bool is_backend,
                                               uint16_t local_port, const char *destination);

#endif
