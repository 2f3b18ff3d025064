// SPDX-License-Identifier: GPL-2.0-only
/* The reference-counted lists that snapshots share. */
#include <stdlib.h>
#include <string.h>

#include "base/sorted.h"
#include "policy/gateways.h"
#include "policy/snapshot_data.h"

static void count_up(atomic_uint *references)
{
	atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
}

static bool count_down(atomic_uint *references)
{
	return atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel) == 1;
}

struct status_entry *status_entry_ref(struct status_entry *entry)
{
	count_up(&entry->references);
	return entry;
}

void status_entry_unref(struct status_entry *entry)
{
	struct policy_status *status;

	if (!entry || !count_down(&entry->references))
		return;
	status = &entry->status;
	for (size_t i = 0; i < status->ancestor_count + status->ancestors_left_out; i++) {
		free(status->ancestors[i].namespace_);
		free(status->ancestors[i].name);
	}
	free(status->ancestors);
	free(status->namespace_);
	free(status->name);
	free(status->accepted.message);
	free(status->resolved_refs.message);
	free(status->warnings);
	free(entry);
}

struct status_list *status_list_new(size_t count)
{
	struct status_list *list = calloc(1, sizeof(*list) + count * sizeof(struct status_entry *));

	if (!list)
		return NULL;
	atomic_init(&list->references, 1);
	list->count = count;
	return list;
}

struct status_list *status_list_ref(struct status_list *list)
{
	count_up(&list->references);
	return list;
}

void status_list_unref(struct status_list *list)
{
	if (!list || !count_down(&list->references))
		return;
	for (size_t i = 0; i < list->count; i++)
		status_entry_unref(list->entries[i]);
	free(list);
}

struct settings_list *settings_list_new(size_t count)
{
	struct settings_list *list = calloc(1, sizeof(*list) + count * sizeof(struct settings_entry *));

	if (!list)
		return NULL;
	atomic_init(&list->references, 1);
	list->count = count;
	return list;
}

struct settings_list *settings_list_ref(struct settings_list *list)
{
	count_up(&list->references);
	return list;
}

void settings_list_unref(struct settings_list *list)
{
	if (!list || !count_down(&list->references))
		return;
	for (size_t i = 0; i < list->count; i++)
		settings_entry_unref(list->entries[i]);
	free(list);
}

struct gateway_list *gateway_list_new(struct gateway_status *statuses, size_t count)
{
	struct gateway_list *list = calloc(1, sizeof(*list));

	if (!list) {
		gateway_statuses_free(statuses, count);
		return NULL;
	}
	atomic_init(&list->references, 1);
	list->statuses = statuses;
	list->count = count;
	return list;
}

struct gateway_list *gateway_list_ref(struct gateway_list *list)
{
	count_up(&list->references);
	return list;
}

void gateway_list_unref(struct gateway_list *list)
{
	if (!list || !count_down(&list->references))
		return;
	gateway_statuses_free(list->statuses, list->count);
	free(list);
}

static int compare_to_status(const void *key_pointer, const void *status_pointer)
{
	const struct object *key = key_pointer;
	const struct gateway_status *status = status_pointer;
	int order = strcmp(key->namespace_, status->namespace_);

	return order ? order : strcmp(key->name, status->name);
}

const struct gateway_status *gateway_list_find(const struct gateway_list *list, const char *namespace_,
                                               const char *name)
{
	const struct object key = {.namespace_ = namespace_, .name = name};

	return find_sorted(&key, list->statuses, list->count, sizeof(*list->statuses), compare_to_status);
}
