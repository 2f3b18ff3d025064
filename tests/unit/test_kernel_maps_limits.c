/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's maps when something is in the way: no room, writes that fail, what an earlier life of the agent left. */
#include "maps_played.h"

/* ---- a full map ---- */

static void test_no_room_is_hold(void **state)
{
	const struct destination covered[] = {
	        {.key = key_of(1, 443)}, {.key = key_of(2, 443)}, {.key = key_of(300, 8443)}, {.key = key_of(301, 0)}};

	(void)state;
	start();
	kernel.room = 1;
	/* 300 and 301 are outside the cluster's CIDR: 10.0.1.44, 10.0.1.45. */
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {300, 8443, TLS, 1}, {301, 0, DENY, 0});
	expect(1, 443, TLS);
	expect(2, 443, HOLD);
	expect(300, 8443, HOLD);
	expect(301, 8081, HOLD); /* no guarded port stands for "any": strict mode does */
	expect(302, 8443, NONE);
	assert_false(kernel_maps_broken(&maps));
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	/* Room comes back: they are tried again, and what stood for them goes. */
	kernel.room = KEYS_MAX;
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	expect(2, 443, TLS);
	expect(300, 8443, TLS);
	expect(301, 8081, DENY);
	assert_int_equal(maps.overflow.count, 0);
	kernel_maps_settle(&maps, T0 + 400 * MS, true);
	assert_int_equal(kernel.cidr_count, 1);
	assert_int_equal(kernel.runtime.strict, 0);
}

/* More addresses without room than the trie takes: ::/0 stands for all of them. */
/* An uncovered "any port" answers for every port that is not in the map: a covered one without room is among them. */
static void test_no_room_behind_any_port(void **state)
{
	const struct destination covered[] = {{.key = key_of(300, 443)}};

	(void)state;
	start();
	kernel.room = 2;
	APPLY(T0, {1, 443, TLS, 1}, {300, 0, PLAIN, 0});
	expect(300, 443, PLAIN);
	APPLY(T0 + MS, {1, 443, TLS, 1}, {300, 0, PLAIN, 0}, {300, 443, TLS, 1});
	expect(300, 443, HOLD);
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	/* Nobody puts it back: not a HOLD's answer, nor what changes. */
	kernel.room = 1;
	assert_int_equal(kernel_maps_let_pass(&maps, &(struct postern_destination_key){key_of(300, 80).address, 0, 0}),
	                 -E2BIG);
	kernel.room = 2;
	APPLY(T0 + 2 * MS, {2, 443, TLS, 1}, {300, 0, PLAIN, 0}, {300, 443, TLS, 1});
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	kernel_maps_settle(&maps, T0 + 400 * MS, true);
	expect(300, 443, TLS);
}

/* The same where "any port" was covered until now, and leaves. */
static void test_no_room_behind_any_port_that_leaves(void **state)
{
	const struct destination covered[] = {{.key = key_of(300, 443)}};

	(void)state;
	start();
	kernel.room = 2;
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	APPLY(T0, {1, 443, TLS, 1}, {300, 0, TLS, 2});
	kernel.watching = true;
	APPLY(T0 + MS, {1, 443, TLS, 1}, {300, 0, PLAIN, 0}, {300, 443, TLS, 1});
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	kernel_maps_settle(&maps, T0 + 400 * MS, true);
	expect(300, 443, TLS);
}

static void test_more_routes_than_the_trie_takes(void **state)
{
	struct row rows[400];
	struct snapshot *snapshot;

	(void)state;
	start();
	kernel.room = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		rows[i] = (struct row){1000 + i, 443, TLS, 1};
	snapshot = make(rows, ARRAY_SIZE(rows));
	kernel_maps_apply(&maps, snapshot, T0, &change);
	snapshot_unref(snapshot);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		expect(1000 + i, 443, HOLD);
	assert_false(kernel_maps_broken(&maps));
	/* The policy goes, and so does all of it. */
	APPLY(T0 + MS, {1, 80, PLAIN, 0});
	kernel_maps_settle(&maps, T0 + 200 * MS, true);
	assert_int_equal(kernel.cidr_count, 1);
	expect(1000, 443, NONE);
}

static void test_failing_writes_are_tried_again(void **state)
{
	uint64_t next;

	(void)state;
	start();
	kernel.failure = -ENOMEM;
	APPLY(T0, {1, 443, TLS, 1}, {300, 8443, TLS, 1});
	assert_true(kernel_maps_broken(&maps));
	next = kernel_maps_settle(&maps, T0, true);
	assert_in_range(next, T0 + 1, T0 + 1000 * MS);
	kernel.failure = 0;
	kernel_maps_settle(&maps, next, true);
	assert_false(kernel_maps_broken(&maps));
	expect(1, 443, TLS);
	expect(300, 8443, TLS);
	/* A removal that fails stays due. */
	APPLY(next + MS, {300, 8443, TLS, 1});
	kernel.failure = -EIO;
	next = kernel_maps_settle(&maps, next + 200 * MS, true);
	assert_int_not_equal(next, 0);
	expect(1, 443, TLS);
	kernel.failure = 0;
	kernel_maps_settle(&maps, next, true);
	expect(1, 443, NONE);
}

/* ---- another life ---- */

static void earlier_life(void)
{
	start();
	APPLY(T0, {1, 443, TLS, 1}, {2, 443, TLS, 1}, {3, 443, TLS, 1}, {4, 80, PLAIN, 0}, {5, 0, TLS, 7});
	kernel_maps_stop(&maps);
	memset(&maps, 0, sizeof(maps));
}

static void test_restart_opens_no_gap(void **state)
{
	const struct destination covered[] = {{.key = key_of(1, 443)}, {.key = key_of(2, 443)}, {.key = key_of(5, 0)}};

	(void)state;
	earlier_life();
	kernel.covered = covered;
	kernel.covered_count = ARRAY_SIZE(covered);
	kernel.watching = true;
	start();
	expect(9, 443, HOLD); /* guarded until it is known that nothing needs it */
	/* The ids are another life's: they are written anew. 2 and 5 are not named any more, 3 is uncovered. */
	APPLY(T0 + 5000 * MS, {1, 443, TLS, 9}, {3, 443, PLAIN, 0});
	expect_settings(1, 443, 9);
	expect(2, 443, DENY);
	expect(5, 8081, DENY);
	expect(3, 443, TLS);
	expect(4, 80, PLAIN);
	kernel_maps_settle(&maps, T0 + 5100 * MS, true);
	expect(3, 443, PLAIN);
	expect(4, 80, NONE);
	expect(2, 443, DENY);
	/* After the time of a tombstone they go, but not while the source has errors. */
	kernel.watching = false;
	kernel_maps_settle(&maps, T0 + 605000 * MS, false);
	expect(2, 443, DENY);
	kernel_maps_settle(&maps, T0 + 606001 * MS, true);
	expect(2, 443, HOLD);
	expect(5, 8081, NONE);
}

static void test_kept_key_is_named_again(void **state)
{
	(void)state;
	earlier_life();
	start();
	APPLY(T0 + 5000 * MS, {9, 80, PLAIN, 0});
	expect(1, 443, DENY);
	APPLY(T0 + 6000 * MS, {1, 443, TLS, 4}, {2, 443, PLAIN, 0}, {5, 80, PLAIN, 0});
	expect_settings(1, 443, 4);
	expect(2, 443, DENY);
	kernel_maps_settle(&maps, T0 + 6100 * MS, true);
	expect(2, 443, PLAIN);
	expect(5, 80, PLAIN);
	expect(5, 81, DENY);
	kernel_maps_settle(&maps, T0 + 700000 * MS, true);
	expect_settings(1, 443, 4);
	expect(3, 443, HOLD);
}

/* A connect that came while the agent was away asks for a key that it covered before, and that nothing names now. */
static void test_kept_key_is_never_let_pass(void **state)
{
	const struct postern_destination_key keys[] = {key_of(2, 443), key_of(5, 8080), key_of(5, 80)};

	(void)state;
	earlier_life();
	start();
	APPLY(T0 + 5000 * MS, {9, 80, PLAIN, 0}, {5, 80, PLAIN, 0});
	assert_int_equal(kernel_maps_let_pass(&maps, &keys[0]), -EPERM);
	expect(2, 443, DENY);
	assert_int_equal(kernel_maps_let_pass(&maps, &keys[1]), -EPERM);
	expect(5, 8080, DENY);
	assert_int_equal(kernel_maps_let_pass(&maps, &keys[2]), 0); /* an object names it */
	expect(5, 80, PLAIN);
	kernel_maps_settle(&maps, T0 + 606001 * MS, true);
	assert_int_equal(kernel_maps_let_pass(&maps, &keys[0]), 0);
}

/* A covered "any port" that found no room made an earlier life strict: so is this one until it knows better. */
static void test_restart_stays_strict(void **state)
{
	(void)state;
	kernel.room = 0;
	start();
	APPLY(T0, {301, 0, DENY, 0});
	expect(301, 8081, HOLD);
	kernel_maps_stop(&maps);
	memset(&maps, 0, sizeof(maps));
	start();
	expect(301, 8081, HOLD);
	kernel.room = KEYS_MAX;
	APPLY(T0 + 5000 * MS, {301, 0, DENY, 0});
	expect(301, 8081, DENY);
	assert_int_equal(kernel.runtime.strict, 1);
	kernel_maps_settle(&maps, T0 + 5100 * MS, true);
	assert_int_equal(kernel.runtime.strict, 0);
}

static void test_source_with_errors_keeps_guards(void **state)
{
	uint64_t next;

	(void)state;
	earlier_life();
	start();
	APPLY(T0 + 5000 * MS, {9, 80, PLAIN, 0});
	next = kernel_maps_settle(&maps, T0 + 5200 * MS, false);
	assert_int_equal(next, T0 + 6200 * MS);
	expect(8, 443, HOLD);
	kernel_maps_settle(&maps, next, true);
	expect(8, 443, NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        CASE(test_no_room_is_hold),
	        CASE(test_no_room_behind_any_port),
	        CASE(test_no_room_behind_any_port_that_leaves),
	        CASE(test_more_routes_than_the_trie_takes),
	        CASE(test_failing_writes_are_tried_again),
	        CASE(test_restart_opens_no_gap),
	        CASE(test_kept_key_is_named_again),
	        CASE(test_kept_key_is_never_let_pass),
	        CASE(test_restart_stays_strict),
	        CASE(test_source_with_errors_keeps_guards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
