/* SPDX-License-Identifier: GPL-2.0-only */
/* Which Pods of this node are enrolled: for postern-controller, which has the verbs to write it down (agent.h). */
#include <stdlib.h>
#include <string.h>

#include "control/agent.h"
#include "datapath/hooks.h"
#include "node/pod_gateways.h"
#include "observe/json.h"
#include "policy/object.h"

/* NULL: it is enrolled; else why not. */
static const char *problem_of(const struct agent *agent, const struct enrolment *enrolment, const char *unproved)
{
	const struct gateway *gateway = enrolment->gateway;

	if (enrolment->out_of_reach)
		return gateway ? gateway->reason : "no hook sees what this Pod does";
	if (!gateway)
		return *enrolment->reason ? enrolment->reason : "its cgroup is not there yet";
	if (unproved)
		return unproved;
	if (gateway->state != GATEWAY_READY)
		return *gateway->reason ? gateway->reason : gateway_state_name(gateway->state);
	if (!hooks_gateway_attached(agent->hooks, gateway->name))
		return "a hook is not on its cgroup";
	return NULL;
}

static json_t *pod_json(const struct agent *agent, const struct enrolment *enrolment, const char *unproved)
{
	const struct object *pod = enrolment->pod->pod;
	const char *problem = problem_of(agent, enrolment, unproved);

	return json_pack("{s:o, s:o, s:o, s:b, s:o}", "namespace", json_text(pod->namespace_), "name",
	                 json_text(pod->name), "uid", json_text(pod->uid), "enrolled", !problem, "reason",
	                 json_text(problem));
}

char *enrol_answer(const struct agent *agent, size_t *length)
{
	char unproved[256];
	bool proved = agent_proved(agent, unproved, sizeof(unproved));
	json_t *pods = json_array(), *document;
	char *text;

	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (agent->enrolments[i].name && agent->enrolments[i].pod)
			json_append(&pods, pod_json(agent, &agent->enrolments[i], proved ? NULL : unproved));
	}
	/* The status socket is the successor's once it has taken over. */
	document = json_pack("{s:b, s:o}", "serving", agent->socket != NULL, "pods", pods);
	text = document ? json_dumps(document, JSON_COMPACT) : NULL;
	json_decref(document);
	*length = text ? strlen(text) : 0;
	return text;
}
