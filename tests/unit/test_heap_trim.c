/* SPDX-License-Identifier: GPL-2.0-only */
/* When the heap is given back: after a burst of sessions, and when the last of all is freed, however late that is and
 * however few they are; not for a few while others live. */
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
	uint64_t begun;
	uint64_t freed;
	bool due;
};

static void looks(const struct look *rows, size_t count)
{
	struct heap_trim trim = {0};

	for (size_t i = 0; i < count; i++) {
		struct tls_session_counts counts = {.begun = rows[i].begun, .freed = rows[i].freed};
		bool due = heap_trim_is_due(&trim, &counts, (10000 + rows[i].at_ms) * MS);

		if (due != rows[i].due)
			fail_msg("look %zu, at %llu ms: expected %d, seen %d", i, (unsigned long long)rows[i].at_ms,
			         rows[i].due, due);
	}
}

static void after_a_burst(void **state)
{
	static const struct look rows[] = {
	        {0, 0, 0, false},         {200, 1000, 1000, true}, /* long since the last one */
	        {400, 3000, 2000, false}, {600, 3000, 3000, false},  {800, 3000, 3000, false},
	        {1000, 3000, 3000, true}, {1200, 3000, 3000, false}, {60000, 3000, 3000, false},
	};

	(void)state;
	looks(rows, ARRAY_SIZE(rows));
}

/* The agent is idle afterwards, and keeps none of it: a session that was held for a minute counts as well. */
static void the_last_one_is_waited_for(void **state)
{
	static const struct look rows[] = {
	        {0, 1000, 0, false},        {400, 1000, 990, true},     {800, 1000, 990, false},
	        {3000, 1000, 990, false},   {60000, 1000, 999, false}, /* one is left */
	        {61000, 1000, 999, false},  {70000, 1000, 1000, false}, {70400, 1000, 1000, true},
	        {70800, 1000, 1000, false}, {90000, 1001, 1000, false}, {91000, 1001, 1001, false},
	        {92000, 1001, 1001, true}, /* no burst, but nothing else goes on */
	};

	(void)state;
	looks(rows, ARRAY_SIZE(rows));
}

/* Whose TLS is not the kernel's keep theirs: what others leave is given back by the burst. */
static void while_some_live_on(void **state)
{
	static const struct look rows[] = {
	        {0, 200, 0, false},      {400, 200, 100, true},   {800, 200, 163, false},
	        {1200, 200, 163, false}, {1600, 200, 164, false}, {2000, 200, 164, true},
	};

	(void)state;
	looks(rows, ARRAY_SIZE(rows));
}

/* 50 connections that stay idle kept 2 MB between them. */
static void a_few_are_given_back_when_none_is_left(void **state)
{
	static const struct look rows[] = {
	        {0, 63, 63, false},      {200, 63, 63, false},    {400, 63, 63, true},
	        {800, 63, 63, false},    {1000, 64, 64, false},   {1400, 64, 64, false},
	        {2200, 64, 64, false},   {2400, 64, 64, true}, /* 2 s later */
	        {9000, 127, 126, false}, {9400, 127, 126, false}, {9600, 127, 127, false},
	        {10000, 127, 127, true},
	};

	(void)state;
	looks(rows, ARRAY_SIZE(rows));
}

static void a_few_that_go_on_every_two_seconds(void **state)
{
	struct heap_trim trim = {0};
	unsigned int trims = 0;

	(void)state;
	for (uint64_t ms = 0; ms < 20000; ms += 200) {
		struct tls_session_counts counts = {.begun = ms / 600, .freed = ms / 600};

		trims += heap_trim_is_due(&trim, &counts, (10000 + ms) * MS);
	}
	assert_in_range(trims, 7, 10);
}

static void while_they_go_on_every_two_seconds(void **state)
{
	struct heap_trim trim = {0};
	unsigned int trims = 0;

	(void)state;
	for (uint64_t ms = 0; ms < 20000; ms += 200) {
		struct tls_session_counts counts = {.begun = ms, .freed = ms};

		trims += heap_trim_is_due(&trim, &counts, (10000 + ms) * MS);
	}
	assert_in_range(trims, 9, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(after_a_burst),
	        cmocka_unit_test(the_last_one_is_waited_for),
	        cmocka_unit_test(while_some_live_on),
	        cmocka_unit_test(a_few_are_given_back_when_none_is_left),
	        cmocka_unit_test(a_few_that_go_on_every_two_seconds),
	        cmocka_unit_test(while_they_go_on_every_two_seconds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
