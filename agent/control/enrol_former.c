/* SPDX-License-Identifier: GPL-2.0-only */
/* What former agents left of gateways: their ids, which stay what they are, and their hooks, which go with them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "control/predecessor.h"
#include "datapath/hooks.h"

/* That of /readyz is no enrolment, and as much in use as they are. */
static const struct gateway *probes_own(const struct agent *agent)
{
	return agent->monitor.probe.gateway;
}

/* Of all that there are, whether their hooks are on or not; free() the array. NULL: no memory. */
static const char **names_of_all(const struct agent *agent, size_t *count)
{
	const char **names = calloc(agent->enrolment_count + 1, sizeof(*names));

	*count = 0;
	for (size_t i = 0; i < agent->enrolment_count && names; i++) {
		if (agent->enrolments[i].name)
			names[(*count)++] = agent->enrolments[i].name;
	}
	if (names && probes_own(agent))
		names[(*count)++] = probes_own(agent)->name;
	return names;
}

static bool has_id(void *context, uint32_t id)
{
	const struct agent *agent = context;

	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (agent->enrolments[i].name && agent->enrolments[i].options.id == id)
			return true;
	}
	return probes_own(agent) && probes_own(agent)->id == id;
}

/*
 * Gateways that an earlier agent served and that there are no more: their pinned hooks would refuse for ever. Not
 * before the source has said which Pods there are: without their hooks they would speak plainly. One that cannot be
 * taken away is no reason not to serve the others.
 */
void enrol_forget_others(struct agent *agent)
{
	_cleanup_free_ const char **names = NULL;
	size_t count;
	int removed;

	if (!sync_is_seen(agent))
		return;
	names = names_of_all(agent, &count);
	removed = names ? hooks_keep_gateways(agent->hooks, names, count) : -ENOMEM;
	if (removed >= 0)
		removed = hooks_keep_gateway_ids(agent->hooks, has_id, agent);
	if (removed < 0)
		log_error("hooks of earlier gateways not taken away", "error=\"%s\"", strerror(-removed));
	agent->others_forgotten = removed >= 0;
}

void enrol_clear_other_versions(struct agent *agent)
{
	_cleanup_free_ const char **names = NULL;
	size_t count;
	int removed;

	if (!hooks_other_versions(agent->hooks) || !sync_is_seen(agent))
		return;
	names = names_of_all(agent, &count);
	removed = names ? hooks_clear_other_versions(agent->hooks, names, count,
	                                             worker_claim_others(&agent->claim) != 0)
	                : -ENOMEM;
	if (removed < 0)
		log_error("hooks of another version not taken away", "error=\"%s\"", strerror(-removed));
}

/* Of this agent's, of one that runs or drains, or of an earlier life whose hooks are still on somebody's cgroup. */
static bool id_is_used(struct agent *agent, uint32_t id)
{
	struct postern_gateway entry;

	return !predecessor_spares_id(agent, id) || has_id(agent, id) ||
	       hooks_get_gateway(agent->hooks, id, &entry) == 0;
}

/*
 * The same as that of the agent that is replaced, or of the earlier life: then the kernel's maps change from its ports
 * to ours in one step. A new one is one that nobody had for long: what still speaks of it belongs to another gateway.
 */
uint32_t enrol_id_for(struct agent *agent, const char *name)
{
	uint64_t cgroup;
	uint32_t id = predecessor_gateway_id(agent, name);

	if (!id)
		id = hooks_pinned_gateway_id(agent->hooks, name, &cgroup);
	if (id && !has_id(agent, id))
		return id;
	do
		id = ++agent->last_gateway_id;
	while (id == 0 || id_is_used(agent, id));
	return id;
}
