/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * session_cache.h: sessions of one context (settings) that can be resumed, by owner (session.h). All workers share it;
 * new settings are a new context with an empty cache. Sessions are kept as objects, never serialised, and no SSL ever
 * refers to an object in here: OpenSSL marks the session of a connection as it sees fit, without a lock of ours.
 *
 * Bounded, least recently used owner first. A lock is held for the time of a look-up and at most one SSL_SESSION_dup().
 */
#ifndef POSTERN_TLS_SESSION_CACHE_H
#define POSTERN_TLS_SESSION_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "tls/session.h"

#define SESSION_CACHE_OWNERS    4096
#define SESSION_CACHE_BYTES     ((size_t)32 << 20) /* by estimate, parsed certificates included */
#define SESSION_CACHE_PER_OWNER 4                  /* sessions; the newest stay */

/*
 * RFC 8446 4.6.1 forbids to keep a ticket for longer than 7 days, and recommends to bound what one full handshake may
 * be stretched to by tickets for tickets; RFC 5246 F.1.4 has 24 hours for a session. So: a day after the handshake in
 * which the backend last proved that it has its key, there is another one.
 */
#define SESSION_LIFETIME_MAX 86400

struct session_cache;

/* Every byte counts: made by session_cache_key() only. */
struct session_cache_key {
	uint8_t client_certificate[32]; /* its digest; all zero: none */
	struct postern_destination_key backend;
	uint32_t gateway_id;
	uint32_t shows_certificate;
};

/* One session and what is known of it. Whoever has one frees the session and drops the peer. */
struct resumable {
	SSL_SESSION *session;
	struct tls_peer *peer; /* whom the handshake verified that it comes from */
	int64_t authenticated; /* Unix time of the last full handshake, from which it comes in one step or more */
	uint64_t serial;       /* later ones have greater numbers; given by the cache, as is what follows */
	uint64_t newest;       /* serial of the newest that the owner had when this one was taken */
};

struct session_cache_statistics {
	uint64_t kept;
	uint64_t taken;
	uint64_t expired;
	uint64_t evicted;
	size_t owners;
	size_t sessions;
	size_t bytes;
};

struct session_cache *session_cache_new(void); /* NULL: no memory */
void session_cache_free(struct session_cache *cache);

void session_cache_key(const struct tls_session_owner *owner, struct session_cache_key *key);

/*
 * Takes the session, which nobody else refers to, and a reference of its own to the peer. False: not kept (no time
 * left, no memory).
 */
bool session_cache_put(struct session_cache *cache, const struct session_cache_key *key,
                       const struct resumable *resumable, int64_t now);
/*
 * The oldest session of the owner, and nobody gets it again (RFC 8446 C.4); of the last one a copy. False: there is
 * none. Sessions that are out of time as of now, or from a time after it, are dropped.
 */
bool session_cache_take(struct session_cache *cache, const struct session_cache_key *key, int64_t now,
                        struct resumable *resumable);
/* Drop the owner's sessions up to this serial (UINT64_MAX: all). */
void session_cache_forget(struct session_cache *cache, const struct session_cache_key *key, uint64_t serial);

void resumable_release(struct resumable *resumable);
void session_cache_statistics(struct session_cache *cache, struct session_cache_statistics *statistics);

#endif
