/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gateway_id.h: which gateway a program runs for. The id is kept by the cgroup of the attachment, since the current
 * cgroup of a task is its leaf (one container of a pod). 0 until the agent has written it: not ready.
 */
#ifndef POSTERN_BPF_GATEWAY_ID_H
#define POSTERN_BPF_GATEWAY_ID_H

#include "maps.h"

static __always_inline __u32 current_gateway_id(void)
{
	const struct postern_gateway_id *storage = bpf_get_local_storage(&gateway_id_storage, 0);

	return storage->id;
}

/* NULL: not ready. */
static __always_inline const struct postern_gateway *gateway_of(__u32 id)
{
	return id ? bpf_map_lookup_elem(&gateway_map, &id) : NULL;
}

#endif
