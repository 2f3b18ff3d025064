// SPDX-License-Identifier: GPL-2.0-only
/* A client's certificate and key: which pairs are taken, and that no message quotes them. Secrets that hold them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "base/cleanup.h"
#include "certificates.h"
#include "policy/client_certificate.h"
#include "policy/decode.h"
#include "policy/shared_text.h"

static struct certificate *root, *leaf, *other, *rsa, *weak, *old;
static char *leaf_pem, *chain_pem, *leaf_key, *other_key, *rsa_pem, *rsa_key, *root_pem;

static char *text_of(BIO *bio)
{
	char *data, *text;
	long length = BIO_get_mem_data(bio, &data);

	text = strndup(data, (size_t)length);
	BIO_free(bio);
	return text;
}

static char *key_pem(EVP_PKEY *key, const EVP_CIPHER *cipher, bool traditional)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int (*write)(BIO *, const EVP_PKEY *, const EVP_CIPHER *, const unsigned char *, int, pem_password_cb *,
	             void *) = traditional ? PEM_write_bio_PrivateKey_traditional : PEM_write_bio_PrivateKey;

	assert_int_equal(write(bio, key, cipher, (const unsigned char *)"x", cipher ? 1 : 0, NULL, NULL), 1);
	return text_of(bio);
}

static char *pem(const struct certificate *first, const struct certificate *second)
{
	return certificate_pem((const struct certificate *const[]){first, second, NULL});
}

static char *join(const char *first, const char *second)
{
	char *text;

	assert_true(asprintf(&text, "%s%s", first, second) >= 0);
	return text;
}

static int make_certificates(void **state)
{
	(void)state;
	root = certificate_new(&(struct certificate_options){.common_name = "root", .authority = true});
	leaf = certificate_new(&(struct certificate_options){.common_name = "leaf", .issuer = root});
	other = certificate_new(&(struct certificate_options){.common_name = "other", .issuer = root});
	rsa = certificate_new(&(struct certificate_options){.common_name = "rsa", .issuer = root, .rsa_bits = 2048});
	weak = certificate_new(&(struct certificate_options){.common_name = "weak", .issuer = root, .rsa_bits = 1024});
	old = certificate_new(&(struct certificate_options){.common_name = "old", .issuer = root, .digest = "SHA1"});
	leaf_pem = pem(leaf, NULL);
	chain_pem = pem(leaf, root);
	root_pem = pem(root, NULL);
	rsa_pem = pem(rsa, NULL);
	leaf_key = key_pem(leaf->key, NULL, false);
	other_key = key_pem(other->key, NULL, false);
	rsa_key = key_pem(rsa->key, NULL, false);
	return 0;
}

static int free_certificates(void **state)
{
	(void)state;
	certificate_free(leaf);
	certificate_free(other);
	certificate_free(rsa);
	certificate_free(weak);
	certificate_free(old);
	certificate_free(root);
	free(leaf_pem);
	free(chain_pem);
	free(root_pem);
	free(rsa_pem);
	free(leaf_key);
	free(other_key);
	free(rsa_key);
	return 0;
}

static struct client_certificate *parse(const char *certificates, const char *key)
{
	struct client_certificate *certificate = NULL;
	char error[160] = "";

	if (client_certificate_new(certificates, strlen(certificates), key, strlen(key), &certificate, error,
	                           sizeof(error)))
		fail_msg("expected a certificate, saw \"%s\"", error);
	return certificate;
}

static void pairs_are_taken(void **state)
{
	_cleanup_free_ char *traditional = key_pem(leaf->key, NULL, true),
	                    *rsa_traditional = key_pem(rsa->key, NULL, true);
	_cleanup_free_ char *with_curve =
	        join("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n", traditional);
	_cleanup_free_ char *commented = join("# the key\n", leaf_key);
	const struct {
		const char *certificates, *key;
		int chain;
	} rows[] = {
	        {leaf_pem, leaf_key, 0},       {chain_pem, leaf_key, 1}, {leaf_pem, traditional, 0},
	        {leaf_pem, with_curve, 0},     {leaf_pem, commented, 0}, {rsa_pem, rsa_key, 0},
	        {rsa_pem, rsa_traditional, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct client_certificate *certificate = parse(rows[i].certificates, rows[i].key), *second;

		assert_int_equal(sk_X509_num(certificate->chain), rows[i].chain);
		assert_int_equal(X509_check_private_key(certificate->leaf, certificate->key), 1);
		assert_true(certificate->not_after > time(NULL) + 80000 && certificate->not_after < time(NULL) + 90000);
		second = client_certificate_ref(certificate);
		client_certificate_unref(certificate);
		assert_ptr_equal(second->leaf, certificate->leaf);
		client_certificate_unref(second);
	}
	client_certificate_unref(NULL);
}

static void equal_identities_have_equal_digests(void **state)
{
	_cleanup_free_ char *traditional = key_pem(leaf->key, NULL, true), *commented = join("text\n", leaf_pem);
	struct client_certificate *first = parse(leaf_pem, leaf_key), *same = parse(commented, traditional),
	                          *longer = parse(chain_pem, leaf_key), *another = parse(rsa_pem, rsa_key);

	(void)state;
	assert_memory_equal(first->digest, same->digest, 32);
	assert_memory_not_equal(first->digest, longer->digest, 32);
	assert_memory_not_equal(first->digest, another->digest, 32);
	client_certificate_unref(first);
	client_certificate_unref(same);
	client_certificate_unref(longer);
	client_certificate_unref(another);
}

/* The leaf's RSA key with one number made longer by so many bits; or, with 0, its exponents made wrong. */
static char *forged_rsa_key(size_t which, int bits)
{
	static const char *const names[] = {OSSL_PKEY_PARAM_RSA_N,
	                                    OSSL_PKEY_PARAM_RSA_E,
	                                    OSSL_PKEY_PARAM_RSA_FACTOR1,
	                                    OSSL_PKEY_PARAM_RSA_FACTOR2,
	                                    OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
	                                    OSSL_PKEY_PARAM_RSA_D,
	                                    OSSL_PKEY_PARAM_RSA_EXPONENT1,
	                                    OSSL_PKEY_PARAM_RSA_EXPONENT2};
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	BIGNUM *values[ARRAY_SIZE(names)] = {NULL};
	OSSL_PARAM *parameters;
	EVP_PKEY *key = NULL;
	char *text;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(EVP_PKEY_get_bn_param(rsa->key, names[i], &values[i]), 1);
		if (bits && i == which)
			assert_int_equal(BN_lshift(values[i], values[i], bits), 1);
		else if (!bits && i >= which)
			assert_int_equal(BN_sub_word(values[i], 2), 1);
		assert_int_equal(OSSL_PARAM_BLD_push_BN(builder, names[i], values[i]), 1);
	}
	parameters = OSSL_PARAM_BLD_to_param(builder);
	assert_int_equal(EVP_PKEY_fromdata_init(context), 1);
	assert_int_equal(EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, parameters), 1);
	text = key_pem(key, NULL, true);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		BN_free(values[i]);
	OSSL_PARAM_free(parameters);
	OSSL_PARAM_BLD_free(builder);
	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(key);
	return text;
}

static void refusals(void **state)
{
	_cleanup_free_ char *encrypted = key_pem(leaf->key, EVP_aes_128_cbc(), false),
	                    *old_encrypted = key_pem(leaf->key, EVP_aes_128_cbc(), true);
	_cleanup_free_ char *two_keys = join(leaf_key, leaf_key), *key_and_junk = join(leaf_key, leaf_pem),
	                    *half_key = strndup(leaf_key, strlen(leaf_key) / 2),
	                    *half = strndup(leaf_pem, strlen(leaf_pem) / 2);
	_cleanup_free_ char *with_key = join(leaf_pem, leaf_key), *turned = pem(root, leaf);
	_cleanup_free_ char *weak_pem = pem(weak, NULL), *weak_key = key_pem(weak->key, NULL, false),
	                    *old_pem = pem(old, NULL), *old_key = key_pem(old->key, NULL, false);
	_cleanup_free_ char *weak_chain = pem(leaf, weak), *damaged = forged_rsa_key(5, 0),
	                    *long_modulus = forged_rsa_key(0, 6200), *long_factor = forged_rsa_key(2, 1200),
	                    *long_exponent = forged_rsa_key(6, 9000);
	_cleanup_free_ char *indented = join(leaf_pem, " -----BEGIN CERTIFICATE-----\n"),
	                    *large = calloc(1, (100 << 10) + 2), *large_key = calloc(1, (8 << 10) + 2);
	const struct {
		const char *certificates, *key, *error;
	} rows[] = {
	        {"", leaf_key, "tls.crt: holds no certificate"},
	        {"junk", leaf_key, "tls.crt: holds no certificate"},
	        {half, leaf_key, "tls.crt: block 1 is not readable PEM"},
	        {with_key, leaf_key, "tls.crt: block 2 is a PRIVATE KEY"},
	        {leaf_key, leaf_pem, "tls.crt: block 1 is a PRIVATE KEY"},
	        {indented, leaf_key, "tls.crt: has a PEM line that belongs to no whole block"},
	        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", leaf_key,
	         "tls.crt: block 1 does not hold one valid X.509 certificate"},
	        {"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", leaf_key,
	         "tls.crt: block 1 is not a CERTIFICATE"},
	        {weak_pem, weak_key, "tls.crt: block 1 has an RSA key below 2048 bits"},
	        {weak_chain, leaf_key, "tls.crt: block 2 has an RSA key below 2048 bits"},
	        {old_pem, old_key, "tls.crt: block 1 is signed with MD5, SHA-1"},
	        {memset(large, '\n', (100 << 10) + 1), leaf_key, "tls.crt: larger than 100 KiB"},
	        {leaf_pem, "", "tls.key: holds no private key"},
	        {leaf_pem, "junk", "tls.key: holds no private key"},
	        {leaf_pem, half_key, "tls.key: block 1 is not readable PEM"},
	        {leaf_pem, leaf_pem, "tls.key: block 1 is not a private key"},
	        {leaf_pem, key_and_junk, "tls.key: block 2 is not a private key"},
	        {leaf_pem, two_keys, "tls.key: holds more than one private key"},
	        {leaf_pem, encrypted, "tls.key: the private key is encrypted"},
	        {leaf_pem, old_encrypted, "tls.key: the private key is encrypted"},
	        {leaf_pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	         "tls.key: block 1 does not hold one valid private key"},
	        {leaf_pem, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
	         "tls.key: block 1 does not hold one valid private key"},
	        {leaf_pem, "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
	         "tls.key: holds no private key"},
	        {leaf_pem, other_key, "tls.key: the private key does not belong to the first certificate"},
	        {leaf_pem, rsa_key, "tls.key: the private key does not belong to the first certificate"},
	        {turned, leaf_key, "tls.key: the private key does not belong to the first certificate"},
	        {rsa_pem, damaged, "tls.key: the private key is damaged"},
	        {rsa_pem, long_modulus, "tls.key: the private key has numbers of more than 8192 bits"},
	        {rsa_pem, long_factor, "tls.key: the private key has numbers of more than 8192 bits"},
	        {rsa_pem, long_exponent, "tls.key: the private key has numbers of more than 8192 bits"},
	        {leaf_pem, memset(large_key, '\n', (8 << 10) + 1), "tls.key: larger than 8 KiB"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct client_certificate *certificate = NULL;
		char error[160] = "";
		int result = client_certificate_new(rows[i].certificates, strlen(rows[i].certificates), rows[i].key,
		                                    strlen(rows[i].key), &certificate, error, sizeof(error));

		if (result != -EINVAL || certificate || strncmp(error, rows[i].error, strlen(rows[i].error)))
			fail_msg("row %zu: expected -EINVAL \"%s\", saw %d \"%s\"", i, rows[i].error, result, error);
		assert_null(strstr(error, "MII"));
	}
}

static void damaged_keys_are_refused(void **state)
{
	size_t size = strlen(leaf_key), taken = 0;
	_cleanup_free_ char *text = strdup(leaf_key);

	(void)state;
	for (size_t i = 0; i < size; i++) {
		struct client_certificate *certificate = NULL;
		char error[160];
		int result;

		text[i] ^= 1;
		result = client_certificate_new(leaf_pem, strlen(leaf_pem), text, size, &certificate, error,
		                                sizeof(error));
		text[i] ^= 1;
		assert_true(result == 0 || result == -EINVAL);
		/* What is taken can sign, whatever was damaged: the name of a block, the public half. */
		taken += result == 0;
		client_certificate_unref(certificate);
	}
	assert_true(taken < size / 4);
}

/* Base64 as the API server writes it. */
static char *encode(const char *text)
{
	size_t size = strlen(text);
	char *encoded = malloc(size * 2 + 8);

	EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)text, (int)size);
	return encoded;
}

static json_t *secret_document(json_t *data, json_t *string_data)
{
	return json_pack("[{s:s, s:s, s:{s:s}, s:s, s:o, s:o}]", "apiVersion", "v1", "kind", "Secret", "metadata",
	                 "name", "s", "type", "kubernetes.io/tls", "data", data ? data : json_null(), "stringData",
	                 string_data ? string_data : json_null());
}

static const struct secret *decode_secret_of(json_t *data, json_t *string_data, struct decoded *decoded)
{
	json_t *documents = secret_document(data, string_data);

	*decoded = (struct decoded){0};
	assert_non_null(documents);
	assert_int_equal(decode_documents(documents, "test", decoded), 0);
	json_decref(documents);
	if (decoded->object_count != 1)
		fail_msg("expected a Secret, saw \"%s\"", decoded->problems[0].message);
	return &decoded->objects[0]->secret;
}

static void secrets_are_decoded(void **state)
{
	_cleanup_free_ char *certificate = encode(leaf_pem), *key = encode(leaf_key), *ca = encode(root_pem),
	                    *crl_text = certificate_crl_pem(root, NULL, 3600), *crl = encode(crl_text);
	_cleanup_free_ char *broken = NULL;
	struct decoded decoded;
	const struct secret *secret;

	(void)state;
	secret = decode_secret_of(json_pack("{s:s, s:s, s:s, s:s, s:n, s:i}", "tls.crt", certificate, "tls.key", key,
	                                    "ca.crt", ca, "ca.crl", crl, "null", "other", 7),
	                          NULL, &decoded);
	assert_string_equal(secret->type, "kubernetes.io/tls");
	assert_non_null(secret->certificate);
	assert_null(secret->certificate_problem);
	assert_string_equal(secret->ca.pem->text, root_pem);
	assert_non_null(secret->crl.pem);
	decoded_free(&decoded);

	/* A line break in the base64 means nothing; stringData wins. */
	assert_true(asprintf(&broken, "%.10s\r\n%s\n", certificate, certificate + 10) > 0);
	secret = decode_secret_of(json_pack("{s:s, s:s}", "tls.crt", broken, "tls.key", "not base64!"),
	                          json_pack("{s:s}", "tls.key", leaf_key), &decoded);
	assert_non_null(secret->certificate);
	assert_false(secret->ca.present);
	decoded_free(&decoded);
}

static void secrets_say_what_is_wrong(void **state)
{
	_cleanup_free_ char *certificate = encode(leaf_pem), *key = encode(leaf_key),
	                    *with_key = join(root_pem, leaf_key);
	_cleanup_free_ char *encoded = encode(with_key);
	static const char *const not_base64[] = {"=",
	                                         "====",
	                                         "A",
	                                         "AA",
	                                         "AAA",
	                                         "AAAAA",
	                                         "A===",
	                                         "AA=A",
	                                         "AAAA=",
	                                         "AA AA",
	                                         "AAA-",
	                                         "AAA_",
	                                         "-AAA",
	                                         "AAAA-AAA",
	                                         "\xc3\xbc"
	                                         "AA"};
	struct decoded decoded;
	const struct secret *secret = decode_secret_of(NULL, NULL, &decoded);

	(void)state;
	assert_string_equal(secret->certificate_problem, "has no key tls.crt");
	assert_false(secret->ca.present);
	decoded_free(&decoded);

	secret = decode_secret_of(json_pack("{s:s}", "tls.crt", certificate), NULL, &decoded);
	assert_string_equal(secret->certificate_problem, "has no key tls.key");
	decoded_free(&decoded);

	secret = decode_secret_of(json_pack("{s:s, s:s}", "tls.crt", certificate, "tls.key", ""), NULL, &decoded);
	assert_string_equal(secret->certificate_problem, "tls.key: holds no private key");
	decoded_free(&decoded);

	for (size_t i = 0; i < ARRAY_SIZE(not_base64); i++) {
		secret = decode_secret_of(json_pack("{s:s, s:s, s:s}", "tls.crt", certificate, "tls.key", not_base64[i],
		                                    "ca.crt", not_base64[i]),
		                          NULL, &decoded);
		if (!secret->certificate_problem || strcmp(secret->certificate_problem, "tls.key: is not base64"))
			fail_msg("\"%s\": expected not base64, saw \"%s\"", not_base64[i], secret->certificate_problem);
		assert_true(secret->ca.present);
		assert_string_equal(secret->ca.problem, "is not base64");
		decoded_free(&decoded);
	}

	secret = decode_secret_of(json_pack("{s:s, s:s, s:s}", "tls.crt", "!", "tls.key", key, "ca.crt", encoded), NULL,
	                          &decoded);
	assert_string_equal(secret->certificate_problem, "tls.crt: is not base64");
	assert_non_null(strstr(secret->ca.problem, "block 2 is a PRIVATE KEY"));
	decoded_free(&decoded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(pairs_are_taken),
	        cmocka_unit_test(equal_identities_have_equal_digests),
	        cmocka_unit_test(refusals),
	        cmocka_unit_test(damaged_keys_are_refused),
	        cmocka_unit_test(secrets_are_decoded),
	        cmocka_unit_test(secrets_say_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
