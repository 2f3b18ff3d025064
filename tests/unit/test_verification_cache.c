// SPDX-License-Identifier: GPL-2.0-only
/*
 * What was verified once is not verified again, and what must be refused is refused all the same: expired, not yet
 * valid, revoked, under other settings, without the key. Each refusal goes through a cache that has the chain, by
 * handshakes and by a look at a live connection's peer; the clock is the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/cleanup.h"
#include "meeting.h"
#include "tls/verification_cache.h"

#define DAY 86400L

static struct certificate *root, *other_root, *intermediate, *leaf;
static char *root_pem, *other_root_pem;

static struct certificate *new_leaf(const struct certificate *issuer, long from, long until)
{
	const struct certificate_options options = {.common_name = "backend",
	                                            .names = {{GEN_DNS, "backend.example", 0}},
	                                            .issuer = issuer,
	                                            .valid_from = from,
	                                            .valid_until = until};

	return certificate_new(&options);
}

static struct certificate *new_authority(const struct certificate *issuer, const char *name, long from, long until)
{
	const struct certificate_options options = {
	        .common_name = name, .authority = true, .issuer = issuer, .valid_from = from, .valid_until = until};

	return certificate_new(&options);
}

static int set_up(void **state)
{
	(void)state;
	if (tls_global_init() < 0)
		return -1;
	root = new_authority(NULL, "root", -100 * DAY, 100 * DAY);
	other_root = new_authority(NULL, "root", -100 * DAY, 100 * DAY);
	intermediate = new_authority(root, "intermediate", -90 * DAY, 90 * DAY);
	leaf = new_leaf(intermediate, -10 * DAY, 10 * DAY);
	root_pem = certificate_pem((const struct certificate *const[]){root, NULL});
	other_root_pem = certificate_pem((const struct certificate *const[]){other_root, NULL});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	certificate_free(root);
	certificate_free(other_root);
	certificate_free(intermediate);
	certificate_free(leaf);
	free(root_pem);
	free(other_root_pem);
	return 0;
}

static int reset_clock(void **state)
{
	(void)state;
	meeting_clock_offset = 0;
	return 0;
}

static struct verification_cache_statistics statistics_of(struct tls_context *context)
{
	struct verification_cache_statistics statistics;

	verification_cache_statistics(context->verifications, &statistics);
	return statistics;
}

static void check_statistics(const char *row, struct tls_context *context, uint64_t hits, uint64_t misses,
                             size_t entries)
{
	struct verification_cache_statistics seen = statistics_of(context);

	if (seen.hits != hits || seen.misses != misses || seen.entries != entries)
		fail_msg("%s: expected %lu hits, %lu misses, %zu entries, seen %lu, %lu, %zu", row, hits, misses,
		         entries, seen.hits, seen.misses, seen.entries);
}

static struct tls_peer *peer_of(struct tls_context *context, const struct far_end_options *options)
{
	struct meeting meeting;
	struct tls_peer *peer;

	meeting_begin(&meeting, context, NULL, options);
	meeting_shake(&meeting);
	if (meeting.step != TLS_STEP_DONE)
		fail_msg("%s (%s)", reason_name(meeting.reason), meeting.detail);
	peer = tls_session_peer(meeting.client.session);
	meeting_end(&meeting);
	return peer;
}

static struct tls_context *context_of(char *ca_pem)
{
	const struct tls_settings settings = client_settings(ca_pem);

	return meeting_context(&settings);
}

/* One verification, and one peer for all who show the chain; a hit tells what the miss told. */
static void one_verification_for_all(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct far_end_options options = {
		        .leaf = leaf, .intermediate = intermediate, .max_version = version};
		struct tls_context *context = context_of(root_pem);
		struct tls_peer *first = NULL;

		for (unsigned int i = 0; i < 5; i++) {
			struct meeting meeting = meet(context, NULL, &options);
			struct tls_peer *peer;

			assert_int_equal(meeting.step, TLS_STEP_DONE);
			assert_string_equal(meeting.info.peer_identity, "backend.example");
			assert_in_range(meeting.info.peer_not_after, time(NULL) + 10 * DAY - 600,
			                time(NULL) + 10 * DAY);
			assert_int_equal(meeting.info.peer_valid_until, meeting.info.peer_not_after);
			peer = peer_of(context, &options);
			assert_true(!first || peer == first);
			tls_peer_unref(first);
			first = peer;
		}
		check_statistics("ten handshakes", context, 9, 1, 1);
		/* a live connection's peer outlives the settings that it was verified under */
		tls_context_unref(context);
		assert_int_equal(sk_X509_num(first->chain), 2);
		tls_peer_unref(first);
	}
	tls_peer_unref(NULL);
}

/* Every byte of what was sent counts, and its order. */
static void what_is_one_chain(void **state)
{
	(void)state;
	struct certificate *second = new_leaf(intermediate, -10 * DAY, 10 * DAY);
	struct certificate *twin = new_authority(root, "intermediate", -90 * DAY, 90 * DAY);
	const struct far_end_options chains[] = {
	        {.leaf = leaf, .intermediate = intermediate},
	        {.leaf = second, .intermediate = intermediate},
	};
	struct tls_context *context = context_of(root_pem);

	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(meet(context, NULL, &chains[i % 2]).step, TLS_STEP_DONE);
	check_statistics("two leaves", context, 2, 2, 2);
	/* the leaf is known, but not with these beside it */
	meet_refused("no intermediate", context, NULL, &(struct far_end_options){.leaf = leaf},
	             REASON_CERTIFICATE_UNTRUSTED);
	meet_refused("an intermediate of the same name", context, NULL,
	             &(struct far_end_options){.leaf = leaf, .intermediate = twin}, REASON_CERTIFICATE_UNTRUSTED);
	/* a refusal is not kept */
	check_statistics("refused chains", context, 2, 4, 2);
	tls_context_unref(context);
	certificate_free(second);
	certificate_free(twin);
}

struct times {
	long root_from, root_until, intermediate_from, intermediate_until, leaf_from, leaf_until;
};

/* What is in the cache is refused at every end of every certificate's life, the anchor's too. */
static const struct {
	const char *name;
	struct times times;
	int64_t last_good, first_bad; /* by the clock */
	enum postern_reason expected;
} dates[] = {
        {"leaf expires", {-9, 9, -9, 9, -9, 5}, 5 * DAY - 20, 5 * DAY + 20, REASON_CERTIFICATE_EXPIRED},
        {"intermediate expires", {-9, 9, -9, 5, -9, 9}, 5 * DAY - 20, 5 * DAY + 20, REASON_CERTIFICATE_EXPIRED},
        {"anchor expires", {-9, 5, -9, 9, -9, 9}, 5 * DAY - 20, 5 * DAY + 20, REASON_CERTIFICATE_EXPIRED},
        {"clock back before the leaf",
         {-9, 9, -9, 9, -5, 9},
         -5 * DAY + 20,
         -5 * DAY - 20,
         REASON_CERTIFICATE_NOT_YET_VALID},
        {"clock back before the intermediate",
         {-9, 9, -5, 9, -9, 9},
         -5 * DAY + 20,
         -5 * DAY - 20,
         REASON_CERTIFICATE_NOT_YET_VALID},
        {"clock back before the anchor",
         {-5, 9, -9, 9, -9, 9},
         -5 * DAY + 20,
         -5 * DAY - 20,
         REASON_CERTIFICATE_NOT_YET_VALID},
};

static void check_refused_peer(const char *row, struct tls_context *context, struct tls_peer *peer,
                               enum postern_reason expected)
{
	struct verify_result result;
	int64_t valid_until;

	if (tls_context_judge_peer(context, peer, &result, &valid_until) || result.reason != expected)
		fail_msg("%s: a live connection's peer: expected %s, seen %s", row, reason_name(expected),
		         reason_name(result.reason));
}

static void refused_by_date(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(dates); i++) {
		const struct times *times = &dates[i].times;
		struct certificate *anchor = new_authority(NULL, "anchor", times->root_from * DAY,
		                                           times->root_until * DAY);
		struct certificate *middle = new_authority(anchor, "middle", times->intermediate_from * DAY,
		                                           times->intermediate_until * DAY);
		struct certificate *end = new_leaf(middle, times->leaf_from * DAY, times->leaf_until * DAY);
		_cleanup_free_ char *pem = certificate_pem((const struct certificate *const[]){anchor, NULL});
		const struct far_end_options options = {.leaf = end, .intermediate = middle};
		struct tls_context *context = context_of(pem);
		struct tls_peer *peer = peer_of(context, &options);
		struct verify_result result;
		int64_t valid_until;

		meeting_clock_offset = dates[i].last_good;
		assert_int_equal(meet(context, NULL, &options).step, TLS_STEP_DONE);
		assert_true(tls_context_judge_peer(context, peer, &result, &valid_until));
		assert_in_range(valid_until, time(NULL) + 5 * DAY - 600, time(NULL) + 9 * DAY);
		check_statistics(dates[i].name, context, 2, 1, 1);
		meeting_clock_offset = dates[i].first_bad;
		meet_refused(dates[i].name, context, NULL, &options, dates[i].expected);
		assert_int_equal(statistics_of(context).expired, 1);
		check_refused_peer(dates[i].name, context, peer, dates[i].expected);
		check_statistics(dates[i].name, context, 2, 3, 0);
		/* and verified anew once the clock is right again */
		meeting_clock_offset = 0;
		assert_int_equal(meet(context, NULL, &options).step, TLS_STEP_DONE);
		assert_int_equal(meet(context, NULL, &options).step, TLS_STEP_DONE);
		check_statistics(dates[i].name, context, 3, 4, 1);
		tls_peer_unref(peer);
		tls_context_unref(context);
		certificate_free(anchor);
		certificate_free(middle);
		certificate_free(end);
	}
}

/* PEM of a CRL of the issuer's, in force between these times, which revokes one certificate if there is one. */
static char *new_crl(const struct certificate *issuer, long from, long until, const struct certificate *revoked)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *time = ASN1_TIME_new();
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	char *pem;
	long length;

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509));
	X509_CRL_set1_lastUpdate(crl, X509_gmtime_adj(time, from));
	X509_CRL_set1_nextUpdate(crl, X509_gmtime_adj(time, until));
	if (revoked) {
		X509_REVOKED *entry = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->x509));
		X509_REVOKED_set_revocationDate(entry, X509_gmtime_adj(time, from));
		assert_int_equal(X509_CRL_add0_revoked(crl, entry), 1);
	}
	assert_true(X509_CRL_sign(crl, issuer->key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509_CRL(bio, crl), 1);
	length = BIO_get_mem_data(bio, &data);
	pem = strndup(data, (size_t)length);
	BIO_free(bio);
	ASN1_TIME_free(time);
	X509_CRL_free(crl);
	return pem;
}

/* A chain that is in the cache is refused when its CRL is out of date, on either side, the intermediate's too. */
static void refused_by_crl_dates(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		long leaf_crl_from, leaf_crl_until, intermediate_crl_from, intermediate_crl_until;
		int64_t last_good, first_bad;
	} table[] = {
	        {"the leaf's CRL ends", -8, 3, -8, 8, 3 * DAY - 20, 3 * DAY + 20},
	        {"the intermediate's CRL ends", -8, 8, -8, 3, 3 * DAY - 20, 3 * DAY + 20},
	        {"clock back before the leaf's CRL", -3, 8, -8, 8, -3 * DAY + 20, -3 * DAY - 20},
	        {"clock back before the intermediate's CRL", -8, 8, -3, 8, -3 * DAY + 20, -3 * DAY - 20},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_free_ char *of_leaf = new_crl(intermediate, table[i].leaf_crl_from * DAY,
		                                       table[i].leaf_crl_until * DAY, NULL);
		_cleanup_free_ char *of_intermediate = new_crl(root, table[i].intermediate_crl_from * DAY,
		                                               table[i].intermediate_crl_until * DAY, NULL);
		_cleanup_free_ char *crls = malloc(strlen(of_leaf) + strlen(of_intermediate) + 1);
		const struct far_end_options options = {.leaf = leaf, .intermediate = intermediate};
		struct tls_settings settings = client_settings(root_pem);
		struct tls_context *context;
		struct tls_peer *peer;

		sprintf(crls, "%s%s", of_leaf, of_intermediate);
		settings.crl_pem = crls;
		context = meeting_context(&settings);
		peer = peer_of(context, &options);
		meeting_clock_offset = table[i].last_good;
		if (table[i].last_good > 0) {
			struct meeting meeting = meet(context, NULL, &options);

			assert_in_range(meeting.info.peer_valid_until, time(NULL) + 3 * DAY - 600,
			                time(NULL) + 3 * DAY);
		} else {
			assert_int_equal(meet(context, NULL, &options).step, TLS_STEP_DONE);
		}
		check_statistics(table[i].name, context, 1, 1, 1);
		meeting_clock_offset = table[i].first_bad;
		meet_refused(table[i].name, context, NULL, &options, REASON_CRL_UNUSABLE);
		check_refused_peer(table[i].name, context, peer, REASON_CRL_UNUSABLE);
		check_statistics(table[i].name, context, 1, 3, 0);
		meeting_clock_offset = 0;
		tls_peer_unref(peer);
		tls_context_unref(context);
	}
}

/* A peer that was verified under older settings, judged by newer ones: what a change of policy asks. */
static void judged_by_newer_settings(void **state)
{
	(void)state;
	_cleanup_free_ char *revoking = new_crl(intermediate, -DAY, DAY, leaf);
	static uint8_t pins[1][32] = {{1}};
	struct subject_alt_name names[] = {{SUBJECT_ALT_NAME_URI, "spiffe://elsewhere"}};
	struct tls_settings same = client_settings(root_pem);
	struct tls_settings other_ca = client_settings(other_root_pem);
	struct tls_settings other_name = same;
	struct tls_settings other_names = same;
	struct tls_settings revoked = same;
	struct tls_settings pinned = same;
	struct tls_settings shallow = same;
	const struct {
		const char *name;
		const struct tls_settings *settings;
		enum postern_reason expected;
	} table[] = {
	        {"the same", &same, REASON_NONE},
	        {"another CA of the same name", &other_ca, REASON_CERTIFICATE_UNTRUSTED},
	        {"another hostname", &other_name, REASON_IDENTITY_MISMATCH},
	        {"subjectAltNames", &other_names, REASON_IDENTITY_MISMATCH},
	        {"a CRL with the leaf in it", &revoked, REASON_CERTIFICATE_REVOKED},
	        {"a pin", &pinned, REASON_PIN_MISMATCH},
	        {"no room for an intermediate", &shallow, REASON_CERTIFICATE_INVALID},
	};
	const struct far_end_options options = {.leaf = leaf, .intermediate = intermediate};
	struct tls_context *old = context_of(root_pem);
	struct tls_peer *peer = peer_of(old, &options);

	other_name.hostname = "other.example";
	other_names.subject_alt_names = names;
	other_names.subject_alt_name_count = 1;
	revoked.crl_pem = revoking;
	pinned.pins = (const uint8_t(*)[32])pins;
	pinned.pin_count = 1;
	shallow.verify_depth = 0;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct tls_context *new = meeting_context(table[i].settings);

		/* twice: the second answer may be from the cache, and is the same */
		for (int round = 0; round < 2; round++) {
			struct verify_result result;
			int64_t valid_until = -1;
			bool accepted = tls_context_judge_peer(new, peer, &result, &valid_until);

			if (accepted != (table[i].expected == REASON_NONE) || result.reason != table[i].expected)
				fail_msg("%s: expected %s, seen %s (%s)", table[i].name, reason_name(table[i].expected),
				         reason_name(result.reason), result.detail);
			assert_int_equal(valid_until, result.valid_until);
		}
		check_statistics(table[i].name, new, table[i].expected == REASON_NONE, table[i].expected ? 2 : 1,
		                 table[i].expected == REASON_NONE);
		if (table[i].expected == REASON_NONE) {
			/* who connects anew shares the peer that was brought along */
			struct tls_peer *again = peer_of(new, &options);

			assert_ptr_equal(again, peer);
			tls_peer_unref(again);
		} else {
			meet_refused(table[i].name, new, NULL, &options, table[i].expected);
		}
		tls_context_unref(new);
	}
	tls_peer_unref(peer);
	tls_context_unref(old);
}

/* The public key of the certificate, with somebody's own private key: what a thief of the certificate has. */
static EVP_PKEY *stolen_key(const struct certificate *victim, const struct certificate *thief)
{
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	EVP_PKEY *key = NULL;
	BIGNUM *private_key = NULL;
	unsigned char *public_key = NULL;
	size_t length = EVP_PKEY_get1_encoded_public_key(victim->key, &public_key);
	OSSL_PARAM *parameters;

	assert_int_equal(EVP_PKEY_get_bn_param(thief->key, OSSL_PKEY_PARAM_PRIV_KEY, &private_key), 1);
	OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0);
	OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, public_key, length);
	OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, private_key);
	parameters = OSSL_PARAM_BLD_to_param(builder);
	assert_int_equal(EVP_PKEY_fromdata_init(context), 1);
	assert_int_equal(EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, parameters), 1);
	OSSL_PARAM_free(parameters);
	OSSL_PARAM_BLD_free(builder);
	EVP_PKEY_CTX_free(context);
	BN_clear_free(private_key);
	OPENSSL_free(public_key);
	return key;
}

/* A certificate is public: a hit must not stand for the proof that its key is there. */
static void certificate_without_its_key(void **state)
{
	(void)state;
	struct certificate thief = {leaf->x509, stolen_key(leaf, other_root)};

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		const struct far_end_options rightful = {
		        .leaf = leaf, .intermediate = intermediate, .max_version = version};
		const struct far_end_options stolen = {
		        .leaf = &thief, .intermediate = intermediate, .max_version = version};
		struct tls_context *context = context_of(root_pem);

		assert_int_equal(meet(context, NULL, &rightful).step, TLS_STEP_DONE);
		meet_refused("stolen certificate", context, NULL, &stolen, REASON_HANDSHAKE_FAILED);
		check_statistics("stolen certificate", context, 1, 1, 1);
		tls_context_unref(context);
	}
	EVP_PKEY_free(thief.key);
}

/* The bounds: by number and by bytes, the least recently used first; what was dropped is verified again. */
static void bounded(void **state)
{
	(void)state;
	const struct verify_result result = {.identity = "backend.example", .valid_until = INT64_MAX};
	struct tls_context *context = context_of(root_pem);
	const struct far_end_options options = {.leaf = leaf, .intermediate = intermediate};
	struct tls_peer *real = peer_of(context, &options);
	static const struct {
		const char *name;
		size_t size;
		size_t room;
	} table[] = {
	        {"by number", 100, VERIFICATION_CACHE_ENTRIES},
	        {"by bytes", 100 << 10, VERIFICATION_CACHE_BYTES / (100 << 10)},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct verification_cache *cache = verification_cache_new();
		struct verification_cache_statistics seen;
		uint8_t fingerprint[PEER_FINGERPRINT_SIZE] = {0};
		struct verify_result found;

		for (size_t n = 0; n < table[i].room + 10; n++) {
			struct tls_peer *peer;

			memcpy(fingerprint, &n, sizeof(n));
			peer = peer_new(real->chain, fingerprint, table[i].size);
			tls_peer_unref(verification_cache_add(cache, peer, &result));
			tls_peer_unref(peer);
			/* the first one is in use all the time */
			memset(fingerprint, 0, sizeof(fingerprint));
			peer = verification_cache_find(cache, fingerprint, 0, &found);
			assert_non_null(peer);
			assert_string_equal(found.identity, "backend.example");
			tls_peer_unref(peer);
		}
		verification_cache_statistics(cache, &seen);
		if (seen.entries != table[i].room || seen.evicted != 10)
			fail_msg("%s: expected %zu entries, 10 evicted, seen %zu, %lu", table[i].name, table[i].room,
			         seen.entries, seen.evicted);
		assert_int_equal(seen.bytes, table[i].room * table[i].size);
		for (size_t n = 1; n < table[i].room + 10; n++) {
			struct tls_peer *peer;

			memcpy(fingerprint, &n, sizeof(n));
			peer = verification_cache_find(cache, fingerprint, 0, &found);
			if (!peer != (n <= 10))
				fail_msg("%s: entry %zu is %s", table[i].name, n, peer ? "there" : "gone");
			tls_peer_unref(peer);
		}
		verification_cache_free(cache);
	}
	tls_peer_unref(real);
	tls_context_unref(context);
}

/* Who was dropped is refused if it has gone bad meanwhile: the whole way again, not an old verdict. */
static void refused_after_eviction(void **state)
{
	(void)state;
	const struct verify_result result = {.valid_until = INT64_MAX};
	struct tls_context *context = context_of(root_pem);
	const struct far_end_options options = {.leaf = leaf, .intermediate = intermediate};
	struct tls_peer *real = peer_of(context, &options);
	uint8_t fingerprint[PEER_FINGERPRINT_SIZE] = {0};

	for (size_t n = 0; n < VERIFICATION_CACHE_ENTRIES; n++) {
		struct tls_peer *peer;

		memcpy(fingerprint, &n, sizeof(n));
		peer = peer_new(real->chain, fingerprint, 1);
		tls_peer_unref(verification_cache_add(context->verifications, peer, &result));
		tls_peer_unref(peer);
	}
	assert_int_equal(statistics_of(context).evicted, 1);
	meeting_clock_offset = 11 * DAY;
	meet_refused("evicted, expired", context, NULL, &options, REASON_CERTIFICATE_EXPIRED);
	meeting_clock_offset = 0;
	assert_int_equal(meet(context, NULL, &options).step, TLS_STEP_DONE);
	tls_peer_unref(real);
	tls_context_unref(context);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_teardown(function, reset_clock)
	const struct CMUnitTest tests[] = {
	        TEST(one_verification_for_all),
	        TEST(what_is_one_chain),
	        TEST(refused_by_date),
	        TEST(refused_by_crl_dates),
	        TEST(judged_by_newer_settings),
	        TEST(certificate_without_its_key),
	        TEST(bounded),
	        TEST(refused_after_eviction),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
