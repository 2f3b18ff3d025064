/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kernel_truth.h: what the kernel does, without the agent: from the links and maps that are pinned below the bpffs
 * (agent/datapath/hooks_pins.c has the layout). An operator without posternctl sees the same with
 * `bpftool link show pinned <bpffs>/vN/links/<gateway>/<program>` and `bpftool map dump pinned <bpffs>/vN/<map>`.
 *
 * The maps are read through libbpf and not through bpftool: a full destination map is 100 MB of bpftool's JSON, and the
 * command must work on a node that has no bpftool.
 */
#ifndef POSTERNCTL_KERNEL_TRUTH_H
#define POSTERNCTL_KERNEL_TRUTH_H

#include <jansson.h>

/*
 * {"pinned": bool, "error": "", "gateways": [{"name", "mode", "hooks": n, "attached": n, "intercepts": bool,
 * "guarded": bool}], "destinations": {"tls": n, "plain": n, "deny": n}}. A new reference, or NULL: out of memory.
 * error is not empty if something could not be read; what could be read is there.
 */
json_t *kernel_truth(const char *bpffs);

#endif
