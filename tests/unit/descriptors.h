/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * descriptors.h: how many descriptors this process has open, to be compared with a count of before. Failures end the
 * test (cmocka).
 */
#ifndef POSTERN_TESTS_DESCRIPTORS_H
#define POSTERN_TESTS_DESCRIPTORS_H

#include <stddef.h>

size_t count_descriptors(void);

#endif
