/* SPDX-License-Identifier: GPL-2.0-only */
#include "datapath/hooks_info.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "datapath/hooks.h"
#include "datapath/hooks_internal.h"
#include "postern.skel.h"

uint32_t hooks_destination_capacity(const struct hooks *hooks)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_map__fd(hooks->skeleton->maps.destination_map);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.max_entries : 0;
}

size_t hooks_lane_slots_used(const struct hooks *hooks)
{
	const struct postern_lane_slot *slots = hooks_lane_slots(hooks);
	size_t used = 0;

	for (size_t i = 0; slots && i < POSTERN_MAX_LANE_SLOTS; i++)
		used += __atomic_load_n(&slots[i].owner, __ATOMIC_RELAXED) != 0;
	return used;
}
