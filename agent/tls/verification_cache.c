// SPDX-License-Identifier: GPL-2.0-only
#include "tls/verification_cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "tls/lru.h"

struct entry {
	struct lru_item item; /* by fingerprint; costs the chain's bytes */
	struct tls_peer *peer;
	struct verify_result result;
};

struct verification_cache {
	pthread_mutex_t lock;
	struct lru entries;
	uint64_t hits, misses, expired, evicted;
};

static struct entry *entry_of(struct lru_item *item)
{
	return item ? container_of(item, struct entry, item) : NULL;
}

struct verification_cache *verification_cache_new(void)
{
	struct verification_cache *new = calloc(1, sizeof(*new));

	if (!new || lru_init(&new->entries, PEER_FINGERPRINT_SIZE) < 0) {
		free(new);
		return NULL;
	}
	pthread_mutex_init(&new->lock, NULL);
	return new;
}

static void drop(struct verification_cache *cache, struct entry *entry)
{
	lru_remove(&cache->entries, &entry->item);
	tls_peer_unref(entry->peer);
	free(entry);
}

void verification_cache_free(struct verification_cache *cache)
{
	if (!cache)
		return;
	while (cache->entries.oldest)
		drop(cache, entry_of(cache->entries.oldest));
	lru_destroy(&cache->entries);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

struct tls_peer *verification_cache_find(struct verification_cache *cache,
                                         const uint8_t fingerprint[PEER_FINGERPRINT_SIZE], int64_t now,
                                         struct verify_result *result)
{
	struct tls_peer *peer = NULL;
	struct entry *entry;

	pthread_mutex_lock(&cache->lock);
	entry = entry_of(lru_find(&cache->entries, fingerprint));
	/* Both ends: the wall clock may have been set back since. */
	if (entry && (now < entry->result.valid_from || now >= entry->result.valid_until)) {
		drop(cache, entry);
		cache->expired++;
		entry = NULL;
	}
	if (entry) {
		cache->hits++;
		*result = entry->result;
		peer = tls_peer_ref(entry->peer);
	} else {
		cache->misses++;
	}
	pthread_mutex_unlock(&cache->lock);
	return peer;
}

static void insert(struct verification_cache *cache, struct tls_peer *peer, const struct verify_result *result)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return;
	entry->item.cost = peer->size;
	entry->peer = tls_peer_ref(peer);
	entry->result = *result;
	lru_insert(&cache->entries, &entry->item, peer->fingerprint);
	while (cache->entries.count > VERIFICATION_CACHE_ENTRIES || cache->entries.cost > VERIFICATION_CACHE_BYTES) {
		drop(cache, entry_of(cache->entries.oldest));
		cache->evicted++;
	}
}

struct tls_peer *verification_cache_add(struct verification_cache *cache, struct tls_peer *peer,
                                        const struct verify_result *result)
{
	struct entry *entry;
	struct tls_peer *kept = peer;

	pthread_mutex_lock(&cache->lock);
	entry = entry_of(lru_find(&cache->entries, peer->fingerprint));
	if (entry) {
		entry->result = *result;
		kept = entry->peer;
	} else {
		insert(cache, peer, result);
	}
	tls_peer_ref(kept);
	pthread_mutex_unlock(&cache->lock);
	return kept;
}

void verification_cache_statistics(struct verification_cache *cache, struct verification_cache_statistics *statistics)
{
	pthread_mutex_lock(&cache->lock);
	*statistics = (struct verification_cache_statistics){
	        .hits = cache->hits,
	        .misses = cache->misses,
	        .expired = cache->expired,
	        .evicted = cache->evicted,
	        .entries = cache->entries.count,
	        .bytes = cache->entries.cost,
	};
	pthread_mutex_unlock(&cache->lock);
}
