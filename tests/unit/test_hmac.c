// SPDX-License-Identifier: GPL-2.0-only
/*
 * Our HMAC and HKDF-Expand-Label against OpenSSL's own, for every length that a key schedule can have, and what is
 * refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/cleanup.h"
#include "tls/hmac.h"

static const struct {
	enum hmac_digest digest;
	const char *name;
	size_t length;
} digests[] = {{HMAC_SHA256, "SHA256", 32}, {HMAC_SHA384, "SHA384", 48}};

static const char bytes[300] = "what is hashed, and after it nothing but zeros";

static void mac(void **state)
{
	static const size_t lengths[] = {0, 1, 32, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 300};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
		for (size_t key = 0; key <= 64; key += 16) {
			_cleanup_(hmac_end) struct hmac hmac = {0};

			assert_int_equal(hmac_begin(&hmac, digests[i].digest, (const uint8_t *)bytes, key), 0);
			for (size_t j = 0; j < ARRAY_SIZE(lengths); j++) {
				/* In two pieces, and twice with the same key. */
				const struct hmac_piece pieces[] = {
				        {bytes, lengths[j] / 3}, {bytes + lengths[j] / 3, lengths[j] - lengths[j] / 3}};
				uint8_t seen[HMAC_LENGTH_MAX], expected[EVP_MAX_MD_SIZE];
				unsigned int length;

				assert_int_equal(hmac_compute(&hmac, pieces, ARRAY_SIZE(pieces), seen), 0);
				assert_non_null(HMAC(EVP_get_digestbyname(digests[i].name), bytes, (int)key,
				                     (const unsigned char *)bytes, lengths[j], expected, &length));
				assert_int_equal(hmac_length(digests[i].digest), length);
				if (memcmp(seen, expected, length) != 0)
					fail_msg("%s, a key of %zu, %zu bytes: another MAC than OpenSSL's",
					         digests[i].name, key, lengths[j]);
			}
		}
	}
}

/* By OpenSSL's TLS13-KDF. */
static void expand_by_openssl(size_t i, size_t label, size_t context, uint8_t *output, size_t length)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
	EVP_KDF_CTX *kdf_context = EVP_KDF_CTX_new(kdf);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM parameters[] = {
	        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
	        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digests[i].name, 0),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)bytes, digests[i].length),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, "tls13 ", 6),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)bytes, label),
	        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_DATA, (void *)bytes, context),
	        OSSL_PARAM_construct_end(),
	};

	assert_int_equal(EVP_KDF_derive(kdf_context, output, length, parameters), 1);
	EVP_KDF_CTX_free(kdf_context);
	EVP_KDF_free(kdf);
}

static void expansion(void **state)
{
	static const size_t labels[] = {2, 3, 12, 200}, contexts[] = {0, 32, 48, 64}, lengths[] = {12, 16, 32, 48};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
		_cleanup_(hmac_end) struct hmac hmac = {0};

		assert_int_equal(hmac_begin(&hmac, digests[i].digest, (const uint8_t *)bytes, digests[i].length), 0);
		for (size_t j = 0; j < 4 * 4 * 4; j++) {
			const struct hmac_piece label = {bytes, labels[j % 4]}, context = {bytes, contexts[j / 4 % 4]};
			size_t length = lengths[j / 16];
			uint8_t seen[HMAC_LENGTH_MAX] = {0}, expected[HMAC_LENGTH_MAX];

			if (length > digests[i].length) {
				assert_int_equal(hmac_expand_label(&hmac, &label, &context, seen, length), -EINVAL);
				continue;
			}
			assert_int_equal(hmac_expand_label(&hmac, &label, &context, seen, length), 0);
			expand_by_openssl(i, label.length, context.length, expected, length);
			if (memcmp(seen, expected, length) != 0)
				fail_msg("%s, a label of %zu, a context of %zu, %zu bytes: other ones than OpenSSL's",
				         digests[i].name, label.length, context.length, length);
		}
	}
}

static void refused(void **state)
{
	const struct hmac_piece fits = {bytes, 249}, too_long = {bytes, 250}, context = {bytes, 256};
	_cleanup_(hmac_end) struct hmac hmac = {0}, other = {0};
	uint8_t output[HMAC_LENGTH_MAX];

	(void)state;
	assert_int_equal(hmac_begin(&other, HMAC_SHA256, (const uint8_t *)bytes, 65), -EINVAL);
	assert_int_equal(hmac_begin(&hmac, HMAC_SHA256, (const uint8_t *)bytes, 32), 0);
	assert_int_equal(hmac_expand_label(&hmac, &fits, &fits, output, 32), 0);
	assert_int_equal(hmac_expand_label(&hmac, &too_long, &fits, output, 32), -EINVAL);
	assert_int_equal(hmac_expand_label(&hmac, &fits, &context, output, 32), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(mac),
	        cmocka_unit_test(expansion),
	        cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
