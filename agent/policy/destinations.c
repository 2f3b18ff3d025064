// SPDX-License-Identifier: GPL-2.0-only
#include "policy/destinations.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/vector.h"

#define CHUNK_MIN (DESTINATION_CHUNK_MAX / 4) /* smaller ones are joined with what comes next */

int destination_key_compare(const struct postern_destination_key *left, const struct postern_destination_key *right)
{
	int order = memcmp(left->address.byte, right->address.byte, sizeof(left->address.byte));

	return order ? order : (int)ntohs(left->port) - (int)ntohs(right->port);
}

bool destination_equal(const struct destination *left, const struct destination *right)
{
	return !destination_key_compare(&left->key, &right->key) && left->class == right->class &&
	       left->verdict == right->verdict && left->settings_id == right->settings_id &&
	       left->reason == right->reason && left->trusted == right->trusted &&
	       left->tombstone == right->tombstone && left->tombstone_until_ns == right->tombstone_until_ns;
}

static void chunk_unref(struct destination_chunk *chunk)
{
	if (atomic_fetch_sub_explicit(&chunk->references, 1, memory_order_acq_rel) == 1)
		free(chunk);
}

void destination_list_free(struct destination_list *list)
{
	for (size_t i = 0; i < list->chunk_count; i++)
		chunk_unref(list->chunks[i]);
	free(list->chunks);
	free(list->starts);
	*list = (struct destination_list){0};
}

/* Takes over the reference, on failure too. */
static int add_chunk(struct destination_list *list, struct destination_chunk *chunk)
{
	if (vector_reserve(&list->chunks, list->chunk_count, &list->chunk_capacity, sizeof(*list->chunks)) < 0) {
		chunk_unref(chunk);
		return -ENOMEM;
	}
	list->chunks[list->chunk_count++] = chunk;
	list->count += chunk->count;
	return 0;
}

/* What is not yet a chunk: destinations that were changed, and their neighbours. */
struct builder {
	struct destination_list *list;
	struct destination *pending;
	size_t pending_count, pending_capacity;
};

static int add_pending(struct builder *builder, const struct destination *destination)
{
	if (vector_reserve(&builder->pending, builder->pending_count, &builder->pending_capacity,
	                   sizeof(*builder->pending)) < 0)
		return -ENOMEM;
	builder->pending[builder->pending_count++] = *destination;
	return 0;
}

static int cut_chunk(struct builder *builder, const struct destination *first, size_t count)
{
	struct destination_chunk *chunk = malloc(sizeof(*chunk) + count * sizeof(*first));

	if (!chunk)
		return -ENOMEM;
	atomic_init(&chunk->references, 1);
	chunk->count = count;
	memcpy(chunk->items, first, count * sizeof(*first));
	return add_chunk(builder->list, chunk);
}

/* Chunks of about the same size, three quarters full, so that the next edits find room. */
static int flush(struct builder *builder)
{
	size_t total = builder->pending_count, target = DESTINATION_CHUNK_MAX / 4 * 3;
	size_t pieces = total <= DESTINATION_CHUNK_MAX ? 1 : (total + target - 1) / target;

	for (size_t i = 0, done = 0; total && i < pieces; i++) {
		size_t end = total * (i + 1) / pieces;

		if (cut_chunk(builder, builder->pending + done, end - done) < 0)
			return -ENOMEM;
		done = end;
	}
	builder->pending_count = 0;
	return 0;
}

static bool must_be_mapped(const struct destination_chunk *chunk, const uint32_t *policy_map)
{
	for (size_t i = 0; policy_map && i < chunk->count; i++)
		if (chunk->items[i].policy != SNAPSHOT_NO_POLICY &&
		    policy_map[chunk->items[i].policy] != chunk->items[i].policy)
			return true;
	return false;
}

static int add_mapped(struct builder *builder, const struct destination *old, const uint32_t *policy_map)
{
	struct destination destination = *old;

	if (policy_map && destination.policy != SNAPSHOT_NO_POLICY)
		destination.policy = policy_map[destination.policy];
	return add_pending(builder, &destination);
}

static int add_edit(struct builder *builder, const struct destination_edit *edit)
{
	return edit->removed ? 0 : add_pending(builder, &edit->destination);
}

/* Both in order of keys; an edit takes the place of the old destination of its key. */
static int merge_chunk(struct builder *builder, const struct destination_chunk *chunk,
                       const struct destination_edit *edits, size_t edit_count, const uint32_t *policy_map)
{
	size_t next = 0;

	for (size_t i = 0; i < chunk->count; i++) {
		int order = 1;

		while (next < edit_count &&
		       (order = destination_key_compare(&edits[next].destination.key, &chunk->items[i].key)) <= 0) {
			if (add_edit(builder, &edits[next++]) < 0)
				return -ENOMEM;
			if (!order)
				break;
		}
		if (order && add_mapped(builder, &chunk->items[i], policy_map) < 0)
			return -ENOMEM;
	}
	for (; next < edit_count; next++)
		if (add_edit(builder, &edits[next]) < 0)
			return -ENOMEM;
	return 0;
}

static int share_chunk(struct builder *builder, struct destination_chunk *chunk)
{
	if (flush(builder) < 0)
		return -ENOMEM;
	atomic_fetch_add_explicit(&chunk->references, 1, memory_order_relaxed);
	return add_chunk(builder->list, chunk);
}

static int write_starts(struct destination_list *list)
{
	size_t start = 0;

	if (!list->chunk_count)
		return 0;
	list->starts = calloc(list->chunk_count, sizeof(*list->starts));
	if (!list->starts)
		return -ENOMEM;
	for (size_t i = 0; i < list->chunk_count; i++) {
		list->starts[i] = start;
		start += list->chunks[i]->count;
	}
	return 0;
}

static int edit_chunks(struct builder *builder, const struct destination_list *old,
                       const struct destination_edit *edits, size_t edit_count, const uint32_t *policy_map)
{
	static const struct destination_chunk nothing;
	size_t done = 0;

	for (size_t i = 0; i < old->chunk_count; i++) {
		size_t end = i + 1 < old->chunk_count ? done : edit_count;
		bool touched;

		while (end < edit_count &&
		       destination_key_compare(&edits[end].destination.key, &old->chunks[i + 1]->items[0].key) < 0)
			end++;
		touched = end > done || must_be_mapped(old->chunks[i], policy_map) ||
		          (builder->pending_count && builder->pending_count < CHUNK_MIN);
		if (touched ? merge_chunk(builder, old->chunks[i], edits + done, end - done, policy_map) < 0
		            : share_chunk(builder, old->chunks[i]) < 0)
			return -ENOMEM;
		done = end;
	}
	if (merge_chunk(builder, &nothing, edits + done, edit_count - done, policy_map) < 0)
		return -ENOMEM;
	return flush(builder);
}

int destination_list_edit(const struct destination_list *old, const struct destination_edit *edits, size_t edit_count,
                          const uint32_t *policy_map, struct destination_list *new)
{
	struct builder builder = {.list = new};
	int result;

	*new = (struct destination_list){0};
	result = edit_chunks(&builder, old, edits, edit_count, policy_map);
	if (!result)
		result = write_starts(new);
	free(builder.pending);
	if (result)
		destination_list_free(new);
	return result;
}

static int compare_to_start(const void *index_pointer, const void *start_pointer)
{
	size_t index = *(const size_t *)index_pointer, start = *(const size_t *)start_pointer;

	return index < start ? -1 : index > start;
}

static int compare_to_chunk(const void *key, const void *chunk_pointer)
{
	const struct destination_chunk *chunk = *(struct destination_chunk *const *)chunk_pointer;

	return destination_key_compare(key, &chunk->items[0].key);
}

static int compare_to_destination(const void *key, const void *destination)
{
	return destination_key_compare(key, &((const struct destination *)destination)->key);
}

/* The last chunk that begins at or before key; 0 if none does. */
static size_t chunk_of(const struct destination_list *list, const void *key, const void *beginnings, size_t size,
                       int (*compare)(const void *, const void *))
{
	bool found;
	size_t place = place_sorted(key, beginnings, list->chunk_count, size, compare, &found);

	return found || !place ? place : place - 1;
}

const struct destination *destination_list_at(const struct destination_list *list, size_t index)
{
	size_t chunk = chunk_of(list, &index, list->starts, sizeof(*list->starts), compare_to_start);

	return &list->chunks[chunk]->items[index - list->starts[chunk]];
}

size_t destination_list_lower_bound(const struct destination_list *list, const struct postern_destination_key *key)
{
	const struct destination_chunk *chunk;
	size_t index = chunk_of(list, key, list->chunks, sizeof(struct destination_chunk *), compare_to_chunk);

	if (!list->chunk_count)
		return 0;
	chunk = list->chunks[index];
	return list->starts[index] +
	       first_sorted(key, chunk->items, chunk->count, sizeof(chunk->items[0]), compare_to_destination);
}

const struct destination *destination_list_find(const struct destination_list *list,
                                                const struct postern_destination_key *key)
{
	size_t index = destination_list_lower_bound(list, key);
	const struct destination *destination;

	if (index == list->count)
		return NULL;
	destination = destination_list_at(list, index);
	return destination_key_compare(&destination->key, key) ? NULL : destination;
}
