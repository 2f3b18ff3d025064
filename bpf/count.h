/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * count.h: nothing is lost in silence. Each outcome has a counter, each failed helper call an entry by site and errno.
 */
#ifndef POSTERN_BPF_COUNT_H
#define POSTERN_BPF_COUNT_H

#include "maps.h"

static __always_inline void count(enum postern_counter counter)
{
	__u32 index = counter;
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		(*value)++; /* per CPU; programs do not preempt each other on one */
}

/* `error` is what the helper returned, or a negative errno for helpers that return a pointer. */
static __always_inline void helper_failed(enum postern_helper_site site, long error)
{
	struct postern_helper_error key = {.site = site, .error = (__u32)-error};
	__u64 *times = bpf_map_lookup_elem(&helper_errors, &key);
	__u64 once = 1;

	if (!times) {
		if (!bpf_map_update_elem(&helper_errors, &key, &once, BPF_NOEXIST))
			return;
		times = bpf_map_lookup_elem(&helper_errors, &key); /* another CPU was first */
	}
	if (times)
		__sync_fetch_and_add(times, 1);
}

#endif
