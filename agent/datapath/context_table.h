/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * context_table.h: TLS settings id -> SSL_CTX. The control thread tells it of each snapshot before that snapshot is
 * published; a context is built (a millisecond, 20 KB) by the first worker that needs it, and not at all for settings
 * that nobody dials by. Workers take references.
 *
 * Of more than CONTEXT_TABLE_KEPT contexts those go that nobody asked for in CONTEXT_TABLE_IDLE_SECONDS, with what they
 * know of sessions and chains; the next one to ask builds them again.
 */
#ifndef POSTERN_DATAPATH_CONTEXT_TABLE_H
#define POSTERN_DATAPATH_CONTEXT_TABLE_H

#include <stdint.h>

#define CONTEXT_TABLE_KEPT         1000
#define CONTEXT_TABLE_IDLE_SECONDS 600

struct context_table;
struct snapshot;
struct tls_context;

struct context_table *context_table_new(void);
void context_table_free(struct context_table *table);

/*
 * Before the snapshot is published: its settings can be asked for from now on, those of the one before still. What the
 * system trusts is parsed here if the snapshot needs it, since that takes 35 ms. 0, or -ENOMEM: as before the call.
 */
int context_table_add(struct context_table *table, struct snapshot *snapshot);
/*
 * After it is published: drop what it does not need. Live sessions and attempts keep their own references; who still
 * reads the snapshot before it may find nothing, and must look at the new one then.
 */
void context_table_trim(struct context_table *table, const struct snapshot *snapshot);
/*
 * A new reference, or NULL: not of the newest snapshot, no memory (the next call tries again), or one that cannot be
 * built, which is logged once. Any thread: the table is not locked while one is built; who needs the same one waits.
 */
struct tls_context *context_table_get(struct context_table *table, uint32_t settings_id);

#endif
