/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * snapshot_holder.h: the one pointer that workers and the control thread share. The control thread publishes, anyone
 * takes a reference; readers of the old snapshot keep it until they drop theirs.
 */
#ifndef POSTERN_POLICY_SNAPSHOT_HOLDER_H
#define POSTERN_POLICY_SNAPSHOT_HOLDER_H

struct snapshot;
struct snapshot_holder;

struct snapshot_holder *snapshot_holder_new(void);
void snapshot_holder_free(struct snapshot_holder *holder);
/* Takes over the caller's reference. Control thread. */
void snapshot_holder_publish(struct snapshot_holder *holder, struct snapshot *snapshot);
/* A new reference, or NULL if nothing was published yet. Any thread. */
struct snapshot *snapshot_holder_get(struct snapshot_holder *holder);

#endif
