// SPDX-License-Identifier: GPL-2.0-only
/* What each policy is told: Gateway API's conditions Accepted and ResolvedRefs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/compilation.h"

/* ---- which of them ---- */

static void mark_claims(const struct key_node *key)
{
	for (const struct claim *claim = key ? key->claims : NULL; claim; claim = claim->next)
		if (claim_coverage(claim)->policy)
			claim_coverage(claim)->policy->slot->dirty = true;
}

void mark_statuses(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->dirty_service_count; i++) {
		const struct service_node *service = compiler->dirty_services[i];

		for (size_t j = 0; j < service->attachment_count; j++)
			service->attachments[j].policy->slot->dirty = true;
	}
	for (size_t i = 0; i < compiler->dirty_key_count; i++) {
		mark_claims(compiler->dirty_keys[i]);
		mark_claims(find_any_port(compiler, compiler->dirty_keys[i]));
	}
}

/* ---- conditions ---- */

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

/* The worst first: what is wrong with the policy itself, then with its targets. */
static const char *accepted_reason(const struct compiled_policy *policy, const struct target_report *report)
{
	if (!text_is_empty(&policy->invalid))
		return "Invalid";
	if (!text_is_empty(&report->conflicts))
		return "Conflicted";
	if (!text_is_empty(&report->unusable))
		return "Invalid";
	if (policy->deny_reason == REASON_NO_VALID_CA)
		return "NoValidCACertificate";
	if (policy->deny_reason == REASON_REFERENCE_UNRESOLVED)
		return "Invalid";
	if (!text_is_empty(&report->not_found))
		return "TargetNotFound";
	return "Accepted";
}

static void tell_denial(const struct compiled_policy *policy, struct text *message)
{
	if (policy->deny_reason == REASON_NO_VALID_CA && policy->system_ca)
		text_add_sentence(message, "wellKnownCACertificates is System, and this node has no CA bundle: "
		                           "connections are refused; name one in the agent's setting systemCA, or use "
		                           "caCertificateRefs");
	else if (policy->deny_reason == REASON_NO_VALID_CA)
		text_add_sentence(message, "no reference in spec.validation.caCertificateRefs gives a usable CA "
		                           "certificate: connections are refused");
	else if (policy->deny_reason == REASON_REFERENCE_UNRESOLVED)
		text_add_sentence(message,
		                  "an option refers to an object that cannot be used: connections are refused; "
		                  "see ResolvedRefs");
}

static void add_warnings(const struct policy_slot *slot, const struct policy_status *status,
                         struct target_report *report, bool accepted)
{
	if (accepted && report->wins && !report->covers_endpoint)
		text_add_sentence(&report->warnings, "it covers no endpoint yet");
	if (status->ancestors_left_out)
		text_add_sentence(&report->warnings,
		                  "%zu more Gateways have a Route to its Services than status.ancestors has room for "
		                  "(%d, other controllers' entries included): it counts for them, and cannot be told "
		                  "there; let fewer Gateways share these Services",
		                  status->ancestors_left_out, POLICY_MAX_ANCESTORS);
	for (size_t i = 0; i < slot->quarantined_count; i++)
		text_add_sentence(&report->warnings, "another version of it is not applied: %s",
		                  slot->quarantined[i]->why_quarantined);
}

static void set_accepted(const struct policy_slot *slot, struct target_report *report, struct policy_status *status)
{
	const struct compiled_policy *policy = slot->in_force;
	const char *reason = accepted_reason(policy, report);
	bool accepted = !strcmp(reason, "Accepted");
	struct text message = {0};

	add_part(&message, &policy->invalid);
	add_part(&message, &report->conflicts);
	add_part(&message, &report->unusable);
	tell_denial(policy, &message);
	add_part(&message, &report->not_found);
	if (accepted)
		text_add_sentence(&message, "the policy is in force");
	add_warnings(slot, status, report, accepted);
	add_part(&message, &report->warnings);
	set_condition(&status->accepted, accepted, reason, &message);
}

static void set_resolved(const struct compiled_policy *policy, struct policy_status *status)
{
	struct text message = {0};

	if (policy->unresolved_reason) {
		add_part(&message, &policy->unresolved);
		if (policy->ca && policy->deny_reason == REASON_NONE)
			text_add_sentence(&message, "the other references are used");
		set_condition(&status->resolved_refs, false, policy->unresolved_reason, &message);
		return;
	}
	text_add_sentence(&message,
	                  policy->reference_count ? "every reference is resolved" : "the policy refers to no object");
	set_condition(&status->resolved_refs, true, "ResolvedRefs", &message);
}

static int tell_policy(const struct compiler *compiler, const struct policy_slot *slot, struct policy_status *status)
{
	const struct compiled_policy *policy = slot->in_force;
	struct target_report report;
	int result = report_targets(compiler, policy, &report);

	if (result == 0) {
		add_part(report.wins || !text_is_empty(&report.conflicts) ? &report.warnings : &report.not_found,
		         &policy->unsupported);
		set_accepted(slot, &report, status);
		set_resolved(policy, status);
		status->warnings = text_take(&report.warnings);
	}
	free_target_report(&report);
	for (size_t i = 0; i < ALPN_PROTOCOLS && !status->settings_id; i++)
		if (policy->uses[i].coverages)
			status->settings_id = policy->uses[i].id;
	return result;
}

/* A policy in quarantine is not in force; its targets are refused unless something in force covers them. */
static void tell_quarantined(const struct compiled_policy *policy, struct policy_status *status)
{
	struct text accepted = {0}, resolved = {0};

	text_add_sentence(&accepted, "not applied, and its targets are refused unless another policy covers them: %s",
	                  policy->why_quarantined);
	set_condition(&status->accepted, false, "Invalid", &accepted);
	text_add_sentence(&resolved, "the policy is not applied");
	set_condition(&status->resolved_refs, false, "Invalid", &resolved);
	status->warnings = strdup("");
}

static int fill_status(const struct compiler *compiler, const struct policy_slot *slot, struct policy_status *status)
{
	status->namespace_ = strdup(slot->object->namespace_);
	status->name = strdup(slot->object->name);
	status->generation = slot->object->generation;
	status->destination_count = slot->destination_count;
	if (collect_ancestors(compiler, slot->object, status) < 0)
		return -ENOMEM;
	if (!slot->in_force)
		tell_quarantined(slot->quarantined[0], status);
	else if (tell_policy(compiler, slot, status) < 0)
		return -ENOMEM;
	return status->namespace_ && status->name && status->accepted.message && status->resolved_refs.message &&
	                       status->warnings
	               ? 0
	               : -ENOMEM;
}

static int write_status(const struct compiler *compiler, struct policy_slot *slot)
{
	struct status_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return -ENOMEM;
	atomic_init(&entry->references, 1);
	if (fill_status(compiler, slot, &entry->status) < 0) {
		status_entry_unref(entry);
		return -ENOMEM;
	}
	status_entry_unref(slot->status);
	slot->status = entry;
	slot->dirty = false;
	return 0;
}

int write_statuses(struct compiler *compiler)
{
	for (size_t i = 0; i < compiler->slot_count; i++) {
		if (!compiler->slots[i]->dirty)
			continue;
		if (write_status(compiler, compiler->slots[i]) < 0)
			return -ENOMEM;
		compiler->statuses_changed = true;
	}
	return 0;
}
