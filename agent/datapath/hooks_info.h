/* SPDX-License-Identifier: GPL-2.0-only */
/* hooks_info.h: what is to be told of the kernel's maps. Control thread. */
#ifndef POSTERN_DATAPATH_HOOKS_INFO_H
#define POSTERN_DATAPATH_HOOKS_INFO_H

#include <stddef.h>
#include <stdint.h>

struct hooks;

/* How many entries the map has room for: of a pinned one that is its own size. 0: not known. */
uint32_t hooks_destination_capacity(const struct hooks *hooks);
/* Lane slots that a connection has. */
size_t hooks_lane_slots_used(const struct hooks *hooks);

#endif
