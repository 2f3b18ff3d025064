/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/findings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "observe/json.h"
#include "policy/object.h"
#include "policy/snapshot.h"
#include "policy/store.h"

struct kept {
	struct kept *next;
	enum finding_reason reason;
	char *kind, *namespace_, *name, *uid, *message;
	uint64_t due_ns;
	bool due, told;
	uint64_t round;
};

struct pod_findings {
	struct pod_findings_options options;
	struct kept *first;
	uint64_t round;
};

static void free_kept(struct kept *kept)
{
	free(kept->kind);
	free(kept->namespace_);
	free(kept->name);
	free(kept->uid);
	free(kept->message);
	free(kept);
}

static struct kept **find(struct pod_findings *findings, enum finding_reason reason, const char *kind,
                          const char *namespace_, const char *name, const char *uid)
{
	struct kept **place = &findings->first;

	for (; *place; place = &(*place)->next)
		if ((*place)->reason == reason && !strcmp((*place)->kind, kind) &&
		    !strcmp((*place)->namespace_, namespace_) && !strcmp((*place)->name, name) &&
		    !strcmp((*place)->uid, uid))
			break;
	return place;
}

/* It is so. What cannot be kept for want of memory is found by the next round. */
static void note(struct pod_findings *findings, enum finding_reason reason, const char *kind, const char *namespace_,
                 const char *name, const char *uid, const char *message, uint64_t due_ns)
{
	struct kept **place = find(findings, reason, kind, namespace_, name, uid), *kept = *place;
	char *copy = strdup(message);

	if (!kept && copy && (kept = calloc(1, sizeof(*kept)))) {
		*kept = (struct kept){.reason = reason, .due_ns = due_ns};
		kept->kind = strdup(kind);
		kept->namespace_ = strdup(namespace_);
		kept->name = strdup(name);
		kept->uid = strdup(uid);
		if (kept->kind && kept->namespace_ && kept->name && kept->uid) {
			*place = kept;
		} else {
			free_kept(kept);
			kept = NULL;
		}
	}
	if (!kept || !copy) {
		free(copy);
		return;
	}
	kept->round = findings->round;
	free(kept->message);
	kept->message = copy;
}

static void note_pod(struct pod_findings *findings, const struct object *pod, enum finding_reason reason,
                     const char *message, uint64_t due_ns)
{
	note(findings, reason, "Pod", pod->namespace_, pod->name, pod->uid, message, due_ns);
}

static void judge_pod(struct pod_findings *findings, const struct pod_gateway *gateway, bool nodes_known,
                      uint64_t now_ns)
{
	const struct object *pod = gateway->pod;
	char message[512];

	if (gateway->mode == POSTERN_MODE_OBSERVE)
		return;
	if (!pod->pod.gated)
		note_pod(findings, pod, FINDING_START_RACE,
		         "the pod has no gate: what it dials between its start and its enrolment is not covered; add "
		         "the init container postern-gate (deploy/ has a MutatingAdmissionPolicy and a patch), and "
		         "start the pod anew",
		         now_ns);
	if (!nodes_known || !*pod->pod.node_name ||
	    findings->options.node_is_ready(findings->options.context, pod->pod.node_name))
		return;
	snprintf(message, sizeof(message),
	         "node %.253s has no ready agent of postern: covered connections are refused if its hooks are on, "
	         "and plain if they never were; see the DaemonSet's Pods and its node selector and tolerations",
	         pod->pod.node_name);
	note_pod(findings, pod, FINDING_UNPROTECTED_GATEWAY_POD, message, now_ns + findings->options.grace_ns);
}

/* "Pod shop/web-0", as pod_gateways.h names it. */
static void note_found(struct pod_findings *findings, const struct object_store *store, const struct finding *found,
                       uint64_t now_ns)
{
	char kind[32], namespace_[256], name[256];
	const struct object *object;

	if (sscanf(found->object, "%31s %255[^/]/%255s", kind, namespace_, name) != 3)
		return;
	object = object_store_find(store, strcmp(kind, "Gateway") ? OBJECT_POD : OBJECT_GATEWAY, namespace_, name);
	note(findings, found->reason, kind, namespace_, name, object ? object->uid : "", found->message, now_ns);
}

static void tell_due(struct pod_findings *findings, struct kept *kept, uint64_t now_ns)
{
	kept->due |= now_ns >= kept->due_ns;
	if (!kept->due || kept->told)
		return;
	kept->told = true;
	findings->options.tell(findings->options.context, kept->reason, kept->kind, kept->namespace_, kept->name,
	                       kept->uid, kept->message);
}

uint64_t pod_findings_update(struct pod_findings *findings, const struct object_store *store,
                             const struct pod_gateways *pods, bool nodes_known, uint64_t now_ns)
{
	struct kept **place = &findings->first;
	uint64_t wait_ns = 0;

	findings->round++;
	for (size_t i = 0; i < pods->count; i++)
		judge_pod(findings, &pods->at[i], nodes_known, now_ns);
	for (size_t i = 0; i < pods->finding_count; i++)
		note_found(findings, store, &pods->findings[i], now_ns);
	while (*place) {
		struct kept *kept = *place;

		if (kept->round != findings->round) {
			*place = kept->next;
			free_kept(kept);
			continue;
		}
		tell_due(findings, kept, now_ns);
		if (!kept->due && (!wait_ns || kept->due_ns - now_ns < wait_ns))
			wait_ns = kept->due_ns - now_ns;
		place = &kept->next;
	}
	return wait_ns;
}

void pod_findings_tell_again(struct pod_findings *findings)
{
	for (struct kept *kept = findings->first; kept; kept = kept->next) {
		kept->told = false;
		tell_due(findings, kept, 0);
	}
}

size_t pod_findings_count(const struct pod_findings *findings, enum finding_reason reason)
{
	size_t count = 0;

	for (const struct kept *kept = findings->first; kept; kept = kept->next)
		count += kept->due && kept->reason == reason;
	return count;
}

json_t *pod_findings_json(const struct pod_findings *findings)
{
	json_t *list = json_array();

	for (const struct kept *kept = findings->first; kept; kept = kept->next)
		if (kept->due)
			json_append(&list,
			            json_pack("{s:s, s:o, s:o, s:o, s:o}", "reason", finding_reason_name(kept->reason),
			                      "kind", json_text(kept->kind), "namespace", json_text(kept->namespace_),
			                      "name", json_text(kept->name), "message", json_text(kept->message)));
	return list;
}

struct pod_findings *pod_findings_new(const struct pod_findings_options *options)
{
	struct pod_findings *findings = calloc(1, sizeof(*findings));

	if (findings)
		findings->options = *options;
	return findings;
}

void pod_findings_free(struct pod_findings *findings)
{
	while (findings && findings->first) {
		struct kept *kept = findings->first;

		findings->first = kept->next;
		free_kept(kept);
	}
	free(findings);
}
