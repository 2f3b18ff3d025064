/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * worker_backends.h: what a worker believes about the B of each of its connections, for who compares it with the
 * kernel's word (control/ulp_watch.h); and the end of one about which it is wrong. Control thread.
 */
#ifndef POSTERN_DATAPATH_WORKER_BACKENDS_H
#define POSTERN_DATAPATH_WORKER_BACKENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/reason.h"
#include "postern/abi.h"
#include "tls/keys.h"

struct worker;

struct backend_view {
	uint64_t gateway_cookie; /* of G: names the connection */
	uint64_t netns_cookie;   /* with B's port and remote: finds B in inet_diag */
	struct postern_destination_key destination;
	uint16_t b_port;
	bool kernel_transmit; /* the kernel makes the records */
	bool kernel_receive;
	enum tls_version version; /* of a TLS connection */
	enum tls_cipher cipher;
};

/*
 * Fills *views (free() it) from the worker's own thread; waits at most 1 s. with_ports: each costs a system call there;
 * else b_port is 0. 0, -ETIMEDOUT or -ENOMEM.
 */
int worker_list_backends(struct worker *worker, bool with_ports, struct backend_view **views, size_t *count);
/* Resets the connection, if it is there still, with this reason. Waits for nothing. 0 or -ENOMEM. */
int worker_reset_backend(struct worker *worker, uint64_t gateway_cookie, enum postern_reason reason,
                         const char *detail);

#endif
