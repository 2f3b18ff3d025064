/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel_reader.h: pinned maps, links and programs, read by bpftool; by libbpf where there is no bpftool, and then the
 * name says so. Whatever reads, what it read is checked here: sizes, ranges, names.
 */
#ifndef POSTERNCTL_KERNEL_READER_H
#define POSTERNCTL_KERNEL_READER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpftool.h"

struct kernel_program {
	uint32_t id;
	char name[32];
	char tag[17]; /* of its instructions, by the kernel */
};

struct kernel_link {
	char path[PATH_MAX]; /* its pin */
	uint32_t id;
	uint32_t program_id;
	uint64_t cgroup_id; /* 0: detached, or the cgroup is gone */
	char attach_type[40];
};

struct kernel_reader {
	bool by_bpftool;
	char bpftool[PATH_MAX];
	char error[BPFTOOL_ERROR_MAX]; /* of the last call that failed */
	struct kernel_link *links;     /* of the whole machine, by one run of bpftool */
	size_t link_count;
	bool links_read;
	struct kernel_program *programs; /* the same */
	size_t program_count;
	bool programs_read;
};

void kernel_reader_open(struct kernel_reader *reader, const char *bpftool);
void kernel_reader_close(struct kernel_reader *reader);
/* "bpftool", or "libbpf: bpftool was not found" */
const char *kernel_reader_name(const struct kernel_reader *reader);

/* Key and value as the kernel has them; of a per-CPU map the value is the sum of 64-bit numbers. */
typedef void (*kernel_each)(void *context, const void *key, const void *value);
/* 0, or negative errno with a message in reader->error: -EBADMSG also for a map of another shape. */
int kernel_map_each(struct kernel_reader *reader, const char *path, size_t key_size, size_t value_size, bool per_cpu,
                    kernel_each each, void *context);
/* By its pin. */
int kernel_link_find(struct kernel_reader *reader, const char *path, struct kernel_link *link);
int kernel_program_find(struct kernel_reader *reader, uint32_t id, struct kernel_program *program);

/* A cgroup's path by its id, below the cgroup2 mount; "" if there is none. */
void kernel_cgroup_path(uint64_t id, char path[static PATH_MAX]);

#endif
