/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * table.h: a hash table of nodes that live in what they stand for. It knows hashes only; keys are compared by the
 * caller. Pure; one thread.
 */
#ifndef POSTERN_POLICY_TABLE_H
#define POSTERN_POLICY_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_node {
	struct table_node *next;
	struct table_node **place; /* what points at it */
	uint64_t hash;
};

struct table { /* all zero = empty */
	struct table_node **buckets;
	size_t bucket_count; /* a power of two, or 0 */
	size_t count;
};

/* Room for one node more: 0 or -ENOMEM. table_insert() after it does not fail. */
int table_reserve(struct table *table);
void table_insert(struct table *table, struct table_node *node, uint64_t hash);
void table_remove(struct table *table, struct table_node *node);
/* The first node of this hash, and the next; NULL: no more. */
struct table_node *table_first(const struct table *table, uint64_t hash);
struct table_node *table_next(const struct table_node *node);
/* Calls free_node for every node, and empties the table. */
void table_free(struct table *table, void (*free_node)(struct table_node *node));

/* Of two strings; number tells kinds of keys apart. */
uint64_t table_hash_names(const char *namespace_, const char *name, unsigned int number);

#endif
