/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/failures.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/address.h"
#include "base/log.h"

struct failures {
	pthread_mutex_t lock;
	uint64_t totals[REASON_COUNT];
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

void failures_add(struct failures *failures, const struct failure *failure)
{
	char destination[DESTINATION_TEXT_MAX];
	char detail[sizeof(failure->detail) * 2];
	struct failure *slot;

	pthread_mutex_lock(&failures->lock);
	slot = &failures->ring[failures->next];
	*slot = *failure;
	clock_gettime(CLOCK_REALTIME, &slot->time);
	failures->next = (failures->next + 1) % FAILURES_KEPT;
	if (failures->kept < FAILURES_KEPT)
		failures->kept++;
	if ((unsigned int)failure->reason < REASON_COUNT)
		failures->totals[failure->reason]++;
	pthread_mutex_unlock(&failures->lock);

	log_info("connection failed",
	         "reason=%s class=%s gateway=%s gateway_port=%u destination=%s policy=%s detail=%s",
	         reason_name(failure->reason), reason_class_name(reason_class(failure->reason)), failure->gateway,
	         failure->gateway_port, destination_format(&failure->destination, destination), failure->policy,
	         log_quote(failure->detail, detail, sizeof(detail)));
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
