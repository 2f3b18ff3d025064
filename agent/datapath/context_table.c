/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/context_table.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sorted.h"
#include "policy/snapshot.h"
#include "tls/context.h"
#include "tls/trust_cache.h"

#define BUILD_LOCKS   16
#define SWEEP_SECONDS 60

struct entry {
	uint32_t settings_id;
	bool unusable;                  /* it cannot be built, which was logged once */
	_Atomic uint32_t asked_seconds; /* CLOCK_MONOTONIC at which it was last asked for; by readers, too */
	struct tls_context *context;    /* NULL: nobody has needed it yet */
};

/*
 * The rows of the current snapshot, by settings id, as the snapshot's own settings are: one walk over both finds what
 * is new and what is gone. Which rows there are only the control thread changes, so it may read that without the lock.
 */
struct context_table {
	pthread_rwlock_t lock;
	struct entry *entries;
	size_t count;
	size_t built;
	uint32_t swept_seconds;
	struct snapshot *current; /* whose settings are built from; a reference */
	struct snapshot *before;  /* until the current one is published */

	pthread_mutex_t build_locks[BUILD_LOCKS]; /* by settings id; outside the lock above */
	struct trust_cache *trust;
};

struct context_table *context_table_new(void)
{
	struct context_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->trust = trust_cache_new();
	if (!table->trust) {
		free(table);
		return NULL;
	}
	pthread_rwlock_init(&table->lock, NULL);
	for (size_t i = 0; i < BUILD_LOCKS; i++)
		pthread_mutex_init(&table->build_locks[i], NULL);
	return table;
}

void context_table_free(struct context_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->count; i++)
		tls_context_unref(table->entries[i].context);
	free(table->entries);
	snapshot_unref(table->current);
	snapshot_unref(table->before);
	trust_cache_free(table->trust);
	for (size_t i = 0; i < BUILD_LOCKS; i++)
		pthread_mutex_destroy(&table->build_locks[i]);
	pthread_rwlock_destroy(&table->lock);
	free(table);
}

static uint32_t now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint32_t)now.tv_sec;
}

/* ---- the workers' side ---- */

static int compare_to_entry(const void *id_pointer, const void *entry)
{
	uint32_t id = *(const uint32_t *)id_pointer, seen = ((const struct entry *)entry)->settings_id;

	return id < seen ? -1 : id > seen;
}

static struct entry *find(const struct context_table *table, uint32_t settings_id)
{
	return find_sorted(&settings_id, table->entries, table->count, sizeof(*table->entries), compare_to_entry);
}

/* A reference to the snapshot that has these settings; NULL: none has. Under the lock. */
static struct snapshot *snapshot_of(const struct context_table *table, uint32_t settings_id)
{
	if (table->current && snapshot_settings(table->current, settings_id))
		return snapshot_ref(table->current);
	if (table->before && snapshot_settings(table->before, settings_id))
		return snapshot_ref(table->before);
	return NULL;
}

/* True: there is no more to it. False: *context is to be built, from the settings in *snapshot. */
static bool look_up(struct context_table *table, uint32_t settings_id, struct tls_context **context,
                    struct snapshot **snapshot)
{
	struct entry *entry;
	bool found = true;

	*context = NULL;
	*snapshot = NULL;
	pthread_rwlock_rdlock(&table->lock);
	entry = find(table, settings_id);
	if (entry && entry->context) {
		atomic_store_explicit(&entry->asked_seconds, now_seconds(), memory_order_relaxed);
		*context = tls_context_ref(entry->context);
	} else if (entry && !entry->unusable) {
		*snapshot = snapshot_of(table, settings_id);
		found = !*snapshot;
	}
	pthread_rwlock_unlock(&table->lock);
	return found;
}

/* 0; -ENOMEM: it is tried again by the next to ask; -EINVAL: said here. */
static int build(struct context_table *table, const struct tls_settings *settings, struct tls_context **context)
{
	char error[256] = "";
	char quoted[512];
	int result = tls_context_new_sharing(settings, table->trust, context, error, sizeof(error));

	if (result == -EINVAL)
		log_error("tls settings unusable", "policy=%s/%s settings=%u error=%s", settings->policy_namespace,
		          settings->policy_name, settings->id, log_quote(error, quoted, sizeof(quoted)));
	return result;
}

/* Takes what has been idle for long out of the rows: *dropped holds as many as are returned. Under the lock. */
static size_t take_idle(struct context_table *table, struct tls_context ***dropped)
{
	uint32_t now = now_seconds();
	size_t count = 0;

	*dropped = NULL;
	if (table->built <= CONTEXT_TABLE_KEPT || now - table->swept_seconds < SWEEP_SECONDS)
		return 0;
	table->swept_seconds = now;
	*dropped = calloc(table->built, sizeof(struct tls_context *));
	for (size_t i = 0; *dropped && i < table->count; i++) {
		struct entry *entry = &table->entries[i];

		if (!entry->context || now - atomic_load_explicit(&entry->asked_seconds, memory_order_relaxed) <
		                               CONTEXT_TABLE_IDLE_SECONDS)
			continue;
		(*dropped)[count++] = TAKE_PTR(entry->context);
	}
	table->built -= count;
	return count;
}

/* The row may be gone by now: then the context is the caller's alone. */
static void keep(struct context_table *table, uint32_t settings_id, struct tls_context *context)
{
	struct tls_context **dropped;
	struct entry *entry;
	size_t count;

	pthread_rwlock_wrlock(&table->lock);
	entry = find(table, settings_id);
	if (entry && context) {
		entry->context = tls_context_ref(context);
		atomic_store_explicit(&entry->asked_seconds, now_seconds(), memory_order_relaxed);
		table->built++;
	} else if (entry) {
		entry->unusable = true;
	}
	count = take_idle(table, &dropped);
	pthread_rwlock_unlock(&table->lock);
	/* After the lock: to free a context takes its time. */
	for (size_t i = 0; i < count; i++)
		tls_context_unref(dropped[i]);
	free(dropped);
}

struct tls_context *context_table_get(struct context_table *table, uint32_t settings_id)
{
	pthread_mutex_t *build_lock = &table->build_locks[settings_id % BUILD_LOCKS];
	struct tls_context *context;
	struct snapshot *snapshot;
	int error;

	if (look_up(table, settings_id, &context, &snapshot))
		return context;
	snapshot_unref(snapshot);
	pthread_mutex_lock(build_lock);
	if (!look_up(table, settings_id, &context, &snapshot)) { /* nor did who held the lock before build it */
		error = build(table, snapshot_settings(snapshot, settings_id), &context);
		if (error)
			context = NULL;
		if (error != -ENOMEM)
			keep(table, settings_id, context);
		snapshot_unref(snapshot);
	}
	pthread_mutex_unlock(build_lock);
	return context;
}

/* ---- the control thread's side ---- */

static size_t count_missing(const struct context_table *table, const struct snapshot *snapshot)
{
	size_t wanted = snapshot_settings_count(snapshot);
	size_t missing = 0, row = 0;

	for (size_t i = 0; i < wanted; i++) {
		uint32_t id = snapshot_settings_at(snapshot, i)->id;

		while (row < table->count && table->entries[row].settings_id < id)
			row++;
		missing += row == table->count || table->entries[row].settings_id != id;
	}
	return missing;
}

static void move(struct entry *to, struct entry *from)
{
	to->settings_id = from->settings_id;
	to->unusable = from->unusable;
	atomic_init(&to->asked_seconds, atomic_load_explicit(&from->asked_seconds, memory_order_relaxed));
	to->context = TAKE_PTR(from->context);
}

/* Under the lock: the rows that there are and the new ones. */
static size_t merge(struct context_table *table, const struct snapshot *snapshot, struct entry *entries)
{
	size_t wanted = snapshot_settings_count(snapshot);
	size_t count = 0, row = 0;

	for (size_t i = 0; i < wanted; i++) {
		uint32_t id = snapshot_settings_at(snapshot, i)->id;

		while (row < table->count && table->entries[row].settings_id < id)
			move(&entries[count++], &table->entries[row++]);
		if (row < table->count && table->entries[row].settings_id == id)
			continue;
		entries[count++].settings_id = id;
	}
	while (row < table->count)
		move(&entries[count++], &table->entries[row++]);
	return count;
}

/* Without memory the first worker that needs it does it. */
static void prepare_system_trust(struct context_table *table, const struct snapshot *snapshot)
{
	const struct tls_settings *settings = NULL;

	for (size_t i = 0; i < snapshot_settings_count(snapshot) && !settings; i++)
		if (snapshot_settings_at(snapshot, i)->system_ca)
			settings = snapshot_settings_at(snapshot, i);
	(void)trust_cache_prepare(table->trust, settings);
}

int context_table_add(struct context_table *table, struct snapshot *snapshot)
{
	size_t missing = count_missing(table, snapshot);
	struct entry *entries = NULL;
	struct snapshot *oldest;

	prepare_system_trust(table, snapshot);
	if (missing > 0) {
		entries = calloc(table->count + missing, sizeof(*entries));
		if (!entries)
			return -ENOMEM;
	}
	pthread_rwlock_wrlock(&table->lock);
	if (entries) {
		struct entry *old = table->entries;

		table->count = merge(table, snapshot, entries);
		table->entries = entries;
		entries = old;
	}
	oldest = table->before;
	table->before = table->current;
	table->current = snapshot_ref(snapshot);
	pthread_rwlock_unlock(&table->lock);
	free(entries);
	snapshot_unref(oldest);
	return 0;
}

/* The walk over the rows and the snapshot's settings, both by id. */
struct walk {
	const struct snapshot *snapshot;
	size_t next;
};

/* Ids in ascending order. */
static bool is_wanted(struct walk *walk, uint32_t settings_id)
{
	size_t wanted = snapshot_settings_count(walk->snapshot);

	while (walk->next < wanted && snapshot_settings_at(walk->snapshot, walk->next)->id < settings_id)
		walk->next++;
	return walk->next < wanted && snapshot_settings_at(walk->snapshot, walk->next)->id == settings_id;
}

static size_t count_unwanted(const struct context_table *table, const struct snapshot *snapshot)
{
	struct walk walk = {.snapshot = snapshot};
	size_t unwanted = 0;

	for (size_t row = 0; row < table->count; row++)
		unwanted += !is_wanted(&walk, table->entries[row].settings_id);
	return unwanted;
}

/* Under the lock: what the snapshot does not need out of the rows, its contexts into gone. Returns how many those are.
 */
static size_t take_unwanted(struct context_table *table, const struct snapshot *snapshot, struct tls_context **gone)
{
	struct walk walk = {.snapshot = snapshot};
	size_t count = 0, gone_count = 0;

	for (size_t i = 0; i < table->count; i++) {
		struct entry *entry = &table->entries[i];

		if (is_wanted(&walk, entry->settings_id)) {
			if (count != i)
				move(&table->entries[count], entry);
			count++;
		} else if (entry->context) {
			gone[gone_count++] = TAKE_PTR(entry->context);
		}
	}
	table->count = count;
	table->built -= gone_count;
	return gone_count;
}

void context_table_trim(struct context_table *table, const struct snapshot *snapshot)
{
	size_t unwanted = count_unwanted(table, snapshot);
	_cleanup_free_ struct tls_context **gone = unwanted > 0 ? calloc(unwanted, sizeof(*gone)) : NULL;
	struct snapshot *before;
	size_t gone_count = 0;

	pthread_rwlock_wrlock(&table->lock);
	if (gone) /* or the old ones stay until the next time */
		gone_count = take_unwanted(table, snapshot, gone);
	before = TAKE_PTR(table->before);
	pthread_rwlock_unlock(&table->lock);
	for (size_t i = 0; i < gone_count; i++)
		tls_context_unref(gone[i]);
	snapshot_unref(before);
	if (gone)
		trust_cache_trim(table->trust);
}
