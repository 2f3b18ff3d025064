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

static void refusals(void **state)
{
	const char *ca = fixture_ca();
	_cleanup_free_ char *key = private_key(false), *encrypted = private_key(true);
	_cleanup_free_ char *trusted = rename_blocks(ca, "TRUSTED CERTIFICATE"),
	                    *request = rename_blocks(ca, "CERTIFICATE REQUEST");
	_cleanup_free_ char *rsa_key = rename_blocks(ca, "RSA PRIVATE KEY");
	_cleanup_free_ char *half = strndup(ca, strlen(ca) / 2), *no_end = strndup(ca, strlen(ca) - 10);
	_cleanup_free_ char *damaged = strdup(ca);
	const struct {
		char *text;
		const char *error;
	} rows[] = {
	        {strdup(""), "holds no certificate"},
	        {strdup("junk\n"), "holds no certificate"},
	        {strdup("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), "block 1 "},
	        {strdup("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
	         "block 1 does not hold one valid X.509 certificate"},
	        {join(ca, key, ""), "block 2 is a private key"},
	        {join(key, ca, ""), "block 1 is a private key"},
	        {join(ca, encrypted, ""), "block 2 is a private key"},
	        {strdup(rsa_key), "block 1 is a private key"},
	        {join(ca, trusted, ""), "block 2 is not a CERTIFICATE"},
	        {join(ca, request, ca), "block 2 is not a CERTIFICATE"},
	        {strdup(half), "block 1 is not readable PEM"},
	        {join(ca, half, ""), "block 2 is not readable PEM"},
	        {join(ca, no_end, ca), "block 2 is not readable PEM"},
	        {join(ca, "-----END CERTIFICATE-----\n", ""), "has a PEM line that belongs to no whole block"},
	        {join("-----BEGIN CERTIFICATE-----", "-----\n", ca), ""},
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(order_and_repetition_mean_nothing),
	        cmocka_unit_test(refusals),
	        cmocka_unit_test(size_is_bounded),
	        cmocka_unit_test(damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
