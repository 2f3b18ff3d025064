/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * predecessor.h: the agent that runs while this one starts: how it is asked to let go, and what it hands over
 * (docs/architecture.md, Upgrade). Control thread.
 *
 *   predecessor_find() -> proof, hooks loaded, workers started -> predecessor_freeze() -> maps, programs, listeners
 *   -> predecessor_switch() -> predecessor_follow()
 *
 * If it dies on the way, agent->predecessor becomes NULL and this agent goes on as one that started alone.
 */
#ifndef POSTERN_CONTROL_PREDECESSOR_H
#define POSTERN_CONTROL_PREDECESSOR_H

#include <stdbool.h>
#include <stdint.h>

struct agent;

/* 0: there is none, or it answered; a negative errno (logged): it must not be disturbed. */
int predecessor_find(struct agent *agent);
/* 0: it writes no map any more, or is gone; a negative errno (logged): it goes on. */
int predecessor_freeze(struct agent *agent);
/* The id by which it knows this gateway; 0: it knows none of that name. */
uint32_t predecessor_gateway_id(const struct agent *agent, const char *name);
/* No gateway of its own has this id. */
bool predecessor_spares_id(const struct agent *agent, uint32_t id);
/* It serves this gateway. */
bool predecessor_serves(const struct agent *agent, const char *name);
/* 0: connects are this agent's now; a negative errno (logged): it goes on. */
int predecessor_switch(struct agent *agent);
/* It writes the maps that this agent writes. False: it has another ABI number and maps of its own, or there is none. */
bool predecessor_shares_maps(const struct agent *agent);
/*
 * An agent of this ABI number starts. A predecessor that drains and has that number, and maps of its own, must let go
 * of them: it does so before it closes the channel, which this waits for.
 */
void predecessor_dismiss(struct agent *agent, unsigned int abi);
/* Take what it hands over, until it ends. 0 or negative errno. */
int predecessor_follow(struct agent *agent);
void predecessor_free(struct agent *agent);

#endif
