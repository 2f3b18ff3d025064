/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * evidence.h: what an auditor asks for: since when and until when each gateway was enforced, and how many connections
 * there were, by hour, gateway, version, cipher and peer. Written by workers (a connection) and by the control thread
 * (what a gateway is), read and saved by the control thread; one short lock.
 *
 * Bounded: past EVIDENCE_ROWS different rows an hour's others are counted in one row ("other"), past EVIDENCE_INTERVALS
 * the oldest closed interval goes. Rows older than EVIDENCE_HOURS go.
 */
#ifndef POSTERN_BASE_EVIDENCE_H
#define POSTERN_BASE_EVIDENCE_H

#include <stddef.h>
#include <stdint.h>

#define EVIDENCE_FILE "evidence.json" /* in the run directory */

#define EVIDENCE_ROWS      8192
#define EVIDENCE_INTERVALS 4096
#define EVIDENCE_HOURS     (31 * 24)

struct evidence_row {
	int64_t hour; /* Unix time / 3600 */
	char gateway[128];
	char policy[256]; /* "" for PLAIN */
	char version[16]; /* "" for PLAIN */
	char cipher[64];
	char peer[256];
	uint64_t connections;
	uint64_t resumed;
};

struct evidence_interval {
	char gateway[128];
	char mode[16];  /* "enforce", "observe", "not ready" */
	int64_t from;   /* Unix times */
	int64_t until;  /* as last seen: a killed agent's interval ends where it was looked at last */
	uint8_t closed; /* it is another one now */
};

struct evidence;
struct evidence *evidence_new(void);
void evidence_free(struct evidence *evidence); /* NULL-safe */

/* One more connection like this (its count is ignored, its hour filled in if it is 0). NULL evidence: nothing. */
void evidence_connection(struct evidence *evidence, const struct evidence_row *row);
/* What the gateway is at this time: its interval grows, or a new one begins. */
void evidence_gateway(struct evidence *evidence, const char *gateway, const char *mode, int64_t now);

/*
 * Saved ones. Workers may count already: an agent reads what the one before has saved when it has taken over. A row
 * that is there gets the counts of both; intervals are restored before evidence_gateway() is called. 0, or -ENOSPC.
 */
int evidence_restore_row(struct evidence *evidence, const struct evidence_row *row);
int evidence_restore_interval(struct evidence *evidence, const struct evidence_interval *interval);

void evidence_for_each(struct evidence *evidence, int64_t since,
                       void (*row)(void *context, const struct evidence_row *row),
                       void (*interval)(void *context, const struct evidence_interval *interval), void *context);

#endif
