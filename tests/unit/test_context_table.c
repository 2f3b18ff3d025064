// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of TLS contexts: what is built, by whom, when, and what goes. Contexts, snapshots and the clock are played.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "datapath/context_table.h"
#include "policy/snapshot.h"
#include "tls/context.h"
#include "tls/trust_cache.h"

#define UNUSABLE 66666 /* the id of settings whose context cannot be built */
#define MANY     (CONTEXT_TABLE_KEPT + 50)

struct tls_context {
	atomic_uint references;
	uint32_t settings_id;
};

static struct {
	atomic_uint made, alive, tried;
	bool no_memory;
	atomic_bool hold; /* who builds waits until it is false; waiting says that one does */
	atomic_bool waiting;
} contexts;
static uint32_t prepared; /* settings whose trust was parsed beforehand */
static time_t now = 100000;

/* In this program the seconds pass when a test says so. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
	(void)clock;
	*time = (struct timespec){.tv_sec = now};
	return 0;
}

int trust_cache_prepare(struct trust_cache *cache, const struct tls_settings *settings)
{
	(void)cache;
	prepared = settings ? settings->id : 0;
	return 0;
}

struct trust_cache *trust_cache_new(void)
{
	return calloc(1, 1);
}

void trust_cache_free(struct trust_cache *cache)
{
	free(cache);
}

void trust_cache_trim(struct trust_cache *cache)
{
	(void)cache;
}

int tls_context_new_sharing(const struct tls_settings *settings, struct trust_cache *cache,
                            struct tls_context **context, char *error, size_t error_size)
{
	assert_non_null(cache);
	contexts.tried++;
	contexts.waiting = contexts.hold;
	while (contexts.hold)
		sched_yield();
	if (contexts.no_memory)
		return -ENOMEM;
	if (settings->id == UNUSABLE) {
		(void)snprintf(error, error_size, "unusable");
		return -EINVAL;
	}
	*context = calloc(1, sizeof(**context));
	if (!*context)
		return -ENOMEM;
	(*context)->references = 1;
	(*context)->settings_id = settings->id;
	contexts.made++;
	contexts.alive++;
	return 0;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
	context->references++;
	return context;
}

void tls_context_unref(struct tls_context *context)
{
	if (!context || --context->references)
		return;
	contexts.alive--;
	free(context);
}

struct snapshot {
	atomic_uint references;
	struct tls_settings *settings;
	size_t count;
};

static atomic_uint snapshots_alive;

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
	snapshot->references++;
	return snapshot;
}

void snapshot_unref(struct snapshot *snapshot)
{
	if (!snapshot || --snapshot->references)
		return;
	snapshots_alive--;
	free(snapshot->settings);
	free(snapshot);
}

size_t snapshot_settings_count(const struct snapshot *snapshot)
{
	return snapshot->count;
}

const struct tls_settings *snapshot_settings_at(const struct snapshot *snapshot, size_t index)
{
	return &snapshot->settings[index];
}

const struct tls_settings *snapshot_settings(const struct snapshot *snapshot, uint32_t settings_id)
{
	for (size_t i = 0; i < snapshot->count; i++) {
		if (snapshot->settings[i].id == settings_id)
			return &snapshot->settings[i];
	}
	return NULL;
}

static struct snapshot *snapshot_of_ids(const uint32_t *ids, size_t count)
{
	static char name[] = "a";
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

	assert_non_null(snapshot);
	snapshot->references = 1;
	snapshot->count = count;
	snapshot->settings = calloc(count + 1, sizeof(*snapshot->settings));
	assert_non_null(snapshot->settings);
	for (size_t i = 0; i < count; i++)
		snapshot->settings[i] =
		        (struct tls_settings){.id = ids[i], .policy_namespace = name, .policy_name = name};
	snapshots_alive++;
	return snapshot;
}

/* Ids in ascending order, 0 ends them. */
static void show(struct context_table *table, const uint32_t ids[8])
{
	struct snapshot *snapshot;
	size_t count = 0;

	while (count < 8 && ids[count])
		count++;
	snapshot = snapshot_of_ids(ids, count);
	assert_int_equal(context_table_add(table, snapshot), 0);
	context_table_trim(table, snapshot);
	snapshot_unref(snapshot);
}

static void assert_has(struct context_table *table, uint32_t id, bool there)
{
	struct tls_context *context = context_table_get(table, id);

	if ((context != NULL) != there)
		fail_msg("settings %u: expected %s context", id, there ? "a" : "no");
	if (context)
		assert_int_equal(context->settings_id, id);
	tls_context_unref(context);
}

static int begin(void **state)
{
	contexts.made = contexts.alive = contexts.tried = 0;
	contexts.no_memory = contexts.hold = contexts.waiting = false;
	*state = context_table_new();
	return *state ? 0 : -1;
}

static int end(void **state)
{
	context_table_free(*state);
	return contexts.alive == 0 && snapshots_alive == 0 ? 0 : -1;
}

static void built_when_asked_for(void **state)
{
	static const struct {
		uint32_t ids[8];
		uint32_t ask; /* 0: for all */
		unsigned int made, alive;
	} rows[] = {
	        {{2, 5, 9}, 5, 1, 1}, /* one of three */
	        {{2, 5, 9}, 5, 0, 1}, /* the same again costs nothing */
	        {{2, 5, 9}, 0, 2, 3},
	        {{2, 3, 5, 9, 10}, 0, 2, 5}, /* between and behind */
	        {{1, 3, 10}, 0, 1, 3},       /* in front; three go */
	        {{4, 6}, 4, 1, 1},           /* all others */
	        {{4, 6, UNUSABLE}, 0, 1, 2},
	        {{8}, 100, 0, 0},
	        {{7}, 0, 1, 1},
	};
	struct context_table *table = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned int made = contexts.made;

		show(table, rows[i].ids);
		for (size_t j = 0; rows[i].ids[j]; j++)
			if (!rows[i].ask || rows[i].ask == rows[i].ids[j])
				assert_has(table, rows[i].ids[j], rows[i].ids[j] != UNUSABLE);
		assert_has(table, 100, false);
		if (contexts.made - made != rows[i].made || contexts.alive != rows[i].alive)
			fail_msg("row %zu: expected %u made and %u alive, seen %u and %u", i, rows[i].made,
			         rows[i].alive, contexts.made - made, contexts.alive);
	}
}

/* Who holds one keeps it; one that cannot be built is tried once, one without memory again. */
static void failures(void **state)
{
	static const uint32_t first[8] = {1, UNUSABLE}, second[8] = {2, UNUSABLE};
	struct context_table *table = *state;
	struct tls_context *held;

	show(table, first);
	held = context_table_get(table, 1);
	assert_non_null(held);
	for (int i = 0; i < 3; i++)
		assert_has(table, UNUSABLE, false);
	assert_int_equal(contexts.tried, 2);
	show(table, second);
	assert_has(table, UNUSABLE, false);
	assert_int_equal(contexts.tried, 2);
	assert_int_equal(contexts.alive, 1);
	assert_int_equal(held->references, 1);
	tls_context_unref(held);
	contexts.no_memory = true;
	assert_has(table, 2, false);
	assert_has(table, 2, false);
	assert_int_equal(contexts.tried, 4);
	contexts.no_memory = false;
	assert_has(table, 2, true);
}

/* Between the two calls a worker may still read the snapshot before: its settings are there as long as it is current.
 */
static void until_the_next_is_published(void **state)
{
	static const uint32_t first[] = {1, 2}, second[] = {2, 3};
	struct context_table *table = *state;
	struct snapshot *before = snapshot_of_ids(first, 2), *after = snapshot_of_ids(second, 2);

	assert_int_equal(context_table_add(table, before), 0);
	context_table_trim(table, before);
	assert_int_equal(context_table_add(table, after), 0);
	assert_has(table, 1, true);
	assert_has(table, 3, true);
	context_table_trim(table, after);
	assert_has(table, 1, false);
	assert_has(table, 2, true);
	assert_int_equal(before->references, 1);
	snapshot_unref(before);
	snapshot_unref(after);
}

struct asking {
	struct context_table *table;
	uint32_t id;
	struct tls_context *context;
};

static void *ask(void *argument)
{
	struct asking *asking = argument;

	asking->context = context_table_get(asking->table, asking->id);
	return NULL;
}

/* While one is built, the others go on: those that need another one, the control thread, and who waits shares it. */
static void nobody_waits_for_another(void **state)
{
	static const uint32_t ids[8] = {1, 2, 3}, fewer[8] = {2, 3};
	struct context_table *table = *state;
	struct asking askings[4];
	pthread_t threads[4];

	show(table, ids);
	assert_has(table, 2, true);
	contexts.hold = true;
	for (size_t i = 0; i < ARRAY_SIZE(askings); i++) {
		askings[i] = (struct asking){table, 1, NULL};
		assert_int_equal(pthread_create(&threads[i], NULL, ask, &askings[i]), 0);
	}
	while (!contexts.waiting)
		sched_yield();
	assert_has(table, 2, true);
	show(table, fewer); /* its row goes while it is built */
	show(table, ids);
	contexts.hold = false;
	for (size_t i = 0; i < ARRAY_SIZE(askings); i++) {
		pthread_join(threads[i], NULL);
		assert_non_null(askings[i].context);
		assert_int_equal(askings[i].context->settings_id, 1);
		assert_ptr_equal(askings[i].context, askings[0].context);
	}
	assert_int_equal(contexts.made, 2);
	for (size_t i = 0; i < ARRAY_SIZE(askings); i++)
		tls_context_unref(askings[i].context);
}

static void idle_ones_go(void **state)
{
	struct context_table *table = *state;
	uint32_t ids[MANY];
	struct snapshot *snapshot;

	for (uint32_t i = 0; i < MANY; i++)
		ids[i] = i + 1;
	snapshot = snapshot_of_ids(ids, MANY);
	assert_int_equal(context_table_add(table, snapshot), 0);
	context_table_trim(table, snapshot);
	for (uint32_t i = 1; i < MANY; i++)
		assert_has(table, i, true);
	assert_int_equal(contexts.alive, MANY - 1);
	now += CONTEXT_TABLE_IDLE_SECONDS - 1;
	assert_has(table, 1, true); /* asked for just now */
	now += 1;
	assert_has(table, MANY, true); /* one more: the others have been idle for long enough */
	assert_int_equal(contexts.alive, 2);
	assert_has(table, 2, true); /* built again */
	assert_int_equal(contexts.made, MANY + 1);
	now += CONTEXT_TABLE_IDLE_SECONDS;
	assert_has(table, 3, true); /* below the bound nothing goes, however idle */
	assert_int_equal(contexts.alive, 4);
	snapshot_unref(snapshot);
}

static void system_trust_is_parsed_first(void **state)
{
	static const uint32_t ids[] = {1, 2, 3};
	struct context_table *table = *state;
	struct snapshot *snapshot = snapshot_of_ids(ids, 3);

	snapshot->settings[1].system_ca = true;
	assert_int_equal(context_table_add(table, snapshot), 0);
	assert_int_equal(prepared, 2);
	snapshot->settings[1].system_ca = false;
	assert_int_equal(context_table_add(table, snapshot), 0);
	assert_int_equal(prepared, 0);
	assert_int_equal(contexts.tried, 0);
	snapshot_unref(snapshot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(built_when_asked_for, begin, end),
	        cmocka_unit_test_setup_teardown(failures, begin, end),
	        cmocka_unit_test_setup_teardown(until_the_next_is_published, begin, end),
	        cmocka_unit_test_setup_teardown(nobody_waits_for_another, begin, end),
	        cmocka_unit_test_setup_teardown(idle_ones_go, begin, end),
	        cmocka_unit_test_setup_teardown(system_trust_is_parsed_first, begin, end),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
