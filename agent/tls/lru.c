// SPDX-License-Identifier: GPL-2.0-only
#include "tls/lru.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A cache that nothing is put into costs no more than this many pointers. */
#define BUCKETS_AT_FIRST 16

int lru_init(struct lru *lru, size_t key_size)
{
	*lru = (struct lru){.key_size = key_size, .bucket_count = BUCKETS_AT_FIRST};
	lru->buckets = calloc(lru->bucket_count, sizeof(*lru->buckets));
	return lru->buckets ? 0 : -ENOMEM;
}

void lru_destroy(struct lru *lru)
{
	free(lru->buckets);
	*lru = (struct lru){0};
}

/* FNV-1a. */
static struct lru_item **bucket_of(const struct lru *lru, const uint8_t *key)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < lru->key_size; i++)
		hash = (hash ^ key[i]) * UINT64_C(0x100000001b3);
	return &lru->buckets[(hash ^ hash >> 32) & (lru->bucket_count - 1)];
}

static void link_newest(struct lru *lru, struct lru_item *item)
{
	item->newer = NULL;
	item->older = lru->newest;
	if (lru->newest)
		lru->newest->newer = item;
	else
		lru->oldest = item;
	lru->newest = item;
}

static void unlink_item(struct lru *lru, struct lru_item *item)
{
	if (item->newer)
		item->newer->older = item->older;
	else
		lru->newest = item->older;
	if (item->older)
		item->older->newer = item->newer;
	else
		lru->oldest = item->newer;
}

static void enter_bucket(struct lru *lru, struct lru_item *item)
{
	struct lru_item **bucket = bucket_of(lru, item->key);

	item->next = *bucket;
	*bucket = item;
}

/* Without memory for it the buckets stay as few, and the chains get longer. */
static void grow(struct lru *lru)
{
	struct lru_item **buckets = calloc(2 * lru->bucket_count, sizeof(*buckets));

	if (!buckets)
		return;
	free(lru->buckets);
	lru->buckets = buckets;
	lru->bucket_count *= 2;
	for (struct lru_item *item = lru->newest; item; item = item->older)
		enter_bucket(lru, item);
}

struct lru_item *lru_find(struct lru *lru, const void *key)
{
	for (struct lru_item *item = *bucket_of(lru, key); item; item = item->next) {
		if (memcmp(item->key, key, lru->key_size) != 0)
			continue;
		unlink_item(lru, item);
		link_newest(lru, item);
		return item;
	}
	return NULL;
}

void lru_insert(struct lru *lru, struct lru_item *item, const void *key)
{
	memcpy(item->key, key, lru->key_size);
	if (lru->count >= lru->bucket_count)
		grow(lru);
	enter_bucket(lru, item);
	link_newest(lru, item);
	lru->count++;
	lru->cost += item->cost;
}

void lru_remove(struct lru *lru, struct lru_item *item)
{
	struct lru_item **place = bucket_of(lru, item->key);

	while (*place != item)
		place = &(*place)->next;
	*place = item->next;
	unlink_item(lru, item);
	lru->count--;
	lru->cost -= item->cost;
}

void lru_set_cost(struct lru *lru, struct lru_item *item, size_t cost)
{
	lru->cost = lru->cost - item->cost + cost;
	item->cost = cost;
}
