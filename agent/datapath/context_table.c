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

int context_table_update(struct context_table *table, const struct snapshot *snapshot)
{
	size_t wanted = snapshot_settings_count(snapshot);
	struct entry *entries = calloc(wanted ? wanted : 1, sizeof(*entries));
	struct entry *old_entries;
	size_t old_count;
	size_t count = 0;

	if (!entries)
		return -ENOMEM;
	/* Only this thread writes, so reading the old rows needs no lock. */
	for (size_t i = 0; i < wanted; i++) {
		const struct tls_settings *settings = snapshot_settings_at(snapshot, i);
		struct tls_context *context = find(table, settings->id);
		char error[256];

		if (!context && tls_context_new(settings, &context, error, sizeof(error)) != 0) {
			char quoted[512];

			log_error("tls settings unusable", "policy=%s/%s settings=%u error=%s",
			          settings->policy_namespace, settings->policy_name, settings->id,
			          log_quote(error, quoted, sizeof(quoted)));
			continue;
		}
		entries[count++] = (struct entry){.settings_id = settings->id, .context = context};
	}
	if (count)
		qsort(entries, count, sizeof(*entries), compare_entries);

	pthread_rwlock_wrlock(&table->lock);
	old_entries = table->entries;
	old_count = table->count;
	table->entries = entries;
	table->count = count;
	pthread_rwlock_unlock(&table->lock);
	free_entries(old_entries, old_count);
	return 0;
}
