/* SPDX-License-Identifier: GPL-2.0-only */
/* The parts of the status that tell of policy: enrolled gateways and what they show, Gateway objects, policies. */
#include <stdio.h>

#include "config/config.h"
#include "datapath/gateway.h"
#include "observe/json.h"
#include "observe/status.h"
#include "policy/client_certificate.h"
#include "policy/gateway_identity.h"
#include "policy/snapshot.h"

static json_t *condition(const struct policy_condition *condition)
{
	return json_pack("{s:b, s:o, s:o}", "status", condition->status, "reason", json_text(condition->reason),
	                 "message", json_text(condition->message));
}

static json_t *object_name(const struct object_name *object)
{
	return json_pack("{s:o, s:o}", "namespace", json_text(object->namespace_), "name", json_text(object->name));
}

static json_t *object_names(const struct object_name *objects, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_append(&array, object_name(&objects[i]));
	return array;
}

/* Nothing of the key: the digest is over what everybody may see. */
static json_t *certificate(const char *state, const struct client_certificate *certificate)
{
	char digest[2 * sizeof(certificate->digest) + 1] = "";

	for (size_t i = 0; certificate && i < sizeof(certificate->digest); i++)
		(void)snprintf(digest + 2 * i, 3, "%02x", certificate->digest[i]);
	return json_pack("{s:s, s:s, s:I}", "state", state, "digest", digest, "not_after",
	                 (json_int_t)(certificate ? certificate->not_after : 0));
}

static json_t *shown_certificate(const struct gateway *gateway, const struct snapshot *snapshot)
{
	struct gateway_identity identity = {0};

	if (snapshot)
		gateway_identity_find(snapshot, gateway_refs(gateway)->at, gateway_refs(gateway)->count, NULL,
		                      &identity);
	if (identity.unusable)
		return certificate("unusable", NULL);
	if (identity.disagreement)
		return certificate("disagreement", NULL);
	return certificate(identity.certificate ? "shown" : "none", identity.certificate);
}

json_t *status_gateway(const struct gateway *gateway, const struct snapshot *snapshot)
{
	json_t *ports = json_array();

	for (size_t i = 0; i < gateway->listener_count; i++)
		json_append(&ports, json_integer(gateway->listeners[i].port));
	return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name", json_text(gateway->name), "cgroup",
	                 json_text(gateway->cgroup_path), "mode", config_gateway_mode_name(gateway->mode), "state",
	                 gateway_state_name(gateway->state), "reason", json_text(gateway->reason), "netns",
	                 json_text(gateway->netns_path), "listeners", ports, "gatewayRefs",
	                 object_names(gateway_refs(gateway)->at, gateway_refs(gateway)->count), "client_certificate",
	                 shown_certificate(gateway, snapshot));
}

json_t *status_gateway_object(const struct gateway_status *gateway)
{
	const char *state = !gateway->has_reference ? "none" : gateway->client_certificate ? "usable" : "unusable";

	return json_pack("{s:o, s:o, s:I, s:b, s:o, s:o}", "namespace", json_text(gateway->namespace_), "name",
	                 json_text(gateway->name), "generation", (json_int_t)gateway->generation, "served",
	                 gateway->served, "resolvedRefs", condition(&gateway->resolved_refs), "client_certificate",
	                 certificate(state, gateway->client_certificate));
}

json_t *status_policy(const struct policy_status *policy)
{
	return json_pack("{s:o, s:o, s:I, s:o, s:o, s:I, s:o, s:I, s:o}", "namespace", json_text(policy->namespace_),
	                 "name", json_text(policy->name), "generation", (json_int_t)policy->generation, "accepted",
	                 condition(&policy->accepted), "resolvedRefs", condition(&policy->resolved_refs),
	                 "destinations", (json_int_t)policy->destination_count, "ancestors",
	                 object_names(policy->ancestors, policy->ancestor_count), "ancestors_left_out",
	                 (json_int_t)policy->ancestors_left_out, "warnings", json_text(policy->warnings));
}

json_t *status_system_ca(const struct status_system_ca *ca)
{
	return json_pack("{s:o, s:b, s:I, s:o}", "file", json_text(ca->file), "in_force", ca->in_force, "left_out",
	                 (json_int_t)ca->left_out, "problem", json_text(ca->problem));
}
