/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maps_played.h: the kernel's maps, played for the tests of kernel_maps.h: what a connect() would find in them is
 * judged as bpf/judge.h does it, and after every single write the one rule of all is looked at: no covered key passes.
 * Included by one file of a test.
 */
#ifndef POSTERN_TESTS_MAPS_PLAYED_H
#define POSTERN_TESTS_MAPS_PLAYED_H

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

int hooks_let_pass_unless_known(struct hooks *hooks, const struct postern_destination_key *key)
{
	const struct postern_destination plain = {.verdict = POSTERN_VERDICT_PLAIN};
	const struct postern_destination *known = look(key);

	if (!known)
		return hooks_set_destination(hooks, key, &plain);
	return known->verdict == POSTERN_VERDICT_PLAIN ? 0 : -EPERM;
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

static int compare_edits(const void *left, const void *right)
{
	const struct destination_edit *a = left, *b = right;

	return destination_key_compare(&a->destination.key, &b->destination.key);
}

/* Covered ports are guarded, as the compile step does it; the cluster is 10.0.0.0/24. */
static struct snapshot *make(const struct row *rows, size_t count)
{
	static const struct destination_list nothing;
	struct destination_edit *edits = calloc(count + 1, sizeof(*edits));
	struct snapshot *snapshot = snapshot_new();

	assert_non_null(snapshot);
	snapshot->cidrs = calloc(1, sizeof(*snapshot->cidrs));
	assert_non_null(edits);
	assert_non_null(snapshot->cidrs);
	assert_int_equal(cidr_parse("10.0.0.0/24", &snapshot->cidrs[0]), 0);
	snapshot->cidr_count = 1;
	for (size_t i = 0; i < count; i++) {
		edits[i].destination = (struct destination){
		        .key = key_of(rows[i].host, rows[i].port),
		        .verdict = rows[i].verdict,
		        .settings_id = rows[i].settings_id,
		        .policy = SNAPSHOT_NO_POLICY,
		};
		if (rows[i].verdict != POSTERN_VERDICT_PLAIN && rows[i].port)
			snapshot_guard_port(snapshot, rows[i].port);
	}
	qsort(edits, count, sizeof(*edits), compare_edits);
	assert_int_equal(destination_list_edit(&nothing, edits, count, NULL, &snapshot->destinations), 0);
	free(edits);
	return snapshot;
}

static struct kernel_maps maps;
static struct kernel_maps_change change;

__attribute__((unused)) static void start(void)
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

__attribute__((unused)) static void expect_settings(unsigned int host, uint16_t port, uint32_t expected)
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

__attribute__((unused)) static int end(void **state)
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

#define CASE(test) cmocka_unit_test_setup_teardown(test, begin, end)

#endif
