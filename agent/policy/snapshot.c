// SPDX-License-Identifier: GPL-2.0-only
#include "policy/snapshot.h"

#include <stdlib.h>

#include "base/sorted.h"
#include "policy/snapshot_data.h"

struct snapshot *snapshot_new(void)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

	if (snapshot)
		atomic_init(&snapshot->references, 1);
	return snapshot;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
	atomic_fetch_add_explicit(&snapshot->references, 1, memory_order_relaxed);
	return snapshot;
}

void snapshot_unref(struct snapshot *snapshot)
{
	if (!snapshot || atomic_fetch_sub_explicit(&snapshot->references, 1, memory_order_acq_rel) != 1)
		return;
	destination_list_free(&snapshot->destinations);
	settings_list_unref(snapshot->settings);
	status_list_unref(snapshot->policies);
	gateway_list_unref(snapshot->gateways);
	free(snapshot->cidrs);
	free(snapshot);
}

uint64_t snapshot_generation(const struct snapshot *snapshot)
{
	return snapshot->generation;
}

uint64_t snapshot_compiled_ns(const struct snapshot *snapshot)
{
	return snapshot->compiled_ns;
}

const struct destination *snapshot_find(const struct snapshot *snapshot, const struct postern_destination_key *key)
{
	const struct destination *destination = destination_list_find(&snapshot->destinations, key);
	struct postern_destination_key any_port = *key;

	if (destination)
		return destination;
	any_port.port = 0;
	return destination_list_find(&snapshot->destinations, &any_port);
}

static int compare_to_entry(const void *id_pointer, const void *entry_pointer)
{
	uint32_t id = *(const uint32_t *)id_pointer;
	uint32_t seen = (*(struct settings_entry *const *)entry_pointer)->settings.id;

	return id < seen ? -1 : id > seen;
}

struct settings_entry *snapshot_settings_entry(const struct snapshot *snapshot, uint32_t id)
{
	const struct settings_list *settings = snapshot->settings;
	struct settings_entry *const *found = find_sorted(&id, settings->entries, settings->count,
	                                                  sizeof(struct settings_entry *), compare_to_entry);

	return found ? *found : NULL;
}

const struct tls_settings *snapshot_settings(const struct snapshot *snapshot, uint32_t settings_id)
{
	const struct settings_entry *entry = snapshot_settings_entry(snapshot, settings_id);

	return entry ? &entry->settings : NULL;
}

size_t snapshot_destination_count(const struct snapshot *snapshot)
{
	return snapshot->destinations.count;
}

const struct destination *snapshot_destination_at(const struct snapshot *snapshot, size_t index)
{
	return destination_list_at(&snapshot->destinations, index);
}

size_t snapshot_settings_count(const struct snapshot *snapshot)
{
	return snapshot->settings->count;
}

const struct tls_settings *snapshot_settings_at(const struct snapshot *snapshot, size_t index)
{
	return &snapshot->settings->entries[index]->settings;
}

size_t snapshot_policy_count(const struct snapshot *snapshot)
{
	return snapshot->policies->count;
}

const struct policy_status *snapshot_policy_at(const struct snapshot *snapshot, size_t index)
{
	return &snapshot->policies->entries[index]->status;
}

size_t snapshot_gateway_count(const struct snapshot *snapshot)
{
	return snapshot->gateways->count;
}

const struct gateway_status *snapshot_gateway_at(const struct snapshot *snapshot, size_t index)
{
	return &snapshot->gateways->statuses[index];
}

const struct gateway_status *snapshot_find_gateway(const struct snapshot *snapshot, const char *namespace_,
                                                   const char *name)
{
	return gateway_list_find(snapshot->gateways, namespace_, name);
}

void snapshot_guard_port(struct snapshot *snapshot, uint16_t port)
{
	snapshot->guarded[port / 8] |= (uint8_t)(1u << (port % 8));
}

bool snapshot_port_guarded(const struct snapshot *snapshot, uint16_t port)
{
	return snapshot->guarded[port / 8] & (1u << (port % 8));
}

size_t snapshot_cidr_count(const struct snapshot *snapshot)
{
	return snapshot->cidr_count;
}

const struct cidr *snapshot_cidr_at(const struct snapshot *snapshot, size_t index)
{
	return &snapshot->cidrs[index];
}

uint64_t snapshot_next_expiry_ns(const struct snapshot *snapshot)
{
	return snapshot->next_expiry_ns;
}
