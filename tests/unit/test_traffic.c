/* SPDX-License-Identifier: GPL-2.0-only */
/* The table that the metrics count in: sums over workers, the bound, places that are used again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "datapath/traffic.h"

static struct traffic_row rows[TRAFFIC_ROWS_SHOWN];
static struct traffic_gateway_row gateways[TRAFFIC_GATEWAYS_SHOWN];

static int set_up(void **state)
{
	*state = traffic_new(2);
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	traffic_free(*state);
	return 0;
}

static const struct traffic_row *find(struct traffic *traffic, const char *gateway, const char *policy,
                                      enum traffic_mode mode)
{
	size_t count = traffic_rows(traffic, rows);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(rows[i].gateway, gateway) == 0 && strcmp(rows[i].policy, policy) == 0 &&
		    rows[i].mode == mode)
			return &rows[i];
	}
	return NULL;
}

static void workers_are_summed(void **state)
{
	struct traffic *traffic = *state;
	struct traffic_connections *one = traffic_begin(traffic, 0, "a/g", "p/q", TRAFFIC_KERNEL_TLS);
	struct traffic_connections *two = traffic_begin(traffic, 1, "a/g", "p/q", TRAFFIC_KERNEL_TLS);
	struct traffic_connections *plain = traffic_begin(traffic, 1, "a/g", "", TRAFFIC_PLAIN);
	const struct traffic_row *row;

	assert_ptr_not_equal(one, two);
	assert_ptr_equal(traffic_begin(traffic, 0, "a/g", "p/q", TRAFFIC_KERNEL_TLS), one);
	traffic_add(&one->bytes_to_backend, 10);
	traffic_add(&two->bytes_to_backend, 5);
	traffic_add(&two->bytes_to_gateway, 7);
	traffic_end(one);
	row = find(traffic, "a/g", "p/q", TRAFFIC_KERNEL_TLS);
	assert_non_null(row);
	assert_int_equal(row->begun, 3);
	assert_int_equal(row->live, 2);
	assert_int_equal(row->bytes_to_backend, 15);
	assert_int_equal(row->bytes_to_gateway, 7);
	traffic_end(plain);
	row = find(traffic, "a/g", "", TRAFFIC_PLAIN);
	assert_non_null(row);
	assert_int_equal(row->live, 0);
	assert_int_equal(traffic_rows(traffic, rows), 2);
	assert_int_equal(traffic_folded(traffic), 0);
}

static void past_the_bound_it_is_other(void **state)
{
	struct traffic *traffic = *state;
	struct traffic_connections *cells[TRAFFIC_ROWS + 5];
	char policy[32];

	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		(void)snprintf(policy, sizeof(policy), "p/%zu", i);
		cells[i] = traffic_begin(traffic, 0, "a/g", policy, TRAFFIC_USER_TLS);
	}
	assert_int_equal(traffic_rows(traffic, rows), TRAFFIC_ROWS + 1);
	assert_int_equal(find(traffic, "other", "other", TRAFFIC_USER_TLS)->begun, 5);
	assert_int_equal(traffic_folded(traffic), 5);

	/* The gateway is gone, but one of its connections lives: its place is not used again. */
	for (size_t i = 1; i < ARRAY_SIZE(cells); i++)
		traffic_end(cells[i]);
	traffic_forget_gateway(traffic, "a/g");
	assert_ptr_equal(traffic_begin(traffic, 0, "b/g", "p/new", TRAFFIC_PLAIN), cells[1]);
	assert_int_equal(find(traffic, "b/g", "p/new", TRAFFIC_PLAIN)->begun, 1);
	assert_int_equal(find(traffic, "a/g", "p/0", TRAFFIC_USER_TLS)->live, 1);
	assert_null(find(traffic, "a/g", "p/1", TRAFFIC_USER_TLS));
	/* It is back before its place was needed: it counts on. */
	(void)traffic_begin(traffic, 0, "a/g", "p/2", TRAFFIC_USER_TLS);
	assert_int_equal(find(traffic, "a/g", "p/2", TRAFFIC_USER_TLS)->begun, 2);
}

static void handshakes_fall_into_buckets(void **state)
{
	static const struct {
		uint64_t ns;
		size_t bucket;
	} times[] = {
	        {0, 0},           {500000, 0},      {500001, 1},      {1000000, 1},
	        {4999999999, 11}, {5000000000, 11}, {5000000001, 12}, {UINT64_MAX / 2, 12},
	};
	struct traffic *traffic = *state;

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		struct traffic_handshakes *cells = traffic_of_gateway(traffic, i % 2, "a/g");

		traffic_handshake(cells, times[i].ns);
		assert_int_equal(traffic_gateway_rows(traffic, gateways), 1);
		if (gateways[0].bucket[times[i].bucket] == 0)
			fail_msg("%llu ns: expected bucket %zu", (unsigned long long)times[i].ns, times[i].bucket);
		traffic_forget_gateway(traffic, "a/g");
		assert_int_equal(traffic_gateway_rows(traffic, gateways), 0);
	}
}

static void cpu_is_the_gateway_s(void **state)
{
	struct traffic *traffic = *state;

	traffic_add(&traffic_of_gateway(traffic, 0, "a/g")->cpu_ns, 100);
	traffic_add(&traffic_of_gateway(traffic, 1, "a/g")->cpu_ns, 10);
	traffic_add(&traffic_begin(traffic, 0, "a/g", "p/q", TRAFFIC_KERNEL_TLS)->cpu_ns, 5);
	traffic_add(&traffic_begin(traffic, 1, "a/g", "", TRAFFIC_PLAIN)->cpu_ns, 2);
	traffic_add(&traffic_begin(traffic, 1, "b/g", "", TRAFFIC_PLAIN)->cpu_ns, 1000);
	assert_int_equal(traffic_gateway_rows(traffic, gateways), 1);
	assert_int_equal(gateways[0].handshake_cpu_ns, 110);
	assert_int_equal(gateways[0].relay_cpu_ns, 7);
}

static void too_many_gateways_are_other(void **state)
{
	struct traffic *traffic = *state;
	char name[32];

	for (size_t i = 0; i < TRAFFIC_GATEWAYS + 3; i++) {
		(void)snprintf(name, sizeof(name), "a/%zu", i);
		traffic_handshake(traffic_of_gateway(traffic, 0, name), 1000);
	}
	assert_int_equal(traffic_gateway_rows(traffic, gateways), TRAFFIC_GATEWAYS_SHOWN);
	assert_string_equal(gateways[TRAFFIC_GATEWAYS].gateway, "other");
	assert_int_equal(gateways[TRAFFIC_GATEWAYS].bucket[0], 3);
	assert_int_equal(traffic_folded(traffic), 3);
}

static void nothing_to_count_in(void **state)
{
	(void)state;
	assert_null(traffic_begin(NULL, 0, "a/g", "", TRAFFIC_PLAIN));
	assert_null(traffic_of_gateway(NULL, 0, "a/g"));
	traffic_end(NULL);
	traffic_handshake(NULL, 1);
	traffic_forget_gateway(NULL, "a/g");
	traffic_free(NULL);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	        EACH(workers_are_summed),   EACH(past_the_bound_it_is_other),  EACH(handshakes_fall_into_buckets),
	        EACH(cpu_is_the_gateway_s), EACH(too_many_gateways_are_other), cmocka_unit_test(nothing_to_count_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
