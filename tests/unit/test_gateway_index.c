/* SPDX-License-Identifier: GPL-2.0-only */
/* A worker's gateways and listeners are found by id and cookie, as many as there may be, without a walk through all. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "datapath/worker_internal.h"

#define LISTENERS   4
#define CHAIN_LIMIT 16 /* 1,024 listeners of each family in as many chains */

static struct worker worker;
static struct gateway gateways[POSTERN_MAX_GATEWAYS];
static struct gateway_listener listeners[POSTERN_MAX_GATEWAYS][LISTENERS];
static struct worker_gateway *served[POSTERN_MAX_GATEWAYS];

/* Cookies as a kernel with several CPUs gives them: in runs, with gaps. */
static uint64_t cookie_of(size_t gateway, size_t listener, bool v6)
{
	return 1 + gateway * 4096 + listener * 2 + v6 + (gateway % 3) * 100000000;
}

static void serve(size_t number)
{
	struct worker_gateway *added = calloc(1, sizeof(*added) + LISTENERS * sizeof(added->listeners[0]));

	assert_non_null(added);
	gateways[number].id = (uint32_t)number + 1;
	added->gateway = &gateways[number];
	added->listener_count = LISTENERS;
	for (size_t i = 0; i < LISTENERS; i++) {
		listeners[number][i] = (struct gateway_listener){
		        .fd_v4 = 0,
		        .fd_v6 = number % 5 == 4 ? -1 : 0, /* some have no IPv6 */
		        .cookie_v4 = cookie_of(number, i, false),
		        .cookie_v6 = number % 5 == 4 ? 0 : cookie_of(number, i, true),
		};
		added->listeners[i] = (struct worker_listener){
		        .worker = &worker, .gateway = added, .listener = &listeners[number][i]};
	}
	gateway_index_add(&worker, added);
	served[number] = added;
}

static void withdraw(size_t number)
{
	gateway_index_remove(&worker, served[number]);
	free(served[number]);
	served[number] = NULL;
}

static void expect_found(size_t number)
{
	struct worker_gateway *wanted = served[number];

	assert_ptr_equal(worker_find_gateway(&worker, (uint32_t)number + 1), wanted);
	for (size_t i = 0; i < LISTENERS; i++) {
		struct worker_listener *listener = wanted ? &wanted->listeners[i] : NULL;

		assert_ptr_equal(worker_find_listener(&worker, cookie_of(number, i, false)), listener);
		assert_ptr_equal(worker_find_listener(&worker, cookie_of(number, i, true)),
		                 number % 5 == 4 ? NULL : listener);
	}
}

static void expect_all_found(void)
{
	for (size_t i = 0; i < POSTERN_MAX_GATEWAYS; i++)
		expect_found(i);
	assert_null(worker_find_gateway(&worker, 0));
	assert_null(worker_find_gateway(&worker, POSTERN_MAX_GATEWAYS + 1));
	assert_null(worker_find_listener(&worker, 0));
	assert_null(worker_find_listener(&worker, UINT64_MAX));
}

static void test_as_many_as_there_may_be(void **state)
{
	(void)state;
	for (size_t i = 0; i < POSTERN_MAX_GATEWAYS; i++)
		serve(i);
	expect_all_found();
	for (size_t i = 0; i < POSTERN_MAX_GATEWAYS; i += 2)
		withdraw(i);
	expect_all_found();
	for (size_t i = 0; i < POSTERN_MAX_GATEWAYS; i += 2)
		serve(i);
	expect_all_found();
}

static void test_no_long_chain(void **state)
{
	(void)state;
	for (size_t i = 0; i < INDEX_GATEWAYS; i++) {
		const struct worker_gateway *first = worker.gateway_index.by_id[i];

		assert_true(!first || !first->next_by_id);
	}
	for (size_t i = 0; i < INDEX_LISTENERS; i++) {
		size_t length = 0;

		for (struct worker_listener *each = worker.gateway_index.by_cookie_v4[i]; each; each = each->next_v4)
			length++;
		assert_in_range(length, 0, CHAIN_LIMIT);
	}
	for (size_t i = 0; i < POSTERN_MAX_GATEWAYS; i++)
		withdraw(i);
	expect_all_found();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_as_many_as_there_may_be),
	        cmocka_unit_test(test_no_long_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
