// SPDX-License-Identifier: GPL-2.0-only
/*
 * Key schedules against published vectors, and against OpenSSL's own KDFs where none were published.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/cleanup.h"
#include "tls/keys.h"

static size_t from_hex(const char *hex, uint8_t *bytes, size_t size)
{
	long length = 0;
	unsigned char *decoded = OPENSSL_hexstr2buf(hex, &length);

	assert_non_null(decoded);
	assert_in_range(length, 1, size);
	memcpy(bytes, decoded, (size_t)length);
	OPENSSL_free(decoded);
	return (size_t)length;
}

static void assert_hex(const char *what, const char *expected, const uint8_t *seen)
{
	uint8_t bytes[128];
	size_t length = from_hex(expected, bytes, sizeof(bytes));

	if (memcmp(bytes, seen, length) == 0)
		return;
	_cleanup_free_ char *text = OPENSSL_buf2hexstr(seen, (long)length);
	fail_msg("%s: expected %s, seen %s", what, expected, text);
}

/* RFC 8448 section 3, "{server} derive write traffic keys for application data" and the client's. */
static void rfc8448_application_keys(void **state)
{
	(void)state;
	static const struct {
		const char *name, *secret, *key, *iv;
	} table[] = {
	        {"server", "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
	         "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"},
	        {"client", "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
	         "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t secret[TLS_SECRET_MAX];
		size_t length = from_hex(table[i].secret, secret, sizeof(secret));
		struct traffic_keys keys = {.record_sequence = 99};

		assert_int_equal(keys_derive_1_3(TLS_CIPHER_AES_128, secret, length, &keys), 0);
		assert_hex(table[i].name, table[i].key, keys.key);
		assert_hex(table[i].name, table[i].iv, keys.iv);
		assert_int_equal(keys.version, TLS_VERSION_1_3);
		assert_int_equal(keys.cipher, TLS_CIPHER_AES_128);
		assert_int_equal(keys.record_sequence, 0);
	}
}

/* HKDF-Expand-Label as OpenSSL's TLS13-KDF computes it. */
static void expand_by_openssl(const char *digest, const uint8_t *secret, size_t secret_length, const char *label,
                              uint8_t *output, size_t length)
{
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	const OSSL_PARAM params[] = {
	        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
	        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, secret_length),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (void *)"tls13 ", 6),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)label, strlen(label)),
	        OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);

	assert_int_equal(EVP_KDF_derive(context, output, length, params), 1);
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
}

static const struct {
	enum tls_cipher cipher;
	const char *digest;
	size_t secret_length, key_length, fixed_iv_length;
} suites[] = {
        {TLS_CIPHER_AES_128, "SHA256", 32, 16, 4},
        {TLS_CIPHER_AES_256, "SHA384", 48, 32, 4},
        {TLS_CIPHER_CHACHA20, "SHA256", 32, 32, 12},
};

static void keys_1_3_as_openssl_derives_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++) {
		size_t length = suites[i].secret_length;
		uint8_t secret[TLS_SECRET_MAX];
		uint8_t expected[TLS_SECRET_MAX];
		struct traffic_keys keys;

		for (size_t j = 0; j < length; j++)
			secret[j] = (uint8_t)(7 * j + i);
		/* three generations: the traffic secret and two key updates */
		for (int generation = 0; generation < 3; generation++) {
			assert_int_equal(keys_derive_1_3(suites[i].cipher, secret, length, &keys), 0);
			expand_by_openssl(suites[i].digest, secret, length, "key", expected, suites[i].key_length);
			assert_memory_equal(keys.key, expected, suites[i].key_length);
			expand_by_openssl(suites[i].digest, secret, length, "iv", expected, 12);
			assert_memory_equal(keys.iv, expected, 12);
			assert_int_equal(tls_cipher_key_length(suites[i].cipher), suites[i].key_length);

			expand_by_openssl(suites[i].digest, secret, length, "traffic upd", expected, length);
			assert_int_equal(keys_next_secret(suites[i].cipher, secret, length), 0);
			assert_memory_equal(secret, expected, length);
		}
	}
}

/* NIST CAVS, TLS 1.2 KDF with SHA-256, first vector. */
static const char cavs_master[] =
        "202c88c00f84a17a20027079604787461176455539e705be730890602c289a5001e34eeb3a043e5d52a65e66125188bf";
static const char cavs_client_random[] = "62e1fd91f23f558a605f28478c58cf72637b89784d959df7e946d3f07bd1b616";
static const char cavs_server_random[] = "ae6c806f8ad4d80784549dff28a4b58fd837681a51d928c3e30ee5ff14f39868";

static void cavs_key_block(void **state)
{
	(void)state;
	uint8_t master[48], client_random[32], server_random[32];
	struct traffic_keys transmit, receive;

	from_hex(cavs_master, master, sizeof(master));
	from_hex(cavs_client_random, client_random, sizeof(client_random));
	from_hex(cavs_server_random, server_random, sizeof(server_random));

	assert_int_equal(keys_derive_1_2(TLS_CIPHER_AES_128, master, client_random, server_random, &transmit, &receive),
	                 0);
	assert_hex("client key", "d06139889fffac1e3a71865f504aa5d0", transmit.key);
	assert_hex("server key", "d2a2e89506c6f2279b670c3e1b74f531", receive.key);
	assert_hex("client IV", "016a2530", transmit.iv);
	assert_hex("server IV", "c51a3a0f", receive.iv);

	assert_int_equal(
	        keys_derive_1_2(TLS_CIPHER_CHACHA20, master, client_random, server_random, &transmit, &receive), 0);
	assert_hex("client key", "d06139889fffac1e3a71865f504aa5d0d2a2e89506c6f2279b670c3e1b74f531", transmit.key);
	assert_hex("server key", "016a2530c51a3a0f7e1d6590d0f0566b2f387f8d11fd4f731cdd572d2eae927f", receive.key);
	assert_hex("client IV", "6f2f81410b25e6960be68985", transmit.iv);
	assert_hex("server IV", "add6c38445ad9f8c64bf8068", receive.iv);

	assert_int_equal(transmit.version, TLS_VERSION_1_2);
	assert_int_equal(transmit.record_sequence, 1);
	assert_int_equal(receive.record_sequence, 1);
}

static void keys_1_2_as_openssl_derives_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++) {
		uint8_t master[48], client_random[32], server_random[32], block[2 * 32 + 2 * 12];
		size_t key = suites[i].key_length;
		size_t iv = suites[i].fixed_iv_length;
		struct traffic_keys transmit, receive;

		memset(master, 0x11 + (int)i, sizeof(master));
		memset(client_random, 0x22, sizeof(client_random));
		memset(server_random, 0x33, sizeof(server_random));
		const OSSL_PARAM params[] = {
		        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)suites[i].digest, 0),
		        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, sizeof(master)),
		        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (void *)"key expansion", 13),
		        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, server_random, 32),
		        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, client_random, 32),
		        OSSL_PARAM_construct_end(),
		};
		EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
		EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);

		assert_int_equal(EVP_KDF_derive(context, block, 2 * (key + iv), params), 1);
		EVP_KDF_CTX_free(context);
		EVP_KDF_free(kdf);

		assert_int_equal(
		        keys_derive_1_2(suites[i].cipher, master, client_random, server_random, &transmit, &receive),
		        0);
		assert_memory_equal(transmit.key, block, key);
		assert_memory_equal(receive.key, block + key, key);
		assert_memory_equal(transmit.iv, block + 2 * key, iv);
		assert_memory_equal(receive.iv, block + 2 * key + iv, iv);
	}
}

static void wrong_arguments_are_refused(void **state)
{
	(void)state;
	uint8_t secret[TLS_SECRET_MAX] = {0};
	uint8_t master[48] = {0}, random[32] = {0};
	struct traffic_keys keys = {.cipher = TLS_CIPHER_OTHER};

	/* the secret is as long as the suite's digest, never anything else */
	assert_int_equal(keys_derive_1_3(TLS_CIPHER_AES_128, secret, 48, &keys), -EINVAL);
	assert_int_equal(keys_derive_1_3(TLS_CIPHER_AES_256, secret, 32, &keys), -EINVAL);
	assert_int_equal(keys_derive_1_3(TLS_CIPHER_OTHER, secret, 32, &keys), -EINVAL);
	assert_int_equal(keys_next_secret(TLS_CIPHER_OTHER, secret, 32), -EINVAL);
	assert_int_equal(keys_next_secret(TLS_CIPHER_CHACHA20, secret, 0), -EINVAL);
	assert_int_equal(keys_derive_1_2(TLS_CIPHER_OTHER, master, random, random, &keys, &keys), -EINVAL);
	assert_int_equal(keys_install(-1, TLS_DIRECTION_TRANSMIT, &keys), -EINVAL);
	keys.cipher = TLS_CIPHER_AES_128;
	assert_int_equal(keys_install(-1, TLS_DIRECTION_TRANSMIT, &keys), -EBADF);
	assert_int_equal(keys_attach_ulp(-1), -EBADF);

	_cleanup_close_ int udp = socket(AF_INET, SOCK_DGRAM, 0);
	assert_true(keys_attach_ulp(udp) < 0);
	assert_int_equal(tls_cipher_key_length(TLS_CIPHER_OTHER), 0);
	assert_string_equal(tls_cipher_name(TLS_CIPHER_OTHER), "other");
	assert_string_equal(tls_cipher_name(TLS_CIPHER_AES_256), "AES-256-GCM");
	assert_string_equal(tls_version_name(TLS_VERSION_1_2), "TLSv1.2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(rfc8448_application_keys),
	        cmocka_unit_test(keys_1_3_as_openssl_derives_them),
	        cmocka_unit_test(cavs_key_block),
	        cmocka_unit_test(keys_1_2_as_openssl_derives_them),
	        cmocka_unit_test(wrong_arguments_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
