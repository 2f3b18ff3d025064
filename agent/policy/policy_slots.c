// SPDX-License-Identifier: GPL-2.0-only
/* Policies by name: which came, went and changed; the indexes of their statuses. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/compilation.h"
#include "policy/vector.h"

int compare_policies(const struct compiled_policy *left, const struct compiled_policy *right)
{
	int order;

	if (!left->why_quarantined != !right->why_quarantined)
		return left->why_quarantined ? 1 : -1;
	order = object_compare(left->object, right->object);
	if (order)
		return order;
	return left->ordinal < right->ordinal ? -1 : left->ordinal > right->ordinal;
}

static int compare_to_slot(const void *object, const void *slot)
{
	return object_compare(object, (*(struct policy_slot *const *)slot)->object);
}

/* The index of the slot of this name, or of the first that is greater. */
static size_t find_place(const struct compiler *compiler, const struct object *object, bool *found)
{
	return place_sorted(object, compiler->slots, compiler->slot_count, sizeof(struct policy_slot *),
	                    compare_to_slot, found);
}

static struct policy_slot *get_slot(struct compiler *compiler, const struct object *object)
{
	struct policy_slot *slot;
	bool found;
	size_t place = find_place(compiler, object, &found);

	if (found)
		return compiler->slots[place];
	if (vector_reserve(&compiler->slots, compiler->slot_count, &compiler->slot_capacity,
	                   sizeof(struct policy_slot *)) < 0)
		return NULL;
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->object = object;
	slot->index = SNAPSHOT_NO_POLICY;
	memmove(compiler->slots + place + 1, compiler->slots + place,
	        (compiler->slot_count - place) * sizeof(struct policy_slot *));
	compiler->slots[place] = slot;
	compiler->slot_count++;
	compiler->slots_moved = true;
	return slot;
}

/* It is freed at the end: coverages still point at it. */
static int retire(struct compiler *compiler, struct policy_slot *slot)
{
	struct compiled_policy *policy = slot->in_force;

	if (vector_reserve(&compiler->dead, compiler->dead_count, &compiler->dead_capacity,
	                   sizeof(struct compiled_policy *)) < 0)
		return -ENOMEM;
	compiler->dead[compiler->dead_count++] = policy;
	slot->in_force = NULL;
	slot->dirty = true;
	if (slot->quarantined_count)
		slot->object = slot->quarantined[0]->object;
	return detach_policy(compiler, policy);
}

static int put_in_force(struct compiler *compiler, const struct object *object)
{
	struct policy_slot *slot = get_slot(compiler, object);
	struct compiled_policy *policy;

	if (!slot)
		return -ENOMEM;
	slot->dirty = true;
	slot->object = object;
	if (compiled_policy_new(compiler, object, NULL, 0, &policy) < 0)
		return -ENOMEM;
	policy->slot = slot;
	slot->in_force = policy;
	return attach_policy(compiler, policy);
}

static int put_in_quarantine(struct compiler *compiler, const struct quarantined *entry, size_t ordinal)
{
	struct policy_slot *slot = get_slot(compiler, entry->object);
	struct compiled_policy *policy;

	if (!slot)
		return -ENOMEM;
	slot->dirty = true;
	if (vector_reserve(&slot->quarantined, slot->quarantined_count, &slot->quarantined_capacity,
	                   sizeof(struct compiled_policy *)) < 0 ||
	    compiled_policy_new(compiler, entry->object, entry->why, ordinal, &policy) < 0)
		return -ENOMEM;
	policy->slot = slot;
	slot->quarantined[slot->quarantined_count++] = policy;
	return attach_policy(compiler, policy);
}

static int change_policy(struct compiler *compiler, const struct object_change *change)
{
	if (change->old) {
		bool found;
		size_t place = find_place(compiler, change->old, &found);

		if (retire(compiler, compiler->slots[place]) < 0)
			return -ENOMEM;
	}
	return change->new ? put_in_force(compiler, change->new) : 0;
}

static int compile_again(struct compiler *compiler)
{
	static const enum object_kind kinds[] = {OBJECT_CONFIG_MAP, OBJECT_SECRET, OBJECT_CLUSTER_TRUST_BUNDLE};
	bool changed = false;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct changes *changes = &compiler->changes[kinds[i]];

		for (size_t j = 0; j < changes->count; j++) {
			const struct object_change *change = &changes->items[j];
			const struct object *object = change->new ? change->new : change->old;

			mark_policies_naming(compiler, kinds[i], object->namespace_, object->name);
		}
		changed |= changes->count;
	}
	for (size_t i = 0; changed && i < compiler->slot_count; i++) {
		struct policy_slot *slot = compiler->slots[i];
		const struct object *object = slot->object;

		if (slot->in_force && slot->in_force->stale &&
		    (retire(compiler, slot) < 0 || put_in_force(compiler, object) < 0))
			return -ENOMEM;
	}
	return 0;
}

int change_policies(struct compiler *compiler)
{
	const struct changes *changes = &compiler->changes[OBJECT_BACKEND_TLS_POLICY];

	for (size_t i = 0; i < changes->count; i++)
		if (change_policy(compiler, &changes->items[i]) < 0)
			return -ENOMEM;
	for (size_t i = 0; compiler->first && i < compiler->quarantine_count[OBJECT_BACKEND_TLS_POLICY]; i++)
		if (put_in_quarantine(compiler, &compiler->quarantine[OBJECT_BACKEND_TLS_POLICY][i], i) < 0)
			return -ENOMEM;
	return compiler->first ? 0 : compile_again(compiler);
}

static void free_slot(struct policy_slot *slot)
{
	status_entry_unref(slot->status);
	free(slot->quarantined);
	free(slot);
}

/* By name: nothing is known of what made the last snapshot. */
static void map_by_name(struct compiler *compiler)
{
	const struct status_list *statuses = compiler->last->policies;
	size_t next = 0;

	for (size_t i = 0; i < statuses->count; i++) {
		const struct object named = {.namespace_ = statuses->entries[i]->status.namespace_,
		                             .name = statuses->entries[i]->status.name};

		while (next < compiler->slot_count && object_compare(compiler->slots[next]->object, &named) < 0)
			next++;
		if (next < compiler->slot_count && !object_compare(compiler->slots[next]->object, &named))
			compiler->policy_map[i] = (uint32_t)next;
	}
}

static bool is_empty(const struct policy_slot *slot)
{
	return !slot->in_force && !slot->quarantined_count;
}

static void number_slots(struct compiler *compiler)
{
	size_t kept = 0;

	for (size_t i = 0; i < compiler->slot_count; i++) {
		struct policy_slot *slot = compiler->slots[i];

		if (is_empty(slot)) {
			free_slot(slot);
			continue;
		}
		if (!compiler->first && slot->index != SNAPSHOT_NO_POLICY)
			compiler->policy_map[slot->index] = (uint32_t)kept;
		slot->index = (uint32_t)kept;
		compiler->slots[kept++] = slot;
	}
	compiler->slot_count = kept;
}

int number_policies(struct compiler *compiler)
{
	size_t old_count = compiler->last ? compiler->last->policies->count : 0;

	for (size_t i = 0; !compiler->slots_moved && i < compiler->dead_count; i++)
		compiler->slots_moved = is_empty(compiler->dead[i]->slot);
	if (!compiler->slots_moved && !compiler->first)
		return 0;
	compiler->statuses_changed = true;
	compiler->policy_map = malloc((old_count + 1) * sizeof(*compiler->policy_map));
	if (!compiler->policy_map)
		return -ENOMEM;
	for (size_t i = 0; i < old_count; i++)
		compiler->policy_map[i] = SNAPSHOT_NO_POLICY;
	number_slots(compiler);
	if (compiler->first && compiler->last)
		map_by_name(compiler);
	return 0;
}

void free_dead_policies(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->dead_count; i++)
		compiled_policy_free(compiler, compiler->dead[i]);
	free(compiler->dead);
	compiler->dead = NULL;
	compiler->dead_count = compiler->dead_capacity = 0;
}

void free_slots(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->slot_count; i++) {
		struct policy_slot *slot = compiler->slots[i];

		compiled_policy_free(compiler, slot->in_force);
		for (size_t j = 0; j < slot->quarantined_count; j++)
			compiled_policy_free(compiler, slot->quarantined[j]);
		free_slot(slot);
	}
	free(compiler->slots);
	compiler->slots = NULL;
	compiler->slot_count = compiler->slot_capacity = 0;
}
