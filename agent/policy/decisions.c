// SPDX-License-Identifier: GPL-2.0-only
/* Dirty keys -> the new list of destinations. What was covered and is claimed no more stays for a while: tombstones. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/compilation.h"

#define DEFAULT_TOMBSTONE_NS (10ull * 60 * 1000000000)

static bool is_covered(const struct destination *destination)
{
	return destination->verdict != POSTERN_VERDICT_PLAIN;
}

/*
 * What was covered and is claimed no more, or only by what cannot be trusted: its verdict stays for a while, since
 * gateways learn of the change at their own pace, and kube-proxy likewise of a Service that is gone. False if its time
 * is over.
 */
static bool make_tombstone(const struct compiler *compiler, const struct destination *old,
                           struct destination *tombstone)
{
	const struct compile_options *options = &compiler->options;
	uint64_t ttl = options->tombstone_ns ? options->tombstone_ns : DEFAULT_TOMBSTONE_NS;
	uint64_t until = old->tombstone ? old->tombstone_until_ns : compiler->now_ns + ttl;

	if (!is_covered(old) || until <= compiler->now_ns)
		return false;
	*tombstone = *old;
	tombstone->tombstone = true;
	tombstone->tombstone_until_ns = until;
	return true;
}

/*
 * May the new verdict replace what the last snapshot said? A claim in force that is trusted may, like a ClusterIP's.
 * One that is not may unless it would uncover the key, or take it from a trusted claim. A refusal only fills a void.
 */
static bool may_replace(const struct compiler *compiler, const struct destination *new, bool in_force,
                        const struct destination *old)
{
	if (!is_covered(old))
		return true;
	if (!in_force)
		return old->verdict != POSTERN_VERDICT_TLS;
	return new->trusted || compiler->options.operators_own ||
	       (new->verdict != POSTERN_VERDICT_PLAIN && !old->trusted);
}

/* What the last snapshot says of the key, with the index that its policy has now. */
static const struct destination *find_old(const struct compiler *compiler, const struct key_node *key,
                                          struct destination *copy)
{
	const struct destination *old = compiler->last ? destination_list_find(&compiler->last->destinations, &key->key)
	                                               : NULL;

	if (!old)
		return NULL;
	*copy = *old;
	if (compiler->policy_map && copy->policy != SNAPSHOT_NO_POLICY)
		copy->policy = compiler->policy_map[copy->policy];
	return copy;
}

static int count(struct compiler *compiler, const struct destination *destination, int step)
{
	if (destination->policy != SNAPSHOT_NO_POLICY) {
		struct policy_slot *slot = compiler->slots[destination->policy];

		slot->destination_count += (uint32_t)step;
		slot->dirty = true;
	}
	if (!destination->tombstone || destination->verdict != POSTERN_VERDICT_TLS)
		return 0;
	return count_tombstone_settings(compiler, destination->settings_id, step);
}

static int watch(struct compiler *compiler, struct key_node *key, const struct destination_edit *edit)
{
	const struct destination *destination = &edit->destination;

	key->tombstone_until_ns = !edit->removed && destination->tombstone ? destination->tombstone_until_ns : 0;
	if (key->tombstone_until_ns || key->contested)
		return watch_key(compiler, key);
	unwatch_key(compiler, key);
	return 0;
}

/* *changed: the edit says something new. */
static int decide(struct compiler *compiler, struct key_node *key, struct destination_edit *edit, bool *changed)
{
	struct destination old_copy, new;
	const struct destination *old = find_old(compiler, key, &old_copy);
	bool in_force, claimed;

	if (judge_key(compiler, key, &new, &in_force, &claimed) < 0)
		return -ENOMEM;
	*edit = (struct destination_edit){.destination = new, .removed = !claimed};
	if (old && (!claimed || !may_replace(compiler, &new, in_force, old)) &&
	    make_tombstone(compiler, old, &edit->destination))
		edit->removed = false;
	*changed = edit->removed ? old != NULL
	                         : !old || old->policy != edit->destination.policy ||
	                                   !destination_equal(old, &edit->destination);
	if (watch(compiler, key, edit) < 0)
		return -ENOMEM;
	if (!*changed && !compiler->first)
		return 0;
	if (old && !compiler->first && count(compiler, old, -1) < 0)
		return -ENOMEM;
	return edit->removed ? 0 : count(compiler, &edit->destination, 1);
}

static int compare_keys(const void *left_pointer, const void *right_pointer)
{
	const struct key_node *const *left = left_pointer, *const *right = right_pointer;

	return destination_key_compare(&(*left)->key, &(*right)->key);
}

int decide_destinations(struct compiler *compiler)
{
	static const struct destination_list nothing;
	const struct destination_list *old = compiler->last ? &compiler->last->destinations : &nothing;
	_cleanup_free_ struct destination_edit *edits = NULL;
	size_t edit_count = 0;

	sort_list(compiler->dirty_keys, compiler->dirty_key_count, sizeof(struct key_node *), compare_keys);
	edits = calloc(compiler->dirty_key_count + 1, sizeof(*edits));
	if (!edits)
		return -ENOMEM;
	for (size_t i = 0; i < compiler->dirty_key_count; i++) {
		struct destination_edit *edit = &edits[edit_count];
		bool changed;

		if (decide(compiler, compiler->dirty_keys[i], edit, &changed) < 0)
			return -ENOMEM;
		edit_count += changed;
	}
	return destination_list_edit(old, edits, edit_count, compiler->policy_map, &compiler->destinations);
}
