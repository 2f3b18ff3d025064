/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * destinations.h: a sorted array of destinations that versions of it share: chunks of up to DESTINATION_CHUNK_MAX,
 * reference-counted, never changed once made. An edit copies the chunks that it touches. Any thread may read a list
 * and free the one that it owns.
 */
#ifndef POSTERN_POLICY_DESTINATIONS_H
#define POSTERN_POLICY_DESTINATIONS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/snapshot.h"

#define DESTINATION_CHUNK_MAX 256

struct destination_chunk {
	atomic_uint references;
	size_t count; /* never 0 */
	struct destination items[];
};

struct destination_list { /* all zero = empty */
	struct destination_chunk **chunks;
	size_t *starts; /* index of each chunk's first destination */
	size_t chunk_count, chunk_capacity;
	size_t count;
};

struct destination_edit {
	struct destination destination;
	bool removed; /* the key alone counts */
};

/* By address, then port: "any port" (0) comes before the ports of the same address. */
int destination_key_compare(const struct postern_destination_key *left, const struct postern_destination_key *right);
/* In everything but the index of the policy. */
bool destination_equal(const struct destination *left, const struct destination *right);

/*
 * new = old with the edits (sorted by key, each key once) put in. policy_map, unless NULL, gives old's policy indexes
 * anew (edits have new ones already). 0, or -ENOMEM with new empty.
 */
int destination_list_edit(const struct destination_list *old, const struct destination_edit *edits, size_t edit_count,
                          const uint32_t *policy_map, struct destination_list *new);
void destination_list_free(struct destination_list *list);

/* The index of the first destination whose key is not less; count if there is none. */
size_t destination_list_lower_bound(const struct destination_list *list, const struct postern_destination_key *key);
const struct destination *destination_list_at(const struct destination_list *list, size_t index);
/* NULL: no such key. */
const struct destination *destination_list_find(const struct destination_list *list,
                                                const struct postern_destination_key *key);

#endif
