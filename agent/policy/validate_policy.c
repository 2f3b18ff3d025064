// SPDX-License-Identifier: GPL-2.0-only
#include "policy/validate_policy.h"

#include <stdio.h>
#include <string.h>

#include "base/printable.h"
#include "policy/names.h"
#include "policy/uri.h"

#define MAX_TARGETS           16
#define MAX_CA_REFERENCES     8
#define MAX_SUBJECT_ALT_NAMES 5
#define MAX_OPTIONS           16
#define FIELD_MAX             96

#define DNS_NAME "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

/* What the schema says of one string; the pattern as it is written there. */
struct string_rule {
	bool may_be_empty;
	size_t most; /* characters */
	bool (*matches)(const char *text);
	const char *pattern;
	const char *meaning;
};

/* What the pattern of a URI asks for, which is little: uri.h asks for the rest. */
static bool has_scheme_and_authority(const char *uri)
{
	size_t scheme = strcspn(uri, ":/?#");

	return scheme && !strncmp(uri + scheme, "://", 3);
}

static const struct string_rule group_rule = {true, 253, is_dns_subdomain, "^$|^" DNS_NAME "$",
                                              "a DNS subdomain of lower case, or \"\" for the core group"};
static const struct string_rule kind_rule = {false, 63, is_kind, "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
                                             "letters, digits and inner hyphens"};
static const struct string_rule name_rule = {.most = 253};
static const struct string_rule section_rule = {false, 253, is_dns_subdomain, "^" DNS_NAME "$",
                                                "the name of a port of the Service"};
static const struct string_rule hostname_rule = {false, 253, is_dns_subdomain, "^" DNS_NAME "$",
                                                 "a DNS name of lower case without wildcard or trailing dot"};
static const struct string_rule san_hostname_rule = {false, 253, is_wildcard_hostname, "^(\\*\\.)?" DNS_NAME "$",
                                                     "a DNS name of lower case without trailing dot"};
static const struct string_rule uri_rule = {false, 253, has_scheme_and_authority,
                                            "^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\\?([^#]*))?(#(.*))?",
                                            "a scheme and an authority"};
static const struct string_rule well_known_rule = {
        false, 253, is_well_known_ca,
        "^(System|([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/"
        "([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]))$",
        "\"System\", or a name with a domain"};

/* OpenAPI's maxLength counts characters, though the API server's message says bytes. */
static size_t count_characters(const char *text)
{
	size_t count = 0;

	for (; *text; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

/* NULL is absent, which is let be. Returns whether the value is sound, in the API server's words if it is not. */
static bool check_string(struct text *problems, const char *field, const char *value, const struct string_rule *rule)
{
	char shown[PRINTABLE_MAX];

	if (!value || (!*value && rule->may_be_empty))
		return true;
	if (!*value)
		text_add_sentence(problems, "%s: Invalid value: \"\": %s in body should be at least 1 chars long",
		                  field, field);
	else if (count_characters(value) > rule->most)
		text_add_sentence(problems, "%s: Too long: may not be more than %zu bytes", field, rule->most);
	else if (rule->matches && !rule->matches(value))
		text_add_sentence(problems, "%s: Invalid value: \"%s\": %s in body should match '%s' (%s)", field,
		                  printable(value, shown), field, rule->pattern, rule->meaning);
	else
		return true;
	return false;
}

static bool check_required(struct text *problems, const char *field, const char *value, const struct string_rule *rule)
{
	if (value)
		return check_string(problems, field, value, rule);
	text_add_sentence(problems, "%s: Required value", field);
	return false;
}

static bool too_many(struct text *problems, const char *field, size_t count, size_t most)
{
	if (count <= most)
		return false;
	text_add_sentence(problems, "%s: Too many: %zu: must have at most %zu items", field, count, most);
	return true;
}

/* list is "spec.targetRefs"; the result is "spec.targetRefs[3].name". */
static const char *name_field(char field[static FIELD_MAX], const char *list, size_t index, const char *key)
{
	snprintf(field, FIELD_MAX, "%s[%zu].%s", list, index, key);
	return field;
}

static void check_reference(struct text *problems, const char *list, size_t index, const char *group, const char *kind,
                            const char *name)
{
	char field[FIELD_MAX];

	check_required(problems, name_field(field, list, index, "group"), group, &group_rule);
	check_required(problems, name_field(field, list, index, "kind"), kind, &kind_rule);
	check_required(problems, name_field(field, list, index, "name"), name, &name_rule);
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
	static const char list[] = "spec.targetRefs";

	if (!policy->target_count) {
		text_add_sentence(problems, "%s: Required value: must have at least 1 item", list);
		return;
	}
	if (too_many(problems, list, policy->target_count, MAX_TARGETS))
		return;
	for (size_t i = 0; i < policy->target_count; i++) {
		const struct target_reference *target = &policy->targets[i];
		char field[FIELD_MAX];

		check_reference(problems, list, i, target->group, target->kind, target->name);
		check_string(problems, name_field(field, list, i, "sectionName"), target->section_name, &section_rule);
	}
	check_target_pairs(policy, problems);
}

/* The pattern lets IPv4 addresses pass, the field's description does not, nor does SNI (RFC 6066 section 3). */
static bool check_no_address(struct text *problems, const char *field, const char *hostname)
{
	char shown[PRINTABLE_MAX];

	if (!is_numeric_host(hostname) && !strchr(hostname, ':'))
		return true;
	text_add_sentence(
	        problems,
	        "%s: Invalid value: \"%s\": must be a DNS name, not an IP address (RFC 6066 allows none in SNI)", field,
	        printable(hostname, shown));
	return false;
}

static void check_hostname(const struct backend_tls_policy *policy, struct text *problems)
{
	static const char field[] = "spec.validation.hostname";

	if (!policy->hostname || check_no_address(problems, field, policy->hostname))
		check_required(problems, field, policy->hostname, &hostname_rule);
}

static void check_san_hostname(const char *hostname, const char *field, struct text *problems)
{
	char shown[PRINTABLE_MAX];

	if (!check_no_address(problems, field, hostname))
		return;
	if (check_string(problems, field, hostname, &san_hostname_rule) && *hostname == '*')
		text_add_sentence(
		        problems,
		        "%s: Invalid value: \"%s\": a wildcard is not allowed here; one in the certificate is "
		        "matched",
		        field, printable(hostname, shown));
}

static void check_san_uri(const char *uri, const char *field, struct text *problems)
{
	const char *why;
	char shown[PRINTABLE_MAX];

	if (!check_string(problems, field, uri, &uri_rule))
		return;
	why = uri_problem(uri);
	if (why)
		text_add_sentence(problems, "%s: Invalid value: \"%s\" %s", field, printable(uri, shown), why);
}

/* Then the four CEL rules on an element; an empty text counts as absent for them, though not for the schema. */
static void check_san_fields(const struct subject_alt_name_value *name, const char *element, struct text *problems)
{
	bool is_hostname = name->type && !strcmp(name->type, "Hostname"),
	     is_uri = name->type && !strcmp(name->type, "URI");
	bool has_hostname = name->hostname && *name->hostname, has_uri = name->uri && *name->uri;

	if (is_hostname && !has_hostname)
		text_add_sentence(problems,
		                  "%s: SubjectAltName element must contain Hostname, if Type is set to Hostname",
		                  element);
	if (!is_hostname && has_hostname)
		text_add_sentence(
		        problems,
		        "%s: SubjectAltName element must not contain Hostname, if Type is not set to Hostname",
		        element);
	if (is_uri && !has_uri)
		text_add_sentence(problems, "%s: SubjectAltName element must contain URI, if Type is set to URI",
		                  element);
	if (!is_uri && has_uri)
		text_add_sentence(problems,
		                  "%s: SubjectAltName element must not contain URI, if Type is not set to URI",
		                  element);
}

static void check_subject_alt_name(const struct subject_alt_name_value *name, size_t index, struct text *problems)
{
	static const char list[] = "spec.validation.subjectAltNames";
	char field[FIELD_MAX], element[FIELD_MAX], shown[PRINTABLE_MAX];
	const char *type = name->type ? name->type : "";

	snprintf(element, sizeof(element), "%s[%zu]", list, index);
	if (strcmp(type, "Hostname") != 0 && strcmp(type, "URI") != 0)
		text_add_sentence(problems,
		                  "%s.type: Unsupported value: \"%s\": supported values: \"Hostname\", \"URI\"",
		                  element, printable(type, shown));
	if (name->hostname)
		check_san_hostname(name->hostname, name_field(field, list, index, "hostname"), problems);
	if (name->uri)
		check_san_uri(name->uri, name_field(field, list, index, "uri"), problems);
	check_san_fields(name, element, problems);
}

static void check_well_known(const char *value, struct text *problems)
{
	static const char field[] = "spec.validation.wellKnownCACertificates";
	char shown[PRINTABLE_MAX];

	if (value && check_string(problems, field, value, &well_known_rule) && strcmp(value, "System") != 0)
		text_add_sentence(problems, "%s: Unsupported value: \"%s\": supported values: \"System\"", field,
		                  printable(value, shown));
}

static void check_authorities(const struct backend_tls_policy *policy, struct text *problems)
{
	static const char list[] = "spec.validation.caCertificateRefs";
	bool well_known = policy->well_known_ca && *policy->well_known_ca;

	if (policy->ca_count && well_known)
		text_add_sentence(problems, "spec.validation: must not contain both CACertificateRefs and "
		                            "WellKnownCACertificates");
	if (!policy->ca_count && !well_known)
		text_add_sentence(problems, "spec.validation: must specify either CACertificateRefs or "
		                            "WellKnownCACertificates");
	check_well_known(policy->well_known_ca, problems);
	if (too_many(problems, list, policy->ca_count, MAX_CA_REFERENCES))
		return;
	for (size_t i = 0; i < policy->ca_count; i++)
		check_reference(problems, list, i, policy->cas[i].group, policy->cas[i].kind, policy->cas[i].name);
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
