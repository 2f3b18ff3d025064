// SPDX-License-Identifier: GPL-2.0-only
#include "policy/compile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sorted.h"
#include "policy/compilation.h"

/* ---- what is left of the snapshot ---- */

static int compare_cidrs(const void *left_pointer, const void *right_pointer)
{
	const struct cidr *left = left_pointer, *right = right_pointer;
	int order = memcmp(left->address.byte, right->address.byte, sizeof(left->address.byte));

	if (order)
		return order;
	return left->prefix_length < right->prefix_length ? -1 : left->prefix_length > right->prefix_length;
}

/* What an object says is inside of the cluster. */
static const struct cidr *cidrs_of(const struct object *object, size_t *count)
{
	*count = object->kind == OBJECT_NODE ? object->node.pod_cidr_count : object->service_cidr.cidr_count;
	return object->kind == OBJECT_NODE ? object->node.pod_cidrs : object->service_cidr.cidrs;
}

static const enum object_kind cidr_kinds[] = {OBJECT_SERVICE_CIDR, OBJECT_NODE};

static size_t count_cidrs(const struct compiler *compiler)
{
	size_t total = compiler->options.cluster_cidr_count, count;

	for (size_t kind = 0; kind < ARRAY_SIZE(cidr_kinds); kind++) {
		for (size_t i = 0; i < object_store_count(compiler->store, cidr_kinds[kind]); i++) {
			(void)cidrs_of(object_store_at(compiler->store, cidr_kinds[kind], i), &count);
			total += count;
		}
	}
	return total;
}

/* Do the two make one CIDR that is a bit shorter? */
static bool are_halves(const struct cidr *left, const struct cidr *right, struct cidr *whole)
{
	*whole = *left;
	if (left->prefix_length != right->prefix_length || left->prefix_length == 0)
		return false;
	whole->prefix_length--;
	/* The left one is the lower half. */
	return !(left->address.byte[whole->prefix_length / 8] & (0x80u >> (whole->prefix_length % 8))) &&
	       cidr_contains(whole, &right->address);
}

/*
 * Each once, none inside of another, halves as one: the Pods' networks of a thousand nodes are most often one network,
 * and the kernel's map is small. In order; in place.
 */
static size_t merge_cidrs(struct cidr *cidrs, size_t count)
{
	size_t merged = 0;

	for (size_t i = 0; i < count; i++) {
		if (merged && cidr_contains(&cidrs[merged - 1], &cidrs[i].address))
			continue;
		cidrs[merged++] = cidrs[i];
		while (merged > 1) {
			struct cidr whole;

			if (!are_halves(&cidrs[merged - 2], &cidrs[merged - 1], &whole))
				break;
			cidrs[--merged - 1] = whole;
		}
	}
	return merged;
}

/* Those of the configuration, of ServiceCIDRs and of Nodes. */
static int collect_cidrs(const struct compiler *compiler, struct snapshot *snapshot)
{
	size_t total = compiler->options.cluster_cidr_count, count;

	snapshot->cidrs = calloc(count_cidrs(compiler) + 1, sizeof(*snapshot->cidrs));
	if (!snapshot->cidrs)
		return -ENOMEM;
	for (size_t i = 0; i < total; i++)
		snapshot->cidrs[i] = compiler->options.cluster_cidrs[i];
	for (size_t kind = 0; kind < ARRAY_SIZE(cidr_kinds); kind++) {
		for (size_t i = 0; i < object_store_count(compiler->store, cidr_kinds[kind]); i++) {
			const struct cidr *cidrs = cidrs_of(object_store_at(compiler->store, cidr_kinds[kind], i),
			                                    &count);

			for (size_t j = 0; j < count; j++)
				snapshot->cidrs[total++] = cidrs[j];
		}
	}
	sort_list(snapshot->cidrs, total, sizeof(*snapshot->cidrs), compare_cidrs);
	snapshot->cidr_count = merge_cidrs(snapshot->cidrs, total);
	return 0;
}

static int list_settings(const struct compiler *compiler, struct snapshot *snapshot)
{
	size_t count = 0;

	if (!compiler->first && !compiler->settings_changed) {
		snapshot->settings = settings_list_ref(compiler->last->settings);
		return 0;
	}
	for (size_t id = 0; id < compiler->settings_size; id++)
		count += compiler->settings[id].entry != NULL;
	snapshot->settings = settings_list_new(count);
	if (!snapshot->settings)
		return -ENOMEM;
	for (size_t id = 0, next = 0; id < compiler->settings_size; id++)
		if (compiler->settings[id].entry)
			snapshot->settings->entries[next++] = settings_entry_ref(compiler->settings[id].entry);
	return 0;
}

static int list_statuses(const struct compiler *compiler, struct snapshot *snapshot)
{
	if (!compiler->first && !compiler->statuses_changed) {
		snapshot->policies = status_list_ref(compiler->last->policies);
		return 0;
	}
	snapshot->policies = status_list_new(compiler->slot_count);
	if (!snapshot->policies)
		return -ENOMEM;
	for (size_t i = 0; i < compiler->slot_count; i++)
		snapshot->policies->entries[i] = status_entry_ref(compiler->slots[i]->status);
	return 0;
}

static uint64_t next_expiry(const struct compiler *compiler)
{
	uint64_t next = 0;

	for (size_t i = 0; i < compiler->watched_count; i++) {
		uint64_t until = compiler->watched[i]->tombstone_until_ns;

		if (until && (!next || until < next))
			next = until;
	}
	return next;
}

static int write_snapshot(struct compiler *compiler, struct snapshot *snapshot)
{
	snapshot->generation = compiler->last ? compiler->last->generation + 1 : 1;
	snapshot->compiled_ns = compiler->now_ns;
	snapshot->next_expiry_ns = next_expiry(compiler);
	for (unsigned int port = 0; port < ARRAY_SIZE(compiler->guards); port++)
		if (compiler->guards[port])
			snapshot_guard_port(snapshot, (uint16_t)port);
	if (list_settings(compiler, snapshot) < 0 || list_statuses(compiler, snapshot) < 0 ||
	    collect_cidrs(compiler, snapshot) < 0)
		return -ENOMEM;
	snapshot->gateways = gateway_list_ref(compiler->gateways);
	snapshot->destinations = compiler->destinations;
	compiler->destinations = (struct destination_list){0};
	return 0;
}

/* ---- a run ---- */

static int find_what_is_dirty(struct compiler *compiler)
{
	if (find_changes(compiler) < 0 || change_policies(compiler) < 0 || number_policies(compiler) < 0 ||
	    change_services(compiler) < 0 || change_routes(compiler) < 0)
		return -ENOMEM;
	return compiler->first ? touch_last_keys(compiler) : 0;
}

static int run(struct compiler *compiler, struct snapshot *snapshot)
{
	if (find_what_is_dirty(compiler) < 0 || cover_dirty_services(compiler) < 0 || wake_watched_keys(compiler) < 0 ||
	    spread_any_ports(compiler) < 0 || decide_destinations(compiler) < 0)
		return -ENOMEM;
	mark_statuses(compiler);
	if (settle_settings(compiler) < 0 || write_statuses(compiler) < 0)
		return -ENOMEM;
	return write_snapshot(compiler, snapshot);
}

/* What a run leaves that is of no use to the next. */
static void end_run(struct compiler *compiler)
{
	drop_idle_keys(compiler);
	drop_idle_services(compiler);
	free_dead_policies(compiler);
	end_changes(compiler);
	destination_list_free(&compiler->destinations);
	free(compiler->policy_map);
	compiler->policy_map = NULL;
	compiler->slots_moved = compiler->statuses_changed = compiler->settings_changed = false;
	compiler->store = NULL;
}

static void free_no_node(struct table_node *node)
{
	(void)node; /* the policies have them */
}

/* Everything but the last snapshot is forgotten. */
static void reset(struct compiler *compiler)
{
	free_services(compiler);
	free_keys(compiler);
	free_dead_policies(compiler);
	free_slots(compiler);
	table_free(&compiler->references, free_no_node);
	free_settings(compiler);
	route_index_free(compiler->routes);
	compiler->routes = NULL;
	gateway_list_unref(compiler->gateways);
	compiler->gateways = NULL;
	end_run(compiler);
	forget_seen(compiler);
	compiler->claim_count = 0;
	memset(compiler->guards, 0, sizeof(compiler->guards));
	compiler->first = true;
}

int compiler_run(struct compiler *compiler, const struct object_store *store, uint64_t now_ns, struct snapshot **result)
{
	struct snapshot *snapshot = snapshot_new();

	if (!snapshot)
		return -ENOMEM;
	compiler->store = store;
	if (!compiler->first && quarantine_changed(compiler))
		reset(compiler);
	compiler->store = store;
	compiler->now_ns = now_ns;
	if (run(compiler, snapshot) < 0) {
		snapshot_unref(snapshot);
		reset(compiler);
		return -ENOMEM;
	}
	end_run(compiler);
	compiler->first = false;
	snapshot_unref(compiler->last);
	compiler->last = snapshot_ref(snapshot);
	*result = snapshot;
	return 0;
}

/* ---- its life ---- */

struct compiler *compiler_new(const struct compile_options *options)
{
	struct compiler *compiler = calloc(1, sizeof(*compiler));
	struct cidr *cidrs = calloc(options->cluster_cidr_count + 1, sizeof(*cidrs));

	if (!compiler || !cidrs) {
		free(compiler);
		free(cidrs);
		return NULL;
	}
	for (size_t i = 0; i < options->cluster_cidr_count; i++)
		cidrs[i] = options->cluster_cidrs[i];
	compiler->options = *options;
	compiler->options.cluster_cidrs = cidrs;
	if (options->system_ca)
		compiler->options.system_ca = shared_text_ref(options->system_ca);
	compiler->first = true;
	return compiler;
}

void compiler_free(struct compiler *compiler)
{
	if (!compiler)
		return;
	reset(compiler);
	snapshot_unref(compiler->last);
	shared_text_unref(compiler->options.system_ca);
	free((struct cidr *)compiler->options.cluster_cidrs);
	free(compiler);
}

void compiler_set_system_ca(struct compiler *compiler, struct shared_text *system_ca)
{
	struct shared_text *old = compiler->options.system_ca;

	if (old == system_ca || (old && system_ca && !memcmp(old->digest, system_ca->digest, sizeof(old->digest))))
		return;
	compiler->options.system_ca = system_ca ? shared_text_ref(system_ca) : NULL;
	shared_text_unref(old);
	reset(compiler); /* policies do not say which of them use it, and it changes once in a blue moon */
}

int compile_snapshot(const struct object_store *store, const struct compile_options *options, struct snapshot *previous,
                     struct snapshot **result)
{
	struct compiler *compiler = compiler_new(options);
	int error;

	if (!compiler)
		return -ENOMEM;
	compiler->last = previous ? snapshot_ref(previous) : NULL;
	error = compiler_run(compiler, store, options->now_ns, result);
	compiler_free(compiler);
	return error;
}
