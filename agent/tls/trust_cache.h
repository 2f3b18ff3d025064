/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trust_cache.h: parsed trust, shared by all contexts whose settings trust the same. The system's bundle costs 35 ms
 * and 0.8 MB to parse, and a thousand policies may use it. Any thread; nothing is parsed under the lock. Contexts keep
 * references of their own.
 */
#ifndef POSTERN_TLS_TRUST_CACHE_H
#define POSTERN_TLS_TRUST_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct tls_settings;
struct trust_cache;
struct trust_store; /* trust_store.h */

struct trust_cache *trust_cache_new(void);
void trust_cache_free(struct trust_cache *cache); /* NULL-safe */

/* A new reference, or NULL. */
struct trust_store *trust_cache_get(struct trust_cache *cache, const uint8_t key[static 32]);
/*
 * The caller's reference becomes one to the store that all with this key share: this one, or one that another thread
 * brought before. Without memory nothing is shared, which is no error.
 */
struct trust_store *trust_cache_put(struct trust_cache *cache, struct trust_store *store);
/*
 * Have what these settings trust parsed and kept until it is told of others; NULL: of none. Settings that are of no use
 * are none. 0 or -ENOMEM.
 */
int trust_cache_prepare(struct trust_cache *cache, const struct tls_settings *settings);
/* Drop what no context has any more. */
void trust_cache_trim(struct trust_cache *cache);
size_t trust_cache_count(struct trust_cache *cache);

#endif
