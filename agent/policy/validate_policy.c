// SPDX-License-Identifier: GPL-2.0-only
#include "policy/validate_policy.h"

#include <string.h>

#include "policy/names.h"
#include "policy/uri.h"

#define MAX_TARGETS           16
#define MAX_CA_REFERENCES     8
#define MAX_SUBJECT_ALT_NAMES 5
#define MAX_OPTIONS           16
#define NAME_MAX_LENGTH       253

static bool too_many(struct text *problems, const char *field, size_t count, size_t most)
{
	if (count <= most)
		return false;
	text_add_sentence(problems, "%s: Too many: %zu: must have at most %zu items", field, count, most);
	return true;
}

static void check_reference(struct text *problems, const char *field, size_t index, const char *group, const char *kind,
                            const char *name)
{
	char shown[PRINTABLE_MAX];

	if (!group)
		text_add_sentence(problems, "%s[%zu].group: Required value (\"\" is the core group)", field, index);
	else if (*group && !is_dns_subdomain(group))
		text_add_sentence(problems, "%s[%zu].group: Invalid value: \"%s\"", field, index,
		                  printable(group, shown));
	if (!kind)
		text_add_sentence(problems, "%s[%zu].kind: Required value", field, index);
	else if (!is_kind(kind))
		text_add_sentence(problems, "%s[%zu].kind: Invalid value: \"%s\"", field, index,
		                  printable(kind, shown));
	if (!name || !*name)
		text_add_sentence(problems, "%s[%zu].name: Required value", field, index);
	else if (strlen(name) > NAME_MAX_LENGTH)
		text_add_sentence(problems, "%s[%zu].name: Too long: may not be more than %d bytes", field, index,
		                  NAME_MAX_LENGTH);
}

static bool equal(const char *left, const char *right)
{
	return !strcmp(left ? left : "", right ? right : "");
}

static bool same_object(const struct target_reference *left, const struct target_reference *right)
{
	return equal(left->group, right->group) && equal(left->kind, right->kind) && equal(left->name, right->name);
}

static bool has_section(const struct target_reference *target)
{
	return target->section_name && *target->section_name;
}

/* The two CEL rules on targetRefs. */
static void check_target_pairs(const struct backend_tls_policy *policy, struct text *problems)
{
	bool mixed = false, duplicate = false;

	for (size_t i = 0; i < policy->target_count; i++) {
		for (size_t j = 0; j < i; j++) {
			const struct target_reference *left = &policy->targets[i], *right = &policy->targets[j];

			if (!same_object(left, right))
				continue;
			mixed |= has_section(left) != has_section(right);
			duplicate |= equal(left->section_name, right->section_name);
		}
	}
	if (mixed)
		text_add_sentence(problems, "spec.targetRefs: sectionName must be specified when targetRefs includes 2 "
		                            "or more references to the same target");
	if (duplicate)
		text_add_sentence(problems, "spec.targetRefs: sectionName must be unique when targetRefs includes 2 or "
		                            "more references to the same target");
}

static void check_targets(const struct backend_tls_policy *policy, struct text *problems)
{
	char shown[PRINTABLE_MAX];

	if (!policy->target_count) {
		text_add_sentence(problems, "spec.targetRefs: Required value: must have at least 1 item");
		return;
	}
	if (too_many(problems, "spec.targetRefs", policy->target_count, MAX_TARGETS))
		return;
	for (size_t i = 0; i < policy->target_count; i++) {
		const struct target_reference *target = &policy->targets[i];

		check_reference(problems, "spec.targetRefs", i, target->group, target->kind, target->name);
		if (target->section_name && !is_dns_subdomain(target->section_name))
			text_add_sentence(problems, "spec.targetRefs[%zu].sectionName: Invalid value: \"%s\"", i,
			                  printable(target->section_name, shown));
	}
	check_target_pairs(policy, problems);
}

static void check_hostname(const struct backend_tls_policy *policy, struct text *problems)
{
	const char *hostname = policy->hostname;
	char shown[PRINTABLE_MAX];

	if (!hostname || !*hostname)
		text_add_sentence(problems, "spec.validation.hostname: Required value");
	else if (is_numeric_host(hostname) || strchr(hostname, ':'))
		text_add_sentence(
		        problems,
		        "spec.validation.hostname: Invalid value: \"%s\": must be a DNS name, not an IP address "
		        "(RFC 6066 allows none in SNI)",
		        printable(hostname, shown));
	else if (!is_dns_subdomain(hostname))
		text_add_sentence(
		        problems,
		        "spec.validation.hostname: Invalid value: \"%s\": must be a DNS name of lower case, at "
		        "most 253 bytes, without wildcard or trailing dot",
		        printable(hostname, shown));
}

static void check_san_hostname(const char *hostname, size_t index, struct text *problems)
{
	const char *why = NULL;
	char shown[PRINTABLE_MAX];

	if (!is_wildcard_hostname(hostname))
		why = "must be a DNS name of lower case, at most 253 bytes";
	else if (*hostname == '*')
		why = "a wildcard is not allowed here; one in the certificate is matched";
	else if (is_numeric_host(hostname))
		why = "must be a DNS name, not an IP address";
	if (why)
		text_add_sentence(problems, "spec.validation.subjectAltNames[%zu].hostname: Invalid value: \"%s\": %s",
		                  index, printable(hostname, shown), why);
}

static void check_san_uri(const char *uri, size_t index, struct text *problems)
{
	const char *why = strlen(uri) > NAME_MAX_LENGTH ? "is longer than 253 bytes" : uri_problem(uri);
	char shown[PRINTABLE_MAX];

	if (why)
		text_add_sentence(problems, "spec.validation.subjectAltNames[%zu].uri: Invalid value: \"%s\" %s", index,
		                  printable(uri, shown), why);
}

/* The four CEL rules on an element, then its values. */
static void check_subject_alt_name(const struct subject_alt_name_value *name, size_t index, struct text *problems)
{
	bool is_hostname = name->type && !strcmp(name->type, "Hostname"),
	     is_uri = name->type && !strcmp(name->type, "URI");
	bool has_hostname = name->hostname && *name->hostname, has_uri = name->uri && *name->uri;
	const char *rule = NULL;
	char shown[PRINTABLE_MAX];

	if (!is_hostname && !is_uri) {
		text_add_sentence(
		        problems,
		        "spec.validation.subjectAltNames[%zu].type: Unsupported value: \"%s\": supported values: "
		        "\"Hostname\", \"URI\"",
		        index, printable(name->type ? name->type : "", shown));
		return;
	}
	if (is_hostname && !has_hostname)
		rule = "SubjectAltName element must contain Hostname, if Type is set to Hostname";
	else if (!is_hostname && has_hostname)
		rule = "SubjectAltName element must not contain Hostname, if Type is not set to Hostname";
	if (rule)
		text_add_sentence(problems, "spec.validation.subjectAltNames[%zu]: %s", index, rule);
	rule = NULL;
	if (is_uri && !has_uri)
		rule = "SubjectAltName element must contain URI, if Type is set to URI";
	else if (!is_uri && has_uri)
		rule = "SubjectAltName element must not contain URI, if Type is not set to URI";
	if (rule)
		text_add_sentence(problems, "spec.validation.subjectAltNames[%zu]: %s", index, rule);
	if (is_hostname && has_hostname)
		check_san_hostname(name->hostname, index, problems);
	if (is_uri && has_uri)
		check_san_uri(name->uri, index, problems);
}

static void check_authorities(const struct backend_tls_policy *policy, struct text *problems)
{
	bool well_known = policy->well_known_ca && *policy->well_known_ca;
	char shown[PRINTABLE_MAX];

	if (policy->ca_count && well_known)
		text_add_sentence(problems, "spec.validation: must not contain both CACertificateRefs and "
		                            "WellKnownCACertificates");
	if (!policy->ca_count && !well_known)
		text_add_sentence(problems, "spec.validation: must specify either CACertificateRefs or "
		                            "WellKnownCACertificates");
	if (well_known && !is_well_known_ca(policy->well_known_ca))
		text_add_sentence(problems, "spec.validation.wellKnownCACertificates: Invalid value: \"%s\"",
		                  printable(policy->well_known_ca, shown));
	else if (well_known && strcmp(policy->well_known_ca, "System"))
		text_add_sentence(
		        problems,
		        "spec.validation.wellKnownCACertificates: Unsupported value: \"%s\": supported values: "
		        "\"System\"",
		        printable(policy->well_known_ca, shown));
	if (too_many(problems, "spec.validation.caCertificateRefs", policy->ca_count, MAX_CA_REFERENCES))
		return;
	for (size_t i = 0; i < policy->ca_count; i++)
		check_reference(problems, "spec.validation.caCertificateRefs", i, policy->cas[i].group,
		                policy->cas[i].kind, policy->cas[i].name);
}

void validate_backend_tls_policy(const struct backend_tls_policy *policy, struct tls_options *options,
                                 struct text *problems)
{
	check_targets(policy, problems);
	if (!policy->has_validation) {
		text_add_sentence(problems, "spec.validation: Required value");
	} else {
		check_hostname(policy, problems);
		check_authorities(policy, problems);
		if (!too_many(problems, "spec.validation.subjectAltNames", policy->subject_alt_name_count,
		              MAX_SUBJECT_ALT_NAMES))
			for (size_t i = 0; i < policy->subject_alt_name_count; i++)
				check_subject_alt_name(&policy->subject_alt_names[i], i, problems);
	}
	if (too_many(problems, "spec.options", policy->option_count, MAX_OPTIONS))
		options_parse(NULL, 0, options, problems);
	else
		options_parse(policy->options, policy->option_count, options, problems);
}
