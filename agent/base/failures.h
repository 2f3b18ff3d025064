/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * failures.h: the last 1,000 refusals and resets, and a count per reason since start. Written by workers and by the
 * control thread, read by the status socket; one short lock. Nothing that ends a connection early may skip it. The log
 * gets a line for each, but at most 20 a second for one reason; the next line says how many had none.
 */
#ifndef POSTERN_BASE_FAILURES_H
#define POSTERN_BASE_FAILURES_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/reason.h"
#include "postern/abi.h"

#define FAILURES_KEPT 1000

struct failure {
	struct timespec time; /* CLOCK_REALTIME, filled by failures_add() */
	char gateway[128];
	uint16_t gateway_port; /* G's own port, host order: the gateway's log shows it; 0 if unknown */
	struct postern_destination_key destination; /* original */
	char policy[256];                           /* "namespace/name", "" if none */
	enum postern_reason reason;
	char detail[256];
};

struct failures;
struct failures *failures_new(void);
void failures_free(struct failures *failures);

void failures_add(struct failures *failures, const struct failure *failure); /* counts and logs, too */
void failures_count(struct failures *failures, enum postern_reason reason);  /* counts only */
uint64_t failures_total(struct failures *failures, enum postern_reason reason);
/* Newest first. Returns how many were copied. */
size_t failures_copy(struct failures *failures, struct failure *copies, size_t size);

#endif
