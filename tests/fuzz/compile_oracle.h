/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compile_oracle.h: what must hold of a snapshot, worked out from the store anew and by the slowest means. Each
 * function ends the process (fuzz.h) where it does not hold.
 */
#ifndef POSTERN_TESTS_COMPILE_ORACLE_H
#define POSTERN_TESTS_COMPILE_ORACLE_H

#include <stdint.h>

struct compile_options;
struct object_store;
struct snapshot;

/*
 * The snapshot by itself, and against the store: the ClusterIPs, endpoints and guarded ports of every TCP port that a
 * policy in force covers are there and not PLAIN; one status a policy name, with both conditions.
 */
void oracle_check(const struct object_store *store, const struct snapshot *snapshot,
                  const struct compile_options *options);
/* Equal in all that a reader sees but the times. */
void oracle_check_same(const struct snapshot *left, const struct snapshot *right);
/*
 * What was TLS and an endpoint is still known, and not PLAIN unless by a trusted claim or a ClusterIP (or any claim,
 * where all of them are the operator's own), until the time of its tombstone has come.
 */
void oracle_check_nothing_forgotten(const struct snapshot *old, const struct snapshot *new,
                                    const struct compile_options *options);
/* The same store without and with a quarantine: it turns nothing but PLAIN and unknown, and into DENY only. */
void oracle_check_quarantine(const struct snapshot *without, const struct snapshot *with);

#endif
