/* SPDX-License-Identifier: GPL-2.0-only */
/* Open addressing with linear probing; a removal moves the followers up, so that nothing dead is ever probed. */
#include "base/key_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"

#define SMALLEST 64

static size_t home_of(const struct key_table *table, const struct postern_destination_key *key)
{
	uint64_t hash = destination_hash(key);

	return (hash ^ hash >> 32) & (table->size - 1);
}

/* The key's place, or the free one where it belongs. Only if there is room. */
static size_t place_of(const struct key_table *table, const struct postern_destination_key *key)
{
	size_t place = home_of(table, key);

	while (table->entries[place].used && memcmp(&table->entries[place].key, key, sizeof(*key)) != 0)
		place = (place + 1) & (table->size - 1);
	return place;
}

uint64_t *key_table_find(const struct key_table *table, const struct postern_destination_key *key)
{
	size_t place;

	if (table->count == 0)
		return NULL;
	place = place_of(table, key);
	return table->entries[place].used ? &table->entries[place].value : NULL;
}

static int grow(struct key_table *table)
{
	struct key_table grown = {.size = table->size ? 2 * table->size : SMALLEST, .count = table->count};

	grown.entries = calloc(grown.size, sizeof(*grown.entries));
	if (!grown.entries)
		return -ENOMEM;
	for (size_t i = 0; i < table->size; i++) {
		if (table->entries[i].used)
			grown.entries[place_of(&grown, &table->entries[i].key)] = table->entries[i];
	}
	free(table->entries);
	*table = grown;
	return 0;
}

int key_table_set(struct key_table *table, const struct postern_destination_key *key, uint64_t value)
{
	uint64_t *known = key_table_find(table, key);
	int error;

	if (known) {
		*known = value;
		return 0;
	}
	if (2 * (table->count + 1) > table->size) {
		error = grow(table);
		if (error)
			return error;
	}
	table->entries[place_of(table, key)] = (struct key_table_entry){.key = *key, .value = value, .used = true};
	table->count++;
	return 0;
}

/* Those behind the gap that would not be found any more move into it. */
static void close_gap(struct key_table *table, size_t gap)
{
	size_t mask = table->size - 1;

	for (size_t next = (gap + 1) & mask; table->entries[next].used; next = (next + 1) & mask) {
		size_t home = home_of(table, &table->entries[next].key);

		if (((next - home) & mask) < ((next - gap) & mask))
			continue;
		table->entries[gap] = table->entries[next];
		gap = next;
	}
	table->entries[gap].used = false;
}

bool key_table_remove(struct key_table *table, const struct postern_destination_key *key)
{
	size_t place;

	if (table->count == 0)
		return false;
	place = place_of(table, key);
	if (!table->entries[place].used)
		return false;
	close_gap(table, place);
	table->count--;
	return true;
}

void key_table_filter(struct key_table *table,
                      bool (*keep)(void *context, const struct postern_destination_key *key, uint64_t *value),
                      void *context)
{
	for (size_t i = 0; i < table->size;) {
		struct key_table_entry *entry = &table->entries[i];

		if (!entry->used || keep(context, &entry->key, &entry->value)) {
			i++;
			continue;
		}
		/* Another entry may stand here now: look again. */
		close_gap(table, i);
		table->count--;
	}
}

void key_table_free(struct key_table *table)
{
	free(table->entries);
	*table = (struct key_table){0};
}
