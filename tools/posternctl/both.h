/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * both.h: lists of which kernel and agent each know a part: connections, destinations. A difference is looked at a
 * second time before it is believed; without an agent the kernel's part is the list.
 */
#ifndef POSTERNCTL_BOTH_H
#define POSTERNCTL_BOTH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent_client.h"

struct options;
struct table;

/* One look. */
struct both {
	json_t *rows;
	size_t differences; /* rows in which kernel and agent disagree */
	bool pinned;        /* there is something in the kernel */
	enum agent_answer agent;
	char reason[256];       /* why it did not answer */
	char kernel_error[256]; /* "" if all was read */
};

struct both_list {
	void (*look)(const struct options *options, struct both *result);
	const char *const *headings; /* end with NULL */
	void (*add_row)(struct table *table, const json_t *row);
	const char *none; /* "no destination" */
};

/* Looks, prints the page or the document, complains on stderr of an agent that does not answer; the exit status. */
int both_command(const struct options *options, const struct both_list *list);

/* That the kernel cannot be read whole, or that nothing of ours is there; nothing if all is well. */
void both_print_kernel(const struct options *options, const char *error, bool pinned);

#endif
