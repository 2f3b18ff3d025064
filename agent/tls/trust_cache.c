// SPDX-License-Identifier: GPL-2.0-only
#include "tls/trust_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/sorted.h"
#include "tls/trust_store.h"

struct trust_cache {
	pthread_mutex_t lock;
	struct trust_store *prepared; /* of one thread, outside the lock */
	struct trust_store **stores;  /* by key */
	size_t count;
	size_t capacity;
};

struct trust_cache *trust_cache_new(void)
{
	struct trust_cache *new = calloc(1, sizeof(*new));

	if (new)
		pthread_mutex_init(&new->lock, NULL);
	return new;
}

void trust_cache_free(struct trust_cache *cache)
{
	if (!cache)
		return;
	for (size_t i = 0; i < cache->count; i++)
		trust_store_unref(cache->stores[i]);
	trust_store_unref(cache->prepared);
	pthread_mutex_destroy(&cache->lock);
	free(cache->stores);
	free(cache);
}

static int compare_to_store(const void *key, const void *store)
{
	return memcmp(key, (*(struct trust_store *const *)store)->key, 32);
}

/* Where a store of this key is, or would be. */
static size_t place_of(const struct trust_cache *cache, const uint8_t key[static 32], bool *found)
{
	return place_sorted(key, cache->stores, cache->count, sizeof(struct trust_store *), compare_to_store, found);
}

struct trust_store *trust_cache_get(struct trust_cache *cache, const uint8_t key[static 32])
{
	struct trust_store *store = NULL;
	size_t place;
	bool found;

	pthread_mutex_lock(&cache->lock);
	place = place_of(cache, key, &found);
	if (found)
		store = trust_store_ref(cache->stores[place]);
	pthread_mutex_unlock(&cache->lock);
	return store;
}

static void insert(struct trust_cache *cache, size_t place, struct trust_store *store)
{
	if (cache->count == cache->capacity) {
		size_t capacity = cache->capacity ? 2 * cache->capacity : 16;
		struct trust_store **stores = reallocarray(cache->stores, capacity, sizeof(struct trust_store *));

		if (!stores)
			return;
		cache->stores = stores;
		cache->capacity = capacity;
	}
	memmove(cache->stores + place + 1, cache->stores + place, (cache->count - place) * sizeof(*cache->stores));
	cache->stores[place] = trust_store_ref(store);
	cache->count++;
}

struct trust_store *trust_cache_put(struct trust_cache *cache, struct trust_store *store)
{
	struct trust_store *shared = store;
	size_t place;
	bool found;

	pthread_mutex_lock(&cache->lock);
	place = place_of(cache, store->key, &found);
	if (found)
		shared = trust_store_ref(cache->stores[place]);
	else
		insert(cache, place, store);
	pthread_mutex_unlock(&cache->lock);
	if (shared != store)
		trust_store_unref(store);
	return shared;
}

int trust_cache_prepare(struct trust_cache *cache, const struct tls_settings *settings)
{
	struct trust_store *store = NULL;
	char error[256];
	int r = settings ? trust_store_new(settings, cache, &store, error, sizeof(error)) : 0;

	if (r == -ENOMEM)
		return r;
	trust_store_unref(cache->prepared);
	cache->prepared = store;
	return 0;
}

/* Only the cache gives references to what has none but the cache's: under its lock none can come. */
void trust_cache_trim(struct trust_cache *cache)
{
	size_t kept = 0;

	pthread_mutex_lock(&cache->lock);
	for (size_t i = 0; i < cache->count; i++) {
		if (atomic_load_explicit(&cache->stores[i]->references, memory_order_acquire) > 1)
			cache->stores[kept++] = cache->stores[i];
		else
			trust_store_unref(cache->stores[i]);
	}
	cache->count = kept;
	pthread_mutex_unlock(&cache->lock);
}

size_t trust_cache_count(struct trust_cache *cache)
{
	size_t count;

	pthread_mutex_lock(&cache->lock);
	count = cache->count;
	pthread_mutex_unlock(&cache->lock);
	return count;
}
