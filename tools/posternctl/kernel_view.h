/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel_view.h: what the kernel does, without the agent: the links, programs and maps that are pinned below the bpffs
 * (agent/datapath/hooks_pins.c has the layout), read by bpftool (kernel_reader.h). An operator without posternctl sees
 * the same with `bpftool link show pinned <bpffs>/vN/links/<gateway>/<program>` and `bpftool map dump pinned ...`.
 *
 *   kernel_view.c      the document, and the maps that are counted
 *   kernel_gateways.c  the hooks of each gateway, and of the agent's own cgroup
 */
#ifndef POSTERNCTL_KERNEL_VIEW_H
#define POSTERNCTL_KERNEL_VIEW_H

#include <jansson.h>
#include <limits.h>

#include "kernel_reader.h"
#include "postern/abi.h"

struct options;

struct kernel_view {
	struct kernel_reader reader;
	char directory[PATH_MAX]; /* <bpffs>/vN */
	char error[256];          /* the first one */
};

/* 1: the pins are there, 0: nothing is pinned, or it cannot be seen (view->error). */
int kernel_view_open(struct kernel_view *view, const struct options *options);
void kernel_view_close(struct kernel_view *view);
/* Read a map by its name; what fails is noted in view->error. */
int kernel_view_each(struct kernel_view *view, const char *map, size_t key_size, size_t value_size, bool per_cpu,
                     kernel_each each, void *context);
void kernel_view_note(struct kernel_view *view, const char *what, int number);

/* What a lookup in destination_map, cluster_cidrs and guarded_ports would say, as bpf/judge.h does it. */
struct kernel_verdict {
	enum postern_verdict verdict;
	uint32_t settings_id;
	bool any_port;   /* by the key of any port */
	bool in_cluster; /* its address lies in cluster_cidrs */
	bool guarded;    /* its port is guarded */
	bool strict;
};
int kernel_view_judge(struct kernel_view *view, const struct postern_destination_key *key,
                      struct kernel_verdict *verdict);

/*
 * {"pinned": bool, "reader": "bpftool", "error": "", "gateways": [...], "witness": {"attached", "cgroup"},
 * "destinations": {"tls": n, "plain": n, "deny": n}, "guarded_ports": n, "cluster_cidrs": n, "strict": bool,
 * "lane": bool, "counters": {name: n}}. A new reference, or NULL: out of memory. error is not empty if something could
 * not be read; what could be read is there.
 */
json_t *kernel_document(const struct options *options);

/*
 * [{"name", "mode", "hooks": n, "attached": n, "intercepts": bool, "guarded": bool, "missing": [hook...], "foreign":
 * [hook...], "cgroup_id", "cgroup", "id", "ports": [...], "links": [{"hook", "attached", "attach_type", "program_id",
 * "program", "tag"}]}]: foreign are links whose program is not the one that their name says.
 */
json_t *kernel_gateways(struct kernel_view *view);
/* {"attached": bool, "cgroup": path, "program_id"} of the link that the newest agent has pinned. */
json_t *kernel_witness(struct kernel_view *view);

#endif
