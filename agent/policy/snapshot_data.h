/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * snapshot_data.h: the inside of a snapshot, for the compile step that fills it and for snapshot.c. Nobody else.
 */
#ifndef POSTERN_POLICY_SNAPSHOT_DATA_H
#define POSTERN_POLICY_SNAPSHOT_DATA_H

#include <stdatomic.h>

#include "policy/settings.h"
#include "policy/snapshot.h"

struct snapshot {
	atomic_uint references;
	uint64_t generation;
	uint64_t compiled_ns;
	uint64_t next_expiry_ns;
	struct destination *destinations; /* sorted by destination_compare() */
	size_t destination_count;
	struct settings_entry **settings; /* sorted by id */
	size_t settings_count;
	struct policy_status *policies; /* sorted by namespace and name */
	size_t policy_count;
	struct cidr *cidrs;
	size_t cidr_count;
	uint8_t guarded[65536 / 8];
};

/* One reference, everything else zero; NULL: no memory. */
struct snapshot *snapshot_new(void);
void snapshot_guard_port(struct snapshot *snapshot, uint16_t port);
struct settings_entry *snapshot_settings_entry(const struct snapshot *snapshot, uint32_t id);

/* By address, then port: "any port" (0) comes before the ports of the same address. */
int destination_key_compare(const struct postern_destination_key *left, const struct postern_destination_key *right);

#endif
