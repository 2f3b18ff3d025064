/* SPDX-License-Identifier: GPL-2.0-only */
/* report.h: row.h for the programs that play on the fixture of the hooks' tests, which has rows of its own. */
#ifndef POSTERN_BENCH_REPORT_H
#define POSTERN_BENCH_REPORT_H

#include <stddef.h>

/* The median of the repeats and their spread; sorts. baseline_name NULL: compared with nothing. goal NULL: none. */
void report(const char *name, const char *unit, double *values, size_t count, const char *baseline_name,
            double baseline, const char *goal);

#endif
