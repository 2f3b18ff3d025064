// SPDX-License-Identifier: GPL-2.0-only
/* The chunked list against a plain array: random edits, lookups, and what is shared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "policy/destinations.h"

#define KEYS 6000 /* that there may be */

static uint32_t seed = 20240502;

static uint32_t random_below(uint32_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed % limit;
}

/* Ascending in number. */
static struct postern_destination_key key_of(size_t number)
{
	struct postern_address address = {.byte = {[10] = 0xff,
	                                           [11] = 0xff,
	                                           [12] = 10,
	                                           [14] = (uint8_t)(number / 512),
	                                           [15] = (uint8_t)(number / 2)}};

	return destination_key(&address, number % 2 ? 443 : 0);
}

/* What the list should hold: settings by number of key, 0 for none. */
static uint32_t model[KEYS];
static uint32_t policies[KEYS];

static size_t make_edits(struct destination_edit *edits, size_t start, size_t length, uint32_t dense)
{
	size_t count = 0;

	for (size_t number = start; number < start + length && number < KEYS; number++) {
		struct destination_edit *edit = &edits[count];

		if (random_below(dense))
			continue;
		*edit = (struct destination_edit){.removed = random_below(3) == 0};
		model[number] = edit->removed ? 0 : random_below(1000) + 1;
		policies[number] = random_below(5) ? random_below(4) : SNAPSHOT_NO_POLICY;
		edit->destination = (struct destination){
		        .key = key_of(number),
		        .verdict = POSTERN_VERDICT_TLS,
		        .settings_id = model[number],
		        .policy = policies[number],
		};
		count++;
	}
	return count;
}

static void check_list(const struct destination_list *list)
{
	size_t count = 0;

	for (size_t number = 0; number < KEYS; number++) {
		struct postern_destination_key key = key_of(number);
		const struct destination *found = destination_list_find(list, &key);

		assert_int_equal(destination_list_lower_bound(list, &key), count);
		assert_int_equal(found != NULL, model[number] != 0);
		if (!model[number])
			continue;
		assert_int_equal(found->settings_id, model[number]);
		assert_int_equal(found->policy, policies[number]);
		assert_ptr_equal(destination_list_at(list, count), found);
		count++;
	}
	assert_int_equal(list->count, count);
	for (size_t i = 0; i < list->chunk_count; i++)
		assert_in_range(list->chunks[i]->count, 1, DESTINATION_CHUNK_MAX);
	assert_true(list->chunk_count <= count / (DESTINATION_CHUNK_MAX / 8) + 1);
}

static size_t count_shared(const struct destination_list *old, const struct destination_list *new)
{
	size_t shared = 0;

	for (size_t i = 0; i < old->chunk_count; i++)
		for (size_t j = 0; j < new->chunk_count; j++)
			shared += old->chunks[i] == new->chunks[j];
	return shared;
}

static void random_edits(void **state)
{
	struct destination_edit *edits = calloc(KEYS, sizeof(*edits));
	struct destination_list list = {0};

	(void)state;
	assert_non_null(edits);
	for (int round = 0; round < 400; round++) {
		bool small = round && round % 4;
		size_t length = small ? random_below(40) : KEYS;
		size_t count = make_edits(edits, random_below(KEYS) * (size_t)small, length, small ? 2 : 40);
		struct destination_list next;

		if (!round)
			count = make_edits(edits, 0, KEYS, 1);
		assert_int_equal(destination_list_edit(&list, edits, count, NULL, &next), 0);
		check_list(&next);
		if (small && list.chunk_count > 8)
			assert_true(count_shared(&list, &next) + 4 >= list.chunk_count);
		destination_list_free(&list);
		list = next;
	}
	destination_list_free(&list);
	free(edits);
}

/* Policies move: their indexes are written anew, and only where they did. */
static void policies_move(void **state)
{
	static const uint32_t stay[] = {0, 1, 2, 3}, move[] = {1, 0, SNAPSHOT_NO_POLICY, 3};
	static const struct destination_list nothing;
	struct destination_edit *edits = calloc(KEYS, sizeof(*edits));
	struct destination_list list, same, moved;
	size_t count;

	(void)state;
	assert_non_null(edits);
	memset(model, 0, sizeof(model));
	count = make_edits(edits, 0, KEYS, 1);
	assert_int_equal(destination_list_edit(&nothing, edits, count, NULL, &list), 0);
	assert_int_equal(destination_list_edit(&list, NULL, 0, stay, &same), 0);
	assert_int_equal(count_shared(&list, &same), list.chunk_count);
	assert_int_equal(destination_list_edit(&list, NULL, 0, move, &moved), 0);
	for (size_t i = 0; i < KEYS; i++)
		if (policies[i] != SNAPSHOT_NO_POLICY)
			policies[i] = move[policies[i]];
	check_list(&moved);
	destination_list_free(&list);
	destination_list_free(&same);
	destination_list_free(&moved);
	free(edits);
}

static void empty(void **state)
{
	static const struct destination_list nothing;
	const struct destination_edit remove = {.destination.key = key_of(1), .removed = true};
	struct postern_destination_key key = key_of(1);
	struct destination_list list;

	(void)state;
	assert_int_equal(destination_list_edit(&nothing, &remove, 1, NULL, &list), 0);
	assert_int_equal(list.count, 0);
	assert_null(destination_list_find(&list, &key));
	assert_int_equal(destination_list_lower_bound(&list, &key), 0);
	destination_list_free(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(random_edits),
	        cmocka_unit_test(policies_move),
	        cmocka_unit_test(empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
