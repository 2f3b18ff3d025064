/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * context_table.h: TLS settings id -> SSL_CTX. The control thread fills it from a snapshot before that snapshot is
 * published, so that a worker never meets new settings without their context; workers take references.
 */
#ifndef POSTERN_DATAPATH_CONTEXT_TABLE_H
#define POSTERN_DATAPATH_CONTEXT_TABLE_H

#include <stdint.h>

struct context_table;
struct snapshot;
struct tls_context;

struct context_table *context_table_new(void);
void context_table_free(struct context_table *table);

/*
 * Before the snapshot is published: build what it needs and the table lacks. A context that cannot be built is logged
 * and left out: its connections are refused. 0 or -ENOMEM.
 */
int context_table_add(struct context_table *table, const struct snapshot *snapshot);
/*
 * After it is published: drop what it does not need. Live sessions and attempts keep their own references; who still
 * reads the snapshot before it may find nothing, and must look at the new one then.
 */
void context_table_trim(struct context_table *table, const struct snapshot *snapshot);
/* A new reference, or NULL. Any thread. */
struct tls_context *context_table_get(struct context_table *table, uint32_t settings_id);

#endif
