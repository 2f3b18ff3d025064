// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"
#include "policy/client_certificate.h"
#include "policy/compilation.h"
#include "policy/validate_policy.h"

/* Targets of other kinds are other implementations' business, unless there is nothing else. */
static void check_target_kinds(struct compiled_policy *policy)
{
	const struct backend_tls_policy *spec = &policy->object->backend_tls_policy;
	char kind[PRINTABLE_MAX], group[PRINTABLE_MAX];

	for (size_t i = 0; i < spec->target_count; i++) {
		const struct target_reference *target = &spec->targets[i];

		if (is_of_service_kind(target))
			continue;
		text_add_sentence(
		        &policy->unsupported,
		        "spec.targetRefs[%zu]: kind \"%s\" of group \"%s\" is not supported: only Service of the "
		        "core group",
		        i, printable(target->kind ? target->kind : "Service", kind),
		        printable(target->group ? target->group : "", group));
	}
}

static int judge_policy(struct compiler *compiler, struct compiled_policy *policy)
{
	if (policy->why_quarantined) {
		policy->deny_reason = REASON_POLICY_INVALID;
		return 0;
	}
	validate_backend_tls_policy(&policy->object->backend_tls_policy, &policy->options, &policy->invalid);
	if (!text_is_empty(&policy->invalid))
		policy->deny_reason = REASON_POLICY_INVALID;
	check_target_kinds(policy);
	return resolve_references(compiler, policy);
}

int compiled_policy_new(struct compiler *compiler, const struct object *object, const char *why_quarantined,
                        size_t ordinal, struct compiled_policy **policy)
{
	struct compiled_policy *made = calloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	made->object = object;
	made->why_quarantined = why_quarantined;
	made->ordinal = ordinal;
	for (size_t i = 0; i < ALPN_PROTOCOLS; i++)
		made->uses[i].policy = made;
	if (judge_policy(compiler, made) < 0) {
		compiled_policy_free(compiler, made);
		return -ENOMEM;
	}
	*policy = made;
	return 0;
}

void compiled_policy_free(struct compiler *compiler, struct compiled_policy *policy)
{
	if (!policy)
		return;
	for (size_t i = 0; i < policy->reference_count; i++)
		table_remove(&compiler->references, &policy->references[i].node);
	free(policy->references);
	shared_text_unref(policy->ca);
	shared_text_unref(policy->crl);
	client_certificate_unref(policy->client_certificate);
	text_free(&policy->invalid);
	text_free(&policy->unsupported);
	text_free(&policy->unresolved);
	free(policy);
}
