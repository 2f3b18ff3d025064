// SPDX-License-Identifier: GPL-2.0-only
/* What each policy is told: Gateway API's conditions Accepted and ResolvedRefs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/compilation.h"

#define EXAMPLES 3 /* as in verdicts.c: what goes beyond is counted here */

static void set_condition(struct policy_condition *condition, bool status, const char *reason, struct text *message)
{
	condition->status = status;
	snprintf(condition->reason, sizeof(condition->reason), "%s", reason);
	condition->message = text_take(message);
}

static void add_part(struct text *message, const struct text *part)
{
	message->failed |= part->failed;
	if (part->data)
		text_add(message, part->data);
}

static void count_the_rest(struct compiled_policy *policy)
{
	if (policy->ambiguous_endpoints > EXAMPLES)
		text_add_sentence(&policy->warnings, "%u more endpoints are refused as ambiguous",
		                  policy->ambiguous_endpoints - EXAMPLES);
	if (policy->ambiguous_endpoints)
		text_add_sentence(
		        &policy->warnings,
		        "remedy for AmbiguousEndpoint: let the gateway dial the ClusterIP, give each Service its "
		        "own targetPort, or make the TLS settings equal (one hostname with subjectAltNames for "
		        "all, one postern.dev/alpn)");
	if (policy->shared_endpoints > EXAMPLES)
		text_add_sentence(&policy->warnings, "%u more endpoints are shared with uncovered Services",
		                  policy->shared_endpoints - EXAMPLES);
}

/* The worst first: what is wrong with the policy itself, then with its targets. */
static const char *accepted_reason(const struct compiled_policy *policy)
{
	if (!text_is_empty(&policy->invalid))
		return "Invalid";
	if (!text_is_empty(&policy->conflicts))
		return "Conflicted";
	if (!text_is_empty(&policy->unusable))
		return "Invalid";
	if (policy->deny_reason == REASON_NO_VALID_CA)
		return "NoValidCACertificate";
	if (!text_is_empty(&policy->not_found))
		return "TargetNotFound";
	return "Accepted";
}

static void set_accepted(struct compiled_policy *policy, struct policy_status *status)
{
	const char *reason = accepted_reason(policy);
	struct text message = {0};
	bool accepted = !strcmp(reason, "Accepted");

	add_part(&message, &policy->invalid);
	add_part(&message, &policy->conflicts);
	add_part(&message, &policy->unusable);
	if (policy->deny_reason == REASON_NO_VALID_CA)
		text_add_sentence(&message, "no reference in spec.validation.caCertificateRefs gives a usable CA "
		                            "certificate: connections are refused");
	add_part(&message, &policy->not_found);
	if (accepted)
		text_add_sentence(&message, "the policy is in force");
	count_the_rest(policy);
	add_part(&message, &policy->warnings);
	set_condition(&status->accepted, accepted, reason, &message);
}

static void set_resolved(struct compiled_policy *policy, struct policy_status *status)
{
	struct text message = {0};

	if (policy->unresolved_reason) {
		if (policy->ca)
			text_add_sentence(&policy->unresolved, "the other references are used");
		set_condition(&status->resolved_refs, false, policy->unresolved_reason, &policy->unresolved);
		return;
	}
	text_add_sentence(&message, policy->object->backend_tls_policy.ca_count ? "every reference is resolved"
	                                                                        : "the policy refers to no CA object");
	set_condition(&status->resolved_refs, true, "ResolvedRefs", &message);
}

/* A policy in quarantine is not in force; its targets are refused unless something in force covers them. */
static void set_quarantined(struct compiled_policy *policy, struct policy_status *status)
{
	struct text accepted = {0}, resolved = {0};

	text_add_sentence(&accepted, "not applied, and its targets are refused unless another policy covers them: %s",
	                  policy->why_quarantined);
	set_condition(&status->accepted, false, "Invalid", &accepted);
	text_add_sentence(&resolved, "the policy is not applied");
	set_condition(&status->resolved_refs, false, "Invalid", &resolved);
}

static int write_status(struct compiled_policy *policy, struct policy_status *status)
{
	status->namespace_ = strdup(policy->object->namespace_);
	status->name = strdup(policy->object->name);
	status->generation = policy->object->generation;
	status->settings_id = policy->settings_id;
	if (policy->why_quarantined) {
		set_quarantined(policy, status);
	} else {
		set_accepted(policy, status);
		set_resolved(policy, status);
	}
	return status->namespace_ && status->name && status->accepted.message && status->resolved_refs.message
	               ? 0
	               : -ENOMEM;
}

static int compare_policies(const void *left_pointer, const void *right_pointer)
{
	struct compiled_policy *const *left = left_pointer, *const *right = right_pointer;
	int order = object_compare((*left)->object, (*right)->object);

	if (order)
		return order;
	return *left < *right ? -1 : *left > *right; /* in force before quarantined */
}

/* One status a name: sorted holds every policy, the one in force first among its namesakes. */
static size_t number_policies(struct compiled_policy **sorted, size_t count)
{
	struct compiled_policy *first = NULL;
	size_t statuses = 0;

	for (size_t i = 0; i < count; i++) {
		if (!first || object_compare(first->object, sorted[i]->object)) {
			first = sorted[i];
			first->status_index = statuses++;
			continue;
		}
		sorted[i]->status_index = first->status_index;
		if (!first->why_quarantined)
			text_add_sentence(&first->warnings, "another version of it is not applied: %s",
			                  sorted[i]->why_quarantined);
	}
	return statuses;
}

static void count_destinations(struct compilation *compilation)
{
	struct snapshot *snapshot = compilation->snapshot;

	for (size_t i = 0; i < snapshot->destination_count; i++) {
		struct destination *destination = &snapshot->destinations[i];

		if (destination->policy == NO_POLICY) {
			destination->policy = SNAPSHOT_NO_POLICY;
			continue;
		}
		destination->policy = (uint32_t)compilation->policies[destination->policy].status_index;
		snapshot->policies[destination->policy].destination_count++;
	}
}

int write_statuses(struct compilation *compilation)
{
	struct snapshot *snapshot = compilation->snapshot;
	_cleanup_free_ struct compiled_policy **sorted = calloc(compilation->policy_count + 1, sizeof(*sorted));
	size_t statuses;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < compilation->policy_count; i++)
		sorted[i] = &compilation->policies[i];
	qsort(sorted, compilation->policy_count, sizeof(struct compiled_policy *), compare_policies);
	statuses = number_policies(sorted, compilation->policy_count);
	snapshot->policies = calloc(statuses + 1, sizeof(*snapshot->policies));
	if (!snapshot->policies)
		return -ENOMEM;
	for (size_t i = 0; i < compilation->policy_count; i++) {
		if (sorted[i]->status_index != snapshot->policy_count)
			continue;
		snapshot->policy_count++;
		if (write_status(sorted[i], &snapshot->policies[sorted[i]->status_index]) < 0)
			return -ENOMEM;
	}
	count_destinations(compilation);
	return 0;
}
