/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pod_gateways.h: which Pods of this node are gateways, of which Gateway objects, and how (design section 10). Nothing
 * is enrolled by guess. A Pod is a gateway if one of these names it:
 *
 *   label gateway.networking.k8s.io/gateway-name   the Gateway of that name in the Pod's namespace (GEP-1762)
 *   annotation postern.dev/gateway                 namespace/name, several with commas: a data plane of several
 * Gateways a Gateway whose GatewayClass has the controllerName postern.dev/adopted, and whose annotation
 *   postern.dev/pod-selector selects it             Pods of that Gateway's namespace only
 *
 * It is not one while it has no node, is another node's, or has ended (Succeeded, Failed); one that is being deleted is
 * served until it is gone. A Pod all of whose known Gateways are of a class that claims BackendTLSPolicy is not
 * enrolled, unless a Gateway or the Pod has the annotation postern.dev/force: "true".
 *
 * Mode: annotation postern.dev/mode of the Pod; without one, observe if each of its Gateways says observe. A word that
 * is neither enforce nor observe is enforce, and a finding.
 *
 * Pure; control thread. postern-controller asks the same of all Pods.
 */
#ifndef POSTERN_NODE_POD_GATEWAYS_H
#define POSTERN_NODE_POD_GATEWAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "postern/abi.h"

struct object;
struct object_name;
struct pod;
struct object_store;

#define GATEWAY_CONTROLLER_ADOPTED "postern.dev/adopted" /* of the inert GatewayClass */
#define POD_GATEWAY_REFS_MAX       64

struct pod_gateway {
	char *name;               /* "namespace/pod" */
	struct object *pod;       /* a reference */
	struct object_name *refs; /* the Gateways that it serves, in the order of their names */
	size_t ref_count;
	enum postern_gateway_mode mode;
};

/* Something that the operator should know of a Pod or Gateway, and that no status of a policy says. */
enum finding_reason {
	FINDING_UNPROTECTED_GATEWAY_POD, /* a gateway that no hook is on */
	FINDING_START_RACE,              /* it ran before its hooks were on, and has no gate */
	FINDING_GATEWAY_DOES_TLS,        /* not enrolled: its implementation does backend TLS by itself */
	FINDING_INVALID_ANNOTATION,      /* postern.dev/... that cannot be read */
	FINDING_HOST_PORT_CONFLICT,      /* a Pod's hostPort is one of the agent's ports; only an agent knows those */
	FINDING_REASONS,
};
const char *finding_reason_name(enum finding_reason reason); /* "UnprotectedGatewayPod" */

struct finding {
	enum finding_reason reason;
	char *object; /* "Pod shop/web-0" */
	char *message;
};

struct pod_gateways { /* all zero = empty */
	struct pod_gateway *at;
	size_t count, capacity;
	struct finding *findings;
	size_t finding_count, finding_capacity;
};

/* node: whose Pods; "": of every node, and those without one. 0 or -ENOMEM, then found is empty. */
int pod_gateways_find(const struct object_store *store, const char *node, struct pod_gateways *found);
void pod_gateways_free(struct pod_gateways *found);

/* Succeeded or Failed, by the API's word. */
bool pod_has_ended(const struct pod *pod);

/* A Pod of that node ("": of every node), not an ended one, that has the TCP port as a hostPort. NULL: none. */
const struct object *pod_with_host_port(const struct object_store *store, const char *node, uint16_t port);

#endif
