/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * worker_handover.h: live connections of a worker that go to another agent, or come from one (docs/architecture.md,
 * Upgrade). Called by the control thread.
 *
 * Whatever is all in the kernel goes: A, B, and the state beside them (connection_state.h). What is not yet (a
 * handshake, tickets that are awaited) goes as soon as it is; what never will be (TLS in user space) ends here.
 */
#ifndef POSTERN_DATAPATH_WORKER_HANDOVER_H
#define POSTERN_DATAPATH_WORKER_HANDOVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/reason.h"
#include "datapath/connection_state.h"

struct tls_peer;
struct worker;

/*
 * From now on connections go by send(), which runs in the worker's thread and may block for a moment. 0: it has gone;
 * -EAGAIN: nothing was sent, it stays, and none go any more; any other: nobody knows, it is reset.
 */
void worker_hand_over(struct worker *worker,
                      int (*send)(void *context, const uint8_t *bytes, size_t size, int a_fd, int b_fd), void *context);

/* One that came. All of it is the worker's from now on. */
struct arrival {
	uint8_t *bytes; /* OPENSSL_malloc(); state borrows from it */
	size_t size;
	struct connection_state state;
	struct tls_peer *peer; /* a reference; NULL: PLAIN */
	int a_fd;
	int b_fd;
};
/* The arrival is copied. -ENOMEM: it stays the caller's. */
int worker_take_over(struct worker *worker, const struct arrival *arrival);
/* Wipe and close what it holds. */
void arrival_release(struct arrival *arrival);

/* Reset every connection and refuse every attempt, for this reason. */
void worker_end_all(struct worker *worker, enum postern_reason reason);

#endif
