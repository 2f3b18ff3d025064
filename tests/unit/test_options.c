// SPDX-License-Identifier: GPL-2.0-only
/*
 * Options of a policy: what each value sets, what is refused and how it is said, and which settings are the same
 * settings. What they do to a handshake is test_handshake_options.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "policy/client_certificate.h"
#include "policy/options.h"
#include "policy/settings.h"
#include "policy/tls_names.h"

#define OURS  "postern.dev/"
#define PIN_A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define PIN_B "//////////////////////////////////////////8="
#define PIN_C "ERERERERERERERERERERERERERERERERERERERERERE="
#define PINS4 PIN_A "," PIN_B "," PIN_A "," PIN_B

#define ALL_SUITES  "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
#define IANA_CIPHER "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"

#define MAX_OPTIONS 3

/* The problems as one string; "" if there is none. free(). */
static char *parse(const struct option_value *values, struct tls_options *options)
{
	struct text problems = {0};
	size_t count = 0;
	char *text;

	while (count < MAX_OPTIONS && values[count].key)
		count++;
	options_parse(values, count, options, &problems);
	text = text_is_empty(&problems) ? strdup("") : text_take(&problems);
	assert_non_null(text);
	return text;
}

static void good_values(void **state)
{
	(void)state;
	static const struct {
		struct option_value option;
		size_t offset; /* of an int or unsigned int in struct tls_options */
		int expected;
	} table[] = {
	        {{OURS "min-tls-version", "1.3"}, offsetof(struct tls_options, min_version), TLS1_3_VERSION},
	        {{OURS "max-tls-version", "1.2"}, offsetof(struct tls_options, max_version), TLS1_2_VERSION},
	        {{OURS "alpn", "h2"}, offsetof(struct tls_options, alpn), ALPN_H2},
	        {{OURS "alpn", "http/1.1"}, offsetof(struct tls_options, alpn), ALPN_HTTP_1_1},
	        {{OURS "alpn", "none"}, offsetof(struct tls_options, alpn), ALPN_NONE},
	        {{OURS "ktls", "require"}, offsetof(struct tls_options, ktls), SWITCH_REQUIRE},
	        {{OURS "ktls", "off"}, offsetof(struct tls_options, ktls), SWITCH_OFF},
	        {{OURS "connect-timeout", "1s500ms"}, offsetof(struct tls_options, connect_timeout_ms), 1500},
	        {{OURS "handshake-timeout", "1ms"}, offsetof(struct tls_options, handshake_timeout_ms), 1},
	        {{OURS "idle-timeout", "24h"}, offsetof(struct tls_options, idle_timeout_ms), 86400000},
	        {{OURS "idle-timeout", "0s"}, offsetof(struct tls_options, idle_timeout_ms), 0},
	        {{OURS "verify-depth", "0"}, offsetof(struct tls_options, verify_depth), 0},
	        {{OURS "verify-depth", "100"}, offsetof(struct tls_options, verify_depth), 100},
	        {{"example.com/verify-depth", "7"}, offsetof(struct tls_options, verify_depth), -1},
	        {{"postern.dev.example.com/verify-depth", "7"}, offsetof(struct tls_options, verify_depth), -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct option_value values[MAX_OPTIONS] = {table[i].option};
		struct tls_options options;
		_cleanup_free_ char *problems = parse(values, &options);
		int seen;

		memcpy(&seen, (const char *)&options + table[i].offset, sizeof(seen));
		if (problems[0] || seen != table[i].expected)
			fail_msg("%s: %s: expected %d, seen %d (%s)", table[i].option.key, table[i].option.value,
			         table[i].expected, seen, problems);
	}
}

static void switches_and_names(void **state)
{
	(void)state;
	struct tls_options options;
	char *problems;

	problems = parse((const struct option_value[MAX_OPTIONS]){0}, &options);
	assert_string_equal(problems, "");
	assert_false(options.partial_chain || options.resumption_off || options.alpn_given);
	assert_true(!options.crl.name && !options.client_certificate.name && !options.pin_count);
	assert_true(!options.cipher_suites && !options.ciphers && !options.groups && !options.signature_algorithms);
	assert_int_equal(options.verify_depth, -1);
	free(problems);
	problems = parse((const struct option_value[MAX_OPTIONS]){{OURS "partial-chain", "true"},
	                                                          {OURS "resumption", "off"},
	                                                          {OURS "crl", "ConfigMap/list.a"}},
	                 &options);
	assert_string_equal(problems, "");
	assert_true(options.partial_chain && options.resumption_off);
	assert_string_equal(options.crl.name, "list.a");
	assert_int_equal(options.crl.kind, OBJECT_CONFIG_MAP);
	free(problems);
	problems = parse((const struct option_value[MAX_OPTIONS]){{OURS "partial-chain", "false"},
	                                                          {OURS "crl", "secret/b"},
	                                                          {OURS "client-certificate", "mine"}},
	                 &options);
	assert_string_equal(problems, "");
	assert_false(options.partial_chain);
	assert_string_equal(options.crl.name, "b");
	assert_int_equal(options.crl.kind, OBJECT_SECRET);
	assert_string_equal(options.client_certificate.name, "mine");
	assert_int_equal(options.client_certificate.kind, OBJECT_SECRET);
	free(problems);
}

static void pins(void **state)
{
	(void)state;
	struct tls_options options;
	_cleanup_free_ char *problems =
	        parse((const struct option_value[MAX_OPTIONS]){{OURS "pin-sha256", " sha256/" PIN_B ", " PIN_A "," PIN_B
	                                                                           " sha256/" PIN_C " "}},
	              &options);

	assert_string_equal(problems, "");
	assert_int_equal(options.pin_count, 3); /* sorted, each once */
	for (size_t i = 0; i < 32; i++) {
		assert_int_equal(options.pins[0][i], 0x00);
		assert_int_equal(options.pins[1][i], 0x11);
		assert_int_equal(options.pins[2][i], 0xff);
	}
}

/* Each is one sentence that names the key. */
static void refused_values(void **state)
{
	(void)state;
	static const struct {
		struct option_value options[MAX_OPTIONS];
		const char *problem;
	} table[] = {
	        {{{OURS "cipher-suites", ""}}, "must be names of TLS 1.3 cipher suites separated by colons, not \"\""},
	        {{{OURS "cipher-suites", " : ,"}}, "must be names of TLS 1.3"},
	        {{{OURS "cipher-suites", "TLS_AES_128_CCM_SHA256"}},
	         "\"TLS_AES_128_CCM_SHA256\" is not one of TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, "
	         "TLS_CHACHA20"},
	        {{{OURS "cipher-suites", "ECDHE-RSA-AES128-GCM-SHA256"}}, "is not one of TLS_AES"},
	        {{{OURS "cipher-suites", "TLS_AES_128_GCM_SHA256:tls_aes_128_gcm_sha256"}},
	         "spec.options[postern.dev/cipher-suites]: TLS_AES_128_GCM_SHA256 is there twice"},
	        {{{OURS "ciphers", "DEFAULT"}}, "\"DEFAULT\" is not one of ECDHE-ECDSA-AES128-GCM-SHA256"},
	        {{{OURS "ciphers", "ECDHE-RSA-AES128-GCM-SHA256:!aNULL"}}, "\"!aNULL\" is not one of"},
	        {{{OURS "ciphers", "ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"}}, "\"@SECLEVEL=0\" is not one of"},
	        {{{OURS "ciphers", "AES128-GCM-SHA256"}}, "is not one of"},         /* no forward secrecy */
	        {{{OURS "ciphers", "ECDHE-RSA-AES128-SHA256"}}, "is not one of"},   /* CBC */
	        {{{OURS "ciphers", "DHE-RSA-AES128-GCM-SHA256"}}, "is not one of"}, /* no elliptic curve */
	        {{{OURS "ciphers", "ECDHE-RSA-AES128-GCM-SHA256:" IANA_CIPHER ":ECDHE-RSA-CHACHA20-POLY1305"}},
	         "ECDHE-RSA-CHACHA20-POLY1305 is there twice"},
	        {{{OURS "groups", "ffdhe2048"}}, "\"ffdhe2048\" is not one of X25519, X448, P-256"},
	        {{{OURS "groups", "P-256:prime256v1"}}, "P-256 is there twice"},
	        {{{OURS "groups", "P-\"256\n"}}, "\"P-?256?\" is not one of"},
	        {{{OURS "signature-algorithms", "rsa_pkcs1_sha1"}}, "\"rsa_pkcs1_sha1\" is not one of ecdsa_"},
	        {{{OURS "signature-algorithms", "ecdsa_sha1"}}, "is not one of"},
	        {{{OURS "signature-algorithms", "RSA+MD5"}}, "is not one of"},
	        {{{OURS "signature-algorithms", "dsa_sha256"}}, "is not one of"},
	        {{{OURS "verify-depth", ""}}, "must be a number of 0 to 100"},
	        {{{OURS "verify-depth", "101"}}, "must be a number of 0 to 100, not \"101\""},
	        {{{OURS "verify-depth", "-1"}}, "must be a number"},
	        {{{OURS "verify-depth", "1 "}}, "must be a number"},
	        {{{OURS "verify-depth", "4294967296"}}, "must be a number"},
	        {{{OURS "partial-chain", "yes"}}, "must be true or false"},
	        {{{OURS "resumption", "true"}}, "must be on or off"},
	        {{{OURS "crl", "list"}}, "must be configmap/NAME or secret/NAME, not \"list\""},
	        {{{OURS "crl", "configmap/"}}, "must be configmap/NAME"},
	        {{{OURS "crl", "configmap/A_b"}}, "must be configmap/NAME"},
	        {{{OURS "crl", "pod/a"}}, "must be configmap/NAME"},
	        {{{OURS "crl", "secret/other/a"}}, "must be configmap/NAME"},
	        {{{OURS "pin-sha256", ""}}, "must be 1 to 16 SHA-256 values"},
	        {{{OURS "pin-sha256", ", ,"}}, "must be 1 to 16 SHA-256 values"},
	        {{{OURS "pin-sha256", "AAAA"}}, "pin 1 is not the base64 of a SHA-256 value"},
	        {{{OURS "pin-sha256", PIN_A ",sha1/" PIN_B}}, "pin 2 is not"},
	        {{{OURS "pin-sha256", PIN_A PIN_B}}, "pin 1 is not"},
	        /* one bit that no byte holds, no padding, too much of it, and another alphabet */
	        {{{OURS "pin-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB="}}, "pin 1 is not"},
	        {{{OURS "pin-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}, "pin 1 is not"},
	        {{{OURS "pin-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}}, "pin 1 is not"},
	        {{{OURS "pin-sha256", "__________________________________________8="}}, "pin 1 is not"},
	        {{{OURS "pin-sha256", PINS4 "," PINS4 "," PINS4 "," PINS4 "," PIN_A}}, "more than 16 pins"},
	        {{{OURS "client-certificate", ""}}, "must be the name of a Secret, not \"\""},
	        {{{OURS "client-certificate", "other/a"}}, "must be the name of a Secret"},
	        {{{OURS "client-certificate", "Upper"}}, "must be the name of a Secret"},
	        /* names that are not there */
	        {{{OURS "verify", "off"}}, "spec.options[postern.dev/verify]: postern has no such option"},
	        {{{OURS "insecure-skip-verify", "true"}}, "no such option"},
	        {{{OURS "verify-hostname", "false"}}, "no such option"},
	        {{{OURS "verify-subject-alt-names", "a"}}, "no such option"},
	        {{{OURS "security-level", "0"}}, "no such option"},
	        {{{OURS "Ktls", "off"}}, "no such option"},
	        /* what contradicts itself */
	        {{{OURS "min-tls-version", "1.3"}, {OURS "max-tls-version", "1.2"}}, "min-tls-version is above"},
	        {{{OURS "max-tls-version", "1.2"}, {OURS "cipher-suites", ALL_SUITES}},
	         "spec.options[postern.dev/cipher-suites]: nothing in it can be used with TLS 1.2, the highest "
	         "version"},
	        {{{OURS "ciphers", IANA_CIPHER}, {OURS "min-tls-version", "1.3"}},
	         "spec.options[postern.dev/ciphers]: nothing in it can be used with TLS 1.3, the lowest version "
	         "allowed"},
	        {{{OURS "signature-algorithms", "rsa_pkcs1_sha256"}}, "with TLS 1.3, the highest version allowed"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct tls_options options;
		_cleanup_free_ char *problems = parse(table[i].options, &options);
		const char *first = strstr(problems, "spec.options");

		if (!strstr(problems, table[i].problem) || first != problems || strstr(problems + 1, "; ") ||
		    strpbrk(problems, "\n\r"))
			fail_msg("%s: %s: expected one sentence with \"%s\", seen \"%s\"", table[i].options[0].key,
			         table[i].options[0].value, table[i].problem, problems);
	}
}

/* This OpenSSL has it, or the policy is told that it has not. */
static void what_openssl_lacks(void **state)
{
	(void)state;
	_cleanup_(text_free) struct text why = {0};
	SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_client_method());
	bool there = SSL_CTX_set1_groups_list(ssl_ctx, "X25519MLKEM768") == 1;
	char canonical[TLS_LIST_MAX];
	struct tls_options options;
	char *problems;

	SSL_CTX_free(ssl_ctx);
	assert_true(tls_list_canonical(TLS_LIST_GROUPS, "x25519 x25519mlkem768", canonical, &why));
	assert_string_equal(canonical, "X25519:X25519MLKEM768");
	assert_int_equal(tls_list_is_supported(TLS_LIST_GROUPS, canonical, &why), there);
	if (!there)
		assert_non_null(strstr(why.data, "this OpenSSL (3."));
	if (!there)
		assert_non_null(strstr(why.data, ") has no X25519MLKEM768"));
	problems = parse((const struct option_value[MAX_OPTIONS]){{OURS "groups", "X25519MLKEM768"},
	                                                          {OURS "max-tls-version", "1.2"}},
	                 &options);
	assert_non_null(strstr(problems, there ? "nothing in it can be used with TLS 1.2" : "has no X25519MLKEM768"));
	free(problems);
}

static void canonical_names(void **state)
{
	(void)state;
	static const struct {
		enum tls_list list;
		const char *value, *canonical;
	} table[] = {
	        {TLS_LIST_CIPHER_SUITES, ALL_SUITES, ALL_SUITES},
	        {TLS_LIST_CIPHER_SUITES,
	         " tls_aes_256_gcm_sha384 , TLS_AES_128_GCM_SHA256:", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"},
	        {TLS_LIST_CIPHERS, IANA_CIPHER ":ecdhe-ecdsa-aes128-gcm-sha256",
	         "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"},
	        {TLS_LIST_GROUPS, "secp384r1,prime256v1,x25519,P-521,X448", "P-384:P-256:X25519:P-521:X448"},
	        {TLS_LIST_SIGNATURE_ALGORITHMS, "ED25519:rsa_pss_pss_sha512 ed448", "ed25519:rsa_pss_pss_sha512:ed448"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_(text_free) struct text why = {0};
		char seen[TLS_LIST_MAX];

		if (!tls_list_canonical(table[i].list, table[i].value, seen, &why))
			fail_msg("%s: refused: %s", table[i].value, why.data ? why.data : "it is empty");
		assert_string_equal(seen, table[i].canonical);
	}
}

static void digest_of(const struct option_value *values, const struct settings_input *material, uint8_t digest[32])
{
	const struct object policy = {.namespace_ = "ns", .name = "p", .backend_tls_policy = {.hostname = "a.example"}};
	struct settings_input input = material ? *material : (struct settings_input){0};
	struct tls_options options;
	_cleanup_free_ char *problems = parse(values, &options);

	if (problems[0])
		fail_msg("%s: %s", values[0].key, problems);
	input.policy = &policy;
	input.options = &options;
	assert_int_equal(settings_digest(&input, digest), 0);
}

/* Two settings are the same exactly if they look the same on the wire. */
static void digests(void **state)
{
	(void)state;
	static const struct {
		struct option_value left, right;
		bool same;
	} table[] = {
	        {{NULL, NULL}, {NULL, NULL}, true},
	        {{NULL, NULL}, {"example.com/x", "y"}, true},
	        {{NULL, NULL}, {OURS "resumption", "on"}, true},
	        {{NULL, NULL}, {OURS "resumption", "off"}, false},
	        {{NULL, NULL}, {OURS "partial-chain", "true"}, false},
	        {{NULL, NULL}, {OURS "verify-depth", "0"}, false},
	        {{OURS "verify-depth", "2"}, {OURS "verify-depth", "3"}, false},
	        {{NULL, NULL}, {OURS "cipher-suites", ALL_SUITES}, false},
	        {{OURS "groups", "P-256:X25519"}, {OURS "groups", "secp256r1 x25519"}, true},
	        {{OURS "groups", "P-256:X25519"}, {OURS "groups", "X25519:P-256"}, false},
	        {{OURS "ciphers", IANA_CIPHER}, {OURS "ciphers", "ECDHE-RSA-CHACHA20-POLY1305"}, true},
	        {{OURS "ciphers", IANA_CIPHER}, {OURS "ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"}, false},
	        {{NULL, NULL}, {OURS "signature-algorithms", "ed25519"}, false},
	        {{OURS "pin-sha256", PIN_A " " PIN_B}, {OURS "pin-sha256", "sha256/" PIN_B "," PIN_A "," PIN_A}, true},
	        {{OURS "pin-sha256", PIN_A}, {OURS "pin-sha256", PIN_B}, false},
	        {{NULL, NULL}, {OURS "pin-sha256", PIN_A}, false},
	        /* the objects' names mean nothing, what is in them does */
	        {{OURS "crl", "configmap/a"}, {OURS "crl", "secret/b"}, true},
	        {{OURS "client-certificate", "a"}, {OURS "client-certificate", "b"}, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t left[32], right[32];

		digest_of((const struct option_value[MAX_OPTIONS]){table[i].left}, NULL, left);
		digest_of((const struct option_value[MAX_OPTIONS]){table[i].right}, NULL, right);
		if ((memcmp(left, right, sizeof(left)) == 0) != table[i].same)
			fail_msg("%s %s, %s %s: expected %s", table[i].left.key, table[i].left.value,
			         table[i].right.key, table[i].right.value, table[i].same ? "the same" : "another");
	}
}

/* What options and references resolve to is in the digest, and the settings own it. */
static void material(void **state)
{
	(void)state;
	struct shared_text *a = shared_text_new("a", 1), *b = shared_text_new("b", 1);
	struct client_certificate one = {.references = 1, .digest = {1}}, two = {.references = 1, .digest = {2}};
	const struct settings_input inputs[] = {
	        {0},
	        {.ca = a},
	        {.ca = b},
	        {.ca = a, .system_ca = true},
	        {.ca = a, .crl = a},
	        {.ca = a, .crl = b},
	        {.crl = a},
	        {.ca = a, .client_certificate = &one},
	        {.ca = a, .client_certificate = &two},
	        {.ca = a, .alpn = ALPN_H2},
	};
	uint8_t seen[ARRAY_SIZE(inputs)][32];

	for (size_t i = 0; i < ARRAY_SIZE(inputs); i++) {
		digest_of((const struct option_value[MAX_OPTIONS]){0}, &inputs[i], seen[i]);
		for (size_t before = 0; before < i; before++)
			if (memcmp(seen[i], seen[before], sizeof(seen[i])) == 0)
				fail_msg("inputs %zu and %zu give the same digest", before, i);
	}
	shared_text_unref(a);
	shared_text_unref(b);
}

static void entries(void **state)
{
	(void)state;
	struct shared_text *ca = shared_text_new("CA", 2), *crl = shared_text_new("CRL", 3);
	struct client_certificate certificate = {.references = 1};
	const struct object policy = {.namespace_ = "ns", .name = "p", .backend_tls_policy = {.hostname = "a.example"}};
	const struct option_value values[] = {
	        {OURS "cipher-suites", "tls_aes_128_gcm_sha256"},
	        {OURS "ciphers", IANA_CIPHER},
	        {OURS "groups", "secp384r1"},
	        {OURS "signature-algorithms", "ED25519"},
	        {OURS "verify-depth", "3"},
	        {OURS "partial-chain", "true"},
	        {OURS "pin-sha256", PIN_C},
	        {OURS "handshake-timeout", "2s"},
	        {OURS "connect-timeout", "3s"},
	        {OURS "idle-timeout", "4s"},
	        {OURS "resumption", "off"},
	        {OURS "ktls", "require"},
	};
	struct text problems = {0};
	struct tls_options options;
	uint8_t digest[32];

	options_parse(values, ARRAY_SIZE(values), &options, &problems);
	assert_true(text_is_empty(&problems));
	const struct settings_input input = {.policy = &policy,
	                                     .options = &options,
	                                     .ca = ca,
	                                     .system_ca = true,
	                                     .crl = crl,
	                                     .client_certificate = &certificate,
	                                     .alpn = ALPN_H2};
	assert_int_equal(settings_digest(&input, digest), 0);
	struct settings_entry *entry = settings_entry_new(&input, digest, 7);
	assert_int_equal(certificate.references, 2);
	shared_text_unref(ca);
	shared_text_unref(crl);
	options = (struct tls_options){0};

	const struct tls_settings *settings = &entry->settings;
	assert_string_equal(settings->ca_pem, "CA");
	assert_true(settings->system_ca);
	assert_string_equal(settings->crl_pem, "CRL");
	assert_ptr_equal(settings->client_certificate, &certificate);
	assert_string_equal(settings->cipher_suites, "TLS_AES_128_GCM_SHA256");
	assert_string_equal(settings->ciphers, "ECDHE-RSA-CHACHA20-POLY1305");
	assert_string_equal(settings->groups, "P-384");
	assert_string_equal(settings->signature_algorithms, "ed25519");
	assert_int_equal(settings->verify_depth, 3);
	assert_true(settings->partial_chain);
	assert_int_equal(settings->pin_count, 1);
	assert_int_equal(settings->pins[0][31], 0x11);
	assert_int_equal(settings->handshake_timeout_ms, 2000);
	assert_int_equal(settings->connect_timeout_ms, 3000);
	assert_int_equal(settings->idle_timeout_ms, 4000);
	assert_false(settings->resumption);
	assert_int_equal(settings->ktls, SWITCH_REQUIRE);
	settings_entry_unref(entry);
	assert_int_equal(certificate.references, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(good_values),
	        cmocka_unit_test(switches_and_names),
	        cmocka_unit_test(pins),
	        cmocka_unit_test(refused_values),
	        cmocka_unit_test(what_openssl_lacks),
	        cmocka_unit_test(canonical_names),
	        cmocka_unit_test(digests),
	        cmocka_unit_test(material),
	        cmocka_unit_test(entries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
