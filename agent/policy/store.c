// SPDX-License-Identifier: GPL-2.0-only
#include "policy/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sorted.h"
#include "policy/vector.h"

struct object_list {
	struct object **items; /* sorted by object_compare() */
	size_t count;
	size_t capacity;
};

struct quarantine_list {
	struct quarantined *items;
	size_t count;
	size_t capacity;
};

struct object_store {
	struct object_list kinds[OBJECT_KINDS];
	struct quarantine_list quarantine[OBJECT_KINDS];
};

struct object_store *object_store_new(void)
{
	return calloc(1, sizeof(struct object_store));
}

void object_store_clear(struct object_store *store)
{
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
		struct object_list *list = &store->kinds[kind];
		struct quarantine_list *quarantine = &store->quarantine[kind];

		for (size_t i = 0; i < list->count; i++)
			object_unref(list->items[i]);
		for (size_t i = 0; i < quarantine->count; i++) {
			object_unref(quarantine->items[i].object);
			free(quarantine->items[i].why);
		}
		list->count = 0;
		quarantine->count = 0;
	}
}

void object_store_swap(struct object_store *left, struct object_store *right)
{
	struct object_store content = *left;

	*left = *right;
	*right = content;
}

void object_store_free(struct object_store *store)
{
	if (!store)
		return;
	object_store_clear(store);
	for (size_t kind = 0; kind < OBJECT_KINDS; kind++) {
		free(store->kinds[kind].items);
		free(store->quarantine[kind].items);
	}
	free(store);
}

static int compare_to_item(const void *key, const void *item)
{
	return object_compare(key, *(struct object *const *)item);
}

/* The index of the object, or of the first that is greater. */
static size_t position(const struct object_list *list, const struct object *key, bool *found)
{
	return place_sorted(key, list->items, list->count, sizeof(*list->items), compare_to_item, found);
}

int object_store_put(struct object_store *store, struct object *object)
{
	struct object_list *list = &store->kinds[object->kind];
	bool found;
	size_t index = position(list, object, &found);

	if (found) {
		object_ref(object);
		object_unref(list->items[index]);
		list->items[index] = object;
		return 0;
	}
	if (vector_reserve(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	memmove(list->items + index + 1, list->items + index, (list->count - index) * sizeof(*list->items));
	list->items[index] = object_ref(object);
	list->count++;
	return 0;
}

static size_t position_of_name(const struct object_store *store, enum object_kind kind, const char *namespace_,
                               const char *name, bool *found)
{
	struct object key = {.namespace_ = namespace_, .name = name};

	return position(&store->kinds[kind], &key, found);
}

bool object_store_remove(struct object_store *store, enum object_kind kind, const char *namespace_, const char *name)
{
	struct object_list *list = &store->kinds[kind];
	bool found;
	size_t index = position_of_name(store, kind, namespace_, name, &found);

	if (!found)
		return false;
	object_unref(list->items[index]);
	list->count--;
	memmove(list->items + index, list->items + index + 1, (list->count - index) * sizeof(*list->items));
	return true;
}

int object_store_quarantine(struct object_store *store, struct object *object, const char *why)
{
	struct quarantine_list *list = &store->quarantine[object->kind];
	char *copy;

	if (vector_reserve(&list->items, list->count, &list->capacity, sizeof(*list->items)) < 0)
		return -ENOMEM;
	copy = strdup(why);
	if (!copy)
		return -ENOMEM;
	list->items[list->count++] = (struct quarantined){.object = object_ref(object), .why = copy};
	return 0;
}

bool object_store_release(struct object_store *store, enum object_kind kind, const char *namespace_, const char *name)
{
	struct quarantine_list *list = &store->quarantine[kind];
	size_t kept = 0, count = list->count;

	for (size_t i = 0; i < count; i++) {
		struct quarantined *entry = &list->items[i];

		if (strcmp(entry->object->name, name) != 0 || strcmp(entry->object->namespace_, namespace_) != 0) {
			list->items[kept++] = *entry;
			continue;
		}
		object_unref(entry->object);
		free(entry->why);
	}
	list->count = kept;
	return kept != count;
}

const struct object *object_store_find(const struct object_store *store, enum object_kind kind, const char *namespace_,
                                       const char *name)
{
	bool found;
	size_t index = position_of_name(store, kind, namespace_, name, &found);

	return found ? store->kinds[kind].items[index] : NULL;
}

size_t object_store_count(const struct object_store *store, enum object_kind kind)
{
	return store->kinds[kind].count;
}

size_t object_store_first_of(const struct object_store *store, enum object_kind kind, const char *namespace_)
{
	bool found;

	return position_of_name(store, kind, namespace_, "", &found);
}

const struct object *object_store_at(const struct object_store *store, enum object_kind kind, size_t index)
{
	return store->kinds[kind].items[index];
}

size_t object_store_quarantined_count(const struct object_store *store, enum object_kind kind)
{
	return store->quarantine[kind].count;
}

const struct quarantined *object_store_quarantined_at(const struct object_store *store, enum object_kind kind,
                                                      size_t index)
{
	return &store->quarantine[kind].items[index];
}
