/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * evidence_store.h: looks at the gateways once a second for the evidence's intervals, and keeps the evidence in
 * <run-dir>/evidence.json (mode 0600, whole or not at all), read at start, written every minute and at the end. A disk
 * that is full loses the file's news, not the agent's: `problem` says so, in posternctl evidence and in the log.
 */
#ifndef POSTERN_CONTROL_EVIDENCE_STORE_H
#define POSTERN_CONTROL_EVIDENCE_STORE_H

#include <stdint.h>

#include "base/loop.h"

struct agent;

struct evidence_store {
	struct agent *agent; /* NULL: it is not running */
	struct loop_timer timer;
	unsigned int until_save; /* looks */
	char problem[160];       /* why the file is not what it should be; "" if it is */
};

void evidence_store_start(struct agent *agent);
/* Saves once more. Idempotent. */
void evidence_store_stop(struct agent *agent);

#endif
