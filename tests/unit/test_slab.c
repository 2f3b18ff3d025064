/* SPDX-License-Identifier: GPL-2.0-only */
/* Slabs and names: what is taken is zero and one's own, what is given back is wiped and used again, pages go back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/names.h"
#include "base/slab.h"

#define MANY 1000

static void fill(uint8_t *object, size_t size, size_t number)
{
	for (size_t i = 0; i < size; i++)
		object[i] = (uint8_t)(number * 7 + i);
}

static void assert_filled(const uint8_t *object, size_t size, size_t number)
{
	for (size_t i = 0; i < size; i++) {
		if (object[i] != (uint8_t)(number * 7 + i))
			fail_msg("object %zu, byte %zu: expected %u, seen %u", number, i, (uint8_t)(number * 7 + i),
			         object[i]);
	}
}

static void assert_zero(const uint8_t *object, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (object[i])
			fail_msg("byte %zu of a new object: expected 0, seen %u", i, object[i]);
	}
}

/* Taken, filled, given back in an order of its own, taken again: nobody's bytes are another's. */
static void objects_are_ones_own(void **state)
{
	static const size_t sizes[] = {1, 16, 100, 752, SLAB_OBJECT_MAX};
	static uint8_t *objects[MANY];

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		size_t size = sizes[s];
		uint32_t random = 1;
		struct slab slab;
		size_t live = 0;

		slab_init(&slab, size);
		memset(objects, 0, sizeof(objects));
		for (size_t step = 0; step < 20 * MANY; step++) {
			size_t i = (random = random * 1664525u + 1013904223u) >> 8;

			i %= MANY;
			if (objects[i]) {
				assert_filled(objects[i], size, i);
				slab_give(objects[i]);
				objects[i] = NULL;
				live--;
			} else {
				objects[i] = slab_take(&slab);
				assert_non_null(objects[i]);
				assert_int_equal((uintptr_t)objects[i] % 16, 0);
				assert_zero(objects[i], size);
				fill(objects[i], size, i);
				live++;
			}
			assert_int_equal(slab.live, live);
		}
		for (size_t i = 0; i < MANY; i++) {
			if (objects[i])
				assert_filled(objects[i], size, i);
			slab_give(objects[i]);
		}
		assert_int_equal(slab.live, 0);
		/* One is kept for who comes next. */
		assert_in_range(slab.block_count, 0, 1);
		slab_destroy(&slab);
		assert_int_equal(slab.block_count, 0);
		slab_destroy(&slab);
	}
}

#if !defined(__SANITIZE_ADDRESS__)
/* Many small objects share a block, and one that is given back is the next one taken: wiped, but for the slab's own. */
static void blocks_are_shared_and_wiped(void **state)
{
	struct slab slab;
	uint8_t *first, *again;

	(void)state;
	slab_init(&slab, 100);
	first = slab_take(&slab);
	for (int i = 0; i < 99; i++)
		assert_non_null(slab_take(&slab));
	assert_int_equal(slab.block_count, 1);
	memset(first, 0xaa, 100);
	slab_give(first);
	assert_zero(first, 100);
	again = slab_take(&slab);
	assert_ptr_equal(again, first);
	assert_int_equal(slab.block_count, 1);
}
#endif

static void names_are_kept_once(void **state)
{
	static const char *const texts[] = {"", "default/echo", "default/echo2",
	                                    "a-very-long-name/that-is-kept-all-the-same"};
	struct names names = {0};
	const char *taken[ARRAY_SIZE(texts)];
	char copy[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		snprintf(copy, sizeof(copy), "%s", texts[i]);
		taken[i] = names_take(&names, copy);
		assert_string_equal(taken[i], texts[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_ptr_equal(names_take(&names, texts[i]), taken[i]);
		names_give(&names, taken[i]);
		assert_string_equal(taken[i], texts[i]); /* one reference is left */
	}
	names_give(&names, NULL);
	/* Of one bucket in any order: 1,000 names meet in 256. */
	for (int round = 0; round < 2; round++) {
		static const char *many[MANY];

		for (size_t i = 0; i < MANY; i++) {
			snprintf(copy, sizeof(copy), "namespace/%zu", i);
			many[i] = names_take(&names, copy);
		}
		for (size_t i = 0; i < MANY; i++) {
			snprintf(copy, sizeof(copy), "namespace/%zu", i * 37 % MANY);
			assert_string_equal(many[i * 37 % MANY], copy);
			names_give(&names, many[i * 37 % MANY]);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		names_give(&names, taken[i]);
	for (size_t i = 0; i < NAMES_BUCKETS; i++)
		assert_null(names.buckets[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_ones_own),
#if !defined(__SANITIZE_ADDRESS__)
		cmocka_unit_test(blocks_are_shared_and_wiped),
#endif
		cmocka_unit_test(names_are_kept_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
