/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * key_table.h: destination key -> a number: what is remembered of destinations one by one, by the thousand. One thread.
 */
#ifndef POSTERN_BASE_KEY_TABLE_H
#define POSTERN_BASE_KEY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "postern/abi.h"

struct key_table_entry {
	struct postern_destination_key key;
	uint64_t value;
	bool used;
};

struct key_table { /* all zero: empty */
	struct key_table_entry *entries;
	size_t size; /* 0 or a power of two */
	size_t count;
};

/* The value's place, or NULL. Good until the table changes. */
uint64_t *key_table_find(const struct key_table *table, const struct postern_destination_key *key);
/* Add the key or replace its value. 0, or -ENOMEM with the table as it was. */
int key_table_set(struct key_table *table, const struct postern_destination_key *key, uint64_t value);
/* False: it was not there. */
bool key_table_remove(struct key_table *table, const struct postern_destination_key *key);
/*
 * Asks for each entry, which it may change in place, and removes those for which the answer is false. An entry that
 * stays may be asked about twice. The callback must not touch the table in another way.
 */
void key_table_filter(struct key_table *table,
                      bool (*keep)(void *context, const struct postern_destination_key *key, uint64_t *value),
                      void *context);
void key_table_free(struct key_table *table);

#endif
