/* SPDX-License-Identifier: GPL-2.0-only */
/* disagree.h: where the kernel (kernel_document()) and the agent (its status) say different things. Pure. */
#ifndef POSTERNCTL_DISAGREE_H
#define POSTERNCTL_DISAGREE_H

#include <jansson.h>

struct options;

/*
 * [{"what", "agent", "kernel", "remedy"}]: sentences for people, one for each difference. Empty if nothing is pinned
 * and the agent serves nothing, or if the kernel could not be read. NULL: out of memory.
 */
json_t *disagreements(const struct options *options, const json_t *status, const json_t *kernel);

/* A loud block at the top of a page. Nothing if there are none. */
void print_disagreements(const json_t *list);

#endif
