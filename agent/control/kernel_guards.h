/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel_guards.h: the part of kernel_maps.h that makes a miss a HOLD: guarded ports, CIDRs, and strict mode. Wanted is
 * what the snapshot says, and what the keys need that found no room in the destination map. Control thread.
 */
#ifndef POSTERN_CONTROL_KERNEL_GUARDS_H
#define POSTERN_CONTROL_KERNEL_GUARDS_H

#include <stdbool.h>
#include <stdint.h>

struct kernel_maps;
struct snapshot;

/* What the kernel has, of an earlier life. 0 or negative errno. */
int kernel_guards_start(struct kernel_maps *maps);
/* Add what is wanted; what is not wanted any more is due KERNEL_MAPS_DELAY_NS from now. Failures set unguarded. */
void kernel_guards_grow(struct kernel_maps *maps, const struct snapshot *snapshot, uint64_t now_ns);
/* Take away what is not wanted by the applied snapshot. False: something stayed, and is to be tried again. */
bool kernel_guards_shrink(struct kernel_maps *maps);

#endif
