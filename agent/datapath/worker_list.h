/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * worker_list.h: a list that a worker makes of its connections, in its own thread, for the control thread: the question
 * goes into the inbox, and the answer is taken or, if it does not come in time, left to the worker to free. Who asks
 * several workers asks all of them first, and waits once. Control thread.
 */
#ifndef POSTERN_DATAPATH_WORKER_LIST_H
#define POSTERN_DATAPATH_WORKER_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct list_message;
struct worker;

/* In the worker. with_ports: of each B, a system call each. 0 and *items (free() it), or -ENOMEM. */
typedef int (*worker_list_function)(struct worker *worker, bool with_ports, void **items, size_t *count);

/* NULL: no memory, which worker_take_list() says. */
struct list_message *worker_ask_list(struct worker *worker, bool with_ports, worker_list_function list);
/* Takes the message. 0 and *items (free() it), -ENOMEM, or -ETIMEDOUT at until_ns (CLOCK_MONOTONIC). */
int worker_take_list(struct worker *worker, struct list_message *message, uint64_t until_ns, void **items,
                     size_t *count);

#endif
