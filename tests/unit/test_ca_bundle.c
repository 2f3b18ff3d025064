// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/pem.h>

#include "base/cleanup.h"
#include "certificates.h"
#include "policy/ca_bundle.h"
#include "policy_fixture.h"

static char *join(const char *first, const char *second, const char *third)
{
	char *text;

	assert_true(asprintf(&text, "%s%s%s", first, second, third) >= 0);
	return text;
}

static struct shared_text *parse(const char *text)
{
	struct shared_text *bundle = NULL;
	char error[160] = "";

	if (ca_bundle_parse(text, strlen(text), &bundle, error, sizeof(error)))
		fail_msg("expected a bundle, saw \"%s\" for\n%s", error, text);
	return bundle;
}

static void order_and_repetition_mean_nothing(void **state)
{
	const char *a = fixture_ca(), *b = fixture_other_ca();
	char *texts[] = {join(a, b, ""), join(b, a, ""), join(b, a, b), join("# Issuer: CN=x\n", a, b),
	                 join(a, "subject=x\n\n\r\n", b)};
	struct shared_text *first = parse(texts[0]), *single = parse(a);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct shared_text *other = parse(texts[i]);

		assert_string_equal(first->text, other->text);
		assert_memory_equal(first->digest, other->digest, sizeof(first->digest));
		shared_text_unref(other);
		free(texts[i]);
	}
	assert_string_equal(single->text, a);
	assert_int_equal(single->length, strlen(a));
	assert_memory_not_equal(single->digest, first->digest, sizeof(first->digest));
	shared_text_unref(first);
	shared_text_unref(single);
}

/* The same blocks under another name: "-----BEGIN X-----" ... "-----END X-----". */
static char *rename_blocks(const char *pem, const char *name)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	for (const char *line = pem; *line; line = strchr(line, '\n') + 1) {
		if (!strncmp(line, "-----BEGIN", 10))
			fprintf(stream, "-----BEGIN %s-----\n", name);
		else if (!strncmp(line, "-----END", 8))
			fprintf(stream, "-----END %s-----\n", name);
		else
			fprintf(stream, "%.*s", (int)(strchr(line, '\n') + 1 - line), line);
	}
	fclose(stream);
	return text;
}

static char *private_key(bool encrypted)
{
	struct certificate *certificate = certificate_new(&(struct certificate_options){.common_name = "key"});
	BIO *bio = BIO_new(BIO_s_mem());
	char *data, *text;
	long length;

	assert_int_equal(PEM_write_bio_PrivateKey(bio, certificate->key, encrypted ? EVP_aes_128_cbc() : NULL,
	                                          (unsigned char *)"x", encrypted ? 1 : 0, NULL, NULL),
	                 1);
	length = BIO_get_mem_data(bio, &data);
	text = strndup(data, (size_t)length);
	BIO_free(bio);
	certificate_free(certificate);
	return text;
}

static char *crl_until(long next_update)
{
	struct certificate *issuer =
	        certificate_new(&(struct certificate_options){.common_name = "issuer", .authority = true});
	char *crl = certificate_crl_pem(issuer, NULL, next_update);

	certificate_free(issuer);
	return crl;
}

static char *some_crl(void)
{
	return crl_until(3600);
}

static char *weak_ca(void)
{
	struct certificate *weak = certificate_new(
	        &(struct certificate_options){.common_name = "weak", .authority = true, .rsa_bits = 1024});
	char *pem = certificate_pem((const struct certificate *const[]){weak, NULL});

	certificate_free(weak);
	return pem;
}

static void refusals(void **state)
{
	const char *ca = fixture_ca();
	_cleanup_free_ char *key = private_key(false), *encrypted = private_key(true);
	_cleanup_free_ char *trusted = rename_blocks(ca, "TRUSTED CERTIFICATE"),
	                    *request = rename_blocks(ca, "CERTIFICATE REQUEST");
	_cleanup_free_ char *rsa_key = rename_blocks(ca, "RSA PRIVATE KEY");
	_cleanup_free_ char *half = strndup(ca, strlen(ca) / 2), *no_end = strndup(ca, strlen(ca) - 10);
	_cleanup_free_ char *damaged = strdup(ca), *crl = some_crl(), *weak = weak_ca();
	_cleanup_free_ char *headers = join("-----BEGIN CERTIFICATE-----\nProc-Type: 4,X\n\n", strchr(ca, '\n') + 1,
	                                    "");
	const struct {
		char *text;
		const char *error;
	} rows[] = {
	        {strdup(""), "holds no certificate"},
	        {strdup("junk\n"), "holds no certificate"},
	        {strdup("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), "block 1 "},
	        {strdup("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
	         "block 1 does not hold one valid X.509 certificate"},
	        {join(ca, key, ""), "block 2 is a PRIVATE KEY"},
	        {join(key, ca, ""), "block 1 is a PRIVATE KEY"},
	        {join(ca, encrypted, ""), "block 2 is a PRIVATE KEY"},
	        {strdup(rsa_key), "block 1 is a PRIVATE KEY"},
	        {join(ca, trusted, ""), "block 2 is not a CERTIFICATE"},
	        {join(ca, request, ca), "block 2 is not a CERTIFICATE"},
	        {strdup(half), "block 1 is not readable PEM"},
	        {join(ca, half, ""), "block 2 is not readable PEM"},
	        {join(ca, no_end, ca), "block 2 is not readable PEM"},
	        {join(ca, "-----END CERTIFICATE-----\n", ""), "has a PEM line that belongs to no whole block"},
	        {join("-----BEGIN CERTIFICATE-----", "-----\n", ca), ""},
	        {join(ca, "  -----BEGIN CERTIFICATE-----\n  AAAA\n  -----END CERTIFICATE-----\n", ""),
	         "has a PEM line that belongs to no whole block"},
	        {join(ca, crl, ""), "block 2 is not a CERTIFICATE"},
	        {join(ca, weak, ""), "block 2 has an RSA key below 2048 bits"},
	        {strdup(headers), "block 1 has PEM headers"},
	        {strdup("-----BEGIN -----\nAAAA\n-----END -----\n"), ""},
	        {(damaged[60] ^= 1, strdup(damaged)), "block 1 "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct shared_text *bundle = NULL;
		char error[160] = "";
		int result = ca_bundle_parse(rows[i].text, strlen(rows[i].text), &bundle, error, sizeof(error));

		if (result != -EINVAL || bundle || strncmp(error, rows[i].error, strlen(rows[i].error)))
			fail_msg("row %zu: expected -EINVAL \"%s\", saw %d \"%s\"", i, rows[i].error, result, error);
		/* Never a piece of the content. */
		assert_null(strstr(error, "MII"));
		free(rows[i].text);
	}
}

static void size_is_bounded(void **state)
{
	size_t size = CA_BUNDLE_MAX_BYTES + 1;
	_cleanup_free_ char *text = malloc(size);
	struct shared_text *bundle = NULL;
	char error[160];

	(void)state;
	memset(text, '\n', size);
	assert_int_equal(ca_bundle_parse(text, size, &bundle, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "larger than 1 MiB");
}

/* A damaged bundle is refused, or it is the same certificates still; it never becomes others. */
static void damage(void **state)
{
	const char *ca = fixture_ca();
	struct shared_text *good = parse(ca);
	size_t size = strlen(ca), accepted = 0;
	_cleanup_free_ char *text = strdup(ca);

	(void)state;
	for (size_t i = 0; i < size; i++) {
		struct shared_text *bundle = NULL;
		char error[160];
		int result;

		text[i] ^= 4;
		result = ca_bundle_parse(text, size, &bundle, error, sizeof(error));
		text[i] ^= 4;
		assert_true(result == 0 || result == -EINVAL);
		accepted += result == 0;
		shared_text_unref(bundle);
		result = ca_bundle_parse(text, i, &bundle, error, sizeof(error));
		if (i < size - 1) /* the last newline may be missing */
			assert_int_equal(result, -EINVAL);
		else
			shared_text_unref(bundle);
	}
	/* Most flips are inside the signature: the certificate parses, and then signs nothing that it signed before. */
	assert_true(accepted > 0 && accepted < size);
	shared_text_unref(good);
}

/* An EC certificate on this curve, signed by issuer. */
static X509 *on_curve(const char *curve, const struct certificate *issuer)
{
	EVP_PKEY *key = EVP_EC_gen(curve);
	X509 *x509 = X509_dup(issuer->x509);

	assert_non_null(key);
	assert_int_equal(X509_set_pubkey(x509, key), 1);
	/* Not self-signed: its own name differs from the issuer's. */
	assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
	                                            (const unsigned char *)"other", -1, -1, 0),
	                 1);
	assert_true(X509_sign(x509, issuer->key, EVP_sha256()) > 0);
	EVP_PKEY_free(key);
	return x509;
}

static void weakness(void **state)
{
	struct certificate *root = certificate_new(
	        &(struct certificate_options){.common_name = "root", .authority = true, .rsa_bits = 2048});
	struct certificate *ec_root =
	        certificate_new(&(struct certificate_options){.common_name = "ec", .authority = true});
	static const struct {
		const char *digest;
		unsigned int rsa_bits;
		bool self_signed;
		const char *why;
	} rows[] = {
	        {"SHA256", 2048, true, NULL},
	        {"SHA256", 2048, false, NULL},
	        {"SHA256", 0, false, NULL},
	        {"SHA512", 3072, false, NULL},
	        {"SHA1", 2048, true, NULL},
	        {"MD5", 2048, true, NULL},
	        {"SHA1", 2048, false, "is signed with MD5, SHA-1"},
	        {"MD5", 0, false, "is signed with MD5, SHA-1"},
	        {"SHA256", 1024, true, "has an RSA key below 2048 bits"},
	        {"SHA256", 1536, false, "has an RSA key below 2048 bits"},
	};
	X509 *small = on_curve("P-192", ec_root), *enough = on_curve("P-224", ec_root);
	const char *why;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct certificate *certificate =
		        certificate_new(&(struct certificate_options){.common_name = "x",
		                                                      .digest = rows[i].digest,
		                                                      .rsa_bits = rows[i].rsa_bits,
		                                                      .issuer = rows[i].self_signed ? NULL : root});
		bool weak = certificate_is_weak(certificate->x509, &why);

		if (weak != (rows[i].why != NULL) || (weak && strncmp(why, rows[i].why, strlen(rows[i].why))))
			fail_msg("row %zu: expected %s, saw %s", i, rows[i].why ? rows[i].why : "strong",
			         weak ? why : "strong");
		certificate_free(certificate);
	}
	assert_true(certificate_is_weak(small, &why));
	assert_string_equal(why, "has an EC key below 224 bits");
	assert_false(certificate_is_weak(enough, &why));
	X509_free(small);
	X509_free(enough);
	certificate_free(root);
	certificate_free(ec_root);
}

static void the_system_store_leaves_out_what_it_cannot_use(void **state)
{
	const char *ca = fixture_ca();
	_cleanup_free_ char *key = private_key(false), *crl = some_crl(), *weak = weak_ca();
	_cleanup_free_ char *half = strndup(ca, strlen(ca) / 2);
	_cleanup_free_ char *all = NULL, *none = join(key, weak, crl), *both = join(ca, fixture_other_ca(), "");
	struct shared_text *bundle = NULL, *expected;
	char error[160] = "";
	size_t left_out;

	(void)state;
	assert_true(asprintf(&all, "# comment\n%s%s%s%s%s%s", weak, fixture_other_ca(), key, ca, crl, half) > 0);
	assert_int_equal(ca_bundle_parse_system(all, strlen(all), &bundle, &left_out, error, sizeof(error)), 0);
	assert_int_equal(left_out, 4);
	expected = parse(both);
	assert_string_equal(bundle->text, expected->text);
	shared_text_unref(expected);
	shared_text_unref(bundle);

	bundle = NULL;
	assert_int_equal(ca_bundle_parse_system(none, strlen(none), &bundle, &left_out, error, sizeof(error)), -EINVAL);
	assert_null(bundle);
	assert_int_equal(left_out, 3);
	assert_string_equal(error, "holds no certificate that can be used");
	assert_int_equal(ca_bundle_parse_system("", 0, &bundle, &left_out, error, sizeof(error)), -EINVAL);
}

static void crls(void **state)
{
	_cleanup_free_ char *first = some_crl(), *second = some_crl();
	_cleanup_free_ char *key = private_key(false), *half = strndup(first, strlen(first) / 2);
	_cleanup_free_ char *one_order = join(first, second, first), *other_order = join(second, "text\n", first);
	const struct {
		char *text;
		const char *error;
	} rows[] = {
	        {strdup(""), "holds no CRL"},
	        {strdup(fixture_ca()), "block 1 is not an X509 CRL"},
	        {join(first, key, ""), "block 2 is a PRIVATE KEY"},
	        {join(second, half, ""), "block 2 is not readable PEM"},
	        {crl_until(0), "block 1 has no nextUpdate"},
	        {rename_blocks(fixture_ca(), "X509 CRL"), "block 1 does not hold one valid X.509 CRL"},
	};
	struct shared_text *bundles[2] = {NULL, NULL};
	char error[160] = "";

	(void)state;
	assert_int_equal(crl_bundle_parse(one_order, strlen(one_order), &bundles[0], error, sizeof(error)), 0);
	assert_int_equal(crl_bundle_parse(other_order, strlen(other_order), &bundles[1], error, sizeof(error)), 0);
	assert_string_equal(bundles[0]->text, bundles[1]->text);
	assert_int_equal(bundles[0]->length, strlen(first) + strlen(second));
	shared_text_unref(bundles[0]);
	shared_text_unref(bundles[1]);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct shared_text *bundle = NULL;
		int result = crl_bundle_parse(rows[i].text, strlen(rows[i].text), &bundle, error, sizeof(error));

		if (result != -EINVAL || bundle || strncmp(error, rows[i].error, strlen(rows[i].error)))
			fail_msg("row %zu: expected -EINVAL \"%s\", saw %d \"%s\"", i, rows[i].error, result, error);
		free(rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(order_and_repetition_mean_nothing),
	        cmocka_unit_test(refusals),
	        cmocka_unit_test(size_is_bounded),
	        cmocka_unit_test(damage),
	        cmocka_unit_test(weakness),
	        cmocka_unit_test(the_system_store_leaves_out_what_it_cannot_use),
	        cmocka_unit_test(crls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
