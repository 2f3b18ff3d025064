// SPDX-License-Identifier: GPL-2.0-only
#include "policy/snapshot_holder.h"

#include <pthread.h>
#include <stdlib.h>

#include "policy/snapshot.h"

/*
 * A lock, not an atomic pointer: a reader must not find the pointer and lose the last reference before it has taken its
 * own. It is held for two instructions.
 */
struct snapshot_holder {
	pthread_mutex_t lock;
	struct snapshot *current;
};

struct snapshot_holder *snapshot_holder_new(void)
{
	struct snapshot_holder *holder = calloc(1, sizeof(*holder));

	if (!holder)
		return NULL;
	if (pthread_mutex_init(&holder->lock, NULL)) {
		free(holder);
		return NULL;
	}
	return holder;
}

void snapshot_holder_free(struct snapshot_holder *holder)
{
	if (!holder)
		return;
	snapshot_unref(holder->current);
	pthread_mutex_destroy(&holder->lock);
	free(holder);
}

void snapshot_holder_publish(struct snapshot_holder *holder, struct snapshot *snapshot)
{
	struct snapshot *old;

	pthread_mutex_lock(&holder->lock);
	old = holder->current;
	holder->current = snapshot;
	pthread_mutex_unlock(&holder->lock);
	snapshot_unref(old); /* outside: freeing 50,000 destinations takes a while */
}

struct snapshot *snapshot_holder_get(struct snapshot_holder *holder)
{
	struct snapshot *snapshot;

	pthread_mutex_lock(&holder->lock);
	snapshot = holder->current ? snapshot_ref(holder->current) : NULL;
	pthread_mutex_unlock(&holder->lock);
	return snapshot;
}
