/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A worker's inbox: several workers are asked at once and waited for once, an answer that comes too late is freed, and
 * so is what nobody reads any more. No thread: what waits in pthread_cond_timedwait() plays the workers meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "base/cleanup.h"
#include "datapath/relay_internal.h"
#include "datapath/worker_handover.h"
#include "datapath/worker_internal.h"
#include "datapath/worker_list.h"

#define WORKERS 2

static struct world {
	struct worker workers[WORKERS];
	struct worker *list[WORKERS];
	struct gateway gateway;
	struct worker_gateway served;
	struct relay relay;
	struct connection connections[3]; /* one of the first worker, two of the second */
	bool silent[WORKERS];

	unsigned int waits;
	bool all_were_asked;
	struct timespec until;
} world;

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *lock, const struct timespec *until)
{
	bool silent = false;

	(void)condition;
	pthread_mutex_unlock(lock);
	if (world.waits++ == 0) {
		world.all_were_asked = true;
		world.until = *until;
	} else {
		assert_memory_equal(until, &world.until, sizeof(*until));
	}
	for (size_t i = 0; i < WORKERS; i++) {
		if (world.waits == 1)
			world.all_were_asked &= world.workers[i].inbox_head != NULL;
		if (!world.silent[i])
			worker_run_inbox(&world.workers[i]);
		silent |= lock == &world.workers[i].inbox_lock && world.silent[i];
	}
	pthread_mutex_lock(lock);
	return silent ? ETIMEDOUT : 0;
}

static void put(struct worker *worker, struct connection *connection)
{
	connection->gateway = &world.served;
	connection->policy = "shop/web";
	connection->sni = "web.shop";
	connection->relay = &world.relay;
	connection->next = worker->connections;
	worker->connections = connection;
	statistic_add(&worker->statistics.connections_live, 1);
}

static int set_up(void **state)
{
	(void)state;
	world = (struct world){.relay.b_fd = -1, .served.gateway = &world.gateway};
	world.gateway.name = "shop/gateway";
	for (size_t i = 0; i < WORKERS; i++) {
		world.list[i] = &world.workers[i];
		pthread_mutex_init(&world.workers[i].inbox_lock, NULL);
		pthread_cond_init(&world.workers[i].inbox_done, NULL);
		assert_int_equal(loop_new(&world.workers[i].loop), 0);
	}
	put(&world.workers[0], &world.connections[0]);
	put(&world.workers[1], &world.connections[1]);
	put(&world.workers[1], &world.connections[2]);
	for (size_t i = 0; i < ARRAY_SIZE(world.connections); i++)
		world.connections[i].gateway_port = (uint16_t)(1 + i);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (size_t i = 0; i < WORKERS; i++) {
		worker_drop_inbox(&world.workers[i]);
		loop_free(world.workers[i].loop);
	}
	return 0;
}

static void all_answer(void **state)
{
	_cleanup_free_ struct connection_view *views = NULL;
	size_t count = 0, silent = 0;

	(void)state;
	assert_int_equal(worker_list_connections(world.list, WORKERS, &views, &count, &silent), 0);
	assert_int_equal(count, 3);
	assert_int_equal(views[0].gateway_port, 1);
	assert_int_equal(views[1].gateway_port, 3);
	assert_int_equal(views[2].gateway_port, 2);
	assert_string_equal(views[2].policy, "shop/web");
	assert_int_equal(world.waits, 1);
	assert_true(world.all_were_asked);
}

/* Of whom is silent, and of who answered in time, nothing is left behind: the sanitizers look. */
static void some_are_silent(void **state)
{
	static const struct {
		bool silent[WORKERS];
		size_t who;
		unsigned int waits;
	} rows[] = {
	        {{true, false}, 0, 1}, {{false, true}, 1, 2}, {{true, true}, 0, 2}, /* until the same moment */
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct connection_view *views = NULL;
		size_t count = 0, silent = WORKERS;

		set_up(state);
		memcpy(world.silent, rows[i].silent, sizeof(world.silent));
		assert_int_equal(worker_list_connections(world.list, WORKERS, &views, &count, &silent), -ETIMEDOUT);
		assert_null(views);
		assert_int_equal(silent, rows[i].who);
		assert_int_equal(world.waits, rows[i].waits);
		assert_true(world.all_were_asked);
		/* It answers after all, or never: both times the answer is freed. */
		if (i % 2)
			worker_run_inbox(&world.workers[rows[i].who]);
		tear_down(state);
	}
}

/* The waiter gives up between the making of the list and the word that it is done. */
static void given_up_meanwhile(void **state)
{
	void *items = NULL;
	size_t count = 0;
	struct list_message *message;

	(void)state;
	world.silent[0] = true;
	message = worker_ask_list(&world.workers[0], true, connection_list);
	assert_int_equal(worker_take_list(&world.workers[0], message, 1, &items, &count), -ETIMEDOUT);
	worker_run_inbox(&world.workers[0]);
	assert_null(items);
}

/* A connection came from the former agent, and this one ends before the worker has it: both ends are reset. */
static void arrival_that_nobody_takes(void **state)
{
	struct arrival arrival = {0};
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	arrival.a_fd = fds[0];
	arrival.b_fd = fds[1];
	arrival.bytes = OPENSSL_zalloc(64);
	arrival.size = 64;
	assert_int_equal(worker_take_over(&world.workers[0], &arrival), 0);
	worker_drop_inbox(&world.workers[0]);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFD), -1);
		assert_int_equal(errno, EBADF);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test_setup_teardown(all_answer, set_up, tear_down),
	        cmocka_unit_test(some_are_silent),
	        cmocka_unit_test_setup_teardown(given_up_meanwhile, set_up, tear_down),
	        cmocka_unit_test_setup_teardown(arrival_that_nobody_takes, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
