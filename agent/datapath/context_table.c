/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/context_table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "policy/snapshot.h"
#include "tls/context.h"

struct entry {
	uint32_t settings_id;
	struct tls_context *context;
};

/* The rows of the current snapshot, sorted by settings id. */
struct context_table {
	pthread_rwlock_t lock;
	struct entry *entries;
	size_t count;
};

struct context_table *context_table_new(void)
{
	struct context_table *table = calloc(1, sizeof(*table));

	if (table)
		pthread_rwlock_init(&table->lock, NULL);
	return table;
}

static void free_entries(struct entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		tls_context_unref(entries[i].context);
	free(entries);
}

void context_table_free(struct context_table *table)
{
	if (!table)
		return;
	free_entries(table->entries, table->count);
	pthread_rwlock_destroy(&table->lock);
	free(table);
}

static int compare_entries(const void *left, const void *right)
{
	const struct entry *a = left;
	const struct entry *b = right;

	return a->settings_id < b->settings_id ? -1 : a->settings_id > b->settings_id;
}

static struct tls_context *find(const struct context_table *table, uint32_t settings_id)
{
	const struct entry key = {.settings_id = settings_id};
	const struct entry *entry = NULL;

	if (table->count)
		entry = bsearch(&key, table->entries, table->count, sizeof(key), compare_entries);
	return entry ? tls_context_ref(entry->context) : NULL;
}

struct tls_context *context_table_get(struct context_table *table, uint32_t settings_id)
{
	struct tls_context *context;

	pthread_rwlock_rdlock(&table->lock);
	context = find(table, settings_id);
	pthread_rwlock_unlock(&table->lock);
	return context;
}

/* Readers of the old rows have taken their references under the lock. */
static void replace(struct context_table *table, struct entry *entries, size_t count)
{
	struct entry *old_entries;
	size_t old_count;

	if (count)
		qsort(entries, count, sizeof(*entries), compare_entries);
	pthread_rwlock_wrlock(&table->lock);
	old_entries = table->entries;
	old_count = table->count;
	table->entries = entries;
	table->count = count;
	pthread_rwlock_unlock(&table->lock);
	free_entries(old_entries, old_count);
}

static struct tls_context *make(const struct tls_settings *settings)
{
	struct tls_context *context;
	char error[256];
	char quoted[512];

	if (tls_context_new(settings, &context, error, sizeof(error)) == 0)
		return context;
	log_error("tls settings unusable", "policy=%s/%s settings=%u error=%s", settings->policy_namespace,
	          settings->policy_name, settings->id, log_quote(error, quoted, sizeof(quoted)));
	return NULL;
}

/* Only the control thread writes, so it reads the rows without the lock. */
int context_table_add(struct context_table *table, const struct snapshot *snapshot)
{
	size_t wanted = snapshot_settings_count(snapshot);
	struct entry *entries = calloc(table->count + wanted + 1, sizeof(*entries));
	size_t count = 0;

	if (!entries)
		return -ENOMEM;
	for (; count < table->count; count++)
		entries[count] = (struct entry){table->entries[count].settings_id,
		                                tls_context_ref(table->entries[count].context)};
	for (size_t i = 0; i < wanted; i++) {
		const struct tls_settings *settings = snapshot_settings_at(snapshot, i);
		struct tls_context *known = find(table, settings->id);
		struct tls_context *context = known ? NULL : make(settings);

		tls_context_unref(known);
		if (context)
			entries[count++] = (struct entry){settings->id, context};
	}
	replace(table, entries, count);
	return 0;
}

void context_table_trim(struct context_table *table, const struct snapshot *snapshot)
{
	struct entry *entries = calloc(table->count + 1, sizeof(*entries));
	size_t count = 0;

	if (!entries)
		return; /* the old ones stay until the next time */
	for (size_t i = 0; i < table->count; i++) {
		const struct entry *entry = &table->entries[i];

		if (snapshot_settings(snapshot, entry->settings_id))
			entries[count++] = (struct entry){entry->settings_id, tls_context_ref(entry->context)};
	}
	replace(table, entries, count);
}
