/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's maps as a cache of the snapshot: keys that come, change and go; any port; HOLD. */
#include "maps_played.h"

/* ---- growth and shrinkage ---- */

/* A port of its own is gone, and "any port" of the address decides: live connections must hear of it. */
static void test_any_port_takes_over(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 0, TLS, 1}, {1, 443, TLS, 2}, {2, 443, TLS, 2});
	APPLY(T0 + 1000 * MS, {1, 0, TLS, 1}, {1, 443, TLS, 2});
	assert_false(change.tightened); /* nobody's now */
	APPLY(T0 + 2000 * MS, {1, 0, TLS, 1});
	assert_true(change.tightened);
	assert_false(change.grew);
}

static void test_grows_at_once_and_shrinks_late(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, DENY, 0}, {3, 80, PLAIN, 0});
	assert_true(change.grew && change.tightened);
	expect(1, 443, TLS);
	expect(2, 443, DENY);
	expect(3, 80, PLAIN);
	expect(9, 443, HOLD);
	expect(9, 80, NONE);

	/* 1 is uncovered, 2 is gone, 3 is gone, 4 is new; port 443 is guarded no more. */
	APPLY(T0 + 1000 * MS, {1, 443, PLAIN, 0}, {4, 8443, TLS, 2});
	expect(4, 8443, TLS);
	for (unsigned int ms = 0; ms < 100; ms += 33) {
		assert_int_equal(kernel_maps_settle(&maps, T0 + (1000 + ms) * MS, true), T0 + 1100 * MS);
		expect(1, 443, TLS);
		expect(2, 443, DENY);
		expect(3, 80, PLAIN);
		expect(9, 443, HOLD);
	}
	assert_int_equal(kernel_maps_settle(&maps, T0 + 1100 * MS, true), 0);
	expect(1, 443, PLAIN);
	expect(2, 443, NONE);
	expect(3, 80, NONE);
	expect(9, 443, NONE);
	expect(9, 8443, HOLD);
}

/* Deleted and made again, at every moment of the delay, with other settings or the same. */
static void test_replaced_object_opens_no_gap(void **state)
{
	const struct destination covered[] = {{.key = key_of(1, 443)}};

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1});
	kernel.covered = covered;
	kernel.covered_count = 1;
	kernel.watching = true;
	for (unsigned int i = 1; i < 20; i++) {
		uint64_t gone = T0 + i * 1000 * MS;

		if (i % 2)
			APPLY(gone, {2, 80, PLAIN, 0});
		else
			APPLY(gone, {1, 443, PLAIN, 0});
		kernel_maps_settle(&maps, gone + 60 * MS, true);
		APPLY(gone + (60 + i) * MS, {1, 443, TLS, 1 + i});
		kernel_maps_settle(&maps, gone + 99 * MS, true);
		expect_settings(1, 443, 1 + i);
		/* The removal that was due is not. */
		kernel_maps_settle(&maps, gone + 500 * MS, true);
		expect_settings(1, 443, 1 + i);
	}
}

/* Gone, back, and gone again: the delay counts from the last time. */
static void test_delay_counts_from_the_last_time(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1});
	APPLY(T0 + 10 * MS, {2, 80, PLAIN, 0});
	APPLY(T0 + 60 * MS, {1, 443, TLS, 1});
	APPLY(T0 + 70 * MS, {2, 80, PLAIN, 0});
	kernel_maps_settle(&maps, T0 + 115 * MS, true);
	expect(1, 443, TLS);
	kernel_maps_settle(&maps, T0 + 169 * MS, true);
	expect(1, 443, TLS);
	kernel_maps_settle(&maps, T0 + 170 * MS, true);
	expect(1, 443, NONE);
}

/* Changes that never stop: what left still goes in its time. */
static void test_constant_change_does_not_postpone(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 8443, TLS, 1});
	for (unsigned int i = 0; i < 12; i++) {
		APPLY(T0 + i * 10 * MS, {2, 8443, TLS, 2 + i});
		kernel_maps_settle(&maps, T0 + i * 10 * MS, true);
	}
	expect(1, 443, NONE);
	expect_settings(2, 8443, 13);
}

static void test_what_a_change_is_called(void **state)
{
	static const struct {
		enum postern_verdict before, after;
		uint32_t settings_before, settings_after;
		bool grew, tightened;
	} rows[] = {
	        {PLAIN, TLS, 0, 1, true, true},   {PLAIN, DENY, 0, 0, true, true},    {TLS, TLS, 1, 1, false, false},
	        {TLS, TLS, 1, 2, false, true},    {TLS, DENY, 1, 0, false, true},     {DENY, TLS, 0, 1, false, true},
	        {TLS, PLAIN, 1, 0, false, false}, {PLAIN, PLAIN, 0, 0, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		begin(NULL);
		start();
		APPLY(T0, {1, 443, rows[i].before, rows[i].settings_before});
		APPLY(T0 + MS, {1, 443, rows[i].after, rows[i].settings_after});
		if (change.grew != rows[i].grew || change.tightened != rows[i].tightened)
			fail_msg("row %zu: expected %d %d, seen %d %d", i, rows[i].grew, rows[i].tightened, change.grew,
			         change.tightened);
		end(NULL);
	}
}

static void test_a_change_costs_its_own_keys(void **state)
{
	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 80, PLAIN, 0}, {4, 80, PLAIN, 0}, {5, 443, TLS, 1});
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	kernel.writes = 0;
	APPLY(T0 + 300 * MS, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 80, PLAIN, 0}, {4, 80, PLAIN, 0},
	      {6, 443, TLS, 1});
	kernel_maps_settle(&maps, T0 + 400 * MS, true);
	assert_int_equal(kernel.writes, 2); /* 6 comes, 5 goes */
	kernel.writes = 0;
	APPLY(T0 + 500 * MS, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 80, PLAIN, 0}, {4, 80, PLAIN, 0},
	      {6, 443, TLS, 1});
	assert_int_equal(kernel_maps_settle(&maps, T0 + 700 * MS, true), 0);
	assert_int_equal(kernel.writes, 0);
}

/* ---- any port ---- */

/* An address becomes covered on any port: no PLAIN key of one of its ports may stand in front of that. */
static void test_any_port_is_not_hidden(void **state)
{
	const struct destination covered[] = {
	        {.key = key_of(1, 80)}, {.key = key_of(1, 8080)}, {.key = key_of(1, 9090)}};
	const struct postern_destination_key nobodys = key_of(1, 8080);

	(void)state;
	start();
	APPLY(T0, {1, 80, PLAIN, 0}, {1, 9090, PLAIN, 0});
	assert_int_equal(kernel_maps_let_pass(&maps, &nobodys), 0);
	expect(1, 8080, PLAIN);
	/* 9090 is leaving when the other comes. */
	APPLY(T0 + 10 * MS, {1, 80, PLAIN, 0});
	expect(1, 9090, PLAIN);
	APPLY(T0 + 20 * MS, {1, 0, TLS, 5});
	for (size_t i = 0; i < ARRAY_SIZE(covered); i++)
		expect(1, ntohs(covered[i].key.port), TLS);
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	kernel_maps_settle(&maps, T0 + 300 * MS, true);
	/* Back to one port. */
	APPLY(T0 + 400 * MS, {1, 0, TLS, 5}, {1, 80, TLS, 6});
	expect_settings(1, 80, 6);
	APPLY(T0 + 500 * MS, {1, 0, TLS, 5});
	expect(1, 80, TLS);
	assert_int_equal(kernel.count, 1);
}

/* ---- HOLD ---- */

static void test_nobodys_key_stays_plain_until_named(void **state)
{
	const struct postern_destination_key key = key_of(9, 443);

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1});
	expect(9, 443, HOLD);
	assert_int_equal(kernel_maps_let_pass(&maps, &key), 0);
	expect(9, 443, PLAIN);
	APPLY(T0 + 100 * MS, {1, 443, TLS, 2});
	kernel_maps_settle(&maps, T0 + 500 * MS, true);
	expect(9, 443, PLAIN);
	APPLY(T0 + 600 * MS, {1, 443, TLS, 2}, {9, 443, TLS, 3});
	assert_true(change.grew);
	expect(9, 443, TLS);
	/* Forgotten: it is not nobody's again by itself. */
	APPLY(T0 + 700 * MS, {1, 443, TLS, 2});
	kernel_maps_settle(&maps, T0 + 900 * MS, true);
	expect(9, 443, HOLD);
}

/* An agent that drains said PLAIN, which this one never heard of: such a key must not outlive what names or covers it.
 */
static void test_finds_of_another_agent(void **state)
{
	const struct postern_destination_key finds[] = {key_of(9, 443), key_of(8, 8080), key_of(7, 443)};
	const struct destination covered[] = {{.key = key_of(8, 8080)}, {.key = key_of(9, 443)}};

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {7, 443, TLS, 1});
	assert_int_equal(hooks_let_pass_unless_known(NULL, &finds[0]), 0);
	assert_int_equal(hooks_let_pass_unless_known(NULL, &finds[1]), 0);
	assert_int_equal(hooks_let_pass_unless_known(NULL, &finds[2]), -EPERM);
	kernel_maps_adopt(&maps);
	expect(9, 443, PLAIN);
	expect(8, 8080, PLAIN);
	expect(7, 443, TLS);
	assert_int_equal(maps.plain.count, 2);
	APPLY(T0 + 10 * MS, {1, 443, TLS, 1}, {8, 0, TLS, 5}, {9, 443, TLS, 6});
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	for (size_t i = 0; i < ARRAY_SIZE(covered); i++)
		expect(i == 0 ? 8 : 9, i == 0 ? 8080 : 443, TLS);
	kernel_maps_settle(&maps, T0 + 300 * MS, true);
	kernel.watching = false;
	/* One that came in front of it in the same moment. */
	kernel.keys[kernel.count] = finds[1];
	kernel.values[kernel.count++] = (struct postern_destination){.verdict = PLAIN};
	kernel_maps_adopt(&maps);
	expect(8, 8080, TLS);
	assert_int_equal(maps.plain.count, 0);
}

static void test_let_pass_is_refused(void **state)
{
	const struct postern_destination_key key = key_of(9, 443), covered = key_of(1, 443);

	(void)state;
	start();
	assert_int_equal(kernel_maps_let_pass(&maps, &key), -EPERM); /* nothing was seen yet */
	expect(9, 443, NONE);
	APPLY(T0, {1, 443, TLS, 1});
	assert_int_equal(kernel_maps_let_pass(&maps, &covered), -EPERM);
	kernel.room = kernel.count;
	assert_int_equal(kernel_maps_let_pass(&maps, &key), -E2BIG);
	expect(9, 443, HOLD);
	assert_int_equal(maps.plain.count, 0);
	kernel.room++;
	assert_int_equal(kernel_maps_let_pass(&maps, &key), 0);
	expect(9, 443, PLAIN);
}

static void test_leaving_is_known(void **state)
{
	const struct postern_destination_key key = key_of(1, 443), any = key_of(2, 443);

	(void)state;
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 0, TLS, 1});
	assert_false(kernel_maps_is_leaving(&maps, &key));
	APPLY(T0 + MS, {1, 443, PLAIN, 0});
	assert_true(kernel_maps_is_leaving(&maps, &key));
	assert_true(kernel_maps_is_leaving(&maps, &any));
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	assert_false(kernel_maps_is_leaving(&maps, &key));
	assert_false(kernel_maps_is_leaving(&maps, &any));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_any_port_takes_over),
	        CASE(test_grows_at_once_and_shrinks_late),
	        CASE(test_replaced_object_opens_no_gap),
	        CASE(test_delay_counts_from_the_last_time),
	        CASE(test_constant_change_does_not_postpone),
	        CASE(test_what_a_change_is_called),
	        CASE(test_a_change_costs_its_own_keys),
	        CASE(test_any_port_is_not_hidden),
	        CASE(test_nobodys_key_stays_plain_until_named),
	        CASE(test_finds_of_another_agent),
	        CASE(test_let_pass_is_refused),
	        CASE(test_leaving_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
