/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One worker, 1,000 connections that exchange single bytes, and heavy ones whose both directions never run dry: what
 * the heavy ones may take between two turns of a light one is counted in rounds and bytes, not in time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "datapath/relay_internal.h"
#include "sockets.h"

#define LIGHT_COUNT  1000
#define HEAVY_COUNT  4
#define BURSTS       5
#define READY_MAX    256 /* of one round of the loop */
#define SOCKETS_EACH 4

struct side {
	int gateway;
	int backend;
	struct relay *relay;
};

struct world {
	struct loop *loop;
	struct relay_worker worker;
	struct side light[LIGHT_COUNT];
	struct side heavy[HEAVY_COUNT];
	unsigned int ends;
	uint8_t *noise;
};

static void on_end(void *context, enum postern_reason reason, const char *detail)
{
	struct world *world = context;

	(void)reason;
	(void)detail;
	world->ends++;
}

/* Over TCP, whose buffers hold many of the relay's: a relay that reads on finds something to read. */
static void heavy_pair(int pair[2])
{
	tcp_pair(pair, 0);
}

static void start(struct world *world, struct side *side, void (*connect_pair)(int pair[2]))
{
	int to_gateway[2];
	int to_backend[2];
	struct relay_options options = {.on_end = on_end, .context = world};

	connect_pair(to_gateway);
	connect_pair(to_backend);
	side->gateway = to_gateway[0];
	options.a_fd = to_gateway[1];
	options.b_fd = to_backend[1];
	side->backend = to_backend[0];
	assert_int_equal(relay_start(&world->worker, &options, &side->relay), 0);
}

/* As much as the kernel takes. */
static void fill(const struct world *world, int fd)
{
	while (send(fd, world->noise, RELAY_BUFFER_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
}

static void drain(const struct world *world, int fd)
{
	while (recv(fd, world->noise, RELAY_BUFFER_SIZE, MSG_DONTWAIT) > 0)
		;
}

/* The heavy ends are always ahead of the relay: both directions can be read and written in every round. */
static void keep_busy(const struct world *world)
{
	for (size_t i = 0; i < HEAVY_COUNT; i++) {
		drain(world, world->heavy[i].gateway);
		drain(world, world->heavy[i].backend);
		fill(world, world->heavy[i].gateway);
		fill(world, world->heavy[i].backend);
	}
}

static uint64_t moved(const struct world *world)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < HEAVY_COUNT; i++)
		sum += world->heavy[i].relay->to_backend.bytes + world->heavy[i].relay->to_gateway.bytes;
	return sum;
}

static size_t arrived(const struct world *world, bool at_backend)
{
	size_t count = 0;
	uint8_t byte;

	for (size_t i = 0; i < LIGHT_COUNT; i++)
		count += recv(at_backend ? world->light[i].backend : world->light[i].gateway, &byte, 1, MSG_DONTWAIT) ==
		         1;
	return count;
}

/* Every light connection sends one byte now; rounds until the last of them has arrived. */
static unsigned int burst(struct world *world, bool to_backend, uint64_t *heavy_bytes)
{
	uint64_t before = moved(world);
	unsigned int rounds = 0;
	size_t left = LIGHT_COUNT;

	for (size_t i = 0; i < LIGHT_COUNT; i++)
		assert_int_equal(
		        send(to_backend ? world->light[i].gateway : world->light[i].backend, "x", 1, MSG_DONTWAIT), 1);
	while (left > 0 && rounds < 100) {
		keep_busy(world);
		assert_int_equal(loop_step(world->loop, 0), 0);
		rounds++;
		left -= arrived(world, to_backend);
	}
	assert_int_equal(left, 0);
	*heavy_bytes = moved(world) - before;
	return rounds;
}

static void heavy_connections_do_not_starve_light_ones(void **state)
{
	const struct rlimit wanted = {.rlim_cur = SOCKETS_EACH * (LIGHT_COUNT + HEAVY_COUNT) + 100,
	                              .rlim_max = RLIM_INFINITY};
	struct rlimit limit;
	struct world *world = calloc(1, sizeof(*world));
	/* Everybody who is ready has a turn before anybody has a second one: heavy ones are ready with two sockets. */
	const unsigned int rounds_max = (LIGHT_COUNT + 2 * HEAVY_COUNT + READY_MAX - 1) / READY_MAX + 1;
	/* A turn is one read, and room for what was blocked before: per round, connection and direction. */
	const uint64_t bytes_max = (uint64_t)rounds_max * HEAVY_COUNT * 2 * 2 * RELAY_BUFFER_SIZE;

	(void)state;
	assert_non_null(world);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < wanted.rlim_cur) {
		limit.rlim_cur = wanted.rlim_cur;
		if (limit.rlim_max < wanted.rlim_cur)
			limit.rlim_max = wanted.rlim_cur;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	}
	world->noise = calloc(1, RELAY_BUFFER_SIZE);
	assert_non_null(world->noise);
	assert_int_equal(loop_new(&world->loop), 0);
	assert_int_equal(relay_worker_init(&world->worker, world->loop, &kernel_io_system), 0);
	for (size_t i = 0; i < HEAVY_COUNT; i++)
		start(world, &world->heavy[i], heavy_pair);
	for (size_t i = 0; i < LIGHT_COUNT; i++)
		start(world, &world->light[i], stream_pair);
	for (int i = 0; i < 50; i++) {
		keep_busy(world);
		assert_int_equal(loop_step(world->loop, 0), 0);
	}
	assert_true(moved(world) > 50 * 10000);
	for (int i = 0; i < 2 * BURSTS; i++) {
		uint64_t heavy_bytes;
		unsigned int rounds = burst(world, i % 2 == 0, &heavy_bytes);

		if (rounds > rounds_max || heavy_bytes > bytes_max)
			fail_msg("a burst took %u rounds (at most %u) and %llu heavy bytes (at most %llu)", rounds,
			         rounds_max, (unsigned long long)heavy_bytes, (unsigned long long)bytes_max);
	}
	assert_int_equal(world->ends, 0);
	for (size_t i = 0; i < HEAVY_COUNT + LIGHT_COUNT; i++) {
		struct side *side = i < HEAVY_COUNT ? &world->heavy[i] : &world->light[i - HEAVY_COUNT];

		relay_abort(side->relay, REASON_GATEWAY_REMOVED, "the test is over");
		close(side->gateway);
		close(side->backend);
	}
	assert_int_equal(world->ends, HEAVY_COUNT + LIGHT_COUNT);
	relay_worker_destroy(&world->worker);
	loop_free(world->loop);
	free(world->noise);
	free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(heavy_connections_do_not_starve_light_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
