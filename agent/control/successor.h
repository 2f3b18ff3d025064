/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * successor.h: this agent as the one that is replaced (docs/architecture.md, Upgrade). Control thread.
 *
 *   LISTENING --HELLO--> GREETED --FREEZE--> FROZEN --SWITCHED--> DRAINING --nothing left, or drainTimeout--> DONE
 *       ^                   |                   |
 *       +---- gone, late ---+--- (thaw) --------+
 *
 * Until SWITCHED everything is as it was: a successor that fails, dies or talks nonsense costs nothing but the thaw, in
 * which this agent puts its own programs, ports and keys back. In DRAINING connections go to the successor as soon as
 * they can, attempts in flight are carried through, and no map is written any more.
 *
 * A successor of another ABI number has maps, hooks and pins of its own beside this agent's, and takes no connection:
 * all are drained here, and this agent goes on writing its own maps, as long as that successor is there.
 */
#ifndef POSTERN_CONTROL_SUCCESSOR_H
#define POSTERN_CONTROL_SUCCESSOR_H

#include <stdbool.h>

struct agent;

/* Listen for one. Without it this agent serves all the same, so an error is logged and no more. */
void successor_listen(struct agent *agent);
/* A successor is under way: its pins are nobody else's to tidy. */
bool successor_is_expected(const struct agent *agent);
/* Connects are the successor's now: so are the gateways' sockets that connect() never sent here. */
bool successor_has_taken_over(const struct agent *agent);
/* Asked to end while it drains: true, and it ends when it is done. Asked a second time: false. */
bool successor_delays_end(struct agent *agent);
void successor_free(struct agent *agent);

#endif
