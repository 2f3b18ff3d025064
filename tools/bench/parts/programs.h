/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * programs.h: how often the BPF programs on a cgroup ran, and for how long, by the kernel's own count
 * (BPF_STATS_RUN_TIME). It takes two looks at the clock per run, some 30 ns that are in the time; a difference of two
 * programs, or of one before and after a change, is far steadier than that of two throughputs.
 */
#ifndef POSTERN_BENCH_PROGRAMS_H
#define POSTERN_BENCH_PROGRAMS_H

#include <stddef.h>
#include <stdint.h>

#define PROGRAMS_MAX 16

struct program_times {
	size_t count;
	struct program_time {
		uint32_t id;
		char name[16];
		uint64_t runs;
		uint64_t ns;
	} at[PROGRAMS_MAX];
};

/* Those that see a connect() or a packet of the cgroup's sockets. */
void programs_read(const char *cgroup, struct program_times *times);

/* The kernel counts from here on, until the descriptor is closed. */
int programs_count(void);

#endif
