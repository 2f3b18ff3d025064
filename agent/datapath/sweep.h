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

/* May this remote (address, port) be spoken to in plaintext? Called for each established or connecting socket. */
typedef bool (*sweep_is_covered)(void *context, const struct postern_destination_key *remote);

struct sweep_result {
	size_t seen; /* the gateway's TCP sockets */
	size_t destroyed;
	size_t failed; /* SOCK_DESTROY refused: errno of the last one in error */
	int error;
};

/*
 * 0 or negative errno (-EOPNOTSUPP: this kernel has no INET_DIAG_DESTROY; the guard alone then holds them). A socket
 * that G's own storage marks PLAIN for an uncovered VIP is kept: its remote, as inet_diag shows it, is the VIP.
 */
int sweep_gateway(const struct gateway *gateway, sweep_is_covered is_covered, void *context,
                  struct sweep_result *result);

#endif
