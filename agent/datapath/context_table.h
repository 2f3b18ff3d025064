/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * context_table.h: TLS settings id -> SSL_CTX. The control thread fills it from a snapshot before that snapshot is
 * published, so that a worker never meets settings without their context; workers take references.
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
 * Build what the snapshot needs and the table lacks; drop what the snapshot no longer needs (live sessions keep their
 * own reference). A context that cannot be built is logged and left out: its connections are refused. 0 or -ENOMEM.
 */
int context_table_update(struct context_table *table, const struct snapshot *snapshot);
/* A new reference, or NULL. Any thread. */
struct tls_context *context_table_get(struct context_table *table, uint32_t settings_id);

#endif
