/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * row.h: one measured row of `make bench`, printed as a line of JSON for tools/bench/run, which adds kernel, ratio and
 * verdict. Every measuring program prints nothing else on its standard output.
 */
#ifndef POSTERN_BENCH_ROW_H
#define POSTERN_BENCH_ROW_H

#include <stdio.h>

struct row {
	const char *name;
	double value;
	const char *unit;
	const char *baseline_name; /* what it is compared with, NULL: nothing */
	double baseline;
	const char *goal; /* of the ratio value / baseline: "<= 0.01" or ">= 1.5"; NULL: the row is there to be known */
	double spread;    /* (largest - smallest) / smallest of the repeats, 0: one run */
};

static inline void row_print(const struct row *row)
{
	printf("{\"name\":\"%s\",\"value\":%.6g,\"unit\":\"%s\",\"spread\":%.3g", row->name, row->value, row->unit,
	       row->spread);
	if (row->baseline_name)
		printf(",\"baseline\":\"%s\",\"baseline_value\":%.6g", row->baseline_name, row->baseline);
	if (row->goal)
		printf(",\"goal\":\"%s\"", row->goal);
	puts("}");
	(void)fflush(stdout);
}

#endif
