// SPDX-License-Identifier: GPL-2.0-only
/* Threads read snapshots, whole, while the compiler makes the next ones out of their parts (run it under TSan). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "compile_universe.h"
#include "policy/shared_text.h"
#include "policy/snapshot_holder.h"
#include "policy_fixture.h"

#define READERS 3
#define RUNS    1500

struct reading {
	struct snapshot_holder *holder;
	atomic_bool stop;
	atomic_uint broken; /* a destination without its settings, a policy without its words */
	atomic_uint read;   /* snapshots */
};

static unsigned int count_broken(const struct snapshot *snapshot)
{
	unsigned int broken = 0;

	for (size_t i = 0; i < snapshot_destination_count(snapshot); i++) {
		const struct destination *destination = snapshot_destination_at(snapshot, i);
		const struct tls_settings *settings = snapshot_settings(snapshot, destination->settings_id);

		broken += snapshot_find(snapshot, &destination->key) != destination;
		broken += destination->verdict == POSTERN_VERDICT_TLS &&
		          (!settings || !strlen(settings->hostname) || !strlen(settings->ca_pem));
		broken += destination->policy != SNAPSHOT_NO_POLICY &&
		          destination->policy >= snapshot_policy_count(snapshot);
	}
	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++)
		broken += !strlen(snapshot_policy_at(snapshot, i)->accepted.message);
	for (size_t i = 0; i < snapshot_gateway_count(snapshot); i++)
		broken += !strlen(snapshot_gateway_at(snapshot, i)->resolved_refs.message);
	return broken;
}

static void *read_on(void *context)
{
	struct reading *reading = context;
	struct snapshot *old = NULL;

	while (!atomic_load(&reading->stop)) {
		struct snapshot *snapshot = snapshot_holder_get(reading->holder);

		if (!snapshot)
			continue;
		atomic_fetch_add(&reading->broken, count_broken(snapshot));
		if (old) /* kept for a while: its parts are shared with what comes after */
			atomic_fetch_add(&reading->broken, count_broken(old));
		snapshot_unref(old);
		old = snapshot;
		atomic_fetch_add(&reading->read, 1);
	}
	snapshot_unref(old);
	return NULL;
}

static void readers_and_compiler(void **state)
{
	struct settings_registry *registry = settings_registry_new();
	struct shared_text *system_ca = shared_text_new(fixture_ca(), strlen(fixture_ca()));
	const struct compile_options options = {.registry = registry, .system_ca = system_ca, .tombstone_ns = 20};
	struct compiler *compiler = compiler_new(&options);
	struct object_store *store = object_store_new();
	struct universe *universe = universe_new();
	struct reading reading = {.holder = snapshot_holder_new()};
	pthread_t threads[READERS];
	struct snapshot *snapshot;

	(void)state;
	assert_true(compiler && store && reading.holder);
	for (size_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_on, &reading), 0);
	for (unsigned int run = 1; run <= RUNS; run++) {
		const struct universe_object *object = &universe->objects[run * 7 % universe->count];

		assert_int_equal(object_store_put(store, object->versions[run / 5 % object->version_count]), 0);
		assert_int_equal(compiler_run(compiler, store, run, &snapshot), 0);
		snapshot_holder_publish(reading.holder, snapshot);
	}
	atomic_store(&reading.stop, true);
	for (size_t i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&reading.broken), 0);
	print_message("%d snapshots made, %u read\n", RUNS, atomic_load(&reading.read));
	snapshot_holder_free(reading.holder);
	compiler_free(compiler);
	object_store_free(store);
	universe_free(universe);
	shared_text_unref(system_ca);
	settings_registry_free(registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(readers_and_compiler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
