/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sweep.h: destroys plain sockets of a gateway whose destination became covered (pooled keep-alive connections), and
 * the audit that looks for any that should not exist. By sock_diag in the gateway's namespace; a socket belongs to the
 * gateway if its cgroup (INET_DIAG_CGROUP_ID, the leaf) is the gateway's or below it, so B is never touched. The guard
 * has dropped their bytes since the key changed. Control thread.
 */
#ifndef POSTERN_DATAPATH_SWEEP_H
#define POSTERN_DATAPATH_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "postern/abi.h"

struct gateway;
struct hooks;

/* May this remote (address, port) be spoken to in plaintext? Called for each established or connecting socket. */
typedef bool (*sweep_is_covered)(void *context, const struct postern_destination_key *remote);

struct sweep_result {
	size_t seen; /* the gateway's TCP sockets */
	size_t destroyed;
	size_t failed; /* SOCK_DESTROY refused: errno of the last one in error */
	int error;
};

/*
 * 0 or negative errno (-EOPNOTSUPP: this kernel has no INET_DIAG_DESTROY; the guard alone then holds them).
 *
 * G's own storage, which inet_diag shows (INET_DIAG_SK_BPF_STORAGES), decides first: TLS and HOLD go to the agent and
 * are kept; PLAIN is judged by its original destination, as the guard does (a VIP of an uncovered Service may end on a
 * covered endpoint); a connection that the gateway accepted is a client's and is kept. Any other is judged by its
 * remote end. Loopback remotes are kept.
 */
int sweep_gateway(const struct gateway *gateway, struct hooks *hooks, sweep_is_covered is_covered, void *context,
                  struct sweep_result *result);

#endif
