// SPDX-License-Identifier: GPL-2.0-only
/*
 * A compiler that remembers says, after every change, what a new one says of the same store and the same past: in
 * everything that a reader of the snapshot can see. And snapshot_diff() tells exactly what differs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "compile_universe.h"
#include "compare_snapshots.h"
#include "policy/shared_text.h"
#include "policy_fixture.h"

#define STEPS      2500
#define QUARANTINE 3

static unsigned int step;
static uint32_t seed;

#define check(condition, ...)                                                                                          \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			print_error("step %u: ", step);                                                                \
			fail_msg(__VA_ARGS__);                                                                         \
		}                                                                                                      \
	} while (0)

/* A small generator of its own: the same sequence everywhere. */
static uint32_t random_below(uint32_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed % limit;
}

/* ---- the difference ---- */

struct difference {
	const struct snapshot *old, *new;
	size_t seen;
	struct postern_destination_key last;
};

static const struct destination *find_exact(const struct snapshot *snapshot, const struct postern_destination_key *key)
{
	const struct destination *found = snapshot ? snapshot_find(snapshot, key) : NULL;

	return found && !memcmp(&found->key, key, sizeof(*key)) ? found : NULL;
}

static void see_difference(void *context, const struct destination *old, const struct destination *new)
{
	struct difference *difference = context;
	const struct postern_destination_key *key = old ? &old->key : &new->key;

	check(find_exact(difference->old, key) == old && find_exact(difference->new, key) == new, "diff: wrong pair");
	check(!old || !new ||
	              strcmp(describe_destination(difference->old, old), describe_destination(difference->new, new)) !=
	                      0,
	      "diff: %s is no difference", describe_destination(difference->new, new));
	check(!difference->seen++ || memcmp(&difference->last, key, sizeof(*key)) < 0, "diff: not in order");
	difference->last = *key;
}

static size_t count_differences(const struct snapshot *old, const struct snapshot *new)
{
	size_t count = 0;

	for (size_t i = 0; i < snapshot_destination_count(new); i++) {
		const struct destination *destination = snapshot_destination_at(new, i);

		count += strcmp(describe_destination(new, destination),
		                describe_destination(old, find_exact(old, &destination->key))) != 0;
	}
	for (size_t i = 0; old && i < snapshot_destination_count(old); i++)
		count += !find_exact(new, &snapshot_destination_at(old, i)->key);
	return count;
}

static void check_difference(const struct snapshot *old, const struct snapshot *new)
{
	struct difference difference = {.old = old, .new = new};

	snapshot_diff(old, new, see_difference, &difference);
	check(difference.seen == count_differences(old, new), "diff: %zu differences seen, there are %zu",
	      difference.seen, count_differences(old, new));
}

/* ---- what was met: a walk that met nothing would show nothing ---- */

static struct {
	size_t reasons[REASON_COUNT], tls, plain, vips, tombstones, any_ports, untrusted, untrusted_tls, accepted,
	        conflicted, partly, no_gateway, ancestors;
} met;

static void look(const struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot_destination_count(snapshot); i++) {
		const struct destination *destination = snapshot_destination_at(snapshot, i);

		met.tls += destination->verdict == POSTERN_VERDICT_TLS;
		met.plain += destination->verdict == POSTERN_VERDICT_PLAIN;
		met.reasons[destination->reason]++;
		met.vips += destination->class == DESTINATION_VIP;
		met.tombstones += destination->tombstone;
		met.any_ports += !destination->key.port;
		met.untrusted += !destination->trusted;
		met.untrusted_tls += !destination->trusted && destination->verdict == POSTERN_VERDICT_TLS;
	}
	for (size_t i = 0; i < snapshot_policy_count(snapshot); i++) {
		const struct policy_status *policy = snapshot_policy_at(snapshot, i);

		met.accepted += policy->accepted.status;
		met.conflicted += !strcmp(policy->accepted.reason, "Conflicted");
		met.partly += policy->accepted.status && !policy->resolved_refs.status;
		met.no_gateway += policy->ancestor_count == 1 && !*policy->ancestors[0].name;
		met.ancestors += policy->ancestor_count && *policy->ancestors[0].name;
	}
}

static void everything_was_met(void **state)
{
	static const enum postern_reason reasons[] = {REASON_POLICY_INVALID,   REASON_AMBIGUOUS_ENDPOINT,
	                                              REASON_NO_VALID_CA,      REASON_REFERENCE_UNRESOLVED,
	                                              REASON_TARGET_NOT_FOUND, REASON_EXTERNAL_NAME};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (met.reasons[reasons[i]] < 20)
			fail_msg("%s: met %zu times", reason_name(reasons[i]), met.reasons[reasons[i]]);
	assert_true(met.tls > 1000 && met.plain > 1000 && met.vips > 1000 && met.tombstones > 1000);
	assert_true(met.any_ports > 100 && met.untrusted > 100 && met.untrusted_tls > 100);
	assert_true(met.accepted > 1000 && met.conflicted > 100 && met.partly > 100 && met.ancestors > 1000);
	assert_true(met.no_gateway > 20);
}

/* ---- the world ---- */

/* Nobody but the world, its store and the compilers holds the objects: ASan sees who looks at one too long. */
struct world {
	struct universe *universe;
	struct object_store *store;
	struct object *in_force[256]; /* version of each object, or NULL */
	struct object *quarantined[QUARANTINE];
	size_t quarantined_count;
};

/* Takes over the reference; NULL: none. */
static void replace(struct object **place, struct object *object)
{
	object_unref(*place);
	*place = object;
}

/* What is in quarantine can only be cleared together with everything else. */
static void fill_store(struct world *world)
{
	object_store_clear(world->store);
	for (size_t i = 0; i < world->universe->count; i++)
		if (world->in_force[i])
			assert_int_equal(object_store_put(world->store, world->in_force[i]), 0);
	for (size_t i = 0; i < world->quarantined_count; i++)
		assert_int_equal(object_store_quarantine(world->store, world->quarantined[i],
		                                         i ? "two.yaml: broken" : "one.yaml: broken"),
		                 0);
}

static size_t random_index(const struct world *world)
{
	return random_below((uint32_t)world->universe->count);
}

static struct object *make_version(const struct world *world, size_t index)
{
	const struct universe_object *object = &world->universe->objects[index];

	return universe_make(object, random_below((uint32_t)object->version_count));
}

static void change_quarantine(struct world *world)
{
	size_t count = world->quarantined_count;

	if (count && !random_below(3))
		replace(&world->quarantined[count - 1], make_version(world, random_index(world)));
	else if (count && random_below(2))
		replace(&world->quarantined[--world->quarantined_count], NULL);
	else if (count < QUARANTINE)
		replace(&world->quarantined[world->quarantined_count++], make_version(world, random_index(world)));
	fill_store(world);
}

/* Everything of one kind goes. */
static void sweep(struct world *world, enum object_kind kind)
{
	for (size_t i = 0; i < world->universe->count; i++)
		if (world->universe->objects[i].versions[0]->kind == kind)
			replace(&world->in_force[i], NULL);
	fill_store(world);
}

static void mutate(struct world *world)
{
	size_t index = random_index(world);
	const struct object *old = world->in_force[index];

	if (!random_below(60)) {
		change_quarantine(world);
	} else if (!random_below(150)) {
		sweep(world, world->universe->objects[index].versions[0]->kind);
	} else if (old && !random_below(4)) {
		assert_true(object_store_remove(world->store, old->kind, old->namespace_, old->name));
		replace(&world->in_force[index], NULL);
	} else {
		replace(&world->in_force[index], make_version(world, index));
		assert_int_equal(object_store_put(world->store, world->in_force[index]), 0);
	}
}

static void fill_world(struct world *world)
{
	world->universe = universe_new();
	assert_true(world->universe->count < ARRAY_SIZE(world->in_force));
	world->store = object_store_new();
	assert_non_null(world->store);
	for (size_t i = 0; i < world->universe->count; i++)
		world->in_force[i] = random_below(3) ? make_version(world, i) : NULL;
	fill_store(world);
}

static void empty_world(struct world *world)
{
	for (size_t i = 0; i < world->universe->count; i++)
		replace(&world->in_force[i], NULL);
	for (size_t i = 0; i < QUARANTINE; i++)
		replace(&world->quarantined[i], NULL);
	object_store_free(world->store);
	universe_free(world->universe);
}

static void run_steps(uint32_t first_seed, bool operators_own)
{
	struct settings_registry *registry = settings_registry_new();
	struct shared_text *authorities[] = {shared_text_new(fixture_ca(), strlen(fixture_ca())),
	                                     shared_text_new(fixture_other_ca(), strlen(fixture_other_ca())), NULL};
	struct compile_options options = {
	        .operators_own = operators_own, .registry = registry, .tombstone_ns = 1000, .now_ns = 1};
	struct compiler *compiler = compiler_new(&options);
	struct snapshot *last = NULL;
	struct world world = {0};

	seed = first_seed;
	fill_world(&world);
	assert_non_null(compiler);
	for (step = 0; step < STEPS; step++) {
		struct snapshot *remembered, *anew;

		if (!random_below(100)) {
			options.system_ca = authorities[random_below(3)];
			compiler_set_system_ca(compiler, options.system_ca);
		}
		for (uint32_t count = random_below(10) ? 1 : random_below(8); count > 0; count--)
			mutate(&world);
		options.now_ns += random_below(20) ? random_below(100) : random_below(2000);
		assert_int_equal(compiler_run(compiler, world.store, options.now_ns, &remembered), 0);
		assert_int_equal(compile_snapshot(world.store, &options, last, &anew), 0);
		compare_snapshots(step, remembered, anew);
		check(snapshot_compiled_ns(remembered) == options.now_ns, "time");
		check_difference(last, remembered);
		look(remembered);
		snapshot_unref(anew);
		snapshot_unref(last);
		last = remembered;
	}
	snapshot_unref(last);
	compiler_free(compiler);
	empty_world(&world);
	for (size_t i = 0; i < 2; i++)
		shared_text_unref(authorities[i]);
	settings_registry_free(registry);
}

static void a_cluster(void **state)
{
	(void)state;
	run_steps(20240501, false);
}

static void a_directory(void **state)
{
	(void)state;
	run_steps(4711, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(a_cluster),
	        cmocka_unit_test(a_directory),
	        cmocka_unit_test(everything_was_met),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
