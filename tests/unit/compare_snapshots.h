/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compare_snapshots.h: do two snapshots say the same, in everything that a reader can see (but the time)? A difference
 * ends the test (cmocka) with what it is, and the step.
 */
#ifndef POSTERN_TESTS_COMPARE_SNAPSHOTS_H
#define POSTERN_TESTS_COMPARE_SNAPSHOTS_H

#include "policy/snapshot.h"

/* Guarded ports: those that compile_universe.h has. */
void compare_snapshots(unsigned int step, const struct snapshot *left, const struct snapshot *right);

/* Whatever a reader can see of a destination (NULL: none), in words. Static buffers, two in turn. */
const char *describe_destination(const struct snapshot *snapshot, const struct destination *destination);

#endif
