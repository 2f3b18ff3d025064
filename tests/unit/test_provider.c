// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library context of handshakes: what it has, what it lacks, and that every kind of public key that a certificate
 * may hold is read in it as in the default one. What a handshake accepts and refuses in it: test_handshake*.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/cleanup.h"
#include "tls/context.h"
#include "tls/provider.h"

static int set_up(void **state)
{
	(void)state;
	return tls_global_init();
}

/* Where OpenSSL needs no help there is none, and nothing to test. */
static OSSL_LIB_CTX *context_or_skip(void)
{
	OSSL_LIB_CTX *context = provider_library_context();

	if (OpenSSL_version_num() >= 0x30200000ul) {
		assert_null(context);
		skip();
	}
	assert_non_null(context);
	assert_ptr_equal(context, provider_library_context());
	return context;
}

static void few_algorithms(void **state)
{
	static const struct {
		const char *digest, *cipher, *mac, *kdf;
		bool there;
	} rows[] = {
	        {.digest = "SHA2-256", .there = true},
	        {.digest = "SHA2-384", .there = true},
	        {.digest = "SHA1", .there = true},
	        {.digest = "MD5"},
	        {.cipher = "AES-128-GCM", .there = true},
	        {.cipher = "ChaCha20-Poly1305", .there = true},
	        {.cipher = "AES-128-CBC"},
	        {.mac = "HMAC", .there = true},
	        {.mac = "CMAC"},
	        {.kdf = "TLS13-KDF", .there = true},
	        {.kdf = "TLS1-PRF", .there = true},
	        {.kdf = "SCRYPT"},
	};
	OSSL_LIB_CTX *context = context_or_skip();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EVP_MD *digest = rows[i].digest ? EVP_MD_fetch(context, rows[i].digest, NULL) : NULL;
		EVP_CIPHER *cipher = rows[i].cipher ? EVP_CIPHER_fetch(context, rows[i].cipher, NULL) : NULL;
		EVP_MAC *mac = rows[i].mac ? EVP_MAC_fetch(context, rows[i].mac, NULL) : NULL;
		EVP_KDF *kdf = rows[i].kdf ? EVP_KDF_fetch(context, rows[i].kdf, NULL) : NULL;

		if ((digest || cipher || mac || kdf) != rows[i].there)
			fail_msg("row %zu: expected it %s", i, rows[i].there ? "there" : "missing");
		EVP_MD_free(digest);
		EVP_CIPHER_free(cipher);
		EVP_MAC_free(mac);
		EVP_KDF_free(kdf);
	}
}

static EVP_PKEY *new_key(const char *type, const char *group)
{
	EVP_PKEY *key = strcmp(type, "RSA") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, type, (size_t)2048)
	                : group                  ? EVP_PKEY_Q_keygen(NULL, NULL, type, group)
	                                         : EVP_PKEY_Q_keygen(NULL, NULL, type);

	assert_non_null(key);
	return key;
}

/* And what one context signed, the other verifies with the key that it read. */
static void every_kind_of_key(void **state)
{
	static const struct {
		const char *type, *group;
		bool digest;
	} rows[] = {
	        {"RSA", NULL, true},   {"EC", "P-256", true},    {"EC", "P-384", true},
	        {"EC", "P-521", true}, {"ED25519", NULL, false}, {"ED448", NULL, false},
	};
	static const unsigned char text[] = "signed";
	OSSL_LIB_CTX *context = context_or_skip();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *digest = rows[i].digest ? "SHA2-256" : NULL;
		EVP_PKEY *key = new_key(rows[i].type, rows[i].group);
		EVP_MD_CTX *signing = EVP_MD_CTX_new(), *verifying = EVP_MD_CTX_new();
		unsigned char signature[512];
		size_t length = sizeof(signature);
		unsigned char *der = NULL;
		int der_length = i2d_PUBKEY(key, &der);
		const unsigned char *at = der;
		EVP_PKEY *read = d2i_PUBKEY_ex(NULL, &at, der_length, context, NULL);

		if (!read || !EVP_PKEY_eq(key, read))
			fail_msg("row %zu (%s): expected the same key", i, rows[i].type);
		assert_int_equal(EVP_DigestSignInit_ex(signing, NULL, digest, NULL, NULL, key, NULL), 1);
		assert_int_equal(EVP_DigestSign(signing, signature, &length, text, sizeof(text)), 1);
		assert_int_equal(EVP_DigestVerifyInit_ex(verifying, NULL, digest, context, NULL, read, NULL), 1);
		if (EVP_DigestVerify(verifying, signature, length, text, sizeof(text)) != 1)
			fail_msg("row %zu (%s): expected the signature to be good", i, rows[i].type);
		signature[length / 2] ^= 1;
		if (EVP_DigestVerifyInit_ex(verifying, NULL, digest, context, NULL, read, NULL) == 1 &&
		    EVP_DigestVerify(verifying, signature, length, text, sizeof(text)) == 1)
			fail_msg("row %zu (%s): expected the signature to be bad", i, rows[i].type);
		EVP_MD_CTX_free(signing);
		EVP_MD_CTX_free(verifying);
		EVP_PKEY_free(read);
		EVP_PKEY_free(key);
		OPENSSL_free(der);
	}
}

static void every_group(void **state)
{
	static const char *const groups[] = {"X25519", "X448", "P-256", "P-384", "P-521"};
	OSSL_LIB_CTX *context = context_or_skip();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		SSL_CTX *ssl_ctx = SSL_CTX_new_ex(context, NULL, TLS_client_method());

		assert_non_null(ssl_ctx);
		if (SSL_CTX_set1_groups_list(ssl_ctx, groups[i]) != 1)
			fail_msg("%s is missing", groups[i]);
		SSL_CTX_free(ssl_ctx);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(few_algorithms),
	        cmocka_unit_test(every_kind_of_key),
	        cmocka_unit_test(every_group),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
