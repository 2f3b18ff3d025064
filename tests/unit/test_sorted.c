// SPDX-License-Identifier: GPL-2.0-only
/* base/sorted.h: of empty lists, too; and where something belongs, in lists of every length and at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/sorted.h"

#define LENGTH_MAX 40

static int compare(const void *left, const void *right)
{
	const int *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

static void empty_lists(void **state)
{
	const int key = 1;
	bool found = true;

	(void)state;
	sort_list(NULL, 0, sizeof(int), compare);
	assert_null(find_sorted(&key, NULL, 0, sizeof(int), compare));
	assert_int_equal(place_sorted(&key, NULL, 0, sizeof(int), compare, &found), 0);
	assert_false(found);
}

/* 1, 3, 5 ...: odd numbers are there, even ones belong between them. */
static void every_place(void **state)
{
	int list[LENGTH_MAX];

	(void)state;
	for (size_t count = 1; count <= LENGTH_MAX; count++) {
		list[count - 1] = (int)(2 * count - 1);
		for (int key = 0; key <= (int)(2 * count); key++) {
			bool found, there = key % 2 == 1;
			size_t place = place_sorted(&key, list, count, sizeof(list[0]), compare, &found);

			if (found != there || place != (size_t)key / 2)
				fail_msg("%d among %zu: expected place %d, found %d; seen %zu, %d", key, count, key / 2,
				         there, place, found);
			assert_true((find_sorted(&key, list, count, sizeof(list[0]), compare) != NULL) == there);
		}
	}
}

/* The first of those that are equal, wherever they begin. */
static void first_of_equals(void **state)
{
	int list[LENGTH_MAX];
	const int key = 1;

	(void)state;
	for (size_t begin = 0; begin <= LENGTH_MAX; begin++) {
		for (size_t end = begin; end <= LENGTH_MAX; end++) {
			bool found;

			for (size_t i = 0; i < LENGTH_MAX; i++)
				list[i] = i < begin ? 0 : i < end ? key : 2;
			assert_int_equal(first_sorted(&key, list, LENGTH_MAX, sizeof(key), compare), begin);
			assert_int_equal(place_sorted(&key, list, LENGTH_MAX, sizeof(key), compare, &found), begin);
			assert_int_equal(found, end > begin);
		}
	}
}

/* What is put in where it belongs is sorted, in whatever order it comes. */
static void put_in_any_order(void **state)
{
	int list[LENGTH_MAX] = {0};
	size_t count = 0;

	(void)state;
	for (int i = 0; i < LENGTH_MAX; i++) {
		int key = i * 7 % LENGTH_MAX; /* each once: 7 and 40 have no common factor */
		bool found;
		size_t place = place_sorted(&key, list, count, sizeof(list[0]), compare, &found);

		assert_false(found);
		for (size_t j = count++; j > place; j--)
			list[j] = list[j - 1];
		list[place] = key;
	}
	for (int i = 0; i < LENGTH_MAX; i++)
		assert_int_equal(list[i], i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(empty_lists),
	        cmocka_unit_test(every_place),
	        cmocka_unit_test(first_of_equals),
	        cmocka_unit_test(put_in_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
