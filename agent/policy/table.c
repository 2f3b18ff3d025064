// SPDX-License-Identifier: GPL-2.0-only
#include "policy/table.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_BUCKETS 64

static struct table_node **bucket(const struct table *table, uint64_t hash)
{
	return &table->buckets[hash & (table->bucket_count - 1)];
}

int table_reserve(struct table *table)
{
	struct table grown = {.bucket_count = table->bucket_count ? table->bucket_count * 2 : FIRST_BUCKETS};

	if (table->count < table->bucket_count)
		return 0;
	grown.buckets = calloc(grown.bucket_count, sizeof(struct table_node *));
	if (!grown.buckets)
		return -ENOMEM;
	for (size_t i = 0; i < table->bucket_count; i++) {
		struct table_node *next;

		for (struct table_node *node = table->buckets[i]; node; node = next) {
			next = node->next;
			table_insert(&grown, node, node->hash);
		}
	}
	free(table->buckets);
	*table = grown;
	return 0;
}

void table_insert(struct table *table, struct table_node *node, uint64_t hash)
{
	struct table_node **place = bucket(table, hash);

	node->hash = hash;
	node->next = *place;
	node->place = place;
	if (node->next)
		node->next->place = &node->next;
	*place = node;
	table->count++;
}

void table_remove(struct table *table, struct table_node *node)
{
	*node->place = node->next;
	if (node->next)
		node->next->place = node->place;
	table->count--;
}

static struct table_node *of_hash(struct table_node *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct table_node *table_first(const struct table *table, uint64_t hash)
{
	return table->bucket_count ? of_hash(*bucket(table, hash), hash) : NULL;
}

struct table_node *table_next(const struct table_node *node)
{
	return of_hash(node->next, node->hash);
}

void table_free(struct table *table, void (*free_node)(struct table_node *node))
{
	for (size_t i = 0; i < table->bucket_count; i++) {
		struct table_node *next;

		for (struct table_node *node = table->buckets[i]; node; node = next) {
			next = node->next;
			free_node(node);
		}
	}
	free(table->buckets);
	*table = (struct table){0};
}

/* FNV-1a, mixed once more because the table takes the low bits. */
static uint64_t add_text(uint64_t hash, const char *text)
{
	do
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3ull;
	while (*text++);
	return hash;
}

uint64_t table_hash_names(const char *namespace_, const char *name, unsigned int number)
{
	uint64_t hash = add_text(add_text(0xcbf29ce484222325ull + number, namespace_), name);

	return hash ^ (hash >> 32);
}
