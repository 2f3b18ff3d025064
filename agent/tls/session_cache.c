// SPDX-License-Identifier: GPL-2.0-only
#include "tls/session_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/client_certificate.h"
#include "tls/lru.h"
#include "tls/peer_private.h"

/* What an object takes beside its ticket and its certificates, and what a parsed certificate takes for a byte of DER.
 */
#define SESSION_BYTES 1200
#define BYTES_PER_DER 4

struct kept {
	struct resumable resumable;
	int64_t received;
	int64_t expires;
	size_t cost;
	struct kept *next; /* a later one */
};

struct owner {
	struct lru_item item; /* by key; costs what its sessions do */
	struct kept *oldest;
	size_t count;
};

struct session_cache {
	pthread_mutex_t lock;
	struct lru owners;
	uint64_t last_serial;
	size_t sessions;
	uint64_t kept, taken, expired, evicted;
};

_Static_assert(sizeof(struct session_cache_key) == 32 + sizeof(struct postern_destination_key) + 8, "no padding");
_Static_assert(sizeof(struct session_cache_key) <= LRU_KEY_MAX, "the key fits an item");

static struct owner *owner_of(struct lru_item *item)
{
	return item ? container_of(item, struct owner, item) : NULL;
}

void resumable_release(struct resumable *resumable)
{
	SSL_SESSION_free(resumable->session); /* wipes the secret */
	tls_peer_unref(resumable->peer);
	*resumable = (struct resumable){0};
}

/* Outside of the lock: parsed certificates take their time to free. */
static void free_all(struct kept *dropped)
{
	while (dropped) {
		struct kept *next = dropped->next;

		resumable_release(&dropped->resumable);
		free(dropped);
		dropped = next;
	}
}

struct session_cache *session_cache_new(void)
{
	struct session_cache *new = calloc(1, sizeof(*new));

	if (!new || lru_init(&new->owners, sizeof(struct session_cache_key)) < 0) {
		free(new);
		return NULL;
	}
	pthread_mutex_init(&new->lock, NULL);
	return new;
}

void session_cache_key(const struct tls_session_owner *owner, struct session_cache_key *key)
{
	*key = (struct session_cache_key){.backend = owner->backend, .gateway_id = owner->gateway_id};
	key->backend.padding = 0;
	if (!owner->client_certificate)
		return;
	key->shows_certificate = 1;
	memcpy(key->client_certificate, owner->client_certificate->digest, sizeof(key->client_certificate));
}

/* Unlinks *place and puts it on the list of what is freed later. */
static void drop(struct session_cache *cache, struct owner *owner, struct kept **place, struct kept **dropped)
{
	struct kept *kept = *place;

	*place = kept->next;
	owner->count--;
	cache->sessions--;
	lru_set_cost(&cache->owners, &owner->item, owner->item.cost - kept->cost);
	kept->next = *dropped;
	*dropped = kept;
}

static void remove_owner(struct session_cache *cache, struct owner *owner, struct kept **dropped)
{
	while (owner->oldest)
		drop(cache, owner, &owner->oldest, dropped);
	lru_remove(&cache->owners, &owner->item);
	free(owner);
}

void session_cache_free(struct session_cache *cache)
{
	struct kept *dropped = NULL;

	if (!cache)
		return;
	while (cache->owners.oldest)
		remove_owner(cache, owner_of(cache->owners.oldest), &dropped);
	free_all(dropped);
	lru_destroy(&cache->owners);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

/* The wall clock may have been set back: what comes from later than now has no known age. */
static bool in_time(const struct kept *kept, int64_t now)
{
	return kept->received <= now && now < kept->expires;
}

static void expire(struct session_cache *cache, struct owner *owner, int64_t now, struct kept **dropped)
{
	for (struct kept **place = &owner->oldest; *place;) {
		if (in_time(*place, now)) {
			place = &(*place)->next;
			continue;
		}
		drop(cache, owner, place, dropped);
		cache->expired++;
	}
}

/* Owners that nobody asks for any more are not to keep their secrets until room is needed. */
static void expire_oldest_owners(struct session_cache *cache, int64_t now, struct kept **dropped)
{
	for (int i = 0; i < 2 && cache->owners.oldest; i++) {
		struct owner *owner = owner_of(cache->owners.oldest);

		expire(cache, owner, now, dropped);
		if (owner->oldest)
			return;
		remove_owner(cache, owner, dropped);
	}
}

/* Seconds for which the server, RFC 8446 4.6.1 and RFC 5077 3.3 let it be used; 0: not at all. */
static int64_t lifetime(const SSL_SESSION *session)
{
	unsigned long hint = SSL_SESSION_get_ticket_lifetime_hint(session);

	/* TLS 1.2: no ticket, or a ticket of no stated lifetime: OpenSSL's own default for a session. */
	if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION &&
	    (!SSL_SESSION_has_ticket(session) || hint == 0))
		return SSL_SESSION_get_timeout(session);
	return hint < SESSION_LIFETIME_MAX ? (int64_t)hint : SESSION_LIFETIME_MAX;
}

static size_t cost_of(const struct resumable *resumable)
{
	const unsigned char *ticket;
	size_t ticket_length;

	SSL_SESSION_get0_ticket(resumable->session, &ticket, &ticket_length);
	return SESSION_BYTES + ticket_length + BYTES_PER_DER * resumable->peer->size;
}

static struct kept *new_kept(const struct resumable *resumable, int64_t now)
{
	int64_t longest = resumable->authenticated + SESSION_LIFETIME_MAX;
	int64_t expires = now + lifetime(resumable->session);
	struct kept *new;

	if (expires > longest)
		expires = longest;
	if (expires <= now)
		return NULL;
	new = calloc(1, sizeof(*new));
	if (!new)
		return NULL;
	new->resumable = *resumable;
	new->received = now;
	new->expires = expires;
	new->cost = cost_of(resumable);
	return new;
}

static struct owner *find_or_make_owner(struct session_cache *cache, const struct session_cache_key *key)
{
	struct owner *owner = owner_of(lru_find(&cache->owners, key));

	if (owner)
		return owner;
	owner = calloc(1, sizeof(*owner));
	if (owner)
		lru_insert(&cache->owners, &owner->item, key);
	return owner;
}

static void append(struct session_cache *cache, struct owner *owner, struct kept *kept)
{
	struct kept **place = &owner->oldest;

	while (*place)
		place = &(*place)->next;
	*place = kept;
	kept->resumable.serial = ++cache->last_serial;
	owner->count++;
	cache->sessions++;
	cache->kept++;
	lru_set_cost(&cache->owners, &owner->item, owner->item.cost + kept->cost);
}

static void make_room(struct session_cache *cache, struct owner *owner, struct kept **dropped)
{
	if (owner->count > SESSION_CACHE_PER_OWNER)
		drop(cache, owner, &owner->oldest, dropped);
	/* The newest owner stays, whatever a server made its ticket of: it is the least of what it costs already. */
	while (cache->owners.oldest != &owner->item &&
	       (cache->owners.count > SESSION_CACHE_OWNERS || cache->owners.cost > SESSION_CACHE_BYTES)) {
		remove_owner(cache, owner_of(cache->owners.oldest), dropped);
		cache->evicted++;
	}
}

bool session_cache_put(struct session_cache *cache, const struct session_cache_key *key,
                       const struct resumable *resumable, int64_t now)
{
	struct kept *kept = new_kept(resumable, now);
	struct kept *dropped = NULL;
	struct owner *owner;

	if (!kept) {
		SSL_SESSION_free(resumable->session);
		return false;
	}
	tls_peer_ref(resumable->peer);
	pthread_mutex_lock(&cache->lock);
	expire_oldest_owners(cache, now, &dropped);
	owner = find_or_make_owner(cache, key);
	if (owner) {
		append(cache, owner, kept);
		make_room(cache, owner, &dropped);
	}
	pthread_mutex_unlock(&cache->lock);
	free_all(dropped);
	if (!owner)
		free_all(kept);
	return owner;
}

static uint64_t newest_serial(const struct owner *owner)
{
	const struct kept *newest = owner->oldest;

	while (newest->next)
		newest = newest->next;
	return newest->resumable.serial;
}

bool session_cache_take(struct session_cache *cache, const struct session_cache_key *key, int64_t now,
                        struct resumable *resumable)
{
	struct kept *dropped = NULL;
	struct owner *owner;
	struct kept *kept;

	*resumable = (struct resumable){0};
	pthread_mutex_lock(&cache->lock);
	owner = owner_of(lru_find(&cache->owners, key));
	if (owner)
		expire(cache, owner, now, &dropped);
	kept = owner ? owner->oldest : NULL;
	if (kept) {
		*resumable = kept->resumable;
		resumable->newest = newest_serial(owner);
		tls_peer_ref(resumable->peer);
		/* OpenSSL has a TLS 1.3 session used once only: a second user of this object would not be resumed. */
		resumable->session = SSL_SESSION_dup(kept->resumable.session);
		if (kept->next)
			drop(cache, owner, &owner->oldest, &dropped);
		cache->taken++;
	} else if (owner) {
		remove_owner(cache, owner, &dropped);
	}
	pthread_mutex_unlock(&cache->lock);
	free_all(dropped);
	if (kept && !resumable->session)
		resumable_release(resumable);
	return resumable->session;
}

void session_cache_forget(struct session_cache *cache, const struct session_cache_key *key, uint64_t serial)
{
	struct kept *dropped = NULL;
	struct owner *owner;

	pthread_mutex_lock(&cache->lock);
	owner = owner_of(lru_find(&cache->owners, key));
	while (owner && owner->oldest && owner->oldest->resumable.serial <= serial)
		drop(cache, owner, &owner->oldest, &dropped);
	if (owner && !owner->oldest)
		remove_owner(cache, owner, &dropped);
	pthread_mutex_unlock(&cache->lock);
	free_all(dropped);
}

void session_cache_statistics(struct session_cache *cache, struct session_cache_statistics *statistics)
{
	pthread_mutex_lock(&cache->lock);
	*statistics = (struct session_cache_statistics){
	        .kept = cache->kept,
	        .taken = cache->taken,
	        .expired = cache->expired,
	        .evicted = cache->evicted,
	        .owners = cache->owners.count,
	        .sessions = cache->sessions,
	        .bytes = cache->owners.cost,
	};
	pthread_mutex_unlock(&cache->lock);
}
