/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * hooks_trace.h: what this agent's programs tell of themselves while somebody looks (bpf/trace.h). A ring has one
 * reader: the control thread, to which all of this belongs.
 */
#ifndef POSTERN_DATAPATH_HOOKS_TRACE_H
#define POSTERN_DATAPATH_HOOKS_TRACE_H

#include <stdint.h>

#include "postern/abi.h"

struct hooks;

/* A descriptor that is readable while there are records (it is the hooks'), or negative errno. Once. */
int hooks_trace_open(struct hooks *hooks, void (*each)(void *context, const struct postern_trace_record *record),
                     void *context);
/* each() for what is there, some hundred at most. Returns how many there were, or negative errno. */
int hooks_trace_read(struct hooks *hooks);
/* What is told from now on; until_ns 0: nothing. */
void hooks_trace_ask(struct hooks *hooks, const struct postern_trace_filter *filter);
/* Records that found no room, since the programs were loaded. */
uint64_t hooks_trace_lost(const struct hooks *hooks);

/* hooks_free()'s. */
void hooks_trace_close(struct hooks *hooks);

#endif
