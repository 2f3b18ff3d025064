// SPDX-License-Identifier: GPL-2.0-only
#include "policy/compile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/compilation.h"

static int compare_cidrs(const void *left_pointer, const void *right_pointer)
{
	const struct cidr *left = left_pointer, *right = right_pointer;
	int order = memcmp(left->address.byte, right->address.byte, sizeof(left->address.byte));

	if (order)
		return order;
	return left->prefix_length < right->prefix_length ? -1 : left->prefix_length > right->prefix_length;
}

static size_t count_cidrs(const struct compilation *compilation)
{
	size_t count = compilation->options->cluster_cidr_count;

	for (size_t i = 0; i < object_store_count(compilation->store, OBJECT_SERVICE_CIDR); i++)
		count += object_store_at(compilation->store, OBJECT_SERVICE_CIDR, i)->service_cidr.cidr_count;
	return count;
}

/* Those of the configuration and of ServiceCIDR objects, each once. */
static int collect_cidrs(struct compilation *compilation)
{
	struct snapshot *snapshot = compilation->snapshot;
	size_t count = 0;

	snapshot->cidrs = calloc(count_cidrs(compilation) + 1, sizeof(*snapshot->cidrs));
	if (!snapshot->cidrs)
		return -ENOMEM;
	for (size_t i = 0; i < compilation->options->cluster_cidr_count; i++)
		snapshot->cidrs[count++] = compilation->options->cluster_cidrs[i];
	for (size_t i = 0; i < object_store_count(compilation->store, OBJECT_SERVICE_CIDR); i++) {
		const struct service_cidr *object =
		        &object_store_at(compilation->store, OBJECT_SERVICE_CIDR, i)->service_cidr;

		for (size_t j = 0; j < object->cidr_count; j++)
			snapshot->cidrs[count++] = object->cidrs[j];
	}
	qsort(snapshot->cidrs, count, sizeof(*snapshot->cidrs), compare_cidrs);
	for (size_t i = 0; i < count; i++)
		if (!i || compare_cidrs(&snapshot->cidrs[snapshot->cidr_count - 1], &snapshot->cidrs[i]))
			snapshot->cidrs[snapshot->cidr_count++] = snapshot->cidrs[i];
	return 0;
}

/* Tombstones may refer to settings that no policy has any more; live connections as well. */
static void keep_old_settings(struct compilation *compilation)
{
	const struct snapshot *snapshot = compilation->snapshot;

	for (size_t i = 0; i < snapshot->destination_count; i++) {
		const struct destination *destination = &snapshot->destinations[i];

		/* The table reaches as far: collect_settings() saw to it. */
		if (destination->tombstone && destination->verdict == POSTERN_VERDICT_TLS &&
		    !compilation->settings_by_id[destination->settings_id])
			compilation->settings_by_id[destination->settings_id] =
			        snapshot_settings_entry(compilation->previous, destination->settings_id);
	}
}

static int widen_settings_table(struct compilation *compilation)
{
	const struct snapshot *previous = compilation->previous;
	size_t size = compilation->settings_by_id_size;
	struct settings_entry **entries;

	if (previous && previous->settings_count &&
	    previous->settings[previous->settings_count - 1]->settings.id >= size)
		size = (size_t)previous->settings[previous->settings_count - 1]->settings.id + 1;
	entries = reallocarray(compilation->settings_by_id, size + 1, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	memset(entries + compilation->settings_by_id_size, 0,
	       (size + 1 - compilation->settings_by_id_size) * sizeof(*entries));
	compilation->settings_by_id = entries;
	compilation->settings_by_id_size = size;
	return 0;
}

static int collect_settings(struct compilation *compilation)
{
	struct snapshot *snapshot = compilation->snapshot;
	size_t count = 0;

	if (widen_settings_table(compilation) < 0)
		return -ENOMEM;
	keep_old_settings(compilation);
	for (size_t id = 0; id < compilation->settings_by_id_size; id++)
		count += compilation->settings_by_id[id] != NULL;
	snapshot->settings = calloc(count + 1, sizeof(struct settings_entry *));
	if (!snapshot->settings)
		return -ENOMEM;
	for (size_t id = 0; id < compilation->settings_by_id_size; id++)
		if (compilation->settings_by_id[id])
			snapshot->settings[snapshot->settings_count++] =
			        settings_entry_ref(compilation->settings_by_id[id]);
	return 0;
}

static int run(struct compilation *compilation)
{
	static int (*const steps[])(struct compilation *) = {
	        compile_policies,    attach_policies, collect_route_uses, cover_services,
	        decide_destinations, write_statuses,  collect_settings,   collect_cidrs,
	};
	int result = 0;

	for (size_t i = 0; result == 0 && i < sizeof(steps) / sizeof(steps[0]); i++)
		result = steps[i](compilation);
	return result;
}

int compile_snapshot(const struct object_store *store, const struct compile_options *options, struct snapshot *previous,
                     struct snapshot **result)
{
	struct compilation compilation = {
	        .store = store,
	        .options = options,
	        .previous = previous,
	        .snapshot = snapshot_new(),
	};
	int error;

	if (!compilation.snapshot)
		return -ENOMEM;
	compilation.snapshot->generation = previous ? previous->generation + 1 : 1;
	compilation.snapshot->compiled_ns = options->now_ns;
	error = run(&compilation);
	if (error)
		snapshot_unref(compilation.snapshot);
	else
		*result = compilation.snapshot;
	free_compiled_policies(&compilation);
	free(compilation.attachments);
	free(compilation.route_uses);
	free(compilation.coverages);
	free(compilation.claims);
	free(compilation.settings_by_id);
	return error;
}
