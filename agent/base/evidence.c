/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/evidence.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GAP_SECONDS 120 /* an interval that was not looked at for so long is another one */

struct evidence {
	pthread_mutex_t lock;
	struct evidence_row *rows;      /* EVIDENCE_ROWS + 1: the last one is for the others */
	uint32_t hashes[EVIDENCE_ROWS]; /* of the rows: most comparisons end here */
	size_t row_count;
	struct evidence_interval *intervals;
	size_t interval_count;
};

struct evidence *evidence_new(void)
{
	struct evidence *evidence = calloc(1, sizeof(*evidence));

	if (!evidence)
		return NULL;
	pthread_mutex_init(&evidence->lock, NULL);
	evidence->rows = calloc(EVIDENCE_ROWS + 1, sizeof(*evidence->rows));
	evidence->intervals = calloc(EVIDENCE_INTERVALS, sizeof(*evidence->intervals));
	if (evidence->rows && evidence->intervals)
		return evidence;
	evidence_free(evidence);
	return NULL;
}

void evidence_free(struct evidence *evidence)
{
	if (!evidence)
		return;
	pthread_mutex_destroy(&evidence->lock);
	free(evidence->rows);
	free(evidence->intervals);
	free(evidence);
}

/* FNV-1a */
static uint32_t hash_text(uint32_t hash, const char *text)
{
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 16777619u;
	return hash * 31;
}

static uint32_t hash_row(const struct evidence_row *row)
{
	uint32_t hash = hash_text(2166136261u ^ (uint32_t)row->hour, row->gateway);

	return hash_text(hash_text(hash_text(hash_text(hash, row->policy), row->version), row->cipher), row->peer);
}

static bool is_like(const struct evidence_row *left, const struct evidence_row *right)
{
	return left->hour == right->hour && strcmp(left->peer, right->peer) == 0 &&
	       strcmp(left->gateway, right->gateway) == 0 && strcmp(left->policy, right->policy) == 0 &&
	       strcmp(left->version, right->version) == 0 && strcmp(left->cipher, right->cipher) == 0;
}

static void drop_old_rows(struct evidence *evidence, int64_t hour)
{
	size_t kept = 0;

	for (size_t i = 0; i < evidence->row_count; i++)
		if (evidence->rows[i].hour > hour - EVIDENCE_HOURS) {
			evidence->hashes[kept] = evidence->hashes[i];
			evidence->rows[kept++] = evidence->rows[i];
		}
	evidence->row_count = kept;
}

/* Newest last, so the one that is wanted is near the end. NULL: there is none. Under the lock. */
static struct evidence_row *find_row(struct evidence *evidence, uint32_t hash, const struct evidence_row *wanted)
{
	for (size_t i = evidence->row_count; i > 0 && evidence->rows[i - 1].hour >= wanted->hour; i--)
		if (evidence->hashes[i - 1] == hash && is_like(&evidence->rows[i - 1], wanted))
			return &evidence->rows[i - 1];
	return NULL;
}

/* Behind those of its hour and before; there is room. Under the lock. */
static struct evidence_row *add_row(struct evidence *evidence, uint32_t hash, const struct evidence_row *row)
{
	size_t place = evidence->row_count++;

	for (; place > 0 && evidence->rows[place - 1].hour > row->hour; place--) {
		evidence->rows[place] = evidence->rows[place - 1];
		evidence->hashes[place] = evidence->hashes[place - 1];
	}
	evidence->hashes[place] = hash;
	evidence->rows[place] = *row;
	return &evidence->rows[place];
}

static struct evidence_row *row_like(struct evidence *evidence, const struct evidence_row *wanted)
{
	uint32_t hash = hash_row(wanted);
	struct evidence_row *found = find_row(evidence, hash, wanted);

	if (found)
		return found;
	if (evidence->row_count >= EVIDENCE_ROWS)
		drop_old_rows(evidence, wanted->hour);
	if (evidence->row_count < EVIDENCE_ROWS) {
		struct evidence_row *added = add_row(evidence, hash, wanted);

		added->connections = 0;
		added->resumed = 0;
		return added;
	}
	/* One for all that have no row. */
	if (evidence->rows[EVIDENCE_ROWS].hour != wanted->hour)
		evidence->rows[EVIDENCE_ROWS] = (struct evidence_row){.hour = wanted->hour, .peer = "other"};
	return &evidence->rows[EVIDENCE_ROWS];
}

void evidence_connection(struct evidence *evidence, const struct evidence_row *row)
{
	struct evidence_row wanted = *row;
	struct evidence_row *counted;

	if (!evidence)
		return;
	if (!wanted.hour)
		wanted.hour = (int64_t)time(NULL) / 3600;
	pthread_mutex_lock(&evidence->lock);
	counted = row_like(evidence, &wanted);
	counted->connections++;
	counted->resumed += row->resumed != 0;
	pthread_mutex_unlock(&evidence->lock);
}

static struct evidence_interval *open_interval(struct evidence *evidence, const char *gateway)
{
	for (size_t i = evidence->interval_count; i > 0; i--) {
		struct evidence_interval *interval = &evidence->intervals[i - 1];

		if (!interval->closed && strcmp(interval->gateway, gateway) == 0)
			return interval;
	}
	return NULL;
}

static struct evidence_interval *add_interval(struct evidence *evidence)
{
	size_t oldest = 0;

	if (evidence->interval_count < EVIDENCE_INTERVALS)
		return &evidence->intervals[evidence->interval_count++];
	while (oldest < EVIDENCE_INTERVALS - 1 && !evidence->intervals[oldest].closed)
		oldest++;
	memmove(&evidence->intervals[oldest], &evidence->intervals[oldest + 1],
	        (EVIDENCE_INTERVALS - 1 - oldest) * sizeof(*evidence->intervals));
	return &evidence->intervals[EVIDENCE_INTERVALS - 1];
}

void evidence_gateway(struct evidence *evidence, const char *gateway, const char *mode, int64_t now)
{
	struct evidence_interval *interval;

	pthread_mutex_lock(&evidence->lock);
	interval = open_interval(evidence, gateway);
	if (interval && (strcmp(interval->mode, mode) != 0 || now - interval->until > GAP_SECONDS)) {
		interval->closed = 1;
		interval = NULL;
	}
	if (!interval) {
		interval = add_interval(evidence);
		*interval = (struct evidence_interval){.from = now};
		(void)snprintf(interval->gateway, sizeof(interval->gateway), "%s", gateway);
		(void)snprintf(interval->mode, sizeof(interval->mode), "%s", mode);
	}
	interval->until = now;
	pthread_mutex_unlock(&evidence->lock);
}

int evidence_restore_row(struct evidence *evidence, const struct evidence_row *row)
{
	uint32_t hash = hash_row(row);
	struct evidence_row *found;
	int error = 0;

	pthread_mutex_lock(&evidence->lock);
	found = find_row(evidence, hash, row);
	if (found) {
		found->connections += row->connections;
		found->resumed += row->resumed;
	} else if (evidence->row_count < EVIDENCE_ROWS) {
		(void)add_row(evidence, hash, row);
	} else {
		error = -ENOSPC;
	}
	pthread_mutex_unlock(&evidence->lock);
	return error;
}

int evidence_restore_interval(struct evidence *evidence, const struct evidence_interval *interval)
{
	int error = -ENOSPC;

	pthread_mutex_lock(&evidence->lock);
	if (evidence->interval_count < EVIDENCE_INTERVALS) {
		evidence->intervals[evidence->interval_count++] = *interval;
		error = 0;
	}
	pthread_mutex_unlock(&evidence->lock);
	return error;
}

void evidence_for_each(struct evidence *evidence, int64_t since,
                       void (*row)(void *context, const struct evidence_row *row),
                       void (*interval)(void *context, const struct evidence_interval *interval), void *context)
{
	pthread_mutex_lock(&evidence->lock);
	for (size_t i = 0; i < evidence->interval_count; i++)
		if (evidence->intervals[i].until >= since)
			interval(context, &evidence->intervals[i]);
	for (size_t i = 0; i < evidence->row_count; i++)
		if (evidence->rows[i].hour * 3600 + 3599 >= since)
			row(context, &evidence->rows[i]);
	if (evidence->rows[EVIDENCE_ROWS].connections && evidence->rows[EVIDENCE_ROWS].hour * 3600 + 3599 >= since)
		row(context, &evidence->rows[EVIDENCE_ROWS]);
	pthread_mutex_unlock(&evidence->lock);
}
