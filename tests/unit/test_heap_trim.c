/* SPDX-License-Identifier: GPL-2.0-only */
/* When the heap is given back: after a burst of handshakes, once more when the last sessions are freed, never for a
 * few. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "control/heap_trim.h"

#define MS UINT64_C(1000000)

struct look {
	uint64_t at_ms;
	uint64_t handshakes;
	bool due;
};

static void looks(const struct look *rows, size_t count)
{
	struct heap_trim trim = {0};

	for (size_t i = 0; i < count; i++) {
		bool due = heap_trim_is_due(&trim, rows[i].handshakes, (10000 + rows[i].at_ms) * MS);

		if (due != rows[i].due)
			fail_msg("look %zu, at %llu ms: expected %d, seen %d", i, (unsigned long long)rows[i].at_ms,
			         rows[i].due, due);
	}
}

static void after_a_burst_and_once_more(void **state)
{
	static const struct look rows[] = {
	        {0, 0, false},       {200, 1000, true}, /* long since the last one */
	        {400, 2000, false},  {600, 2000, false}, {800, 2000, true},   {1000, 2000, false},
	        {1600, 2000, false}, {1800, 2000, true}, {2000, 2000, false}, {60000, 2000, false},
	};

	(void)state;
	looks(rows, ARRAY_SIZE(rows));
}

static void a_few_are_not_worth_it(void **state)
{
	static const struct look rows[] = {
	        {0, 63, false},   {400, 63, false},  {2000, 63, false},   {9000, 63, false},
	        {9200, 64, true}, {10600, 64, true}, {20000, 127, false},
	};

	(void)state;
	looks(rows, ARRAY_SIZE(rows));
}

static void while_they_go_on_every_two_seconds(void **state)
{
	struct heap_trim trim = {0};
	unsigned int trims = 0;

	(void)state;
	for (uint64_t ms = 0; ms < 20000; ms += 200)
		trims += heap_trim_is_due(&trim, ms, (10000 + ms) * MS);
	assert_in_range(trims, 9, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(after_a_burst_and_once_more),
	        cmocka_unit_test(a_few_are_not_worth_it),
	        cmocka_unit_test(while_they_go_on_every_two_seconds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
