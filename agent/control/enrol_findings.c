/* SPDX-License-Identifier: GPL-2.0-only */
/* What the operator should know of gateways: from the source (pod_gateways.h), and from what became of each. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "node/pod_gateways.h"
#include "node/pod_namespace.h"
#include "observe/status.h"
#include "policy/object.h"
#include "policy/vector.h"
#include "source/source.h"

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

/* kind: "Pod", or "gateway" for one of the configuration. */
__attribute__((format(printf, 5, 6))) static void add(struct enrol_findings *findings, enum finding_reason reason,
                                                      const char *kind, const char *name, const char *format, ...)
{
	char *object = NULL, *message = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&message, format, arguments) == -1)
		message = NULL;
	va_end(arguments);
	if (asprintf(&object, "%s %s", kind, name) == -1)
		object = NULL;
	take(findings, reason, object, message);
}

/*
 * A hostPort is reached in the node's network namespace. Of Pods that were there before it, a gateway's listeners keep
 * clear; who comes later and takes one of their ports gets it as a rule of the CNI's that leads the gateway's connects
 * elsewhere (the guard drops them), or, with hostNetwork, cannot bind it.
 */
static void look_at_ports(const struct enrolment *enrolment, const struct agent *agent, struct enrol_findings *findings)
{
	const struct gateway *gateway = enrolment->gateway;
	bool there = gateway && agent->source && is_node_namespace(gateway->netns_fd, agent->config.host_proc);

	for (size_t i = 0; there && i < gateway->listener_count; i++) {
		uint16_t port = gateway->listeners[i].port;
		const struct object *taker = pod_with_host_port(source_store(agent->source), agent->config.node_name,
		                                                port);

		if (!taker)
			continue;
		add(findings, FINDING_HOST_PORT_CONFLICT, enrolment->pod ? "Pod" : "gateway", enrolment->name,
		    "hostPort %u of Pod %s/%s is a port of this gateway's listeners: covered connects by it fail, "
		    "and a hostNetwork Pod cannot bind it. An agent that starts anew keeps clear of it; or give the "
		    "Pod another port, or the agent others (setting ports)",
		    port, taker->namespace_, taker->name);
		return; /* one says what to do */
	}
}

static void look_at(const struct enrolment *enrolment, struct enrol_findings *findings)
{
	const struct gateway *gateway = enrolment->gateway;
	bool hooked = gateway && (gateway->state == GATEWAY_ATTACHED || gateway->state == GATEWAY_READY);

	if (enrolment->out_of_reach)
		add(findings, FINDING_UNPROTECTED_GATEWAY_POD, "Pod", enrolment->name, "%s",
		    gateway ? gateway->reason : "");
	else if (!hooked && enrolment->pod->pod->pod.started)
		add(findings, FINDING_UNPROTECTED_GATEWAY_POD, "Pod", enrolment->name, "no hook is on it: %s",
		    gateway ? gateway->reason : enrolment->reason);
	if (enrolment->raced && !enrolment->out_of_reach)
		add(findings, FINDING_START_RACE, "Pod", enrolment->name,
		    "it ran before its hooks were on, and may have spoken plainly to covered backends: give it the "
		    "gate "
		    "(an init container postern-gate that runs posternctl gate)");
}

void enrol_findings_make(const struct agent *agent, struct enrol_findings *findings)
{
	const struct pod_gateways *pods = agent->pods;

	*findings = (struct enrol_findings){0};
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (!agent->enrolments[i].name)
			continue;
		if (agent->enrolments[i].pod)
			look_at(&agent->enrolments[i], findings);
		look_at_ports(&agent->enrolments[i], agent, findings);
	}
	for (size_t i = 0; pods && i < pods->count; i++) {
		const struct enrolment *enrolment = pods->at[i].name ? enrol_find(agent, pods->at[i].name) : NULL;

		if (pods->at[i].name && !enrolment)
			add(findings, FINDING_UNPROTECTED_GATEWAY_POD, "Pod", pods->at[i].name,
			    "it is not enrolled: this agent serves at most %d gateways", POSTERN_MAX_SERVED);
		else if (enrolment && !enrolment->pod)
			add(findings, FINDING_UNPROTECTED_GATEWAY_POD, "Pod", pods->at[i].name,
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
