/* SPDX-License-Identifier: GPL-2.0-only */
#include "programs.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "placed.h"

int programs_count(void)
{
	int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

	if (fd < 0)
		give_up("BPF_STATS_RUN_TIME");
	return fd;
}

static void read_program(uint32_t id, struct program_times *times)
{
	struct program_time *time = &times->at[times->count];
	struct bpf_prog_info info = {0};
	__u32 size = sizeof(info);
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
		give_up("a program of the cgroup");
	if (times->count == PROGRAMS_MAX)
		return;
	times->count++;
	*time = (struct program_time){.id = id, .runs = info.run_cnt, .ns = info.run_time_ns};
	snprintf(time->name, sizeof(time->name), "%s", info.name);
}

void programs_read(const char *cgroup, struct program_times *times)
{
	static const enum bpf_attach_type types[] = {BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_SOCK_OPS,
	                                             BPF_CGROUP_INET_EGRESS};
	_cleanup_close_ int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd == -1)
		give_up(cgroup);
	times->count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		__u32 ids[PROGRAMS_MAX], count = PROGRAMS_MAX;

		if (bpf_prog_query(fd, types[i], 0, NULL, ids, &count) != 0)
			give_up("the programs of the cgroup");
		for (__u32 j = 0; j < count; j++)
			read_program(ids[j], times);
	}
}
