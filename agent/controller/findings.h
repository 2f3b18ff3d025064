/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * findings.h: what is wrong with gateway pods and that no policy's status can say: kept as long as it is so, told once
 * as an Event on the object, and shown in metrics and status. One thread.
 *
 *   UnprotectedGatewayPod  a gateway's pod runs on a node without a ready agent, for findings' grace or longer
 *   StartRace              a gateway's pod has no gate: it may dial before its hooks are on (an init container
 *                          postern-gate, deploy/)
 *   and what pod_gateways.h finds (GatewayDoesBackendTLS, InvalidAnnotation)
 *
 * Pods that are merely observed have neither of the first two: nothing is promised for them.
 */
#ifndef POSTERN_CONTROLLER_FINDINGS_H
#define POSTERN_CONTROLLER_FINDINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/pod_gateways.h"

struct pod_findings;
struct object_store;

struct pod_findings_options {
	uint64_t grace_ns; /* of UnprotectedGatewayPod: agents are restarted, and nodes are new */

	bool (*node_is_ready)(void *context, const char *node);
	/* Told once, when it is so; and again after pod_findings_tell_again(). uid is "" for what is not in the store.
	 */
	void (*tell)(void *context, enum finding_reason reason, const char *kind, const char *namespace_,
	             const char *name, const char *uid, const char *message);
	void *context;
};

struct pod_findings *pod_findings_new(const struct pod_findings_options *options); /* NULL: no memory */
void pod_findings_free(struct pod_findings *findings);                             /* NULL-safe */

/* What is so now. nodes_known: node_is_ready() may be asked. Returns in how many ns something may become due; 0: never.
 */
uint64_t pod_findings_update(struct pod_findings *findings, const struct object_store *store,
                             const struct pod_gateways *pods, bool nodes_known, uint64_t now_ns);
/* Another leader told them, or none did: tell() is called for each that is due. */
void pod_findings_tell_again(struct pod_findings *findings);

size_t pod_findings_count(const struct pod_findings *findings, enum finding_reason reason); /* that are due */
/* [{"reason": ..., "kind": "Pod", "namespace": ..., "name": ..., "message": ...}...] */
json_t *pod_findings_json(const struct pod_findings *findings);

#endif
