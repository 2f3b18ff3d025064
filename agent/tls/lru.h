/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lru.h: items by key, in the order of their last use: what the caches of tls/ are made of. Items are the caller's,
 * with a struct lru_item within. Who may call when is the cache's affair: nothing is locked here.
 */
#ifndef POSTERN_TLS_LRU_H
#define POSTERN_TLS_LRU_H

#include <stddef.h>
#include <stdint.h>

#define LRU_KEY_MAX 64

struct lru_item {
	uint8_t key[LRU_KEY_MAX];
	size_t cost; /* in the cache's own unit */
	struct lru_item *newer;
	struct lru_item *older;
	struct lru_item *next; /* of the same bucket */
};

struct lru {
	size_t key_size;
	struct lru_item **buckets;
	size_t bucket_count; /* a power of two */
	struct lru_item *newest;
	struct lru_item *oldest;
	size_t count;
	size_t cost; /* of all items together */
};

/* 0 or -ENOMEM. key_size: at most LRU_KEY_MAX. */
int lru_init(struct lru *lru, size_t key_size);
/* The items must have been taken out. */
void lru_destroy(struct lru *lru);

/* The item, which is the newest from now on, or NULL. */
struct lru_item *lru_find(struct lru *lru, const void *key);
/* As the newest. Its cost is set, its key is filled in here; no item has that key yet. */
void lru_insert(struct lru *lru, struct lru_item *item, const void *key);
void lru_remove(struct lru *lru, struct lru_item *item);
void lru_set_cost(struct lru *lru, struct lru_item *item, size_t cost);

#endif
