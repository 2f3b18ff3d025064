/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's maps as a cache of the snapshot. The maps are played: what a connect() would find in them is judged as
 * bpf/judge.h does it, and the one rule of all is that no covered key is ever found to pass.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/kernel_maps.h"
#include "policy/settings.h"
#include "policy/snapshot_data.h"

#define MS 1000000ull
#define T0 (1000 * MS)

#define KEYS_MAX  64
#define CIDRS_MAX 256

static struct kernel {
	struct postern_destination_key keys[KEYS_MAX];
	struct postern_destination values[KEYS_MAX];
	size_t count;
	size_t room;
	struct cidr cidrs[CIDRS_MAX];
	size_t cidr_count;
	uint64_t guarded[HOOKS_GUARDED_WORDS];
	struct postern_runtime_config runtime;
	unsigned int writes;
	int failure; /* of every write */
	/* The rule. */
	const struct destination *covered;
	size_t covered_count;
	bool watching;
} kernel;

static struct postern_destination_key key_of(unsigned int host, uint16_t port)
{
	const struct postern_address address = {
	        .byte = {[10] = 0xff, [11] = 0xff, [12] = 10, [14] = (uint8_t)(host >> 8), [15] = (uint8_t)host}};

	return destination_key(&address, port);
}

static const struct postern_destination *look(const struct postern_destination_key *key)
{
	for (size_t i = 0; i < kernel.count; i++) {
		if (memcmp(&kernel.keys[i], key, sizeof(*key)) == 0)
			return &kernel.values[i];
	}
	return NULL;
}

/* bpf/judge.h, in C. */
static enum postern_verdict judge(const struct postern_destination_key *key)
{
	const struct postern_destination_key any_port = {.address = key->address};
	const struct postern_destination *found = look(key);
	uint16_t port = ntohs(key->port);
	bool in_cluster = false;

	if (!found)
		found = look(&any_port);
	if (found)
		return found->verdict;
	for (size_t i = 0; i < kernel.cidr_count; i++)
		in_cluster |= cidr_contains(&kernel.cidrs[i], &key->address);
	if (in_cluster && (kernel.runtime.strict || kernel.guarded[port / 64] >> (port % 64) & 1))
		return POSTERN_VERDICT_HOLD;
	return POSTERN_VERDICT_NONE;
}

/* After every single write: what is covered before and after the change is never found to pass. */
static void watch(void)
{
	kernel.writes++;
	for (size_t i = 0; kernel.watching && i < kernel.covered_count; i++) {
		struct postern_destination_key key = kernel.covered[i].key;
		enum postern_verdict verdict;

		if (!key.port)
			key.port = htons(8081);
		verdict = judge(&key);
		if (verdict == POSTERN_VERDICT_NONE || verdict == POSTERN_VERDICT_PLAIN)
			fail_msg("write %u: covered key %zu passes", kernel.writes, i);
	}
}

int hooks_set_destination(struct hooks *hooks, const struct postern_destination_key *key,
                          const struct postern_destination *destination)
{
	struct postern_destination *known = (struct postern_destination *)look(key);

	(void)hooks;
	if (kernel.failure)
		return kernel.failure;
	if (!known && kernel.count == kernel.room)
		return -E2BIG;
	if (!known) {
		kernel.keys[kernel.count] = *key;
		known = &kernel.values[kernel.count++];
	}
	*known = *destination;
	watch();
	return 0;
}

int hooks_delete_destination(struct hooks *hooks, const struct postern_destination_key *key)
{
	const struct postern_destination *known = look(key);
	size_t index = known ? (size_t)(known - kernel.values) : 0;

	(void)hooks;
	if (kernel.failure)
		return kernel.failure;
	if (!known)
		return -ENOENT;
	kernel.count--;
	kernel.keys[index] = kernel.keys[kernel.count];
	kernel.values[index] = kernel.values[kernel.count];
	watch();
	return 0;
}

int hooks_for_each_destination(struct hooks *hooks,
                               void (*each)(void *context, const struct postern_destination_key *key,
                                            const struct postern_destination *destination),
                               void *context)
{
	const struct kernel before = kernel;

	(void)hooks;
	for (size_t i = 0; i < before.count; i++)
		each(context, &before.keys[i], &before.values[i]);
	return 0;
}

int hooks_get_guarded_word(struct hooks *hooks, unsigned int index, uint64_t *word)
{
	(void)hooks;
	*word = kernel.guarded[index];
	return 0;
}

int hooks_set_guarded_word(struct hooks *hooks, unsigned int index, uint64_t word)
{
	(void)hooks;
	if (kernel.failure)
		return kernel.failure;
	kernel.guarded[index] = word;
	watch();
	return 0;
}

int hooks_set_cidr(struct hooks *hooks, const struct cidr *cidr, bool present)
{
	size_t at = 0;

	(void)hooks;
	if (kernel.failure)
		return kernel.failure;
	while (at < kernel.cidr_count && memcmp(&kernel.cidrs[at], cidr, sizeof(*cidr)) != 0)
		at++;
	if (present && at == kernel.cidr_count) {
		if (kernel.cidr_count == CIDRS_MAX)
			return -ENOSPC;
		kernel.cidrs[kernel.cidr_count++] = *cidr;
	} else if (!present) {
		if (at == kernel.cidr_count)
			return -ENOENT;
		kernel.cidrs[at] = kernel.cidrs[--kernel.cidr_count];
	}
	watch();
	return 0;
}

int hooks_for_each_cidr(struct hooks *hooks, void (*each)(void *context, const struct cidr *cidr), void *context)
{
	(void)hooks;
	for (size_t i = 0; i < kernel.cidr_count; i++)
		each(context, &kernel.cidrs[i]);
	return 0;
}

int hooks_set_runtime_config(struct hooks *hooks, const struct postern_runtime_config *config)
{
	(void)hooks;
	kernel.runtime = *config;
	watch();
	return 0;
}

int hooks_get_runtime_config(struct hooks *hooks, struct postern_runtime_config *config)
{
	(void)hooks;
	*config = kernel.runtime;
	return 0;
}

/* ---- snapshots ---- */

struct row {
	unsigned int host;
	uint16_t port; /* 0: any */
	enum postern_verdict verdict;
	uint32_t settings_id;
};

static int compare_destinations(const void *left, const void *right)
{
	const struct destination *a = left, *b = right;

	return destination_key_compare(&a->key, &b->key);
}

/* Covered ports are guarded, as the compile step does it; the cluster is 10.0.0.0/24. */
static struct snapshot *make(const struct row *rows, size_t count)
{
	struct snapshot *snapshot = snapshot_new();

	assert_non_null(snapshot);
	snapshot->destinations = calloc(count + 1, sizeof(*snapshot->destinations));
	snapshot->cidrs = calloc(1, sizeof(*snapshot->cidrs));
	assert_non_null(snapshot->destinations);
	assert_non_null(snapshot->cidrs);
	assert_int_equal(cidr_parse("10.0.0.0/24", &snapshot->cidrs[0]), 0);
	snapshot->cidr_count = 1;
	for (size_t i = 0; i < count; i++) {
		snapshot->destinations[i] = (struct destination){
		        .key = key_of(rows[i].host, rows[i].port),
		        .verdict = rows[i].verdict,
		        .settings_id = rows[i].settings_id,
		};
		if (rows[i].verdict != POSTERN_VERDICT_PLAIN && rows[i].port)
			snapshot_guard_port(snapshot, rows[i].port);
	}
	snapshot->destination_count = count;
	qsort(snapshot->destinations, count, sizeof(*snapshot->destinations), compare_destinations);
	return snapshot;
}

static struct kernel_maps maps;
static struct kernel_maps_change change;

static void start(void)
{
	const struct postern_runtime_config runtime = {0};

	assert_int_equal(kernel_maps_start(&maps, NULL, &runtime, 600000 * MS), 0);
}

#define APPLY(now, ...)                                                                                                \
	do {                                                                                                           \
		const struct row rows_[] = {__VA_ARGS__};                                                              \
		struct snapshot *snapshot_ = make(rows_, ARRAY_SIZE(rows_));                                           \
		kernel_maps_apply(&maps, snapshot_, now, &change);                                                     \
		snapshot_unref(snapshot_);                                                                             \
	} while (0)

/* "TLS 1", "PLAIN", "DENY", "HOLD", "none": what a connect() finds now. */
static void expect(unsigned int host, uint16_t port, enum postern_verdict expected)
{
	const struct postern_destination_key key = key_of(host, port);
	enum postern_verdict seen = judge(&key);

	if (seen != expected)
		fail_msg("10.0.%u.%u:%u: expected verdict %u, seen %u", host >> 8, host & 255, port, expected, seen);
}

static void expect_settings(unsigned int host, uint16_t port, uint32_t expected)
{
	const struct postern_destination_key key = key_of(host, port);
	const struct postern_destination *found = look(&key);

	assert_non_null(found);
	assert_int_equal(found->settings_id, expected);
}

static int begin(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	memset(&maps, 0, sizeof(maps));
	kernel.room = KEYS_MAX;
	log_set_level(LOG_LEVEL_ERROR);
	return 0;
}

static int end(void **state)
{
	(void)state;
	kernel_maps_stop(&maps);
	return 0;
}

#define TLS   POSTERN_VERDICT_TLS
#define DENY  POSTERN_VERDICT_DENY
#define PLAIN POSTERN_VERDICT_PLAIN
#define HOLD  POSTERN_VERDICT_HOLD
#define NONE  POSTERN_VERDICT_NONE

/* ---- growth and shrinkage ---- */

static void test_grows_at_once_and_shrinks_late(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, DENY, 0}, {3, 80, PLAIN, 0});
	assert_true(change.grew && change.tightened);
	expect(1, 443, TLS);
	expect(2, 443, DENY);
	expect(3, 80, PLAIN);
	expect(9, 443, HOLD);
	expect(9, 80, NONE);

	/* 1 is uncovered, 2 is gone, 3 is gone, 4 is new; port 443 is guarded no more. */
	APPLY(T0 + 1000 * MS, {1, 443, PLAIN, 0}, {4, 8443, TLS, 2});
	expect(4, 8443, TLS);
	for (unsigned int ms = 0; ms < 100; ms += 33) {
		assert_int_equal(kernel_maps_settle(&maps, T0 + (1000 + ms) * MS, true), T0 + 1100 * MS);
		expect(1, 443, TLS);
		expect(2, 443, DENY);
		expect(3, 80, PLAIN);
		expect(9, 443, HOLD);
	}
	assert_int_equal(kernel_maps_settle(&maps, T0 + 1100 * MS, true), 0);
	expect(1, 443, PLAIN);
	expect(2, 443, NONE);
	expect(3, 80, NONE);
	expect(9, 443, NONE);
	expect(9, 8443, HOLD);
}

/* Deleted and made again, at every moment of the delay, with other settings or the same. */
static void test_replaced_object_opens_no_gap(void **state)
{
	const struct destination covered[] = {{.key = key_of(1, 443)}};

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1});
	kernel.covered = covered;
	kernel.covered_count = 1;
	kernel.watching = true;
	for (unsigned int i = 1; i < 20; i++) {
		uint64_t gone = T0 + i * 1000 * MS;

		if (i % 2)
			APPLY(gone, {2, 80, PLAIN, 0});
		else
			APPLY(gone, {1, 443, PLAIN, 0});
		kernel_maps_settle(&maps, gone + 60 * MS, true);
		APPLY(gone + (60 + i) * MS, {1, 443, TLS, 1 + i});
		kernel_maps_settle(&maps, gone + 99 * MS, true);
		expect_settings(1, 443, 1 + i);
		/* The removal that was due is not. */
		kernel_maps_settle(&maps, gone + 500 * MS, true);
		expect_settings(1, 443, 1 + i);
	}
}

/* Gone, back, and gone again: the delay counts from the last time. */
static void test_delay_counts_from_the_last_time(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1});
	APPLY(T0 + 10 * MS, {2, 80, PLAIN, 0});
	APPLY(T0 + 60 * MS, {1, 443, TLS, 1});
	APPLY(T0 + 70 * MS, {2, 80, PLAIN, 0});
	kernel_maps_settle(&maps, T0 + 115 * MS, true);
	expect(1, 443, TLS);
	kernel_maps_settle(&maps, T0 + 169 * MS, true);
	expect(1, 443, TLS);
	kernel_maps_settle(&maps, T0 + 170 * MS, true);
	expect(1, 443, NONE);
}

/* Changes that never stop: what left still goes in its time. */
static void test_constant_change_does_not_postpone(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 8443, TLS, 1});
	for (unsigned int i = 0; i < 12; i++) {
		APPLY(T0 + i * 10 * MS, {2, 8443, TLS, 2 + i});
		kernel_maps_settle(&maps, T0 + i * 10 * MS, true);
	}
	expect(1, 443, NONE);
	expect_settings(2, 8443, 13);
}

static void test_what_a_change_is_called(void **state)
{
	static const struct {
		enum postern_verdict before, after;
		uint32_t settings_before, settings_after;
		bool grew, tightened;
	} rows[] = {
	        {PLAIN, TLS, 0, 1, true, true},   {PLAIN, DENY, 0, 0, true, true},    {TLS, TLS, 1, 1, false, false},
	        {TLS, TLS, 1, 2, false, true},    {TLS, DENY, 1, 0, false, true},     {DENY, TLS, 0, 1, false, true},
	        {TLS, PLAIN, 1, 0, false, false}, {PLAIN, PLAIN, 0, 0, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		begin(NULL);
		start();
		APPLY(T0, {1, 443, rows[i].before, rows[i].settings_before});
		APPLY(T0 + MS, {1, 443, rows[i].after, rows[i].settings_after});
		if (change.grew != rows[i].grew || change.tightened != rows[i].tightened)
			fail_msg("row %zu: expected %d %d, seen %d %d", i, rows[i].grew, rows[i].tightened, change.grew,
			         change.tightened);
		end(NULL);
	}
}

static void test_a_change_costs_its_own_keys(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 80, PLAIN, 0}, {4, 80, PLAIN, 0}, {5, 443, TLS, 1});
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	kernel.writes = 0;
	APPLY(T0 + 300 * MS, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 80, PLAIN, 0}, {4, 80, PLAIN, 0},
	      {6, 443, TLS, 1});
	kernel_maps_settle(&maps, T0 + 400 * MS, true);
	assert_int_equal(kernel.writes, 2); /* 6 comes, 5 goes */
	kernel.writes = 0;
	APPLY(T0 + 500 * MS, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 80, PLAIN, 0}, {4, 80, PLAIN, 0},
	      {6, 443, TLS, 1});
	assert_int_equal(kernel_maps_settle(&maps, T0 + 700 * MS, true), 0);
	assert_int_equal(kernel.writes, 0);
}

/* ---- any port ---- */

/* An address becomes covered on any port: no PLAIN key of one of its ports may stand in front of that. */
static void test_any_port_is_not_hidden(void **state)
{
	const struct destination covered[] = {
	        {.key = key_of(1, 80)}, {.key = key_of(1, 8080)}, {.key = key_of(1, 9090)}};
	const struct postern_destination_key nobodys = key_of(1, 8080);

	(void)state;
	start();
	APPLY(T0, {1, 80, PLAIN, 0}, {1, 9090, PLAIN, 0});
	assert_int_equal(kernel_maps_let_pass(&maps, &nobodys), 0);
	expect(1, 8080, PLAIN);
	/* 9090 is leaving when the other comes. */
	APPLY(T0 + 10 * MS, {1, 80, PLAIN, 0});
	expect(1, 9090, PLAIN);
	APPLY(T0 + 20 * MS, {1, 0, TLS, 5});
	for (size_t i = 0; i < ARRAY_SIZE(covered); i++)
		expect(1, ntohs(covered[i].key.port), TLS);
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	kernel_maps_settle(&maps, T0 + 300 * MS, true);
	/* Back to one port. */
	APPLY(T0 + 400 * MS, {1, 0, TLS, 5}, {1, 80, TLS, 6});
	expect_settings(1, 80, 6);
	APPLY(T0 + 500 * MS, {1, 0, TLS, 5});
	expect(1, 80, TLS);
	assert_int_equal(kernel.count, 1);
}

/* ---- HOLD ---- */

static void test_nobodys_key_stays_plain_until_named(void **state)
{
	const struct postern_destination_key key = key_of(9, 443);

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1});
	expect(9, 443, HOLD);
	assert_int_equal(kernel_maps_let_pass(&maps, &key), 0);
	expect(9, 443, PLAIN);
	APPLY(T0 + 100 * MS, {1, 443, TLS, 2});
	kernel_maps_settle(&maps, T0 + 500 * MS, true);
	expect(9, 443, PLAIN);
	APPLY(T0 + 600 * MS, {1, 443, TLS, 2}, {9, 443, TLS, 3});
	assert_true(change.grew);
	expect(9, 443, TLS);
	/* Forgotten: it is not nobody's again by itself. */
	APPLY(T0 + 700 * MS, {1, 443, TLS, 2});
	kernel_maps_settle(&maps, T0 + 900 * MS, true);
	expect(9, 443, HOLD);
}

static void test_let_pass_is_refused(void **state)
{
	const struct postern_destination_key key = key_of(9, 443), covered = key_of(1, 443);

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1});
	assert_int_equal(kernel_maps_let_pass(&maps, &covered), -EPERM);
	kernel.room = kernel.count;
	assert_int_equal(kernel_maps_let_pass(&maps, &key), -E2BIG);
	expect(9, 443, HOLD);
	assert_int_equal(maps.plain.count, 0);
	kernel.room++;
	assert_int_equal(kernel_maps_let_pass(&maps, &key), 0);
	expect(9, 443, PLAIN);
}

static void test_leaving_is_known(void **state)
{
	const struct postern_destination_key key = key_of(1, 443), any = key_of(2, 443);

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 0, TLS, 1});
	assert_false(kernel_maps_is_leaving(&maps, &key));
	APPLY(T0 + MS, {1, 443, PLAIN, 0});
	assert_true(kernel_maps_is_leaving(&maps, &key));
	assert_true(kernel_maps_is_leaving(&maps, &any));
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	assert_false(kernel_maps_is_leaving(&maps, &key));
	assert_false(kernel_maps_is_leaving(&maps, &any));
}

/* ---- a full map ---- */

static void test_no_room_is_hold(void **state)
{
	const struct destination covered[] = {
	        {.key = key_of(1, 443)}, {.key = key_of(2, 443)}, {.key = key_of(300, 8443)}, {.key = key_of(301, 0)}};

	(void)state;
	start();
	kernel.room = 1;
	/* 300 and 301 are outside the cluster's CIDR: 10.0.1.44, 10.0.1.45. */
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {300, 8443, TLS, 1}, {301, 0, DENY, 0});
	expect(1, 443, TLS);
	expect(2, 443, HOLD);
	expect(300, 8443, HOLD);
	expect(301, 8081, HOLD); /* no guarded port stands for "any": strict mode does */
	expect(302, 8443, NONE);
	assert_false(kernel_maps_broken(&maps));
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	/* Room comes back: they are tried again, and what stood for them goes. */
	kernel.room = KEYS_MAX;
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	expect(2, 443, TLS);
	expect(300, 8443, TLS);
	expect(301, 8081, DENY);
	assert_int_equal(maps.overflow.count, 0);
	kernel_maps_settle(&maps, T0 + 400 * MS, true);
	assert_int_equal(kernel.cidr_count, 1);
	assert_int_equal(kernel.runtime.strict, 0);
}

/* More addresses without room than the trie takes: ::/0 stands for all of them. */
static void test_more_routes_than_the_trie_takes(void **state)
{
	struct row rows[400];
	struct snapshot *snapshot;

	(void)state;
	start();
	kernel.room = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		rows[i] = (struct row){1000 + i, 443, TLS, 1};
	snapshot = make(rows, ARRAY_SIZE(rows));
	kernel_maps_apply(&maps, snapshot, T0, &change);
	snapshot_unref(snapshot);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		expect(1000 + i, 443, HOLD);
	assert_false(kernel_maps_broken(&maps));
	/* The policy goes, and so does all of it. */
	APPLY(T0 + MS, {1, 80, PLAIN, 0});
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	assert_int_equal(kernel.cidr_count, 1);
	expect(1000, 443, NONE);
}

static void test_failing_writes_are_tried_again(void **state)
{
	uint64_t next;

	(void)state;
	start();
	kernel.failure = -ENOMEM;
	APPLY(T0, {1, 443, TLS, 1}, {300, 8443, TLS, 1});
	assert_true(kernel_maps_broken(&maps));
	next = kernel_maps_settle(&maps, T0, true);
	assert_in_range(next, T0 + 1, T0 + 1000 * MS);
	kernel.failure = 0;
	kernel_maps_settle(&maps, next, true);
	assert_false(kernel_maps_broken(&maps));
	expect(1, 443, TLS);
	expect(300, 8443, TLS);
	/* A removal that fails stays due. */
	APPLY(next + MS, {300, 8443, TLS, 1});
	kernel.failure = -EIO;
	next = kernel_maps_settle(&maps, next + 200 * MS, true);
	assert_int_not_equal(next, 0);
	expect(1, 443, TLS);
	kernel.failure = 0;
	kernel_maps_settle(&maps, next, true);
	expect(1, 443, NONE);
}

/* ---- another life ---- */

static void earlier_life(void)
{
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 443, TLS, 1}, {4, 80, PLAIN, 0}, {5, 0, TLS, 7});
	kernel_maps_stop(&maps);
	memset(&maps, 0, sizeof(maps));
}

static void test_restart_opens_no_gap(void **state)
{
	const struct destination covered[] = {{.key = key_of(1, 443)}, {.key = key_of(2, 443)}, {.key = key_of(5, 0)}};

	(void)state;
	earlier_life();
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	start();
	expect(9, 443, HOLD); /* guarded until it is known that nothing needs it */
	/* The ids are another life's: they are written anew. 2 and 5 are not named any more, 3 is uncovered. */
	APPLY(T0 + 5000 * MS, {1, 443, TLS, 9}, {3, 443, PLAIN, 0});
	expect_settings(1, 443, 9);
	expect(2, 443, DENY);
	expect(5, 8081, DENY);
	expect(3, 443, TLS);
	expect(4, 80, PLAIN);
	kernel_maps_settle(&maps, T0 + 5100 * MS, true);
	expect(3, 443, PLAIN);
	expect(4, 80, NONE);
	expect(2, 443, DENY);
	/* After the time of a tombstone they go, but not while the source has errors. */
	kernel.watching = false;
	kernel_maps_settle(&maps, T0 + 605000 * MS, false);
	expect(2, 443, DENY);
	kernel_maps_settle(&maps, T0 + 606001 * MS, true);
	expect(2, 443, HOLD);
	expect(5, 8081, NONE);
}

static void test_kept_key_is_named_again(void **state)
{
	(void)state;
	earlier_life();
	start();
	APPLY(T0 + 5000 * MS, {9, 80, PLAIN, 0});
	expect(1, 443, DENY);
	APPLY(T0 + 6000 * MS, {1, 443, TLS, 4}, {2, 443, PLAIN, 0}, {5, 80, PLAIN, 0});
	expect_settings(1, 443, 4);
	expect(2, 443, DENY);
	kernel_maps_settle(&maps, T0 + 6100 * MS, true);
	expect(2, 443, PLAIN);
	expect(5, 80, PLAIN);
	expect(5, 81, DENY);
	kernel_maps_settle(&maps, T0 + 700000 * MS, true);
	expect_settings(1, 443, 4);
	expect(3, 443, HOLD);
}

/* A covered "any port" that found no room made an earlier life strict: so is this one until it knows better. */
static void test_restart_stays_strict(void **state)
{
	(void)state;
	kernel.room = 0;
	start();
	APPLY(T0, {301, 0, DENY, 0});
	expect(301, 8081, HOLD);
	kernel_maps_stop(&maps);
	memset(&maps, 0, sizeof(maps));
	start();
	expect(301, 8081, HOLD);
	kernel.room = KEYS_MAX;
	APPLY(T0 + 5000 * MS, {301, 0, DENY, 0});
	expect(301, 8081, DENY);
	assert_int_equal(kernel.runtime.strict, 1);
	kernel_maps_settle(&maps, T0 + 5100 * MS, true);
	assert_int_equal(kernel.runtime.strict, 0);
}

static void test_source_with_errors_keeps_guards(void **state)
{
	uint64_t next;

	(void)state;
	earlier_life();
	start();
	APPLY(T0 + 5000 * MS, {9, 80, PLAIN, 0});
	next = kernel_maps_settle(&maps, T0 + 5200 * MS, false);
	assert_int_equal(next, T0 + 6200 * MS);
	expect(8, 443, HOLD);
	kernel_maps_settle(&maps, next, true);
	expect(8, 443, NONE);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_grows_at_once_and_shrinks_late),
	        CASE(test_replaced_object_opens_no_gap),
	        CASE(test_delay_counts_from_the_last_time),
	        CASE(test_constant_change_does_not_postpone),
	        CASE(test_what_a_change_is_called),
	        CASE(test_a_change_costs_its_own_keys),
	        CASE(test_any_port_is_not_hidden),
	        CASE(test_nobodys_key_stays_plain_until_named),
	        CASE(test_let_pass_is_refused),
	        CASE(test_leaving_is_known),
	        CASE(test_no_room_is_hold),
	        CASE(test_more_routes_than_the_trie_takes),
	        CASE(test_failing_writes_are_tried_again),
	        CASE(test_restart_opens_no_gap),
	        CASE(test_kept_key_is_named_again),
	        CASE(test_restart_stays_strict),
	        CASE(test_source_with_errors_keeps_guards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
