// SPDX-License-Identifier: GPL-2.0-only
#include "tls/trust_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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

/* Where a store of this key is, or would be. */
static size_t place_of(const struct trust_cache *cache, const uint8_t key[static 32])
{
	size_t low = 0, high = cache->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(cache->stores[middle]->key, key, 32) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at(const struct trust_cache *cache, size_t place, const uint8_t key[static 32])
{
	return place < cache->count && memcmp(cache->stores[place]->key, key, 32) == 0;
}

struct trust_store *trust_cache_get(struct trust_cache *cache, const uint8_t key[static 32])
{
	struct trust_store *store = NULL;
	size_t place;

	pthread_mutex_lock(&cache->lock);
	place = place_of(cache, key);
	if (is_at(cache, place, key))
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

	pthread_mutex_lock(&cache->lock);
	place = place_of(cache, store->key);
	if (is_at(cache, place, store->key))
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
