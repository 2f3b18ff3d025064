/* SPDX-License-Identifier: GPL-2.0-only */
/* status.h: the status command's pages. The document is the agent's (observe/status.h) with "agent" and "kernel". */
#ifndef POSTERNCTL_STATUS_H
#define POSTERNCTL_STATUS_H

#include <jansson.h>
#include <stdbool.h>

#include "agent_client.h"

struct options;

/* What the kernel says of a gateway: a row of kernel_truth()'s gateways, NULL if it has no hooks. */
const json_t *kernel_gateway(const json_t *kernel, const char *name);
bool hooks_are_whole(const json_t *hooks);

/*
 * The agent's status, or {"ready": false, "reason"}; with "agent", "kernel" (kernel_document()) and "disagreements",
 * which are looked at a second time before they are believed. NULL: no memory.
 */
json_t *status_look_twice(const struct options *options, enum agent_answer *agent);

void print_status_page(const json_t *document);
/* status_wrong.c: a line for each thing that makes the exit status 1, with where to go on; nothing if all is well. */
void print_what_is_wrong(const json_t *document);
void print_dead_page(const json_t *document, const struct options *options);

/* status_proof.c: per direction and version, the best proved mode of each cipher; then what went wrong. */
void print_proof(const json_t *proof);

#endif
