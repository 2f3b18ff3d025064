// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "policy/snapshot.h"
#include "policy/snapshot_data.h"

/* A place in a list of chunks. */
struct cursor {
	const struct destination_list *list;
	size_t chunk, item;
};

static const struct destination *current(const struct cursor *cursor)
{
	return cursor->chunk < cursor->list->chunk_count ? &cursor->list->chunks[cursor->chunk]->items[cursor->item]
	                                                 : NULL;
}

static void advance(struct cursor *cursor)
{
	if (++cursor->item < cursor->list->chunks[cursor->chunk]->count)
		return;
	cursor->item = 0;
	cursor->chunk++;
}

/* Both stand before the same chunk: nothing in it differs. */
static bool skip_shared(struct cursor *old, struct cursor *new)
{
	if (old->item || new->item || old->chunk >= old->list->chunk_count || new->chunk >= new->list->chunk_count ||
	    old->list->chunks[old->chunk] != new->list->chunks[new->chunk])
		return false;
	old->chunk++;
	new->chunk++;
	return true;
}

static const struct policy_status *policy_of(const struct snapshot *snapshot, const struct destination *destination)
{
	return destination->policy == SNAPSHOT_NO_POLICY ? NULL : snapshot_policy_at(snapshot, destination->policy);
}

/* An index may move because another policy came or went: the name counts. */
static bool same_policy(const struct policy_status *left, const struct policy_status *right)
{
	if (!left || !right || left == right)
		return left == right;
	return !strcmp(left->namespace_, right->namespace_) && !strcmp(left->name, right->name);
}

void snapshot_diff(const struct snapshot *old, const struct snapshot *new,
                   void (*each)(void *context, const struct destination *old, const struct destination *new),
                   void *context)
{
	static const struct destination_list nothing;
	struct cursor before = {.list = old ? &old->destinations : &nothing}, after = {.list = &new->destinations};

	for (;;) {
		const struct destination *left, *right;
		int order;

		if (skip_shared(&before, &after))
			continue;
		left = current(&before);
		right = current(&after);
		if (!left && !right)
			return;
		order = !left ? 1 : !right ? -1 : destination_key_compare(&left->key, &right->key);
		if (order < 0)
			each(context, left, NULL);
		else if (order > 0)
			each(context, NULL, right);
		else if (!destination_equal(left, right) || !same_policy(policy_of(old, left), policy_of(new, right)))
			each(context, left, right);
		if (order <= 0)
			advance(&before);
		if (order >= 0)
			advance(&after);
	}
}
