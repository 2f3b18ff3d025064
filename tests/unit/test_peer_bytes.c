/* SPDX-License-Identifier: GPL-2.0-only */
/* A peer's chain as bytes: there and back, cut, mutated, garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "certificates.h"
#include "tls/peer_bytes.h"
#include "tls/peer_private.h"

static struct tls_peer *make_peer(void)
{
	const struct certificate_options authority_options = {.common_name = "authority", .authority = true};
	struct certificate *authority = certificate_new(&authority_options);
	const struct certificate_options leaf_options = {
	        .common_name = "leaf", .issuer = authority, .names = {{GEN_DNS, "echo.example", 0}}};
	struct certificate *leaf = certificate_new(&leaf_options);
	STACK_OF(X509) *chain = sk_X509_new_null();
	uint8_t fingerprint[PEER_FINGERPRINT_SIZE];
	struct tls_peer *peer;
	size_t size;

	assert_true(sk_X509_push(chain, leaf->x509) == 1 && sk_X509_push(chain, authority->x509) == 2);
	assert_true(peer_fingerprint(EVP_sha256(), chain, fingerprint, &size));
	peer = peer_new(chain, fingerprint, size);
	assert_non_null(peer);
	sk_X509_free(chain);
	certificate_free(leaf);
	certificate_free(authority);
	return peer;
}

static void test_round_trip(void **state)
{
	struct tls_peer *peer = make_peer(), *seen = NULL;
	uint8_t *bytes;
	size_t size;

	(void)state;
	assert_int_equal(tls_peer_encode(peer, &bytes, &size), 0);
	assert_int_equal(size, peer->size);
	assert_int_equal(tls_peer_decode(bytes, size, &seen), 0);
	assert_int_equal(sk_X509_num(seen->chain), 2);
	assert_int_equal(X509_cmp(sk_X509_value(seen->chain, 0), sk_X509_value(peer->chain, 0)), 0);
	assert_memory_equal(seen->fingerprint, peer->fingerprint, PEER_FINGERPRINT_SIZE);
	assert_int_equal(seen->size, size);
	tls_peer_unref(seen);
	tls_peer_unref(peer);
	OPENSSL_free(bytes);
}

static void test_cut_and_mutated(void **state)
{
	struct tls_peer *peer = make_peer(), *seen;
	size_t size, wholes = 0;
	uint8_t *bytes;

	(void)state;
	assert_int_equal(tls_peer_encode(peer, &bytes, &size), 0);
	for (size_t cut = 0; cut < size; cut++) {
		seen = NULL;
		if (tls_peer_decode(bytes, cut, &seen) == 0)
			wholes++; /* the cut is where the first certificate ends */
		else
			assert_null(seen);
		tls_peer_unref(seen);
	}
	assert_int_equal(wholes, 1);
	for (size_t at = 0; at < size; at++) {
		seen = NULL;
		bytes[at] ^= 0x41;
		if (tls_peer_decode(bytes, size, &seen) == 0)
			assert_memory_not_equal(seen->fingerprint, peer->fingerprint, PEER_FINGERPRINT_SIZE);
		tls_peer_unref(seen);
		bytes[at] ^= 0x41;
	}
	tls_peer_unref(peer);
	OPENSSL_free(bytes);
}

static void test_too_much(void **state)
{
	uint8_t *bytes = calloc(1, PEER_BYTES_MAX + 1);
	struct tls_peer *seen = NULL;

	(void)state;
	assert_int_equal(tls_peer_decode(bytes, PEER_BYTES_MAX + 1, &seen), -EBADMSG);
	assert_int_equal(tls_peer_decode(bytes, 0, &seen), -EBADMSG);
	assert_null(seen);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_round_trip),
	        cmocka_unit_test(test_cut_and_mutated),
	        cmocka_unit_test(test_too_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
