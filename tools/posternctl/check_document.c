/* SPDX-License-Identifier: GPL-2.0-only */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/reason.h"
#include "check.h"
#include "observe/json.h"
#include "policy/client_certificate.h"
#include "policy/object.h"
#include "policy/options.h"
#include "policy/shared_text.h"
#include "policy/store.h"
#include "source/assemble.h"

#define OWN_OPTION     "postern.dev/"
#define MAX_REFERENCES 8
#define FROM_TEXT_MAX  640

/* What judging one policy after the other shares. */
struct judge {
	const struct check_input *input;
	struct coverage_index *index;
	struct pem_descriptions described;
};

const char *alpn_text(enum alpn_protocol alpn)
{
	switch (alpn) {
	case ALPN_HTTP_1_1:
		return "http/1.1";
	case ALPN_H2:
		return "h2";
	default:
		return "none";
	}
}

static const char *verdict_text(enum postern_verdict verdict)
{
	switch (verdict) {
	case POSTERN_VERDICT_TLS:
		return "TLS";
	case POSTERN_VERDICT_PLAIN:
		return "PLAIN";
	default:
		return "DENY";
	}
}

/*
 * Why a destination is refused, in the words that Gateway API's conditions have for it: what is judged here are
 * manifests, and these words lead to the condition. Log and metrics of the agent spell them as all their reasons.
 */
static const char *refusal_text(enum postern_reason reason)
{
	switch (reason) {
	case REASON_NONE:
		return "";
	case REASON_AMBIGUOUS_ENDPOINT:
		return CHECK_AMBIGUOUS;
	case REASON_POLICY_INVALID:
		return "Invalid";
	case REASON_NO_VALID_CA:
		return "NoValidCACertificate";
	case REASON_TARGET_NOT_FOUND:
		return "TargetNotFound";
	case REASON_EXTERNAL_NAME:
		return "ExternalName";
	case REASON_REFERENCE_UNRESOLVED:
		return "UnresolvedReference";
	default:
		return reason_name(reason);
	}
}

json_t *destination_document(const struct destination *destination)
{
	char address[ADDRESS_TEXT_MAX];

	return json_pack("{s:s, s:i, s:s, s:s, s:s}", "address", address_format(&destination->key.address, address),
	                 "port", ntohs(destination->key.port), "class",
	                 destination->class == DESTINATION_VIP ? "vip" : "endpoint", "verdict",
	                 verdict_text(destination->verdict), "reason", refusal_text(destination->reason));
}

static json_t *policy_name(const struct snapshot *snapshot, uint32_t index)
{
	const struct policy_status *policy;
	char text[FROM_TEXT_MAX];

	if (index == SNAPSHOT_NO_POLICY)
		return json_text("");
	policy = snapshot_policy_at(snapshot, index);
	(void)snprintf(text, sizeof(text), "%s/%s", policy->namespace_, policy->name);
	return json_text(text);
}

static json_t *destination_documents(const struct snapshot *snapshot)
{
	json_t *documents = json_array();

	for (size_t i = 0; documents && i < snapshot_destination_count(snapshot); i++) {
		const struct destination *destination = snapshot_destination_at(snapshot, i);
		json_t *document = destination_document(destination);

		json_set(&document, "policy", policy_name(snapshot, destination->policy));
		json_append(&documents, document);
	}
	return documents;
}

/* As Kubernetes writes a condition, without the time. */
static json_t *condition_document(const char *type, const struct policy_condition *condition, uint64_t generation)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:I}", "type", type, "status", condition->status ? "True" : "False",
	                 "reason", json_text(condition->reason), "message", json_text(condition->message),
	                 "observedGeneration", (json_int_t)generation);
}

static json_t *policy_conditions(const struct policy_status *policy)
{
	json_t *conditions = json_array();

	json_append(&conditions, condition_document("Accepted", &policy->accepted, policy->generation));
	json_append(&conditions, condition_document("ResolvedRefs", &policy->resolved_refs, policy->generation));
	return conditions;
}

static json_t *ancestor_documents(const struct policy_status *policy)
{
	json_t *ancestors = json_array();

	for (size_t i = 0; i < policy->ancestor_count; i++)
		json_append(&ancestors, json_pack("{s:o, s:o, s:o}", "name", json_text(policy->ancestors[i].name),
		                                  "namespace", json_text(policy->ancestors[i].namespace_), "conditions",
		                                  policy_conditions(policy)));
	return ancestors;
}

/* {"hostname": "..."} or {"subjectAltNames": [{"type", "value"}]}: never both. */
static json_t *identity_document(const struct backend_tls_policy *policy)
{
	json_t *names = json_array();

	if (!policy->subject_alt_name_count) {
		json_decref(names);
		return json_pack("{s:o}", "hostname", json_text(policy->hostname));
	}
	for (size_t i = 0; i < policy->subject_alt_name_count; i++) {
		const struct subject_alt_name_value *name = &policy->subject_alt_names[i];

		json_append(&names, json_pack("{s:o, s:o}", "type", json_text(name->type), "value",
		                              json_text(name->uri ? name->uri : name->hostname)));
	}
	return json_pack("{s:o}", "subjectAltNames", names);
}

static const struct pem_value *authority_of(const struct object *object)
{
	switch (object->kind) {
	case OBJECT_CONFIG_MAP:
		return &object->config_map.ca;
	case OBJECT_SECRET:
		return &object->secret.ca;
	default:
		return &object->cluster_trust_bundle.ca;
	}
}

/* What a reference to CA material or a CRL can name; NULL if there is none, or of another kind. */
static const struct object *find_referenced(const struct object_store *store, const char *namespace_,
                                            const struct object_reference *reference)
{
	static const enum object_kind kinds[] = {OBJECT_CONFIG_MAP, OBJECT_SECRET, OBJECT_CLUSTER_TRUST_BUNDLE};

	for (size_t i = 0; reference->kind && reference->name && i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(reference->kind, object_kind_name(kinds[i])))
			return object_store_find(store, kinds[i], object_kind_is_namespaced(kinds[i]) ? namespace_ : "",
			                         reference->name);
	return NULL;
}

/* "ConfigMap shop/ca" */
static const char *object_text(const struct object *object, char text[static FROM_TEXT_MAX])
{
	(void)snprintf(text, FROM_TEXT_MAX, "%s %s%s%s", object_kind_name(object->kind), object->namespace_,
	               object->namespace_[0] ? "/" : "", object->name);
	return text;
}

/* Its documents go into *documents, and what there is to say of it to the policy. NULL: no memory. */
static void take_description(const struct pem_description *description, json_t **documents, struct check_advice *advice)
{
	if (!description || json_array_extend(*documents, description->documents) < 0 ||
	    json_array_extend(advice->errors, description->errors) < 0 ||
	    json_array_extend(advice->warnings, description->warnings) < 0)
		json_append(documents, NULL);
}

/* {"system", "file", "count", "certificates"}; those of the system are counted only, and file is where they are. */
static json_t *authority_document(struct judge *judge, const struct object *policy, struct check_advice *advice)
{
	const struct backend_tls_policy *spec = &policy->backend_tls_policy;
	const struct check_input *input = judge->input;
	bool system = spec->well_known_ca && !spec->ca_count;
	json_t *certificates = json_array();
	size_t count = 0, valid = 0;
	char from[FROM_TEXT_MAX];

	for (size_t i = 0; i < spec->ca_count && i < MAX_REFERENCES; i++) {
		const struct object *object = find_referenced(input->store, policy->namespace_, &spec->cas[i]);
		const struct pem_description *description;

		if (!object || !authority_of(object)->pem)
			continue;
		description = describe_authorities(&judge->described, authority_of(object)->pem,
		                                   object_text(object, from), true);
		count += description ? description->count : 0;
		valid += description ? description->valid : 0;
		take_description(description, &certificates, advice);
	}
	if (system && input->system_ca) {
		const struct pem_description *description = describe_authorities(&judge->described, input->system_ca,
		                                                                 "", false);

		count = description ? description->count : 0;
		valid = description ? description->valid : 0;
		take_description(description, &certificates, advice);
	}
	if (count && !valid)
		advise(&advice->errors, "no CA certificate is valid now: every handshake is refused");
	return json_pack("{s:b, s:o, s:I, s:o}", "system", system, "file",
	                 json_text(system ? input->system_ca_path : ""), "count", (json_int_t)count, "certificates",
	                 certificates);
}

static json_t *crl_documents(struct judge *judge, const struct object *policy, const struct option_reference *reference,
                             struct check_advice *advice)
{
	const struct object *object = object_store_find(judge->input->store, reference->kind, policy->namespace_,
	                                                reference->name);
	const struct pem_value *crl = NULL;
	json_t *documents = json_array();
	char from[FROM_TEXT_MAX];

	if (object)
		crl = reference->kind == OBJECT_SECRET ? &object->secret.crl : &object->config_map.crl;
	if (crl && crl->pem)
		take_description(describe_crls(&judge->described, crl->pem, object_text(object, from)), &documents,
		                 advice);
	return documents;
}

static const char *version_text(int version)
{
	return version == TLS1_2_VERSION ? "1.2" : "1.3";
}

/* {"minTlsVersion", "maxTlsVersion", "options": {"postern.dev/...": as written}, "crls", "clientCertificate"} */
static json_t *settings_document(struct judge *judge, const struct object *policy, struct check_advice *advice)
{
	const struct backend_tls_policy *spec = &policy->backend_tls_policy;
	struct text ignored = {0}; /* the policy's conditions have it */
	json_t *own = json_object(), *document;
	struct tls_options options;

	options_parse(spec->options, spec->option_count, &options, &ignored);
	text_free(&ignored);
	for (size_t i = 0; i < spec->option_count; i++)
		if (!strncmp(spec->options[i].key, OWN_OPTION, strlen(OWN_OPTION)))
			json_set(&own, spec->options[i].key, json_text(spec->options[i].value));
	document = json_pack("{s:s, s:s, s:o}", "minTlsVersion", version_text(options.min_version), "maxTlsVersion",
	                     version_text(options.max_version), "options", own);
	if (options.crl.name)
		json_set(&document, "crls", crl_documents(judge, policy, &options.crl, advice));
	if (options.client_certificate.name) {
		const struct object *secret = object_store_find(judge->input->store, OBJECT_SECRET, policy->namespace_,
		                                                options.client_certificate.name);
		char from[FROM_TEXT_MAX];

		if (secret && secret->secret.certificate)
			json_set(&document, "clientCertificate",
			         describe_client_certificate(secret->secret.certificate, object_text(secret, from),
			                                     advice));
	}
	return document;
}

static void describe_spec(struct judge *judge, const struct policy_status *status, const struct object *policy,
                          json_t **document, struct check_advice *advice)
{
	size_t endpoints;

	json_set(document, "sni", json_text(policy->backend_tls_policy.hostname));
	json_set(document, "identity", identity_document(&policy->backend_tls_policy));
	json_set(document, "ca", authority_document(judge, policy, advice));
	json_set(document, "settings", settings_document(judge, policy, advice));
	json_set(document, "services", covered_services(judge->index, policy, &endpoints));
	if (endpoints || !status->accepted.status)
		return;
	if (object_store_count(judge->input->store, OBJECT_ENDPOINT_SLICE))
		advise(&advice->warnings, "covers no endpoint");
	else
		advise(&advice->warnings, "covers no endpoint: no EndpointSlice is among the objects");
}

/*
 * {"namespace", "name", "ancestors", "conditions", "sni", "identity", "ca", "settings", "services", "errors",
 * "warnings"}. A policy that is in quarantine has neither spec nor Services.
 */
static json_t *policy_document(struct judge *judge, const struct policy_status *policy)
{
	const struct object *object = object_store_find(judge->input->store, OBJECT_BACKEND_TLS_POLICY,
	                                                policy->namespace_, policy->name);
	struct check_advice advice = {.errors = json_array(), .warnings = json_array(), .now = judge->input->now};
	json_t *document = json_pack("{s:o, s:o, s:o, s:o}", "namespace", json_text(policy->namespace_), "name",
	                             json_text(policy->name), "ancestors", ancestor_documents(policy), "conditions",
	                             policy_conditions(policy));

	if (policy->warnings && policy->warnings[0])
		json_append(&advice.warnings, json_text(policy->warnings));
	if (policy->ancestors_left_out)
		advise(&advice.warnings, "%zu more Gateways need it: Gateway API has room for %d in a policy's status",
		       policy->ancestors_left_out, POLICY_MAX_ANCESTORS);
	if (object)
		describe_spec(judge, policy, object, &document, &advice);
	json_set(&document, "errors", advice.errors);
	json_set(&document, "warnings", advice.warnings);
	return document;
}

static json_t *policy_documents(const struct check_input *input)
{
	struct judge judge = {
	        .input = input,
	        .index = coverage_index_new(input->store, input->snapshot),
	        .described = {.now = input->now},
	};
	json_t *documents = judge.index ? json_array() : NULL;

	for (size_t i = 0; documents && i < snapshot_policy_count(input->snapshot); i++)
		json_append(&documents, policy_document(&judge, snapshot_policy_at(input->snapshot, i)));
	coverage_index_free(judge.index);
	pem_descriptions_free(&judge.described);
	return documents;
}

/*
 * {"namespace", "name", "served", "conditions", "clientCertificate", "errors", "warnings"}; the last but two only with
 * a clientCertificateRef, which the condition is about.
 */
static json_t *gateway_document(const struct check_input *input, const struct gateway_status *gateway)
{
	struct check_advice advice = {.errors = json_array(), .warnings = json_array(), .now = input->now};
	json_t *conditions = json_array();
	json_t *document = json_pack("{s:o, s:o, s:b}", "namespace", json_text(gateway->namespace_), "name",
	                             json_text(gateway->name), "served", gateway->served);

	if (gateway->has_reference)
		json_append(&conditions,
		            condition_document("ResolvedRefs", &gateway->resolved_refs, gateway->generation));
	json_set(&document, "conditions", conditions);
	if (gateway->client_certificate)
		json_set(&document, "clientCertificate",
		         describe_client_certificate(gateway->client_certificate, "its clientCertificateRef", &advice));
	if (!gateway->served)
		json_append(&advice.warnings, json_text("is not served: its GatewayClass does backend TLS itself "
		                                        "(annotation postern.dev/force: \"true\" overrides that)"));
	json_set(&document, "errors", advice.errors);
	json_set(&document, "warnings", advice.warnings);
	return document;
}

static json_t *gateway_documents(const struct check_input *input)
{
	json_t *documents = json_array();

	for (size_t i = 0; documents && i < snapshot_gateway_count(input->snapshot); i++)
		json_append(&documents, gateway_document(input, snapshot_gateway_at(input->snapshot, i)));
	return documents;
}

/* [{"object", "message"}], as the agent's status has them. */
static json_t *error_documents(const struct findings *findings)
{
	json_t *documents = json_array();

	for (size_t i = 0; i < findings->error_count; i++)
		json_append(&documents, json_pack("{s:o, s:o}", "object", json_text(findings->errors[i].object),
		                                  "message", json_text(findings->errors[i].message)));
	return documents;
}

static json_t *note_documents(const struct findings *findings)
{
	json_t *documents = json_array();

	for (size_t i = 0; i < findings->note_count; i++)
		json_append(&documents, json_text(findings->notes[i]));
	return documents;
}

/* "10.96.0.0/12" */
static json_t *cidr_text(const struct cidr *cidr)
{
	unsigned int length = cidr->prefix_length - (address_is_v4(&cidr->address) ? 96 : 0);
	char address[ADDRESS_TEXT_MAX], text[ADDRESS_TEXT_MAX + 8];

	(void)snprintf(text, sizeof(text), "%s/%u", address_format(&cidr->address, address), length);
	return json_string(text);
}

/* {"clusterCIDRs", "ports"}: a connect to a destination of these that is not in the list waits for the source. */
static json_t *held_document(const struct snapshot *snapshot)
{
	json_t *cidrs = json_array(), *ports = json_array();

	for (size_t i = 0; i < snapshot_cidr_count(snapshot); i++)
		json_append(&cidrs, cidr_text(snapshot_cidr_at(snapshot, i)));
	for (unsigned int port = 1; port <= UINT16_MAX; port++)
		if (snapshot_port_guarded(snapshot, (uint16_t)port))
			json_append(&ports, json_integer(port));
	return json_pack("{s:o, s:o}", "clusterCIDRs", cidrs, "ports", ports);
}

json_t *check_document(const struct check_input *input)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "policies", policy_documents(input), "destinations",
	                 destination_documents(input->snapshot), "gateways", gateway_documents(input), "held",
	                 held_document(input->snapshot), "errors", error_documents(input->findings), "notes",
	                 note_documents(input->findings));
}
