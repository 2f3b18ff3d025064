// SPDX-License-Identifier: GPL-2.0-only
/*
 * Records sealed and opened: a published record, OpenSSL's own records in both directions, and everything hostile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "tls/keys.h"
#include "tls/record.h"

static uint8_t record[TLS_RECORD_MAX];
static uint8_t opened[TLS_RECORD_PLAIN_MAX + 256];
static uint8_t pattern[TLS_RECORD_PLAIN_MAX + 1];

static void cipher_cleanup(struct record_cipher **cipher)
{
	record_cipher_free(*cipher);
}

static struct traffic_keys make_keys(enum tls_version version, enum tls_cipher cipher)
{
	struct traffic_keys keys = {version, cipher, .record_sequence = version == TLS_VERSION_1_2};

	for (size_t i = 0; i < sizeof(keys.key); i++)
		keys.key[i] = (uint8_t)(i * 11 + 3);
	for (size_t i = 0; i < sizeof(keys.iv); i++)
		keys.iv[i] = (uint8_t)(200 - i);
	return keys;
}

static struct record_cipher *new_cipher(const struct traffic_keys *keys)
{
	struct record_cipher *cipher = NULL;

	assert_int_equal(record_cipher_new(keys, &cipher), 0);
	return cipher;
}

/* RFC 8448 section 3: what the client sends in its first application-data record, and its close_notify. */
static void rfc8448_records(void **state)
{
	(void)state;
	static const char data_hex[] =
	        "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b"
	        "62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
	static const char alert_hex[] = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
	struct traffic_keys keys = {
	        TLS_VERSION_1_3,
	        TLS_CIPHER_AES_128,
	        {0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9, 0xac, 0xd8, 0x90, 0xe3, 0xc6, 0x3f, 0x50, 0x51},
	        {0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08, 0x57, 0x90, 0x33, 0xe5, 0x23, 0xd9},
	        0};
	_cleanup_(cipher_cleanup) struct record_cipher *seal = new_cipher(&keys);
	_cleanup_(cipher_cleanup) struct record_cipher *open = new_cipher(&keys);
	const struct {
		const char *hex;
		enum tls_content_type type;
		uint8_t plain[50];
		size_t size;
	} table[] = {
	        {data_hex, TLS_CONTENT_APPLICATION_DATA, {0}, 50},
	        {alert_hex, TLS_CONTENT_ALERT, {1, 0}, 2},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t plain[50];
		enum tls_content_type type = 0;
		long length = 0;
		uint8_t *expected = OPENSSL_hexstr2buf(table[i].hex, &length);

		memcpy(plain, table[i].plain, sizeof(plain));
		for (size_t j = 0; i == 0 && j < sizeof(plain); j++)
			plain[j] = (uint8_t)j;
		assert_int_equal(record_seal(seal, table[i].type, plain, table[i].size, 0, record), length);
		assert_memory_equal(record, expected, (size_t)length);
		assert_int_equal(record_open(open, expected, (size_t)length, opened, &type), table[i].size);
		assert_int_equal(type, table[i].type);
		assert_memory_equal(opened, plain, table[i].size);
		OPENSSL_free(expected);
	}
}

#define FOR_EACH_SUITE(version, cipher)                                                                                \
	for (enum tls_version version = TLS_VERSION_1_2; version <= TLS_VERSION_1_3; version++)                        \
		for (enum tls_cipher cipher = 0; cipher < TLS_KERNEL_CIPHERS; cipher++)

static void round_trips(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 2, 15, 16, 17, 255, 256, 1000, 16383, 16384};
	static const size_t paddings[] = {0, 1, 255, 256, 257, 1000};

	FOR_EACH_SUITE(version, suite)
	{
		struct traffic_keys keys = make_keys(version, suite);
		_cleanup_(cipher_cleanup) struct record_cipher *seal = new_cipher(&keys);
		_cleanup_(cipher_cleanup) struct record_cipher *open = new_cipher(&keys);

		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			for (size_t j = 0; j < (version == TLS_VERSION_1_3 ? ARRAY_SIZE(paddings) : 1); j++) {
				size_t overhead = version == TLS_VERSION_1_3     ? 1 + 16
				                  : suite == TLS_CIPHER_CHACHA20 ? 16
				                                                 : 8 + 16;
				enum tls_content_type type = 0;
				ssize_t length;

				if (sizes[i] + paddings[j] > TLS_RECORD_PLAIN_MAX)
					continue;
				length = record_seal(seal, TLS_CONTENT_HANDSHAKE, pattern, sizes[i], paddings[j],
				                     record);
				assert_int_equal(length, TLS_RECORD_HEADER + sizes[i] + paddings[j] + overhead);
				assert_int_equal(record_length(record, (size_t)length), length);
				assert_int_equal(record[0], version == TLS_VERSION_1_3 ? 23 : 22);
				assert_int_equal(record_open(open, record, (size_t)length, opened, &type), sizes[i]);
				assert_int_equal(type, TLS_CONTENT_HANDSHAKE);
				assert_memory_equal(opened, pattern, sizes[i]);
			}
		}
	}
}

/* A plaintext that ends in zeros is not padding: the type byte stands between. */
static void zeros_survive_padding(void **state)
{
	(void)state;
	struct traffic_keys keys = make_keys(TLS_VERSION_1_3, TLS_CIPHER_AES_256);
	_cleanup_(cipher_cleanup) struct record_cipher *seal = new_cipher(&keys);
	_cleanup_(cipher_cleanup) struct record_cipher *open = new_cipher(&keys);
	static const uint8_t zeros[100];
	enum tls_content_type type = 0;
	ssize_t length = record_seal(seal, TLS_CONTENT_APPLICATION_DATA, zeros, sizeof(zeros), 50, record);

	assert_int_equal(record_open(open, record, (size_t)length, opened, &type), sizeof(zeros));
	assert_int_equal(type, TLS_CONTENT_APPLICATION_DATA);

	/* nothing but padding has no type at all: RFC 8446 5.4 makes that fatal */
	length = record_seal(seal, 0, zeros, sizeof(zeros), 0, record);
	assert_true(length > 0);
	assert_int_equal(record_open(open, record, (size_t)length, opened, &type), -EBADMSG);
}

static void limits(void **state)
{
	(void)state;
	FOR_EACH_SUITE(version, suite)
	{
		struct traffic_keys keys = make_keys(version, suite);
		_cleanup_(cipher_cleanup) struct record_cipher *cipher = new_cipher(&keys);
		enum tls_content_type type;

		assert_int_equal(record_seal(cipher, 23, pattern, TLS_RECORD_PLAIN_MAX + 1, 0, record), -EINVAL);
		assert_int_equal(record_seal(cipher, 23, pattern, TLS_RECORD_PLAIN_MAX, 1, record), -EINVAL);
		assert_int_equal(record_seal(cipher, 23, pattern, 1, SIZE_MAX, record), -EINVAL);
		if (version == TLS_VERSION_1_2)
			assert_int_equal(record_seal(cipher, 23, pattern, 1, 1, record), -EINVAL);
		/* shorter than the AEAD's own overhead, and nothing at all */
		for (size_t length = 0; length < TLS_RECORD_HEADER + 16; length++) {
			uint8_t tiny[TLS_RECORD_HEADER + 16] = {23, 3, 3, 0, 0};

			tiny[4] = length > TLS_RECORD_HEADER ? (uint8_t)(length - TLS_RECORD_HEADER) : 0;
			assert_int_equal(record_open(cipher, tiny, length, opened, &type), -EBADMSG);
		}
	}
	struct traffic_keys other = {.cipher = TLS_CIPHER_OTHER};
	struct record_cipher *cipher = NULL;
	assert_int_equal(record_cipher_new(&other, &cipher), -EINVAL);
	record_cipher_free(NULL);
}

/* Every byte of a record counts, in every suite; a failure leaves no plaintext and does not move the sequence. */
static void tampering(void **state)
{
	(void)state;
	FOR_EACH_SUITE(version, suite)
	{
		struct traffic_keys keys = make_keys(version, suite);
		_cleanup_(cipher_cleanup) struct record_cipher *seal = new_cipher(&keys);
		_cleanup_(cipher_cleanup) struct record_cipher *open = new_cipher(&keys);
		enum tls_content_type type;
		ssize_t length = record_seal(seal, TLS_CONTENT_APPLICATION_DATA, pattern, 40, 0, record);

		for (ssize_t i = 0; i < length; i++) {
			record[i] ^= 1;
			memset(opened, 0xee, sizeof(opened));
			if (record_open(open, record, (size_t)length, opened, &type) != -EBADMSG)
				fail_msg("%s %s: byte %zd changed and the record opened", tls_version_name(version),
				         tls_cipher_name(suite), i);
			assert_memory_not_equal(opened, pattern, 40);
			record[i] ^= 1;
		}
		assert_int_equal(record_open(open, record, (size_t)length - 1, opened, &type), -EBADMSG);
		assert_int_equal(record_open(open, record, (size_t)length, opened, &type), 40);
		/* replayed, and out of order */
		assert_int_equal(record_open(open, record, (size_t)length, opened, &type), -EBADMSG);
		record_seal(seal, TLS_CONTENT_APPLICATION_DATA, pattern, 40, 0, record);
		length = record_seal(seal, TLS_CONTENT_APPLICATION_DATA, pattern, 40, 0, record);
		assert_int_equal(record_open(open, record, (size_t)length, opened, &type), -EBADMSG);
	}
}

static void record_lengths(void **state)
{
	(void)state;
	static const struct {
		uint8_t bytes[5];
		size_t available;
		ssize_t expected;
	} table[] = {
	        {{22, 3, 1, 0, 0}, 0, 0},
	        {{22, 3, 1, 0, 0}, 4, 0},
	        {{22, 3, 1, 2, 1}, 5, 5 + 513},
	        {{20, 3, 3, 0, 1}, 5, 6},
	        {{23, 3, 3, 0x41, 0}, 5, 5 + 16640},
	        {{23, 3, 3, 0x41, 1}, 5, -EPROTO},
	        {{'H', 'T', 'T', 'P', '/'}, 5, -EPROTO},
	        {{19, 3, 3, 0, 1}, 5, -EPROTO},
	        {{24, 3, 3, 0, 1}, 5, -EPROTO},
	        {{23, 2, 3, 0, 1}, 5, -EPROTO},
	        {{0x80, 0x2e, 1, 3, 1}, 5, -EPROTO},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		ssize_t seen = record_length(table[i].bytes, table[i].available);

		if (seen != table[i].expected)
			fail_msg("row %zu: expected %zd, seen %zd", i, table[i].expected, seen);
	}
}

static int fill_pattern(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 31 + i / 251);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(rfc8448_records),
	        cmocka_unit_test(round_trips),
	        cmocka_unit_test(zeros_survive_padding),
	        cmocka_unit_test(limits),
	        cmocka_unit_test(tampering),
	        cmocka_unit_test(record_lengths),
	};
	return cmocka_run_group_tests(tests, fill_pattern, NULL);
}
