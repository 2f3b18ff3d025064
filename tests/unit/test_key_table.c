/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of keys against a plain array. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/key_table.h"

#define KEYS 3000

static struct postern_destination_key key_number(unsigned int number)
{
	struct postern_address address = {0};

	/* Close together, as a cluster's addresses are. */
	address.byte[10] = address.byte[11] = 0xff;
	address.byte[12] = 10;
	address.byte[14] = (uint8_t)(number / 200);
	address.byte[15] = (uint8_t)(number % 200);
	return destination_key(&address, (uint16_t)(8000 + number % 3));
}

static void expect_same(const struct key_table *table, const uint64_t *values, const bool *there)
{
	size_t count = 0;

	for (unsigned int i = 0; i < KEYS; i++) {
		const struct postern_destination_key key = key_number(i);
		const uint64_t *value = key_table_find(table, &key);

		count += there[i];
		if (!there[i] && value)
			fail_msg("key %u: expected none, seen %llu", i, (unsigned long long)*value);
		if (there[i] && (!value || *value != values[i]))
			fail_msg("key %u: expected %llu, seen %s", i, (unsigned long long)values[i],
			         value ? "another value" : "none");
	}
	assert_int_equal(table->count, count);
}

static bool keep_even(void *context, const struct postern_destination_key *key, uint64_t *value)
{
	(void)context;
	(void)key;
	return *value % 2 == 0;
}

static void test_like_an_array(void **state)
{
	struct key_table table = {0};
	uint64_t values[KEYS] = {0};
	bool there[KEYS] = {false};
	unsigned int random = 4711;

	(void)state;
	expect_same(&table, values, there);
	for (unsigned int round = 0; round < 30000; round++) {
		unsigned int number;
		struct postern_destination_key key;

		random = random * 1103515245 + 12345;
		number = (random >> 8) % KEYS;
		key = key_number(number);
		if (random >> 30) {
			assert_int_equal(key_table_set(&table, &key, round), 0);
			values[number] = round;
			there[number] = true;
		} else {
			assert_int_equal(key_table_remove(&table, &key), there[number]);
			there[number] = false;
		}
		if (round % 10000 == 9999)
			expect_same(&table, values, there);
	}
	key_table_filter(&table, keep_even, NULL);
	for (unsigned int i = 0; i < KEYS; i++)
		there[i] &= values[i] % 2 == 0;
	expect_same(&table, values, there);
	key_table_free(&table);
	assert_int_equal(table.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_like_an_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
