/* SPDX-License-Identifier: GPL-2.0-only */
/* What the agent believes to be in the kernel, so that somebody who looks there can tell when that is not so. */
#include "base/log.h"
#include "datapath/hooks_programs.h"
#include "observe/json.h"
#include "observe/status.h"
#include "policy/snapshot.h"

static void add_program(void *context, const struct hooks_program *program)
{
	json_append(context, json_pack("{s:s, s:I, s:s}", "name", program->name, "id", (json_int_t)program->id, "tag",
	                               program->tag));
}

json_t *status_programs(struct hooks *hooks)
{
	json_t *array = json_array();
	int error = hooks ? hooks_for_each_program(hooks, add_program, &array) : 0;

	if (error)
		log_warning("programs cannot be described", "errno=%d", -error);
	return array;
}

json_t *status_expected(const struct status_sources *sources, const struct snapshot *snapshot)
{
	json_int_t counts[POSTERN_VERDICT_HOLD + 1] = {0};
	json_int_t guarded = 0;

	for (size_t i = 0; snapshot && i < snapshot_destination_count(snapshot); i++)
		counts[snapshot_destination_at(snapshot, i)->verdict]++;
	for (unsigned int port = 0; snapshot && port < 65536; port++)
		guarded += snapshot_port_guarded(snapshot, (uint16_t)port);
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "tls", counts[POSTERN_VERDICT_TLS], "deny",
	                 counts[POSTERN_VERDICT_DENY], "plain", counts[POSTERN_VERDICT_PLAIN], "guarded_ports", guarded,
	                 "without_room", (json_int_t)sources->destinations_without_room);
}
