/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/failures.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/address.h"
#include "base/log.h"

/* So many lines a second say one reason; a storm of failures must not become a storm of writes. */
#define LINES_PER_SECOND 20

struct line_budget {
	time_t second; /* CLOCK_REALTIME */
	unsigned int lines;
	unsigned long withheld; /* since the last line */
};

struct failures {
	pthread_mutex_t lock;
	uint64_t totals[REASON_COUNT];
	struct line_budget budgets[REASON_COUNT];
	size_t next; /* where the next one goes */
	size_t kept;
	struct failure ring[FAILURES_KEPT];
};

struct failures *failures_new(void)
{
	struct failures *failures = calloc(1, sizeof(*failures));

	if (!failures)
		return NULL;
	pthread_mutex_init(&failures->lock, NULL);
	return failures;
}

void failures_free(struct failures *failures)
{
	if (!failures)
		return;
	pthread_mutex_destroy(&failures->lock);
	free(failures);
}

/* May a line be written now? *withheld says how many were not since the last one. Under the lock. */
static bool take_line(struct line_budget *budget, time_t now, unsigned long *withheld)
{
	if (budget->second != now) {
		budget->second = now;
		budget->lines = 0;
	}
	*withheld = budget->withheld;
	if (budget->lines == LINES_PER_SECOND) {
		budget->withheld++;
		return false;
	}
	budget->lines++;
	budget->withheld = 0;
	return true;
}

static void log_failure(const struct failure *failure, unsigned long withheld)
{
	char destination[DESTINATION_TEXT_MAX];
	char detail[sizeof(failure->detail) * 2];

	if (withheld)
		log_info_unlimited("connections failed without a line", "reason=%s count=%lu",
		                   reason_name(failure->reason), withheld);
	log_info_unlimited(
	        "connection failed", "reason=%s class=%s gateway=%s gateway_port=%u destination=%s policy=%s detail=%s",
	        reason_name(failure->reason), reason_class_name(reason_class(failure->reason)), failure->gateway,
	        failure->gateway_port, destination_format(&failure->destination, destination), failure->policy,
	        log_quote(failure->detail, detail, sizeof(detail)));
}

void failures_add(struct failures *failures, const struct failure *failure)
{
	bool known = (unsigned int)failure->reason < REASON_COUNT;
	unsigned long withheld = 0;
	struct failure *slot;
	bool line = true;

	pthread_mutex_lock(&failures->lock);
	slot = &failures->ring[failures->next];
	*slot = *failure;
	clock_gettime(CLOCK_REALTIME, &slot->time);
	failures->next = (failures->next + 1) % FAILURES_KEPT;
	if (failures->kept < FAILURES_KEPT)
		failures->kept++;
	if (known) {
		failures->totals[failure->reason]++;
		line = take_line(&failures->budgets[failure->reason], slot->time.tv_sec, &withheld);
	}
	pthread_mutex_unlock(&failures->lock);
	if (line)
		log_failure(failure, withheld);
}

void failures_count(struct failures *failures, enum postern_reason reason)
{
	if ((unsigned int)reason >= REASON_COUNT)
		return;
	pthread_mutex_lock(&failures->lock);
	failures->totals[reason]++;
	pthread_mutex_unlock(&failures->lock);
}

uint64_t failures_total(struct failures *failures, enum postern_reason reason)
{
	uint64_t total;

	if ((unsigned int)reason >= REASON_COUNT)
		return 0;
	pthread_mutex_lock(&failures->lock);
	total = failures->totals[reason];
	pthread_mutex_unlock(&failures->lock);
	return total;
}

size_t failures_copy(struct failures *failures, struct failure *copies, size_t size)
{
	size_t count;

	pthread_mutex_lock(&failures->lock);
	count = failures->kept < size ? failures->kept : size;
	for (size_t i = 0; i < count; i++)
		copies[i] = failures->ring[(failures->next + FAILURES_KEPT - 1 - i) % FAILURES_KEPT];
	pthread_mutex_unlock(&failures->lock);
	return count;
}
