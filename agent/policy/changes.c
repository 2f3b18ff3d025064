// SPDX-License-Identifier: GPL-2.0-only
/*
 * The store against what was seen of it. An object never changes, so pointers are compared; what was seen is held by a
 * reference, so that no new object can have an old one's address.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compilation.h"
#include "policy/vector.h"

/* Objects are immutable; only the count of references, which is no part of what they say, changes here. */
static void reference(const struct object *object)
{
	object_ref((struct object *)object);
}

static void unreference(const struct object *object)
{
	object_unref((struct object *)object);
}

static int add_change(struct changes *changes, const struct object *old, const struct object *new)
{
	if (vector_reserve(&changes->items, changes->count, &changes->capacity, sizeof(*changes->items)) < 0)
		return -ENOMEM;
	changes->items[changes->count++] = (struct object_change){old, new};
	return 0;
}

/* Both are sorted by name. */
static int compare_kind(const struct compiler *compiler, enum object_kind kind, struct changes *changes)
{
	const struct seen_objects *seen = &compiler->seen[kind];
	size_t count = object_store_count(compiler->store, kind);

	for (size_t i = 0, j = 0; i < seen->count || j < count;) {
		const struct object *old = i < seen->count ? seen->objects[i] : NULL;
		const struct object *new = j < count ? object_store_at(compiler->store, kind, j) : NULL;
		int order = old == new ? 0 : !old ? 1 : !new ? -1 : object_compare(old, new);

		if (old != new &&add_change(changes, order <= 0 ? old : NULL, order >= 0 ? new : NULL) < 0)
			return -ENOMEM;
		i += order <= 0;
		j += order >= 0;
	}
	return 0;
}

/* From here on the objects of changes->items[].old belong to the changes. */
static int see_kind(struct compiler *compiler, enum object_kind kind, struct changes *changes)
{
	struct seen_objects *seen = &compiler->seen[kind];
	size_t count = object_store_count(compiler->store, kind);
	const struct object **objects;

	if (!changes->count)
		return 0;
	objects = calloc(count + 1, sizeof(*objects));
	if (!objects) {
		changes->count = 0; /* nothing was taken over */
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		objects[i] = object_store_at(compiler->store, kind, i);
	for (size_t i = 0; i < changes->count; i++)
		if (changes->items[i].new)
			reference(changes->items[i].new);
	free(seen->objects);
	*seen = (struct seen_objects){objects, count};
	return 0;
}

bool quarantine_changed(const struct compiler *compiler)
{
	for (enum object_kind kind = 0; kind < OBJECT_KINDS; kind++) {
		size_t count = object_store_quarantined_count(compiler->store, kind);

		if (count != compiler->quarantine_count[kind])
			return true;
		for (size_t i = 0; i < count; i++) {
			const struct quarantined *new = object_store_quarantined_at(compiler->store, kind, i);
			const struct quarantined *old = &compiler->quarantine[kind][i];

			if (old->object != new->object || strcmp(old->why, new->why))
				return true;
		}
	}
	return false;
}

static int see_quarantine(struct compiler *compiler, enum object_kind kind)
{
	size_t count = object_store_quarantined_count(compiler->store, kind);
	struct quarantined *entries = count ? calloc(count, sizeof(*entries)) : NULL;

	if (count && !entries)
		return -ENOMEM;
	compiler->quarantine[kind] = entries;
	for (size_t i = 0; i < count; i++) {
		const struct quarantined *entry = object_store_quarantined_at(compiler->store, kind, i);

		entries[i].why = strdup(entry->why);
		if (!entries[i].why)
			return -ENOMEM;
		entries[i].object = object_ref(entry->object);
		compiler->quarantine_count[kind]++;
	}
	return 0;
}

int find_changes(struct compiler *compiler)
{
	for (enum object_kind kind = 0; kind < OBJECT_KINDS; kind++) {
		struct changes *changes = &compiler->changes[kind];

		if (compare_kind(compiler, kind, changes) < 0) {
			changes->count = 0;
			return -ENOMEM;
		}
		if (see_kind(compiler, kind, changes) < 0 || (compiler->first && see_quarantine(compiler, kind) < 0))
			return -ENOMEM;
	}
	return 0;
}

void end_changes(struct compiler *compiler)
{
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
		struct changes *changes = &compiler->changes[kind];

		for (size_t i = 0; i < changes->count; i++)
			if (changes->items[i].old)
				unreference(changes->items[i].old);
		free(changes->items);
		*changes = (struct changes){0};
	}
}

void forget_seen(struct compiler *compiler)
{
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
		for (size_t i = 0; i < compiler->seen[kind].count; i++)
			unreference(compiler->seen[kind].objects[i]);
		free(compiler->seen[kind].objects);
		compiler->seen[kind] = (struct seen_objects){0};
		for (size_t i = 0; i < compiler->quarantine_count[kind]; i++) {
			object_unref(compiler->quarantine[kind][i].object);
			free(compiler->quarantine[kind][i].why);
		}
		free(compiler->quarantine[kind]);
		compiler->quarantine[kind] = NULL;
		compiler->quarantine_count[kind] = 0;
	}
}
