/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * verification_cache.h: which chains have been verified under one context's settings. Building and checking a path
 * costs two signatures a handshake, and the same few backends show the same chains again and again. What a hit spares
 * is the path alone: that the peer has the leaf's key is proven in every full handshake (CertificateVerify,
 * ServerKeyExchange).
 *
 * Only success is kept, and only for as long as every certificate of the verified path, its anchor and its CRLs say so.
 * New settings (a CA, a name, a CRL) are a new context with an empty cache. Bounded, least recently used first. Any
 * thread: a lock is held for a look-up or an insertion, never while something is verified.
 */
#ifndef POSTERN_TLS_VERIFICATION_CACHE_H
#define POSTERN_TLS_VERIFICATION_CACHE_H

#include "tls/peer_private.h"

#define VERIFICATION_CACHE_ENTRIES 1024
#define VERIFICATION_CACHE_BYTES   ((size_t)2 << 20) /* of DER; parsed it is about four times that */

struct verification_cache;

struct verification_cache_statistics {
	uint64_t hits;
	uint64_t misses;  /* outdated ones included */
	uint64_t expired; /* entries dropped since now is not within their window */
	uint64_t evicted;
	size_t entries;
	size_t bytes;
};

struct verification_cache *verification_cache_new(void); /* NULL: no memory */
void verification_cache_free(struct verification_cache *cache);

/*
 * A new reference to the peer with this fingerprint, and what was found of it; NULL: not verified as of now. An entry
 * that does not hold now, be it too late or too early for it, is dropped.
 */
struct tls_peer *verification_cache_find(struct verification_cache *cache,
                                         const uint8_t fingerprint[PEER_FINGERPRINT_SIZE], int64_t now,
                                         struct verify_result *result);
/*
 * The peer was verified with this result. A new reference to the peer that the cache has for it: this one, or one that
 * another thread brought before. Never fails: without memory nothing is kept.
 */
struct tls_peer *verification_cache_add(struct verification_cache *cache, struct tls_peer *peer,
                                        const struct verify_result *result);
void verification_cache_statistics(struct verification_cache *cache, struct verification_cache_statistics *statistics);

#endif
