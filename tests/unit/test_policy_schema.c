// SPDX-License-Identifier: GPL-2.0-only
/*
 * The schema of BackendTLSPolicy: the 26 cases that Gateway API has for its CEL rules, by its names, and a good and a
 * bad value for each pattern and size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "policy_judge.h"

#define SERVICE(name)          "{group: '', kind: Service, name: " name "}"
#define SECTION(name, section) "{group: '', kind: Service, name: " name ", sectionName: " section "}"
#define TARGETS(list)          "validation: {wellKnownCACertificates: System, hostname: foo.example.com}, targetRefs: [" list "]"

/* TestBackendTLSPolicyTargetRefs */
static void upstream_target_references(void **state)
{
	static const struct judged rows[] = {
	        /* duplicate target refs without section name */
	        {TARGETS(SERVICE("example") ", " SERVICE("example")),
	         "sectionName must be unique when targetRefs includes 2 or more references to the same target"},
	        /* duplicate target refs with only one section name */
	        {TARGETS(SERVICE("example") ", " SERVICE("example2") ", " SECTION("example", "foo")),
	         "sectionName must be specified when targetRefs includes 2 or more references to the same target"},
	        /* duplicate target refs with duplicate section names */
	        {TARGETS(SECTION("example", "foo") ", " SECTION("example", "bar") ", " SECTION("example", "foo")),
	         "sectionName must be unique when targetRefs includes 2 or more references to the same target"},
	        /* single targetRef without sectionName */
	        {TARGETS(SERVICE("example")), NULL},
	        /* single targetRef with sectionName */
	        {TARGETS(SECTION("example", "foo")), NULL},
	        /* duplicate target refs with different section names */
	        {TARGETS(SECTION("example", "foo") ", " SECTION("example", "bar") ", " SECTION("example", "jin")),
	         NULL},
	        /* different names */
	        {TARGETS(SECTION("example", "foo") ", " SECTION("example2", "foo") ", " SECTION("example3", "foo")),
	         NULL},
	        /* different kinds */
	        {TARGETS(SECTION("example", "foo") ", {group: '', kind: NotService, name: example, sectionName: foo}"),
	         NULL},
	        /* different groups */
	        {TARGETS(SECTION("example",
	                         "foo") ", {group: svc.other.io, kind: Service, name: example, sectionName: foo}"),
	         NULL},
	};

	(void)state;
	judge_all(rows, ARRAY_SIZE(rows));
}

#define TARGET           "targetRefs: [{group: group, kind: kind, name: name, sectionName: section}]"
#define VALIDATION(text) TARGET ", validation: {" text "}"
#define AUTHORITY        "hostname: foo.example.com, caCertificateRefs: [{group: group, kind: kind, name: name}]"
#define SAN(text)        VALIDATION(AUTHORITY ", subjectAltNames: [{" text "}]")
#define WELL_KNOWN_PATTERN                                                                                             \
	"spec.validation.wellKnownCACertificates in body should match "                                                \
	"'^(System|([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/"                                 \
	"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]))$"

/* TestBackendTLSPolicyValidation */
static void upstream_validation(void **state)
{
	static const struct judged rows[] = {
	        /* WellKnownCACertificates */
	        {VALIDATION("wellKnownCACertificates: System, hostname: foo.example.com"), NULL},
	        /* implementation-specific WellKnownCACertificates: valid, and none of ours */
	        {VALIDATION("wellKnownCACertificates: my.company.com/my-custom-ca-certificates, hostname: "
	                    "foo.example.com"),
	         "Unsupported value: \"my.company.com/my-custom-ca-certificates\""},
	        /* CACertificateRefs */
	        {VALIDATION(AUTHORITY), NULL},
	        /* missing fields (two messages) */
	        {VALIDATION("hostname: ''"), "spec.validation.hostname in body should be at least 1 chars long"},
	        {VALIDATION("hostname: ''"), "must specify either CACertificateRefs or WellKnownCACertificates"},
	        /* both CACertificateRefs and WellKnownCACertificates */
	        {VALIDATION(AUTHORITY ", wellKnownCACertificates: System"),
	         "must not contain both CACertificateRefs and WellKnownCACertificates"},
	        /* invalid WellKnownCACertificates value */
	        {VALIDATION("wellKnownCACertificates: MySystem, hostname: foo.example.com"), WELL_KNOWN_PATTERN},
	        /* without prefix */
	        {VALIDATION("wellKnownCACertificates: my-system, hostname: foo.example.com"), WELL_KNOWN_PATTERN},
	        /* with invalid prefix */
	        {VALIDATION(
	                 "wellKnownCACertificates: in..va..lid./my-custom-ca-certificates, hostname: foo.example.com"),
	         WELL_KNOWN_PATTERN},
	        /* empty Hostname field */
	        {VALIDATION("hostname: '', caCertificateRefs: [{group: group, kind: kind, name: name}]"),
	         "spec.validation.hostname in body should be at least 1 chars long"},
	        /* SubjectAltName type Hostname */
	        {SAN("type: Hostname, hostname: foo.example.com"), NULL},
	        /* SubjectAltName type URI */
	        {SAN("type: URI, uri: 'spiffe://mycluster.example'"), NULL},
	        /* type Hostname and empty Hostname field */
	        {SAN("type: Hostname, hostname: ''"),
	         "SubjectAltName element must contain Hostname, if Type is set to Hostname"},
	        /* type URI and non-empty Hostname field */
	        {SAN("type: URI, hostname: foo.example.com"),
	         "SubjectAltName element must not contain Hostname, if Type is not set to Hostname"},
	        /* type URI and empty URI field */
	        {SAN("type: URI, uri: ''"), "SubjectAltName element must contain URI, if Type is set to URI"},
	        /* type Hostname and non-empty URI field */
	        {SAN("type: Hostname, uri: test"),
	         "SubjectAltName element must not contain URI, if Type is not set to URI"},
	        /* type Hostname and both Hostname and URI specified */
	        {SAN("type: Hostname, hostname: foo.example.com, uri: test"),
	         "SubjectAltName element must not contain URI, if Type is not set to URI"},
	        /* incorrect URI SAN */
	        {SAN("type: URI, uri: foo.example.com"), "spec.validation.subjectAltNames[0].uri in body should match "
	                                                 "'^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\\?([^#]*))?(#(.*))?'"},
	};

	(void)state;
	judge_all(rows, ARRAY_SIZE(rows));
}

#define GOOD_VALIDATION "validation: {wellKnownCACertificates: System, hostname: foo.example.com}, "
#define DNS_BAD         "A", ".a", "a.", "a..b", "-a", "a-", "a.-b", "a_b", "a b", "a\\n", "\\u00fc", "a/b", "*.a", "a\\na"
#define KIND_BAD        "1a", "-a", "a-", "a_b", "a.b", "a b", "a\\n", "\\u00fc"

/* Each string field: where it stands, how long it may be, and what its pattern takes. */
static const struct string_field {
	const char *before, *after; /* the value comes between, in double quotes */
	const char *field;
	size_t most;
	bool may_be_empty;
	bool no_pattern;
	const char *good[6], *bad[20];
} fields[] = {
        {GOOD_VALIDATION "targetRefs: [{kind: Service, name: a, group: ",
         "}]",
         "spec.targetRefs[0].group",
         253,
         true,
         false,
         {"a", "a.b", "1-a.b2", "a--b"},
         {DNS_BAD}},
        {GOOD_VALIDATION "targetRefs: [{group: '', name: a, kind: ",
         "}]",
         "spec.targetRefs[0].kind",
         63,
         false,
         false,
         {"a", "A", "a-1", "Z9"},
         {KIND_BAD}},
        {GOOD_VALIDATION "targetRefs: [{group: '', kind: Service, name: ",
         "}]",
         "spec.targetRefs[0].name",
         253,
         false,
         true,
         {"a", "A b"},
         {NULL}},
        {GOOD_VALIDATION "targetRefs: [{group: '', kind: Service, name: a, sectionName: ",
         "}]",
         "spec.targetRefs[0].sectionName",
         253,
         false,
         false,
         {"a", "443", "a.b", "a-b"},
         {DNS_BAD}},
        {TARGET ", validation: {wellKnownCACertificates: System, hostname: ",
         "}",
         "spec.validation.hostname",
         253,
         false,
         false,
         {"a", "a.b", "1.a", "a--b"},
         {DNS_BAD}},
        {TARGET ", validation: {hostname: a.b, caCertificateRefs: [{kind: ConfigMap, name: a, group: ",
         "}]}",
         "spec.validation.caCertificateRefs[0].group",
         253,
         true,
         false,
         {"a", "a.b"},
         {DNS_BAD}},
        {TARGET ", validation: {hostname: a.b, caCertificateRefs: [{group: '', name: a, kind: ",
         "}]}",
         "spec.validation.caCertificateRefs[0].kind",
         63,
         false,
         false,
         {"a", "ConfigMap"},
         {KIND_BAD}},
        {TARGET ", validation: {hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: ",
         "}]}",
         "spec.validation.caCertificateRefs[0].name",
         253,
         false,
         true,
         {"a", "example.com:signer:a"},
         {NULL}},
        {TARGET ", validation: {hostname: a.b, wellKnownCACertificates: ",
         "}",
         "spec.validation.wellKnownCACertificates",
         253,
         false,
         false,
         {"System"},
         {"system", "System ", "xSystem", "Systemx", "a", "/a", "a/", "a/b/c", "A/b", "a/-b", "a/b-", "a..b/c", "a/b c",
          "System\\n", "a/\\u00fc"}},
        {TARGET ", validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: Hostname, "
                "hostname: ",
         "}]}",
         "spec.validation.subjectAltNames[0].hostname",
         253,
         false,
         false,
         {"a", "a.b"},
         {DNS_BAD}},
        {TARGET ", validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: ",
         "}]}",
         "spec.validation.subjectAltNames[0].uri",
         253,
         false,
         false,
         {"a://b", "a://b/c?d#e", "spiffe://a.b/c"},
         {"a", "a:b", "//a", ":a", "://a", "a/b://c", "?a://b", " a://b", "a://b c", "a://b\\n"}},
};

static void judge_value(const struct string_field *field, const char *value, bool valid)
{
	char spec[2048];
	struct judged row = {.spec = spec, .problem = valid ? NULL : field->field};

	assert_true((size_t)snprintf(spec, sizeof(spec), "%s\"%s\"%s", field->before, value, field->after) <
	            sizeof(spec));
	judge_all(&row, 1);
}

static void patterns(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		judge_value(&fields[i], "", fields[i].may_be_empty);
		for (size_t j = 0; fields[i].good[j]; j++)
			judge_value(&fields[i], fields[i].good[j], true);
		for (size_t j = 0; fields[i].bad[j]; j++)
			judge_value(&fields[i], fields[i].bad[j], false);
	}
}

/* A value of so many letters that is good but for its length; wellKnownCACertificates has no such value of ours. */
static void lengths(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (strstr(fields[i].field, "wellKnown"))
			continue;
		for (size_t length = fields[i].most; length <= fields[i].most + 1; length++) {
			char value[512];

			memset(value, 'a', length);
			value[length] = '\0';
			if (strstr(fields[i].field, ".uri"))
				memcpy(value, "a://b/", 6);
			judge_value(&fields[i], value, length == fields[i].most);
		}
	}
}

/* OpenAPI counts characters: 253 of two bytes each are a name that no Service has, and no broken schema. */
static void lengths_are_characters(void **state)
{
	char value[1024] = "";

	(void)state;
	for (size_t i = 0; i < 253; i++)
		strcat(value, "\xc3\xbc");
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].no_pattern)
			judge_value(&fields[i], value, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(upstream_target_references),
	        cmocka_unit_test(upstream_validation),
	        cmocka_unit_test(patterns),
	        cmocka_unit_test(lengths),
	        cmocka_unit_test(lengths_are_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
