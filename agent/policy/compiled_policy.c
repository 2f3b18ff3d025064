// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/ca_bundle.h"
#include "policy/compilation.h"
#include "policy/validate_policy.h"

#define MAX_CA_REFERENCES 8

static void unresolved(struct compiled_policy *policy, const char *reason)
{
	if (!policy->unresolved_reason)
		policy->unresolved_reason = reason;
}

/* The certificates of one reference, borrowed; NULL with a sentence in policy->unresolved. */
static struct shared_text *resolve_reference(const struct compilation *compilation, struct compiled_policy *policy,
                                             size_t index)
{
	const struct object_reference *reference = &policy->object->backend_tls_policy.cas[index];
	const char *group = reference->group ? reference->group : "", *kind = reference->kind ? reference->kind : "";
	const char *name = reference->name ? reference->name : "", *namespace_ = policy->object->namespace_;
	char kind_shown[PRINTABLE_MAX], group_shown[PRINTABLE_MAX], name_shown[PRINTABLE_MAX];
	const struct object *found;

	if (*group || strcmp(kind, "ConfigMap")) {
		unresolved(policy, "InvalidKind");
		text_add_sentence(
		        &policy->unresolved,
		        "spec.validation.caCertificateRefs[%zu]: kind \"%s\" of group \"%s\" is not supported: "
		        "only ConfigMap of the core group",
		        index, printable(kind, kind_shown), printable(group, group_shown));
		return NULL;
	}
	found = object_store_find(compilation->store, OBJECT_CONFIG_MAP, namespace_, name);
	if (found && found->config_map.ca)
		return found->config_map.ca;
	unresolved(policy, "InvalidCACertificateRef");
	text_add_sentence(&policy->unresolved, "spec.validation.caCertificateRefs[%zu]: ConfigMap %s/%s ", index,
	                  namespace_, printable(name, name_shown));
	if (!found)
		text_append(&policy->unresolved, "does not exist");
	else if (!found->config_map.has_ca)
		text_append(&policy->unresolved, "has no key ca.crt");
	else
		text_append(&policy->unresolved, "key ca.crt: %s", found->config_map.ca_problem);
	return NULL;
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

static int resolve_authorities(const struct compilation *compilation, struct compiled_policy *policy)
{
	const struct backend_tls_policy *spec = &policy->object->backend_tls_policy;
	struct shared_text *bundles[MAX_CA_REFERENCES];
	size_t good = 0;

	for (size_t i = 0; i < spec->ca_count && i < MAX_CA_REFERENCES; i++) {
		struct shared_text *bundle = resolve_reference(compilation, policy, i);

		if (bundle)
			bundles[good++] = bundle;
	}
	if (spec->ca_count && !good && policy->deny_reason == REASON_NONE)
		policy->deny_reason = REASON_NO_VALID_CA;
	if (good == 1)
		policy->ca = shared_text_ref(bundles[0]);
	return good > 1 ? merge(bundles, good, &policy->ca) : 0;
}

static bool is_service(const struct target_reference *target)
{
	return (!target->group || !*target->group) && (!target->kind || !strcmp(target->kind, "Service"));
}

/* Targets of other kinds are other implementations' business, unless there is nothing else. */
static void check_target_kinds(struct compiled_policy *policy)
{
	const struct backend_tls_policy *spec = &policy->object->backend_tls_policy;
	char kind[PRINTABLE_MAX], group[PRINTABLE_MAX];
	size_t services = 0;

	for (size_t i = 0; i < spec->target_count; i++)
		services += is_service(&spec->targets[i]);
	for (size_t i = 0; i < spec->target_count; i++) {
		if (is_service(&spec->targets[i]))
			continue;
		text_add_sentence(
		        services ? &policy->warnings : &policy->not_found,
		        "spec.targetRefs[%zu]: kind \"%s\" of group \"%s\" is not supported: only Service of the "
		        "core group",
		        i, printable(spec->targets[i].kind ? spec->targets[i].kind : "Service", kind),
		        printable(spec->targets[i].group ? spec->targets[i].group : "", group));
	}
}

static int compile_policy(const struct compilation *compilation, struct compiled_policy *policy)
{
	policy->last_ambiguous = SIZE_MAX;
	if (policy->why_quarantined) {
		policy->deny_reason = REASON_POLICY_INVALID;
		return 0;
	}
	validate_backend_tls_policy(&policy->object->backend_tls_policy, &policy->options, &policy->invalid);
	if (!text_is_empty(&policy->invalid))
		policy->deny_reason = REASON_POLICY_INVALID;
	check_target_kinds(policy);
	return resolve_authorities(compilation, policy);
}

int compile_policies(struct compilation *compilation)
{
	const struct object_store *store = compilation->store;
	size_t in_force = object_store_count(store, OBJECT_BACKEND_TLS_POLICY);
	size_t quarantined = object_store_quarantined_count(store, OBJECT_BACKEND_TLS_POLICY);

	compilation->policies = calloc(in_force + quarantined + 1, sizeof(*compilation->policies));
	if (!compilation->policies)
		return -ENOMEM;
	compilation->policy_count = in_force + quarantined;
	for (size_t i = 0; i < compilation->policy_count; i++) {
		struct compiled_policy *policy = &compilation->policies[i];
		int result;

		if (i < in_force) {
			policy->object = object_store_at(store, OBJECT_BACKEND_TLS_POLICY, i);
		} else {
			const struct quarantined *entry = object_store_quarantined_at(store, OBJECT_BACKEND_TLS_POLICY,
			                                                              i - in_force);

			policy->object = entry->object;
			policy->why_quarantined = entry->why;
		}
		result = compile_policy(compilation, policy);
		if (result < 0)
			return result;
	}
	return 0;
}

void free_compiled_policies(struct compilation *compilation)
{
	for (size_t i = 0; i < compilation->policy_count; i++) {
		struct compiled_policy *policy = &compilation->policies[i];

		for (size_t alpn = 0; alpn < ALPN_PROTOCOLS; alpn++)
			settings_entry_unref(policy->settings[alpn]);
		shared_text_unref(policy->ca);
		text_free(&policy->invalid);
		text_free(&policy->unusable);
		text_free(&policy->conflicts);
		text_free(&policy->not_found);
		text_free(&policy->warnings);
		text_free(&policy->unresolved);
	}
	free(compilation->policies);
}

static int reserve_id(struct compilation *compilation, uint32_t id)
{
	size_t size = compilation->settings_by_id_size ? compilation->settings_by_id_size : 64;
	struct settings_entry **entries;

	if (id < compilation->settings_by_id_size)
		return 0;
	while (size <= id)
		size *= 2;
	entries = reallocarray(compilation->settings_by_id, size, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	memset(entries + compilation->settings_by_id_size, 0,
	       (size - compilation->settings_by_id_size) * sizeof(*entries));
	compilation->settings_by_id = entries;
	compilation->settings_by_id_size = size;
	return 0;
}

/* Equal settings of several policies are one entry, named after the first; those of the last snapshot are used again.
 */
static struct settings_entry *make_settings(struct compilation *compilation, const struct settings_input *input)
{
	struct settings_entry *entry;
	uint8_t digest[32];
	uint32_t id;

	if (settings_digest(input, digest) < 0)
		return NULL;
	id = settings_registry_id(compilation->options->registry, digest);
	if (!id || reserve_id(compilation, id) < 0)
		return NULL;
	if (compilation->settings_by_id[id])
		return settings_entry_ref(compilation->settings_by_id[id]);
	entry = compilation->previous ? snapshot_settings_entry(compilation->previous, id) : NULL;
	if (entry && !strcmp(entry->settings.policy_namespace, input->policy->namespace_) &&
	    !strcmp(entry->settings.policy_name, input->policy->name))
		entry = settings_entry_ref(entry);
	else
		entry = settings_entry_new(input, digest, id);
	compilation->settings_by_id[id] = entry;
	return entry;
}

const struct settings_entry *policy_settings(struct compilation *compilation, uint32_t index, enum alpn_protocol alpn)
{
	struct compiled_policy *policy = &compilation->policies[index];
	const struct settings_input input = {
	        .policy = policy->object,
	        .options = &policy->options,
	        .ca = policy->ca,
	        .alpn = alpn,
	};

	if (!policy->settings[alpn]) {
		policy->settings[alpn] = make_settings(compilation, &input);
		if (policy->settings[alpn] && !policy->settings_id)
			policy->settings_id = policy->settings[alpn]->settings.id;
	}
	return policy->settings[alpn];
}
