/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * judge.h: what a destination means (design section 2). connect() and the guard must never differ, so this is the one
 * function that both use. The map is a cache of the agent's snapshot: a miss on a guarded port inside the cluster's
 * CIDRs is HOLD, which makes a late, lost or full map safe.
 */
#ifndef POSTERN_BPF_JUDGE_H
#define POSTERN_BPF_JUDGE_H

#include <stdbool.h>
#include <bpf/bpf_endian.h>

#include "address.h"
#include "maps.h"

static __always_inline bool policy_known(void)
{
	__u32 index = 0;
	const struct postern_meta *known = bpf_map_lookup_elem(&meta, &index);

	return known && known->policy_known;
}

/* Before there is a policy, whatever is not on this machine may be the cluster's. */
static __always_inline bool in_cluster(const struct postern_address *address)
{
	struct postern_cidr_key key = {.prefix_length = 8 * sizeof(*address), .address = *address};

	if (!policy_known() && !address_is_loopback(address))
		return true;
	return bpf_map_lookup_elem(&cluster_cidrs, &key) != NULL;
}

static __always_inline bool port_is_guarded(__u16 port) /* host byte order */
{
	__u32 index = port / 64;
	const __u64 *word = bpf_map_lookup_elem(&guarded_ports, &index);

	return word && (*word >> (port % 64) & 1);
}

static __always_inline bool strict_mode(void)
{
	__u32 index = 0;
	const struct postern_runtime_config *config = bpf_map_lookup_elem(&runtime_config, &index);

	return config && config->strict;
}

/* An enum postern_verdict; *settings_id is set for TLS. */
static __noinline __u32 postern_judge(const struct postern_destination_key *key, __u32 *settings_id)
{
	struct postern_destination_key any_port = {.address = key->address};
	const struct postern_destination *destination = bpf_map_lookup_elem(&destination_map, key);

	*settings_id = 0;
	if (!destination)
		destination = bpf_map_lookup_elem(&destination_map, &any_port);
	if (destination) {
		*settings_id = destination->settings_id;
		return destination->verdict;
	}
	/* What costs most is asked last: few ports are guarded. */
	if ((port_is_guarded(bpf_ntohs(key->port)) || strict_mode() || !policy_known()) && in_cluster(&key->address))
		return POSTERN_VERDICT_HOLD;
	return POSTERN_VERDICT_NONE;
}

#endif
