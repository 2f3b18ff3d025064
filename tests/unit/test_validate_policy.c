// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "policy_judge.h"

#define VALIDATION  "validation: {hostname: a.example.com, wellKnownCACertificates: System}"
#define ONE_TARGET  "targetRefs: [{group: '', kind: Service, name: echo}]"
#define SECTION_ALL "sectionName must be specified when targetRefs includes 2 or more references to the same target"
#define SECTION_ONE "sectionName must be unique when targetRefs includes 2 or more references to the same target"
#define BOTH_CA     "must not contain both CACertificateRefs and WellKnownCACertificates"
#define NO_CA       "must specify either CACertificateRefs or WellKnownCACertificates"

static void target_references(void **state)
{
	static const struct judged rows[] = {
	        {VALIDATION ", " ONE_TARGET, NULL},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: b}]",
	         NULL},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a, sectionName: x},"
	                    " {group: '', kind: Service, name: a, sectionName: 'y'}]",
	         NULL},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a, sectionName: x},"
	                    " {group: '', kind: Service, name: b, sectionName: x}]",
	         NULL},
	        {VALIDATION ", targetRefs: [{group: g.io, kind: Service, name: a},"
	                    " {group: '', kind: Service, name: a, sectionName: x}]",
	         NULL},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a},"
	                    " {group: '', kind: Other, name: a, sectionName: x}]",
	         NULL},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a},"
	                    " {group: '', kind: Service, name: a, sectionName: x}]",
	         "spec.targetRefs: " SECTION_ALL},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a, sectionName: x},"
	                    " {group: '', kind: Service, name: b}, {group: '', kind: Service, name: a}]",
	         "spec.targetRefs: " SECTION_ALL},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: a}]",
	         "spec.targetRefs: " SECTION_ONE},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a, sectionName: x},"
	                    " {group: '', kind: Service, name: a, sectionName: x}]",
	         "spec.targetRefs: " SECTION_ONE},
	        {VALIDATION, "spec.targetRefs: Required value"},
	        {VALIDATION ", targetRefs: []", "spec.targetRefs: Required value"},
	        {VALIDATION ", targetRefs: null", "spec.targetRefs: Required value"},
	        {VALIDATION ", targetRefs: [{kind: Service, name: a}]", "spec.targetRefs[0].group: Required value"},
	        {VALIDATION ", targetRefs: [{group: '', name: a}]", "spec.targetRefs[0].kind: Required value"},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service}]", "spec.targetRefs[0].name: Required value"},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: ''}]",
	         "spec.targetRefs[0].name in body should be at least 1 chars long"},
	        {VALIDATION ", targetRefs: [{group: UPPER, kind: Service, name: a}]",
	         "spec.targetRefs[0].group: Invalid"},
	        {VALIDATION ", targetRefs: [{group: '', kind: 1x, name: a}]", "spec.targetRefs[0].kind: Invalid value"},
	        {VALIDATION ", targetRefs: [{group: '', kind: -x, name: a}]", "spec.targetRefs[0].kind: Invalid value"},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a, sectionName: ''}]",
	         "spec.targetRefs[0].sectionName: Invalid value"},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a, sectionName: Http}]",
	         "spec.targetRefs[0].sectionName: Invalid value"},
	        {VALIDATION ", targetRefs: [{group: '', kind: Service, name: a, sectionName: '443'}]", NULL},
	};

	(void)state;
	judge_all(rows, ARRAY_SIZE(rows));
}

static void counts(void **state)
{
	static const struct {
		const char *before, *item, *after;
		size_t most;
		const char *problem;
	} rows[] = {
	        {VALIDATION ", targetRefs: [", "{group: '', kind: Service, name: s%zu}", "]", 16,
	         "spec.targetRefs: Too many: 17: must have at most 16 items"},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [",
	         "{group: '', kind: ConfigMap, name: c%zu}", "]}", 8,
	         "spec.validation.caCertificateRefs: Too many: 9: must have at most 8 items"},
	        {ONE_TARGET ", validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [",
	         "{type: Hostname, hostname: h%zu.example.com}", "]}", 5,
	         "spec.validation.subjectAltNames: Too many: 6: must have at most 5 items"},
	        {ONE_TARGET ", " VALIDATION ", options: {", "example.com/o%zu: x", "}", 16,
	         "spec.options: Too many: 17: must have at most 16 items"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (size_t count = rows[i].most; count <= rows[i].most + 1; count++) {
			char spec[4096];
			size_t length = (size_t)snprintf(spec, sizeof(spec), "%s", rows[i].before);
			struct judged row = {.spec = spec, .problem = count > rows[i].most ? rows[i].problem : NULL};

			for (size_t item = 0; item < count; item++) {
				length += (size_t)snprintf(spec + length, sizeof(spec) - length, item ? ", " : "");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
				length += (size_t)snprintf(spec + length, sizeof(spec) - length, rows[i].item, item);
#pragma GCC diagnostic pop
			}
			snprintf(spec + length, sizeof(spec) - length, "%s", rows[i].after);
			judge_all(&row, 1);
		}
	}
}

static void authorities(void **state)
{
	static const struct judged rows[] = {
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: c}]}",
	         NULL},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [], wellKnownCACertificates: System}",
	         NULL},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: c}],"
	                    " wellKnownCACertificates: ''}",
	         "spec.validation.wellKnownCACertificates in body should be at least 1 chars long"},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap, name: c}],"
	                    " wellKnownCACertificates: System}",
	         "spec.validation: " BOTH_CA},
	        {ONE_TARGET ", validation: {hostname: a.b}", "spec.validation: " NO_CA},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: []}", "spec.validation: " NO_CA},
	        {ONE_TARGET ", validation: {hostname: a.b, wellKnownCACertificates: ''}", "spec.validation: " NO_CA},
	        {ONE_TARGET ", validation: {hostname: a.b, wellKnownCACertificates: system}",
	         "spec.validation.wellKnownCACertificates: Invalid value: \"system\""},
	        {ONE_TARGET ", validation: {hostname: a.b, wellKnownCACertificates: mycompany.com/my-ca}",
	         "spec.validation.wellKnownCACertificates: Unsupported value: \"mycompany.com/my-ca\""},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [{kind: ConfigMap, name: c}]}",
	         "spec.validation.caCertificateRefs[0].group: Required value"},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [{group: '', name: c}]}",
	         "spec.validation.caCertificateRefs[0].kind: Required value"},
	        {ONE_TARGET ", validation: {hostname: a.b, caCertificateRefs: [{group: '', kind: ConfigMap}]}",
	         "spec.validation.caCertificateRefs[0].name: Required value"},
	        /* An unknown kind is a reference that does not resolve, not a broken schema. */
	        {ONE_TARGET
	         ", validation: {hostname: a.b, caCertificateRefs: [{group: invalid.io, kind: Kind, name: c}]}",
	         NULL},
	        {ONE_TARGET, "spec.validation: Required value"},
	        {ONE_TARGET ", validation: null", "spec.validation: Required value"},
	};

	(void)state;
	judge_all(rows, ARRAY_SIZE(rows));
}

static void hostnames(void **state)
{
	static const struct {
		const char *hostname; /* YAML */
		bool valid;
	} rows[] = {
	        {"a.example.com", true},
	        {"localhost", true},
	        {"a-b.c-d", true},
	        {"'1.example'", true},
	        {"xn--bcher-kva.example", true},
	        {"''", false},
	        {"null", false},
	        {"A.example.com", false},
	        {"'*.example.com'", false},
	        {"a.example.com.", false},
	        {".example.com", false},
	        {"a..b", false},
	        {"-a.example.com", false},
	        {"a-.example.com", false},
	        {"a_b.example.com", false},
	        {"'a b'", false},
	        {"b\xc3\xbc"
	         "cher.example",
	         false},
	        {"10.0.0.1", false},
	        {"'127.1'", false},
	        {"'2130706433'", false},
	        {"'0177.0.0.1'", false},
	        {"'0x7f000001'", false},
	        {"'0x7f.0x1'", false},
	        {"'0x'", false},
	        {"'1.2.3.4.5'", false},
	        {"0xg.1", true},
	        {"x7f.1", true},
	        {"'fd00::1'", false},
	        {"'[fd00::1]'", false},
	        {"'a.example.com:443'", false},
	        {"\"a.example.com\\nb\"", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char spec[512];
		struct judged row = {.spec = spec, .problem = rows[i].valid ? NULL : "spec.validation.hostname: "};

		snprintf(spec, sizeof(spec), ONE_TARGET ", validation: {hostname: %s, wellKnownCACertificates: System}",
		         rows[i].hostname);
		judge_all(&row, 1);
	}
}

static void long_hostnames(void **state)
{
	(void)state;
	for (size_t length = 253; length <= 254; length++) {
		char hostname[256], spec[512];
		struct judged row = {.spec = spec, .problem = length > 253 ? "spec.validation.hostname: " : NULL};

		memset(hostname, 'a', length);
		hostname[length] = '\0';
		snprintf(spec, sizeof(spec), ONE_TARGET ", validation: {hostname: %s, wellKnownCACertificates: System}",
		         hostname);
		judge_all(&row, 1);
	}
}

static void subject_alt_names(void **state)
{
	static const struct {
		const char *name; /* YAML of one element */
		const char *problem;
	} rows[] = {
	        {"{type: Hostname, hostname: a.example.com}", NULL},
	        {"{type: URI, uri: 'spiffe://example.org/ns/a/sa/b'}", NULL},
	        {"{type: URI, uri: 'spiffe://example.org'}", NULL},
	        {"{type: URI, uri: 'https://example.org:8443/a%20b?x=y#z'}", NULL},
	        {"{type: URI, uri: 'https://10.0.0.1/'}", NULL},
	        {"{type: URI, uri: 'https://[fd00::1]:443/'}", NULL},
	        {"{type: Hostname, hostname: a.example.com, uri: ''}",
	         "subjectAltNames[0].uri in body should be at least 1 chars long"},
	        {"{type: URI, uri: 'spiffe://a/b', hostname: ''}",
	         "subjectAltNames[0].hostname in body should be at least 1 chars long"},
	        {"{type: URI, uri: 'spiffe://a/b'}", NULL},
	        {"{type: URI, uri: 'https://localhost/'}", NULL},
	        {"{type: URI, uri: 'https://a/', uri2: x}", NULL},
	        {"{type: URI, uri: 'https://user@a:65535'}", NULL},
	        {"{type: URI, uri: 'https://a:65536/'}", "has a port that is no number from 0 to 65535"},
	        {"{type: URI, uri: 'https://127.1/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://0x7f000001/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://10.0.0.256/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://[v1.a]/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://[fe80::1%25eth0]/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://a..b/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://a.example.org./'}", "has a host that is neither"},
	        {"{type: Hostname}", "SubjectAltName element must contain Hostname, if Type is set to Hostname"},
	        {"{type: Hostname, hostname: ''}",
	         "SubjectAltName element must contain Hostname, if Type is set to Hostname"},
	        {"{type: URI, uri: 'spiffe://a/b', hostname: a.example.com}",
	         "SubjectAltName element must not contain Hostname, if Type is not set to Hostname"},
	        {"{type: URI}", "SubjectAltName element must contain URI, if Type is set to URI"},
	        {"{type: URI, uri: ''}", "SubjectAltName element must contain URI, if Type is set to URI"},
	        {"{type: Hostname, hostname: a.example.com, uri: 'spiffe://a/b'}",
	         "SubjectAltName element must not contain URI, if Type is not set to URI"},
	        {"{type: URI, hostname: a.example.com}",
	         "SubjectAltName element must contain URI, if Type is set to URI"},
	        {"{type: Email, hostname: a.example.com}",
	         "SubjectAltName element must not contain Hostname, if Type is not set to Hostname"},
	        {"{type: Hostname, hostname: '0x7f.1'}", "not an IP address"},
	        {"{type: Hostname, hostname: '[::1]'}", "not an IP address"},
	        {"{type: Email, hostname: a.example.com}", "subjectAltNames[0].type: Unsupported value: \"Email\""},
	        {"{hostname: a.example.com}", "subjectAltNames[0].type: Unsupported value: \"\""},
	        {"{type: Hostname, hostname: '*.example.com'}", "a wildcard is not allowed"},
	        {"{type: Hostname, hostname: '*'}", "subjectAltNames[0].hostname: Invalid value"},
	        {"{type: Hostname, hostname: 'a.*.com'}", "subjectAltNames[0].hostname: Invalid value"},
	        {"{type: Hostname, hostname: 10.0.0.1}", "not an IP address"},
	        {"{type: Hostname, hostname: A.example.com}", "subjectAltNames[0].hostname: Invalid value"},
	        {"{type: URI, uri: example.org}", "subjectAltNames[0].uri in body should match"},
	        {"{type: URI, uri: '/path'}", "subjectAltNames[0].uri in body should match"},
	        {"{type: URI, uri: '://example.org'}", "subjectAltNames[0].uri in body should match"},
	        {"{type: URI, uri: '1a://example.org'}", "has no valid scheme"},
	        {"{type: URI, uri: 'urn:example:x'}", "subjectAltNames[0].uri in body should match"},
	        {"{type: URI, uri: 'https:///path'}", "has no host"},
	        {"{type: URI, uri: 'https://user@/path'}", "has no host"},
	        {"{type: URI, uri: 'https://exa mple.org/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://*.example.org/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://[fd00::1/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://[10.0.0.1]/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://[fd00::1]x/'}", "has no host"},
	        {"{type: URI, uri: 'https://a-/'}", "has a host that is neither"},
	        {"{type: URI, uri: 'https://a:b/'}", "has a port that is no number"},
	        {"{type: URI, uri: 'https://a:/'}", "has a port that is no number"},
	        {"{type: URI, uri: 'https://a/%zz'}", "in its path"},
	        {"{type: URI, uri: 'https://a/%2'}", "in its path"},
	        {"{type: URI, uri: 'https://a/b c'}", "in its path"},
	        {"{type: URI, uri: 'https://a/?b^c'}", "in its query or fragment"},
	        {"{type: URI, uri: 'https://a/#b#c'}", "in its query or fragment"},
	        {"{type: URI, uri: \"https://a/\\x01\"}", "in its path"},
	        {"{type: URI, uri: 'https://a/\xc3\xbc'}", "in its path"},
	        {"{type: URI, uri: 'SPIFFE://example.org/a'}", "scheme is not of lower case"},
	        {"{type: URI, uri: 'spiffe://Example.org/a'}", "trust domain"},
	        {"{type: URI, uri: 'spiffe://example.org:80/a'}", "a user or a port"},
	        {"{type: URI, uri: 'spiffe://u@example.org/a'}", "a user or a port"},
	        {"{type: URI, uri: 'spiffe://example.org/a?b'}", "a query or a fragment"},
	        {"{type: URI, uri: 'spiffe://example.org/a#b'}", "a query or a fragment"},
	        {"{type: URI, uri: 'spiffe://example.org/a%20b'}", "SPIFFE does not allow"},
	        {"{type: URI, uri: 'spiffe://example.org/'}", "empty or dot segment"},
	        {"{type: URI, uri: 'spiffe://example.org/a//b'}", "empty or dot segment"},
	        {"{type: URI, uri: 'spiffe://example.org/a/'}", "empty or dot segment"},
	        {"{type: URI, uri: 'spiffe://example.org/a/../b'}", "empty or dot segment"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char spec[512];
		struct judged row = {.spec = spec, .problem = rows[i].problem};

		snprintf(spec, sizeof(spec),
		         ONE_TARGET
		         ", validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [%s]}",
		         rows[i].name);
		judge_all(&row, 1);
	}
}

static void options_are_checked(void **state)
{
	static const struct {
		const char *option;
		const char *problem;
	} rows[] = {
	        {"postern.dev/min-tls-version: '1.3'", NULL},
	        {"postern.dev/max-tls-version: '1.2'", NULL},
	        {"postern.dev/alpn: none", NULL},
	        {"postern.dev/ktls: require", NULL},
	        {"postern.dev/connect-timeout: 5s", NULL},
	        {"postern.dev/handshake-timeout: 500ms", NULL},
	        {"postern.dev/idle-timeout: 1m30s", NULL},
	        {"postern.dev/idle-timeout: 0s", NULL},
	        {"kgateway.dev/verify-subject-alt-names: x", NULL},
	        {"sub.postern.dev/anything: x", NULL},
	        {"postern.development/anything: x", NULL},
	        {"postern.dev/min-tls-version: '1.1'", "spec.options[postern.dev/min-tls-version]: must be 1.2 or 1.3"},
	        {"postern.dev/min-tls-version: TLSv1.3", "must be 1.2 or 1.3, not \"TLSv1.3\""},
	        {"postern.dev/min-tls-version: ''", "must be 1.2 or 1.3"},
	        {"postern.dev/max-tls-version: ' 1.3'", "must be 1.2 or 1.3"},
	        {"{postern.dev/min-tls-version: '1.3', postern.dev/max-tls-version: '1.2'}",
	         "min-tls-version is above max-tls-version"},
	        {"postern.dev/alpn: 'h2,http/1.1'", "must be h2, http/1.1 or none"},
	        {"postern.dev/ktls: 'yes'", "must be auto, require or off"},
	        {"postern.dev/connect-timeout: '5'", "must be a duration"},
	        {"postern.dev/connect-timeout: 0s", "must be a duration"},
	        {"postern.dev/connect-timeout: 25h", "must be a duration"},
	        {"postern.dev/connect-timeout: -5s", "must be a duration"},
	        {"postern.dev/connect-timeout: 1.5s", "must be a duration"},
	        {"postern.dev/connect-timeout: 5S", "must be a duration"},
	        {"postern.dev/connect-timeout: 100000ms", "must be a duration"},
	        {"postern.dev/connect-timeout: 1s1s1s1s1s", "must be a duration"},
	        {"postern.dev/verify: 'off'", "spec.options[postern.dev/verify]: postern has no such option"},
	        {"postern.dev/Alpn: h2", "postern has no such option"},
	        {"min-tls-version: '1.3'", "keys without a domain are reserved"},
	        {"'postern.dev/': x", "is not a valid key"},
	        {"'/alpn': x", "is not a valid key"},
	        {"'a/b/c': x", "is not a valid key"},
	        {"'Example.com/x': x", "is not a valid key"},
	        {"'': x", "is not a valid key"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char spec[512];
		struct judged row = {.spec = spec, .problem = rows[i].problem};

		snprintf(spec, sizeof(spec), ONE_TARGET ", " VALIDATION ", options: %s%s%s",
		         rows[i].option[0] == '{' ? "" : "{", rows[i].option, rows[i].option[0] == '{' ? "" : "}");
		judge_all(&row, 1);
	}
}

static void options_take_effect(void **state)
{
	struct text problems = {0};
	struct tls_options options;

	(void)state;
	judge_spec(ONE_TARGET ", " VALIDATION, &options, &problems);
	assert_true(text_is_empty(&problems));
	assert_int_equal(options.min_version, TLS1_2_VERSION);
	assert_int_equal(options.max_version, TLS1_3_VERSION);
	assert_false(options.alpn_given);
	assert_int_equal(options.ktls, SWITCH_AUTO);
	assert_int_equal(options.connect_timeout_ms, 0);

	judge_spec(ONE_TARGET ", " VALIDATION ", options: {postern.dev/min-tls-version: '1.3', postern.dev/alpn: h2,"
	                      " postern.dev/ktls: 'off', postern.dev/connect-timeout: 1h1m1s1ms,"
	                      " postern.dev/handshake-timeout: 250ms, postern.dev/idle-timeout: 24h}",
	           &options, &problems);
	assert_true(text_is_empty(&problems));
	assert_int_equal(options.min_version, TLS1_3_VERSION);
	assert_true(options.alpn_given);
	assert_int_equal(options.alpn, ALPN_H2);
	assert_int_equal(options.ktls, SWITCH_OFF);
	assert_int_equal(options.connect_timeout_ms, 3661001);
	assert_int_equal(options.handshake_timeout_ms, 250);
	assert_int_equal(options.idle_timeout_ms, 24 * 3600 * 1000);
}

static void all_problems_are_named(void **state)
{
	static const char *const expected[] = {"spec.targetRefs: ", "spec.validation.hostname: ", NO_CA,
	                                       "spec.options[postern.dev/x]: "};
	struct text problems = {0};
	struct tls_options options;

	(void)state;
	judge_spec("validation: {hostname: A}, options: {postern.dev/x: 'y'}", &options, &problems);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		if (!strstr(problems.data, expected[i]))
			fail_msg("expected \"%s\" in \"%s\"", expected[i], problems.data);
	text_free(&problems);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(target_references),
	        cmocka_unit_test(counts),
	        cmocka_unit_test(authorities),
	        cmocka_unit_test(hostnames),
	        cmocka_unit_test(long_hostnames),
	        cmocka_unit_test(subject_alt_names),
	        cmocka_unit_test(options_are_checked),
	        cmocka_unit_test(options_take_effect),
	        cmocka_unit_test(all_problems_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
