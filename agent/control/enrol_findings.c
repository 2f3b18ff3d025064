/* SPDX-License-Identifier: GPL-2.0-only */
/* What the operator should know of gateway Pods: from the source (pod_gateways.h), and from what became of each. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "node/pod_gateways.h"
#include "observe/status.h"
#include "policy/object.h"
#include "policy/vector.h"

/* Takes both texts; NULL: there was no memory for it. */
static void take(struct enrol_findings *findings, enum finding_reason reason, char *object, char *message)
{
	const struct status_finding finding = {
	        .reason = finding_reason_name(reason), .object = object, .message = message};

	if (object && message &&
	    vector_reserve(&findings->at, findings->count, &findings->capacity, sizeof(finding)) == 0) {
		findings->at[findings->count++] = finding;
		return;
	}
	log_error("no memory", "what=\"a finding\"");
	free(object);
	free(message);
}

__attribute__((format(printf, 4, 5))) static void add(struct enrol_findings *findings, enum finding_reason reason,
                                                      const char *pod, const char *format, ...)
{
	char *object = NULL, *message = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&message, format, arguments) == -1)
		message = NULL;
	va_end(arguments);
	if (asprintf(&object, "Pod %s", pod) == -1)
		object = NULL;
	take(findings, reason, object, message);
}

static void look_at(const struct enrolment *enrolment, struct enrol_findings *findings)
{
	const struct gateway *gateway = enrolment->gateway;
	bool hooked = gateway && (gateway->state == GATEWAY_ATTACHED || gateway->state == GATEWAY_READY);

	if (enrolment->out_of_reach)
		add(findings, FINDING_UNPROTECTED_GATEWAY_POD, enrolment->name, "%s", gateway ? gateway->reason : "");
	else if (!hooked && enrolment->pod->pod->pod.started)
		add(findings, FINDING_UNPROTECTED_GATEWAY_POD, enrolment->name, "no hook is on it: %s",
		    gateway ? gateway->reason : enrolment->reason);
	if (enrolment->raced && !enrolment->out_of_reach)
		add(findings, FINDING_START_RACE, enrolment->name,
		    "it ran before its hooks were on, and may have spoken plainly to covered backends: give it the "
		    "gate "
		    "(an init container postern-gate that runs posternctl gate)");
}

void enrol_findings_make(const struct agent *agent, struct enrol_findings *findings)
{
	const struct pod_gateways *pods = agent->pods;

	*findings = (struct enrol_findings){0};
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (agent->enrolments[i].name && agent->enrolments[i].pod)
			look_at(&agent->enrolments[i], findings);
	}
	for (size_t i = 0; pods && i < pods->count; i++) {
		const struct enrolment *enrolment = pods->at[i].name ? enrol_find(agent, pods->at[i].name) : NULL;

		if (pods->at[i].name && !enrolment)
			add(findings, FINDING_UNPROTECTED_GATEWAY_POD, pods->at[i].name,
			    "it is not enrolled: this agent serves at most %d gateways", POSTERN_MAX_SERVED);
		else if (enrolment && !enrolment->pod)
			add(findings, FINDING_UNPROTECTED_GATEWAY_POD, pods->at[i].name,
			    "it is not enrolled: the configuration has a gateway of this name");
	}
	for (size_t i = 0; pods && i < pods->finding_count; i++) {
		const struct finding *finding = &pods->findings[i];

		take(findings, finding->reason, strdup(finding->object), strdup(finding->message));
	}
}

void enrol_findings_free(struct enrol_findings *findings)
{
	for (size_t i = 0; i < findings->count; i++) {
		free((char *)findings->at[i].object);
		free((char *)findings->at[i].message);
	}
	free(findings->at);
	*findings = (struct enrol_findings){0};
}
