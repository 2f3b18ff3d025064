// SPDX-License-Identifier: GPL-2.0-only
/*
 * Identity (RFC 9525, Gateway API) and chains (RFC 5280) without a handshake: what a resumed session is checked with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "certificates.h"
#include "policy/snapshot.h"
#include "tls/alert.h"
#include "tls/context.h"
#include "tls/verify.h"

static void hostnames(void **state)
{
	(void)state;
	static const struct {
		const char *presented, *reference;
		bool expected;
	} table[] = {
	        {"a.example.com", "a.example.com", true},
	        {"A.EXAMPLE.com", "a.example.com", true},
	        {"a.example.com", "b.example.com", false},
	        {"a.example.com", "a.example.com.", false},
	        {"a.example.com.", "a.example.com", false},
	        {"example.com", "a.example.com", false},
	        {"a.example.com", "example.com", false},
	        {".example.com", "a.example.com", false},
	        {"localhost", "localhost", true},
	        {"", "a.example.com", false},
	        /* the wildcard is one whole label, the first */
	        {"*.example.com", "a.example.com", true},
	        {"*.EXAMPLE.com", "a.example.COM", true},
	        {"*.example.com", "xn--bcher-kva.example.com", true},
	        {"*.example.com", "example.com", false},
	        {"*.example.com", ".example.com", false},
	        {"*.example.com", "a.b.example.com", false},
	        {"*.example.com", "a.example.com.evil", false},
	        {"*.com", "example.com", true}, /* RFC 9525 knows no public suffixes: the CA's business */
	        {"*", "localhost", false},
	        {"*.", "localhost.", false},
	        {"*", "a", false},
	        /* nothing else is a wildcard */
	        {"a*.example.com", "ab.example.com", false},
	        {"*a.example.com", "ba.example.com", false},
	        {"a.*.com", "a.example.com", false},
	        {"*.*.com", "a.example.com", false},
	        {"**.example.com", "a.example.com", false},
	        {"xn--*.example.com", "xn--a.example.com", false},
	        {"a*.example.com", "a*.example.com", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (verify_hostname_matches(table[i].presented, strlen(table[i].presented), table[i].reference) !=
		    table[i].expected)
			fail_msg("certificate %s, wanted %s: expected %d", table[i].presented, table[i].reference,
			         table[i].expected);
	assert_false(verify_hostname_matches("a.example\0.com", 14, "a.example"));
	assert_false(verify_hostname_matches("a.example\0", 10, "a.example"));
	assert_false(verify_hostname_matches("*.example\0x", 11, "a.example"));
}

struct subject {
	const char *name;
	struct certificate_options leaf;
	struct subject_alt_name wanted[2]; /* none: the hostname counts */
	size_t wanted_count;
	const char *identity; /* NULL: must not match */
};

static const char nul_in_dns[] = "backend.example\0.evil.example";
static const char nul_in_uri[] = "spiffe://a/b\0c";

static const struct subject subjects[] = {
        {.name = "DNS", .leaf = {.names = {{GEN_DNS, "backend.example", 0}}}, .identity = "backend.example"},
        {.name = "the last of several",
         .leaf = {.names = {{GEN_EMAIL, "backend.example", 0},
                            {GEN_URI, "backend.example", 0},
                            {GEN_DNS, "x.example", 0},
                            {GEN_DNS, "backend.example", 0}}},
         .identity = "backend.example"},
        {.name = "e-mail and URI are no hostname",
         .leaf = {.names = {{GEN_EMAIL, "backend.example", 0}, {GEN_URI, "backend.example", 0}}}},
        {.name = "common name", .leaf = {.common_name = "backend.example"}},
        {.name = "common name beside a URI",
         .leaf = {.common_name = "backend.example", .names = {{GEN_URI, "spiffe://a/b", 0}}}},
        {.name = "NUL after the right name", .leaf = {.names = {{GEN_DNS, nul_in_dns, sizeof(nul_in_dns) - 1}}}},
        {.name = "NUL at the end", .leaf = {.names = {{GEN_DNS, "backend.example\0", 16}}}},
        {.name = "empty name", .leaf = {.names = {{GEN_DNS, "\0", 1}}}},
        {.name = "URI",
         .leaf = {.names = {{GEN_URI, "spiffe://a/b", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}},
         .wanted_count = 1,
         .identity = "spiffe://a/b"},
        {.name = "URI in another case",
         .leaf = {.names = {{GEN_URI, "spiffe://A/b", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}},
         .wanted_count = 1,
         .identity = NULL},
        {.name = "URI with a longer path",
         .leaf = {.names = {{GEN_URI, "spiffe://a/b/c", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}},
         .wanted_count = 1,
         .identity = NULL},
        {.name = "URI with a slash more",
         .leaf = {.names = {{GEN_URI, "spiffe://a/b/", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}},
         .wanted_count = 1,
         .identity = NULL},
        {.name = "URI with a wildcard",
         .leaf = {.names = {{GEN_URI, "spiffe://*/b", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}},
         .wanted_count = 1,
         .identity = NULL},
        {.name = "URI with NUL",
         .leaf = {.names = {{GEN_URI, nul_in_uri, sizeof(nul_in_uri) - 1}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}},
         .wanted_count = 1,
         .identity = NULL},
        {.name = "DNS name that is the wanted URI",
         .leaf = {.names = {{GEN_DNS, "spiffe://a/b", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}},
         .wanted_count = 1,
         .identity = NULL},
        {.name = "URI that is the wanted hostname",
         .leaf = {.names = {{GEN_URI, "x.example", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_HOSTNAME, "x.example"}},
         .wanted_count = 1,
         .identity = NULL},
        {.name = "hostname of two wanted",
         .leaf = {.names = {{GEN_DNS, "x.example", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_URI, "spiffe://a/b"}, {SUBJECT_ALT_NAME_HOSTNAME, "x.example"}},
         .wanted_count = 2,
         .identity = "x.example"},
        {.name = "wildcard for a wanted hostname",
         .leaf = {.names = {{GEN_DNS, "*.example", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_HOSTNAME, "x.example"}},
         .wanted_count = 1,
         .identity = "*.example"},
        {.name = "the policy's hostname is not wanted any more",
         .leaf = {.names = {{GEN_DNS, "backend.example", 0}}},
         .wanted = {{SUBJECT_ALT_NAME_HOSTNAME, "x.example"}},
         .wanted_count = 1,
         .identity = NULL},
};

static X509_STORE *store_of(const struct certificate *anchor)
{
	X509_STORE *store = X509_STORE_new();

	assert_non_null(store);
	assert_int_equal(X509_STORE_add_cert(store, anchor->x509), 1);
	return store;
}

static void identities(void **state)
{
	(void)state;
	struct certificate *root =
	        certificate_new(&(struct certificate_options){.common_name = "root", .authority = true});
	X509_STORE *store = store_of(root);

	for (size_t i = 0; i < ARRAY_SIZE(subjects); i++) {
		const struct subject *row = &subjects[i];
		const struct verify_identity identity = {
		        .hostname = "backend.example", .names = row->wanted, .name_count = row->wanted_count};
		struct certificate_options options = row->leaf;
		struct verify_result result;

		options.issuer = root;
		struct certificate *leaf = certificate_new(&options);
		bool verified = verify_chain(store, leaf->x509, NULL, &identity, time(NULL), &result);

		if (verified != (row->identity != NULL))
			fail_msg("%s: seen %s (%s)", row->name, verified ? result.identity : reason_name(result.reason),
			         result.detail);
		assert_int_equal(result.reason, verified ? REASON_NONE : REASON_IDENTITY_MISMATCH);
		assert_string_equal(result.identity, row->identity ? row->identity : "");
		assert_int_equal(result.detail[0] == '\0', verified);
		certificate_free(leaf);
	}
	X509_STORE_free(store);
	certificate_free(root);
}

/* Path rules that OpenSSL checks when it is asked rightly: each row is one chain leaf <- lower <- upper <- root. */
static void chains(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		struct certificate_options upper, lower;
		enum postern_reason expected;
	} table[] = {
	        {"two intermediates", {.authority = true}, {.authority = true}, REASON_NONE},
	        {"path length allows", {.authority = true, .path_length = "1"}, {.authority = true}, REASON_NONE},
	        {"path length forbids",
	         {.authority = true, .path_length = "0"},
	         {.authority = true},
	         REASON_CERTIFICATE_INVALID},
	        {"issuer is no CA", {.authority = true}, {.authority = false}, REASON_CERTIFICATE_INVALID},
	        {"name allowed",
	         {.authority = true, .name_constraints = "permitted;DNS:example"},
	         {.authority = true},
	         REASON_NONE},
	        {"name not permitted",
	         {.authority = true, .name_constraints = "permitted;DNS:other"},
	         {.authority = true},
	         REASON_CERTIFICATE_INVALID},
	        {"name excluded",
	         {.authority = true, .name_constraints = "excluded;DNS:backend.example"},
	         {.authority = true},
	         REASON_CERTIFICATE_INVALID},
	        {"expired intermediate",
	         {.authority = true, .valid_from = -1000, .valid_until = -10},
	         {.authority = true},
	         REASON_CERTIFICATE_EXPIRED},
	        {"SHA-1 intermediate",
	         {.authority = true, .digest = "SHA1"},
	         {.authority = true},
	         REASON_CERTIFICATE_INVALID},
	        {"intermediate for clients only",
	         {.authority = true, .extended_key_usage = "clientAuth"},
	         {.authority = true},
	         REASON_CERTIFICATE_INVALID},
	};
	struct certificate *root =
	        certificate_new(&(struct certificate_options){.common_name = "root", .authority = true});
	X509_STORE *store = store_of(root);

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct verify_identity identity = {.hostname = "backend.example"};
		struct certificate_options options = table[i].upper;
		struct verify_result result;

		options.common_name = "upper";
		options.issuer = root;
		struct certificate *upper = certificate_new(&options);
		options = table[i].lower;
		options.common_name = "lower";
		options.issuer = upper;
		struct certificate *lower = certificate_new(&options);
		struct certificate *leaf = certificate_new(&(struct certificate_options){
		        .common_name = "leaf", .names = {{GEN_DNS, "backend.example", 0}}, .issuer = lower});
		STACK_OF(X509) *untrusted = sk_X509_new_null();
		sk_X509_push(untrusted, upper->x509);
		sk_X509_push(untrusted, lower->x509);

		verify_chain(store, leaf->x509, untrusted, &identity, time(NULL), &result);
		if (result.reason != table[i].expected)
			fail_msg("%s: expected %s, seen %s (%s)", table[i].name, reason_name(table[i].expected),
			         reason_name(result.reason), result.detail);
		sk_X509_free(untrusted);
		certificate_free(leaf);
		certificate_free(lower);
		certificate_free(upper);
	}
	X509_STORE_free(store);
	certificate_free(root);
}

/* However long a certificate's names are, the detail ends within its buffer and stays printable. */
static void huge_names(void **state)
{
	(void)state;
	char *huge = malloc(5001);
	char *path = malloc(5001);
	memset(huge, '\n', 5000);
	huge[5000] = '\0';
	memset(path, 'p', 5000);
	memcpy(path, "spiffe://", 9);
	path[5000] = '\0';
	struct certificate *leaf = certificate_new(&(struct certificate_options){
	        .common_name = "x",
	        .names = {{GEN_DNS, huge, 0}, {GEN_DNS, huge, 0}, {GEN_URI, huge, 0}, {GEN_URI, path, 0}}});
	X509_STORE *store = store_of(leaf);
	struct subject_alt_name wanted[] = {{SUBJECT_ALT_NAME_URI, huge}, {SUBJECT_ALT_NAME_URI, path}};
	struct verify_identity identity = {.hostname = "backend.example"};
	struct verify_result result;

	assert_false(verify_chain(store, leaf->x509, NULL, &identity, time(NULL), &result));
	assert_int_equal(result.reason, REASON_IDENTITY_MISMATCH);
	assert_in_range(strlen(result.detail), 100, sizeof(result.detail) - 1);
	for (const char *c = result.detail; *c; c++)
		assert_in_range(*c, ' ', '~');
	/* a match of any length is a match */
	identity.names = wanted;
	identity.name_count = 2;
	assert_true(verify_chain(store, leaf->x509, NULL, &identity, time(NULL), &result));
	assert_in_range(strlen(result.identity), 50, sizeof(result.identity) - 1);
	X509_STORE_free(store);
	certificate_free(leaf);
	free(huge);
	free(path);
}

static void alerts(void **state)
{
	(void)state;
	assert_string_equal(alert_name(0), "close_notify");
	assert_string_equal(alert_name(116), "certificate_required");
	assert_string_equal(alert_name(255), "unknown");
	assert_int_equal(alert_reason(40, false), REASON_PEER_ALERT);
	assert_int_equal(alert_reason(40, true), REASON_CLIENT_CERTIFICATE_REFUSED);
	assert_int_equal(alert_reason(48, true), REASON_CLIENT_CERTIFICATE_REFUSED);
	assert_int_equal(alert_reason(116, false), REASON_CLIENT_CERTIFICATE_REFUSED);
	assert_int_equal(alert_reason(70, true), REASON_PROTOCOL_VERSION);
	assert_int_equal(alert_reason(120, false), REASON_ALPN_MISMATCH);
	assert_int_equal(alert_reason(80, true), REASON_PEER_ALERT);
}

static int set_up(void **state)
{
	(void)state;
	return tls_global_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(hostnames),  cmocka_unit_test(identities), cmocka_unit_test(chains),
	        cmocka_unit_test(huge_names), cmocka_unit_test(alerts),
	};
	return cmocka_run_group_tests(tests, set_up, NULL);
}
