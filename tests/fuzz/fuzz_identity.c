// SPDX-License-Identifier: GPL-2.0-only
/*
 * identity: "presented NL reference": a name of a certificate, any bytes, and the name that a policy asks for ->
 * verify_hostname_matches(), and verify_chain() with a certificate that has this name as DNS name and as URI.
 *
 * A second opinion, written from RFC 9525 6.3 label by label, must agree; a whole verification says the same, both as
 * hostname and as subjectAltName, and never takes one type of name for the other.
 */
#include <ctype.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "fuzz.h"
#include "policy/snapshot.h"
#include "tls/verify.h"

#define NOW 1700000000

/* Of a length, or to the end of the text. */
struct name {
	const char *text;
	size_t length;
};

static size_t split_labels(struct name name, struct name labels[static 256])
{
	size_t count = 0, start = 0;

	for (size_t i = 0; i <= name.length && count < 256; i++) {
		if (i < name.length && name.text[i] != '.')
			continue;
		labels[count++] = (struct name){name.text + start, i - start};
		start = i + 1;
	}
	return count;
}

static bool label_equal(struct name left, struct name right)
{
	for (size_t i = 0; i < left.length && i < right.length; i++)
		if (tolower((unsigned char)left.text[i]) != tolower((unsigned char)right.text[i]))
			return false;
	return left.length == right.length;
}

/* RFC 9525 6.3: labels are compared one by one; "*" may stand for the whole left-most one, and for nothing else. */
static bool expected_match(struct name presented, const char *reference)
{
	struct name own[256], wanted[256];
	size_t own_count = split_labels(presented, own);
	size_t wanted_count = split_labels((struct name){reference, strlen(reference)}, wanted);

	if (!presented.length || own_count != wanted_count)
		return false;
	for (size_t i = 0; i < own_count; i++) {
		bool star = own[i].length == 1 && own[i].text[0] == '*';

		for (size_t j = 0; j < own[i].length; j++)
			if (own[i].text[j] == '\0' || (own[i].text[j] == '*' && !star))
				return false;
		if (star && i == 0 && presented.length > 2 && own_count > 1 && wanted[0].length)
			continue;
		if (star || !label_equal(own[i], wanted[i]))
			return false;
	}
	return true;
}

static EVP_PKEY *key;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	FUZZ_CHECK(key, "no key");
	return 0;
}

/* Self-signed, and its own trust anchor: nothing but its name decides. */
static X509 *make_certificate(struct name presented, int type)
{
	X509 *certificate = X509_new();
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *value = ASN1_IA5STRING_new();

	FUZZ_CHECK(certificate && names && name && value, "no memory");
	X509_set_version(certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	ASN1_TIME_set(X509_getm_notBefore(certificate), NOW - 3600);
	ASN1_TIME_set(X509_getm_notAfter(certificate), NOW + 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
	                           (const unsigned char *)"fuzz.example", -1, -1, 0);
	X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
	X509_set_pubkey(certificate, key);
	ASN1_STRING_set(value, presented.text, (int)presented.length);
	GENERAL_NAME_set0_value(name, type, value);
	sk_GENERAL_NAME_push(names, name);
	X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0);
	FUZZ_CHECK(X509_sign(certificate, key, NULL), "not signed");
	GENERAL_NAMES_free(names);
	return certificate;
}

static bool verified(X509 *certificate, const struct verify_identity *identity)
{
	X509_STORE *store = X509_STORE_new();
	struct verify_result result;
	bool good;

	FUZZ_CHECK(store && X509_STORE_add_cert(store, certificate), "no store");
	good = verify_chain(store, certificate, NULL, identity, NOW, &result);
	FUZZ_CHECK(good == (result.reason == REASON_NONE), "verified %d, reason %s", good, reason_name(result.reason));
	FUZZ_CHECK(good || result.reason == REASON_IDENTITY_MISMATCH, "refused for %s: %s", reason_name(result.reason),
	           result.detail);
	FUZZ_CHECK(good ? !*result.detail : fuzz_is_message(result.detail, VERIFY_TEXT_MAX), "detail \"%s\"",
	           result.detail);
	FUZZ_CHECK(good ? fuzz_is_message(result.identity, VERIFY_TEXT_MAX) : !*result.identity, "identity \"%s\"",
	           result.identity);
	X509_STORE_free(store);
	return good;
}

static void check_certificate(struct name presented, const char *reference, bool expected)
{
	bool same = presented.length == strlen(reference) && !memcmp(presented.text, reference, presented.length);
	struct subject_alt_name names[] = {{SUBJECT_ALT_NAME_HOSTNAME, (char *)reference},
	                                   {SUBJECT_ALT_NAME_URI, (char *)reference}};
	struct verify_identity by_hostname = {.hostname = reference};
	struct verify_identity by_name = {.hostname = "other.example", .names = &names[0], .name_count = 1};
	struct verify_identity by_uri = {.hostname = reference, .names = &names[1], .name_count = 1};
	X509 *dns = make_certificate(presented, GEN_DNS), *uri = make_certificate(presented, GEN_URI);

	FUZZ_CHECK(verified(dns, &by_hostname) == expected, "as hostname");
	FUZZ_CHECK(verified(dns, &by_name) == expected, "as subjectAltName of type Hostname");
	FUZZ_CHECK(!verified(dns, &by_uri), "a DNS name for a URI");
	FUZZ_CHECK(!verified(uri, &by_hostname), "a URI for a hostname");
	FUZZ_CHECK(!verified(uri, &by_name), "a URI for a DNS name");
	FUZZ_CHECK(verified(uri, &by_uri) == same, "as subjectAltName of type URI");
	X509_free(dns);
	X509_free(uri);
}

/* FNV-1a, so that the choice is the input's own. */
static bool is_one_in_eight(const uint8_t *data, size_t size)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < size; i++)
		hash = (uint32_t)((hash ^ data[i]) * 16777619ull);
	return (hash >> 16) % 8 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	struct name presented = {(const char *)data, end ? (size_t)(end - data) : size};
	char *exact = malloc(presented.length), *reference;
	bool expected;

	if (!end || presented.length > 512) {
		free(exact);
		return 0;
	}
	/* Without a byte behind it, so that a look beyond its end is seen. */
	FUZZ_CHECK(exact || !presented.length, "no memory");
	if (presented.length)
		memcpy(exact, data, presented.length);
	presented.text = exact;
	reference = fuzz_text(end + 1, size - presented.length - 1);
	expected = expected_match(presented, reference);
	FUZZ_CHECK(verify_hostname_matches(presented.text, presented.length, reference) == expected,
	           "\"%.*s\" and \"%s\": expected %d", (int)presented.length, presented.text, reference, expected);
	/* An empty hostname or name never gets as far. Certificates take a hundred times as long: one input in eight.
	 */
	if (presented.length && *reference && is_one_in_eight(data, size))
		check_certificate(presented, reference, expected);
	free(reference);
	free(exact);
	return 0;
}
