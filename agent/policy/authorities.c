// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a policy refers to: CA certificates (ConfigMap, Secret, ClusterTrustBundle, the system's own), and the options'
 * CRL and client certificate. Partly bad CA references leave the good ones in use: a smaller set of anchors is never
 * less safe. Everything else that is bad refuses.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "policy/ca_bundle.h"
#include "policy/client_certificate.h"
#include "policy/compilation.h"

#define MAX_CA_REFERENCES 8
#define OTHER_REFERENCES  2 /* CRL and client certificate */

static void deny(struct compiled_policy *policy, enum postern_reason reason)
{
	if (policy->deny_reason == REASON_NONE)
		policy->deny_reason = reason;
}

static void unresolved(struct compiled_policy *policy, const char *reason)
{
	if (!policy->unresolved_reason)
		policy->unresolved_reason = reason;
}

static const char *reference_namespace(const struct compiled_policy *policy, enum object_kind kind)
{
	return object_kind_is_namespaced(kind) ? policy->object->namespace_ : "";
}

/* Remembered, whether it exists or not: it may come. */
static int refer(struct compiler *compiler, struct compiled_policy *policy, enum object_kind kind, const char *name)
{
	struct policy_reference *reference = &policy->references[policy->reference_count];

	if (table_reserve(&compiler->references) < 0)
		return -ENOMEM;
	*reference = (struct policy_reference){.policy = policy, .kind = kind, .name = name};
	table_insert(&compiler->references, &reference->node,
	             table_hash_names(reference_namespace(policy, kind), name, kind));
	policy->reference_count++;
	return 0;
}

void mark_policies_naming(struct compiler *compiler, enum object_kind kind, const char *namespace_, const char *name)
{
	struct table_node *node = table_first(&compiler->references, table_hash_names(namespace_, name, kind));

	for (; node; node = table_next(node)) {
		const struct policy_reference *reference = container_of(node, struct policy_reference, node);

		if (reference->kind == kind && !strcmp(reference->name, name) &&
		    !strcmp(reference_namespace(reference->policy, kind), namespace_))
			reference->policy->stale = true;
	}
}

/* Kind and "namespace/name", as messages show them. */
struct shown {
	char name[PRINTABLE_MAX];
	char text[3 * PRINTABLE_MAX + 256];
};

static const char *show(const struct compiled_policy *policy, enum object_kind kind, const char *name,
                        struct shown *shown)
{
	const char *namespace_ = reference_namespace(policy, kind);

	snprintf(shown->text, sizeof(shown->text), "%s %s%s%s", object_kind_name(kind), namespace_,
	         *namespace_ ? "/" : "", printable(name, shown->name));
	return shown->text;
}

/* There is none in force: is there one in quarantine? */
static void tell_missing(const struct compiler *compiler, struct compiled_policy *policy, enum object_kind kind,
                         const char *name, const char *remedy)
{
	for (size_t i = 0; i < compiler->quarantine_count[kind]; i++) {
		const struct quarantined *entry = &compiler->quarantine[kind][i];

		if (!strcmp(entry->object->namespace_, reference_namespace(policy, kind)) &&
		    !strcmp(entry->object->name, name)) {
			text_append(&policy->unresolved, " is not applied: %s", entry->why);
			return;
		}
	}
	text_append(&policy->unresolved, " does not exist: %s", remedy);
}

static const struct pem_value *ca_of(const struct object *object)
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

static bool find_ca_kind(const char *group, const char *kind, enum object_kind *found)
{
	static const struct {
		const char *group, *kind;
		enum object_kind object_kind;
	} kinds[] = {
	        {"", "ConfigMap", OBJECT_CONFIG_MAP},
	        {"", "Secret", OBJECT_SECRET},
	        {"certificates.k8s.io", "ClusterTrustBundle", OBJECT_CLUSTER_TRUST_BUNDLE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strcmp(group, kinds[i].group) && !strcmp(kind, kinds[i].kind)) {
			*found = kinds[i].object_kind;
			return true;
		}
	}
	return false;
}

static void tell_bad_value(struct text *message, const struct pem_value *value, const char *key, const char *what)
{
	if (!value->present)
		text_append(message, " has no key %s: put %s there, as PEM", key, what);
	else
		text_append(message, " key %s: %s", key, value->problem);
}

/* The certificates of one reference, borrowed; *bundle NULL: a sentence in policy->unresolved says why. */
static int resolve_ca(struct compiler *compiler, struct compiled_policy *policy, size_t index,
                      struct shared_text **bundle)
{
	const struct object_reference *reference = &policy->object->backend_tls_policy.cas[index];
	const char *group = reference->group ? reference->group : "", *kind = reference->kind ? reference->kind : "";
	const char *name = reference->name ? reference->name : "";
	char kind_shown[PRINTABLE_MAX], group_shown[PRINTABLE_MAX];
	enum object_kind object_kind;
	const struct object *found;
	struct shown shown;

	*bundle = NULL;
	if (!find_ca_kind(group, kind, &object_kind)) {
		unresolved(policy, "InvalidKind");
		text_add_sentence(
		        &policy->unresolved,
		        "spec.validation.caCertificateRefs[%zu]: kind \"%s\" of group \"%s\" is not supported: use "
		        "ConfigMap or Secret of the core group, or ClusterTrustBundle of certificates.k8s.io",
		        index, printable(kind, kind_shown), printable(group, group_shown));
		return 0;
	}
	if (refer(compiler, policy, object_kind, name) < 0)
		return -ENOMEM;
	found = object_store_find(compiler->store, object_kind, reference_namespace(policy, object_kind), name);
	*bundle = found ? ca_of(found)->pem : NULL;
	if (*bundle)
		return 0;
	unresolved(policy, "InvalidCACertificateRef");
	text_add_sentence(&policy->unresolved, "spec.validation.caCertificateRefs[%zu]: %s", index,
	                  show(policy, object_kind, name, &shown));
	if (!found)
		tell_missing(compiler, policy, object_kind, name, "create it");
	else
		tell_bad_value(&policy->unresolved, ca_of(found),
		               object_kind == OBJECT_CLUSTER_TRUST_BUNDLE ? "spec.trustBundle" : "ca.crt",
		               "the CA certificates");
	return 0;
}

/* Several bundles become one, in canonical order: the order of the references means nothing. */
static int merge(struct shared_text *const *bundles, size_t count, struct shared_text **merged)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	char error[160];
	int result;

	for (size_t i = 0; i < count; i++)
		length += bundles[i]->length;
	text = malloc(length + 1);
	if (!text)
		return -ENOMEM;
	length = 0;
	for (size_t i = 0; i < count; i++) {
		memcpy(text + length, bundles[i]->text, bundles[i]->length);
		length += bundles[i]->length;
	}
	result = ca_bundle_canonical(text, length, merged, error, sizeof(error));
	return result == -EINVAL ? -ENOMEM : result; /* each was good by itself */
}

static int resolve_authorities(struct compiler *compiler, struct compiled_policy *policy)
{
	const struct backend_tls_policy *spec = &policy->object->backend_tls_policy;
	struct shared_text *bundles[MAX_CA_REFERENCES], *system_ca = compiler->options.system_ca;
	size_t good = 0;

	for (size_t i = 0; i < spec->ca_count && i < MAX_CA_REFERENCES; i++) {
		if (resolve_ca(compiler, policy, i, &bundles[good]) < 0)
			return -ENOMEM;
		good += bundles[good] != NULL;
	}
	if (!spec->ca_count && spec->well_known_ca && !strcmp(spec->well_known_ca, "System")) {
		policy->system_ca = true;
		if (system_ca)
			bundles[good++] = system_ca;
	}
	if (!good)
		deny(policy, REASON_NO_VALID_CA);
	if (good == 1)
		policy->ca = shared_text_ref(bundles[0]);
	return good > 1 ? merge(bundles, good, &policy->ca) : 0;
}

static int resolve_crl(struct compiler *compiler, struct compiled_policy *policy)
{
	const struct option_reference *option = &policy->options.crl;
	const struct object *found;
	const struct pem_value *value = NULL;
	struct shown shown;

	if (!option->name)
		return 0;
	if (refer(compiler, policy, option->kind, option->name) < 0)
		return -ENOMEM;
	found = object_store_find(compiler->store, option->kind, policy->object->namespace_, option->name);
	if (found)
		value = option->kind == OBJECT_SECRET ? &found->secret.crl : &found->config_map.crl;
	if (value && value->pem) {
		policy->crl = shared_text_ref(value->pem);
		return 0;
	}
	deny(policy, REASON_REFERENCE_UNRESOLVED);
	unresolved(policy, "InvalidCRLRef");
	text_add_sentence(&policy->unresolved, "spec.options[postern.dev/crl]: %s",
	                  show(policy, option->kind, option->name, &shown));
	if (!value)
		tell_missing(compiler, policy, option->kind, option->name, "create it, or remove the option");
	else
		tell_bad_value(&policy->unresolved, value, "ca.crl", "the CRLs");
	return 0;
}

static int resolve_client_certificate(struct compiler *compiler, struct compiled_policy *policy)
{
	const struct option_reference *option = &policy->options.client_certificate;
	char type[PRINTABLE_MAX];
	const struct object *found;
	struct shown shown;

	if (!option->name)
		return 0;
	if (refer(compiler, policy, OBJECT_SECRET, option->name) < 0)
		return -ENOMEM;
	found = object_store_find(compiler->store, OBJECT_SECRET, policy->object->namespace_, option->name);
	if (found && !strcmp(found->secret.type, "kubernetes.io/tls") && found->secret.certificate) {
		policy->client_certificate = client_certificate_ref(found->secret.certificate);
		return 0;
	}
	deny(policy, REASON_REFERENCE_UNRESOLVED);
	unresolved(policy, "InvalidClientCertificateRef");
	text_add_sentence(&policy->unresolved, "spec.options[postern.dev/client-certificate]: %s",
	                  show(policy, OBJECT_SECRET, option->name, &shown));
	if (!found)
		tell_missing(compiler, policy, OBJECT_SECRET, option->name, "create it, or remove the option");
	else if (strcmp(found->secret.type, "kubernetes.io/tls"))
		text_append(&policy->unresolved, " is of type \"%s\": it must be kubernetes.io/tls",
		            printable(found->secret.type, type));
	else
		text_append(&policy->unresolved, " %s", found->secret.certificate_problem);
	return 0;
}

int resolve_references(struct compiler *compiler, struct compiled_policy *policy)
{
	size_t count = policy->object->backend_tls_policy.ca_count;

	if (count > MAX_CA_REFERENCES)
		count = MAX_CA_REFERENCES;
	policy->references = calloc(count + OTHER_REFERENCES, sizeof(*policy->references));
	if (!policy->references)
		return -ENOMEM;
	if (resolve_authorities(compiler, policy) < 0 || resolve_crl(compiler, policy) < 0)
		return -ENOMEM;
	return resolve_client_certificate(compiler, policy);
}
