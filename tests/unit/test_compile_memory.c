// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation of a compile fails once: it says -ENOMEM, nothing crashes (run it under ASan), and the next run says
 * what it would have said. The test's own malloc() stands before the library's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "compare_snapshots.h"
#include "compile_universe.h"
#include "policy/shared_text.h"
#include "policy_fixture.h"

static struct {
	bool armed;
	unsigned int left; /* allocations that succeed before the one that fails */
	bool failed;
} fault;

static bool fails(void)
{
	if (!fault.armed || fault.failed)
		return false;
	if (fault.left--)
		return false;
	fault.failed = true;
	errno = ENOMEM;
	return true;
}

/* The next library's function of this name, found once. */
#define NEXT(function)                                                                                                 \
	static __typeof__(&(function)) next;                                                                           \
	if (!next) {                                                                                                   \
		void *found = dlsym(RTLD_NEXT, #function);                                                             \
		memcpy(&next, &found, sizeof(next));                                                                   \
	}

void *malloc(size_t size)
{
	NEXT(malloc)
	return fails() ? NULL : next(size);
}

void *calloc(size_t count, size_t size)
{
	NEXT(calloc)
	return fails() ? NULL : next(count, size);
}

void *realloc(void *memory, size_t size)
{
	NEXT(realloc)
	return fails() ? NULL : next(memory, size);
}

void *reallocarray(void *memory, size_t count, size_t size)
{
	NEXT(reallocarray)
	return fails() ? NULL : next(memory, count, size);
}

char *strdup(const char *text)
{
	NEXT(strdup)
	return fails() ? NULL : next(text);
}

struct memory_world {
	struct universe *universe;
	struct object_store *store;
	struct shared_text *system_ca;
	struct compile_options options;
};

static void make_world(struct memory_world *world, struct settings_registry *registry)
{
	world->universe = universe_new();
	world->store = object_store_new();
	world->system_ca = shared_text_new(fixture_ca(), strlen(fixture_ca()));
	assert_true(world->store && world->system_ca);
	world->options = (struct compile_options){.registry = registry, .system_ca = world->system_ca, .now_ns = 1};
	for (size_t i = 0; i < world->universe->count; i++)
		assert_int_equal(object_store_put(world->store, world->universe->objects[i].versions[0]), 0);
	assert_int_equal(object_store_quarantine(world->store, world->universe->objects[0].versions[1], "broken"), 0);
}

static void free_world(struct memory_world *world)
{
	object_store_free(world->store);
	universe_free(world->universe);
	shared_text_unref(world->system_ca);
}

/* One run whose allocation number n fails. False: it had no such allocation. */
static bool run_with_fault(struct memory_world *world, struct compiler *compiler, struct snapshot *last, unsigned int n)
{
	struct snapshot *seen = NULL, *expected;
	int result;

	fault.left = n;
	fault.failed = false;
	fault.armed = true;
	result = compiler_run(compiler, world->store, 2, &seen);
	fault.armed = false;
	if (result < 0) {
		assert_int_equal(result, -ENOMEM);
		assert_null(seen);
		assert_true(fault.failed);
		assert_int_equal(compiler_run(compiler, world->store, 2, &seen), 0);
	}
	world->options.now_ns = 2;
	assert_int_equal(compile_snapshot(world->store, &world->options, last, &expected), 0);
	compare_snapshots(n, seen, expected);
	snapshot_unref(expected);
	snapshot_unref(seen);
	return fault.failed;
}

static void the_first_compile(void **state)
{
	struct settings_registry *registry = settings_registry_new();
	struct memory_world world;
	unsigned int n = 0;
	bool more = true;

	(void)state;
	make_world(&world, registry);
	for (; more; n++) {
		struct compiler *compiler = compiler_new(&world.options);

		assert_non_null(compiler);
		more = run_with_fault(&world, compiler, NULL, n);
		compiler_free(compiler);
	}
	assert_true(n > 100);
	print_message("%u allocations\n", n);
	free_world(&world);
	settings_registry_free(registry);
}

/* Every object changes to another version. */
static void change_world(struct memory_world *world, size_t version)
{
	for (size_t i = 0; i < world->universe->count; i++) {
		const struct universe_object *object = &world->universe->objects[i];

		assert_int_equal(object_store_put(world->store, object->versions[version % object->version_count]), 0);
	}
	assert_true(object_store_remove(world->store, OBJECT_BACKEND_TLS_POLICY, "default", "p1"));
}

static void a_change(void **state)
{
	struct settings_registry *registry = settings_registry_new();
	struct memory_world world;
	unsigned int n = 0;
	bool more = true;

	(void)state;
	make_world(&world, registry);
	for (; more; n++) {
		struct compiler *compiler = compiler_new(&world.options);
		struct snapshot *first;

		assert_non_null(compiler);
		change_world(&world, 0);
		assert_int_equal(compiler_run(compiler, world.store, 1, &first), 0);
		change_world(&world, 2);
		more = run_with_fault(&world, compiler, first, n);
		snapshot_unref(first);
		compiler_free(compiler);
	}
	assert_true(n > 100);
	print_message("%u allocations\n", n);
	free_world(&world);
	settings_registry_free(registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(the_first_compile),
	        cmocka_unit_test(a_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
