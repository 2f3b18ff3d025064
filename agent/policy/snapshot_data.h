/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * snapshot_data.h: the inside of a snapshot, for the compile step that fills it and for snapshot*.c. Nobody else.
 *
 * A snapshot is a handful of lists that follow one another's versions: whatever a change did not touch is shared, list
 * by list, entry by entry, chunk by chunk.
 */
#ifndef POSTERN_POLICY_SNAPSHOT_DATA_H
#define POSTERN_POLICY_SNAPSHOT_DATA_H

#include <stdatomic.h>

#include "policy/destinations.h"
#include "policy/settings.h"
#include "policy/snapshot.h"

struct status_entry {
	atomic_uint references;
	struct policy_status status;
};

struct status_list {
	atomic_uint references;
	size_t count;
	struct status_entry *entries[]; /* sorted by namespace and name */
};

struct settings_list {
	atomic_uint references;
	size_t count;
	struct settings_entry *entries[]; /* sorted by id */
};

struct gateway_list {
	atomic_uint references;
	size_t count;
	struct gateway_status *statuses; /* sorted by namespace and name */
};

struct snapshot {
	atomic_uint references;
	uint64_t generation;
	uint64_t compiled_ns;
	uint64_t next_expiry_ns;
	struct destination_list destinations;
	struct settings_list *settings; /* none of the lists is NULL in what is published */
	struct status_list *policies;
	struct gateway_list *gateways;
	struct cidr *cidrs;
	size_t cidr_count;
	uint8_t guarded[65536 / 8];
};

/* One reference, everything else zero; NULL: no memory. */
struct snapshot *snapshot_new(void);
void snapshot_guard_port(struct snapshot *snapshot, uint16_t port);
/* Borrowed; NULL: no such id. */
struct settings_entry *snapshot_settings_entry(const struct snapshot *snapshot, uint32_t id);

/* One reference, count places that are NULL; NULL: no memory. */
struct status_list *status_list_new(size_t count);
struct status_list *status_list_ref(struct status_list *list);
void status_list_unref(struct status_list *list); /* NULL-safe, like all below */
struct status_entry *status_entry_ref(struct status_entry *entry);
void status_entry_unref(struct status_entry *entry);

struct settings_list *settings_list_new(size_t count);
struct settings_list *settings_list_ref(struct settings_list *list);
void settings_list_unref(struct settings_list *list);

/* Takes over the statuses of gateway_statuses_new(), on failure too. */
struct gateway_list *gateway_list_new(struct gateway_status *statuses, size_t count);
struct gateway_list *gateway_list_ref(struct gateway_list *list);
void gateway_list_unref(struct gateway_list *list);
const struct gateway_status *gateway_list_find(const struct gateway_list *list, const char *namespace_,
                                               const char *name);

#endif
