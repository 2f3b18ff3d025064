/* SPDX-License-Identifier: GPL-2.0-only */
#include "report.h"

#include "placed.h"
#include "row.h"

void report(const char *name, const char *unit, double *values, size_t count, const char *baseline_name,
            double baseline, const char *goal)
{
	const struct row row = {
	        .name = name,
	        .value = quantile(values, count, 0.5),
	        .unit = unit,
	        .baseline_name = baseline_name,
	        .baseline = baseline,
	        .goal = goal,
	        .spread = spread_of(values, count),
	};

	row_print(&row);
}
