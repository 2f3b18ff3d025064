/* SPDX-License-Identifier: GPL-2.0-only */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "observe/json.h"
#include "observe/status.h"

json_t *failure_row(const struct failure *failure)
{
	return json_pack("{s:o, s:o, s:i, s:o, s:o, s:s, s:o, s:s}", "time", json_time(&failure->time), "gateway",
	                 json_text(failure->gateway), "gateway_port", (int)failure->gateway_port, "destination",
	                 json_destination(&failure->destination), "policy", json_text(failure->policy), "reason",
	                 reason_name(failure->reason), "detail", json_text(failure->detail), "remedy",
	                 reason_remedy(failure->reason));
}

json_t *failures_document(const struct status_sources *sources)
{
	_cleanup_free_ struct failure *copies = calloc(FAILURES_KEPT, sizeof(*copies));
	json_t *rows = json_array();
	size_t count;

	if (!copies || !rows) {
		json_decref(rows);
		return NULL;
	}
	count = failures_copy(sources->failures, copies, FAILURES_KEPT);
	for (size_t i = 0; i < count; i++)
		json_append(&rows, failure_row(&copies[i]));
	return rows;
}
