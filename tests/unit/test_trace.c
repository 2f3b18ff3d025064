// SPDX-License-Identifier: GPL-2.0-only
/* The events of `posternctl trace`: who gets which, what is asked of the programs, and what is said of lost ones. */
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
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
#include "base/trace.h"

static struct trace_event seen[TRACE_KEPT];

static struct trace_filter filter_of(const char *gateway, const char *address, uint16_t port, uint32_t verdicts)
{
	struct trace_filter filter = {.port = htons(port), .verdicts = verdicts};

	(void)snprintf(filter.gateway, sizeof(filter.gateway), "%s", gateway);
	if (address)
		assert_int_equal(address_parse(address, &filter.address), 0);
	return filter;
}

static void add(struct trace *trace, const char *gateway, const char *address, uint16_t port, uint32_t verdict)
{
	struct trace_event event = {.kind = TRACE_INTERCEPT, .verdict = verdict, .counter = TRACE_NO_COUNTER};

	(void)snprintf(event.gateway, sizeof(event.gateway), "%s", gateway);
	assert_int_equal(address_parse(address, &event.destination.address), 0);
	event.destination.port = htons(port);
	trace_add(trace, &event);
}

struct look {
	uint64_t reader;
	struct trace_filter filter;
	uint64_t counted;
	struct trace_answer answer;
};

static uint64_t told_nothing(void *counted)
{
	return *(uint64_t *)counted;
}

static void look_with(struct trace *trace, struct look *look, const struct trace_programs *programs)
{
	assert_int_equal(trace_look(trace, look->reader, &look->filter, look->answer.last, programs, seen, TRACE_KEPT,
	                            &look->answer),
	                 0);
}

static void look(struct trace *trace, struct look *look)
{
	look_with(trace, look, &(struct trace_programs){.read = told_nothing, .context = &look->counted});
}

static void add_all(struct trace *trace)
{
	add(trace, "shop/edge", "10.0.0.1", 443, POSTERN_VERDICT_TLS);
	add(trace, "shop/edge", "10.0.0.2", 80, POSTERN_VERDICT_DENY);
	add(trace, "shop/other", "fd00::1", 443, POSTERN_VERDICT_PLAIN);
	add(trace, "shop/other", "10.0.0.1", 443, TRACE_NO_VERDICT);
}

static void test_filters(void **state)
{
	const struct {
		const char *what;
		struct trace_filter filter;
		size_t events;
	} rows[] = {
	        {"all", filter_of("", NULL, 0, 0), 4},
	        {"a whole name", filter_of("shop/edge", NULL, 0, 0), 2},
	        {"a name without its namespace", filter_of("other", NULL, 0, 0), 2},
	        {"a part of a name", filter_of("edg", NULL, 0, 0), 0},
	        {"an address", filter_of("", "10.0.0.1", 0, 0), 2},
	        {"an address and a port", filter_of("", "10.0.0.2", 443, 0), 0},
	        {"a port", filter_of("", NULL, 443, 0), 3},
	        {"a verdict, and what has none", filter_of("", NULL, 0, 1u << POSTERN_VERDICT_DENY), 2},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct trace *trace = trace_new(TRACE_LOOK_NS);
		struct look first = {.reader = 1, .filter = rows[i].filter};

		look(trace, &first);
		add_all(trace);
		look(trace, &first);
		if (first.answer.count != rows[i].events)
			fail_msg("%s: expected %zu events, seen %zu", rows[i].what, rows[i].events, first.answer.count);
		assert_int_equal(first.answer.lost, 0);
		trace_free(trace);
	}
}

static void test_widest(void **state)
{
	const struct {
		const char *what;
		struct trace_filter one, other, widest;
	} rows[] = {
	        {"the same", filter_of("a/b", "10.0.0.1", 1, 2), filter_of("a/b", "10.0.0.1", 1, 2),
	         filter_of("a/b", "10.0.0.1", 1, 2)},
	        {"other gateways", filter_of("a/b", NULL, 1, 0), filter_of("a/c", NULL, 1, 0),
	         filter_of("", NULL, 1, 0)},
	        {"all gateways", filter_of("a/b", NULL, 1, 0), filter_of("", NULL, 1, 0), filter_of("", NULL, 1, 0)},
	        {"other addresses", filter_of("", "10.0.0.1", 1, 0), filter_of("", "10.0.0.2", 1, 0),
	         filter_of("", NULL, 1, 0)},
	        {"other ports", filter_of("", "10.0.0.1", 1, 0), filter_of("", "10.0.0.1", 2, 0),
	         filter_of("", "10.0.0.1", 0, 0)},
	        {"other verdicts", filter_of("", NULL, 0, 2), filter_of("", NULL, 0, 4), filter_of("", NULL, 0, 6)},
	        {"any verdict", filter_of("", NULL, 0, 0), filter_of("", NULL, 0, 4), filter_of("", NULL, 0, 0)},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct trace *trace = trace_new(TRACE_LOOK_NS);
		struct look one = {.reader = 1, .filter = rows[i].one}, other = {.reader = 2, .filter = rows[i].other};
		struct trace_filter widest;
		uint64_t until;

		assert_false(trace_wanted(trace, &widest, &until));
		assert_int_equal(until, 0);
		look(trace, &one);
		look(trace, &other);
		assert_true(trace_wanted(trace, &widest, &until));
		assert_true(until > 0);
		if (strcmp(widest.gateway, rows[i].widest.gateway) != 0 || widest.port != rows[i].widest.port ||
		    widest.verdicts != rows[i].widest.verdicts ||
		    memcmp(&widest.address, &rows[i].widest.address, sizeof(widest.address)) != 0)
			fail_msg("%s: expected \"%s\" %u %x, seen \"%s\" %u %x", rows[i].what, rows[i].widest.gateway,
			         rows[i].widest.port, rows[i].widest.verdicts, widest.gateway, widest.port,
			         widest.verdicts);
		trace_free(trace);
	}
}

/* Each reader is told once of what the programs lost, and of what was overwritten before it looked. */
static void test_lost(void **state)
{
	struct trace *trace = trace_new(TRACE_LOOK_NS);
	struct look one = {.reader = 1}, other = {.reader = 2};

	(void)state;
	trace_lost(trace, 7); /* before anybody looked */
	look(trace, &one);
	look(trace, &other);
	assert_int_equal(one.answer.lost, 0);
	trace_lost(trace, 5);
	look(trace, &one);
	assert_int_equal(one.answer.lost, 5);
	look(trace, &one);
	assert_int_equal(one.answer.lost, 0);
	for (size_t i = 0; i < TRACE_KEPT + 10; i++)
		add(trace, "a/b", "10.0.0.1", 443, POSTERN_VERDICT_TLS);
	look(trace, &other);
	assert_int_equal(other.answer.lost, 5 + 10);
	assert_int_equal(other.answer.count, TRACE_KEPT);
	trace_free(trace);
}

static void assert_losses(struct trace *trace, uint64_t ring, uint64_t overwritten, uint64_t away)
{
	uint64_t losses[TRACE_LOSSES];

	trace_losses(trace, losses);
	assert_int_equal(losses[TRACE_LOST_RING], ring);
	assert_int_equal(losses[TRACE_LOST_OVERWRITTEN], overwritten);
	assert_int_equal(losses[TRACE_LOST_AWAY], away);
}

/* A reader that is waited for no time at all is always back from an absence: it is told of what nobody kept. */
static void test_away(void **state)
{
	struct trace *trace = trace_new(0);
	struct look one = {.reader = 1, .counted = 100}, other = {.reader = 2, .counted = 100};

	(void)state;
	assert_false(trace_active(trace)); /* nobody has looked: nobody misses it */
	look(trace, &one);
	assert_false(one.answer.known);
	assert_int_equal(one.answer.away_ns, 0);
	for (int i = 0; i < 3; i++)
		assert_false(trace_active(trace));
	one.counted = 140;
	look(trace, &one);
	assert_true(one.answer.known);
	assert_true(one.answer.away_ns > 0);
	assert_int_equal(one.answer.lost, 3 + 40);
	look(trace, &one);
	assert_int_equal(one.answer.lost, 0); /* told once */
	look(trace, &other);
	assert_int_equal(other.answer.lost, 0); /* a new one misses nothing */
	assert_losses(trace, 0, 0, 43);
	trace_free(trace);
}

/* One who stayed away has its place still, until others need it; who lost it is not known any more. */
static void test_place(void **state)
{
	struct trace *trace = trace_new(0);
	struct look one = {.reader = 1};

	(void)state;
	look(trace, &one);
	for (uint64_t reader = 2; reader <= 2 * TRACE_READERS; reader++) {
		struct look other = {.reader = reader};

		look(trace, &other);
	}
	look(trace, &one);
	assert_false(one.answer.known);
	trace_free(trace);
}

/* What it does not want is not lost; the rest is counted by its cause. */
static void test_causes(void **state)
{
	struct trace *trace = trace_new(TRACE_LOOK_NS);
	struct look one = {.reader = 1, .filter = filter_of("shop/edge", NULL, 0, 0)};

	(void)state;
	look(trace, &one);
	add(trace, "shop/other", "10.0.0.1", 443, POSTERN_VERDICT_TLS);
	look(trace, &one);
	assert_int_equal(one.answer.count, 0);
	assert_int_equal(one.answer.lost, 0);
	assert_int_equal(one.answer.away_ns, 0);
	trace_lost(trace, 2);
	for (size_t i = 0; i < TRACE_KEPT + 1; i++)
		add(trace, "shop/edge", "10.0.0.1", 443, POSTERN_VERDICT_TLS);
	look(trace, &one);
	assert_losses(trace, 2, 1, 0);
	trace_free(trace);
}

static void test_order(void **state)
{
	struct trace *trace = trace_new(TRACE_LOOK_NS);
	struct look one = {.reader = 1};
	struct trace_event event = {.kind = TRACE_SYN, .counter = 1};

	(void)state;
	look(trace, &one);
	for (int i = 0; i < 3; i++) {
		event.time.tv_sec = 100 - i;
		event.cookie = (uint64_t)(100 - i);
		trace_add(trace, &event);
	}
	look(trace, &one);
	assert_int_equal(one.answer.count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(seen[i].cookie, 98 + i);
	trace_free(trace);
}

/* The programs' ring is read while a worker has an event to add. */
struct race {
	struct trace *trace;
	pthread_t worker;
	sem_t runs;
};

static void *add_as_worker(void *context)
{
	struct race *race = context;

	sem_post(&race->runs);
	add(race->trace, "a/worker", "10.0.0.1", 443, POSTERN_VERDICT_TLS);
	return NULL;
}

static uint64_t told_late(void *context)
{
	struct race *race = context;

	assert_int_equal(pthread_create(&race->worker, NULL, add_as_worker, race), 0);
	while (sem_wait(&race->runs) != 0)
		;
	for (int i = 0; i < 1000; i++)
		sched_yield();
	add(race->trace, "a/program", "10.0.0.1", 443, POSTERN_VERDICT_TLS);
	return 0;
}

/* An event of the agent's is in no answer in which one of the programs that was before it may be missing. */
static void test_programs_first(void **state)
{
	struct race race = {.trace = trace_new(TRACE_LOOK_NS)};
	struct look one = {.reader = 1};

	(void)state;
	sem_init(&race.runs, 0, 0);
	look(race.trace, &one);
	look_with(race.trace, &one, &(struct trace_programs){.read = told_late, .context = &race});
	assert_int_equal(one.answer.count, 1);
	assert_string_equal(seen[0].gateway, "a/program");
	pthread_join(race.worker, NULL);
	look(race.trace, &one);
	assert_int_equal(one.answer.count, 1);
	assert_string_equal(seen[0].gateway, "a/worker");
	sem_destroy(&race.runs);
	trace_free(race.trace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_filters), cmocka_unit_test(test_widest),         cmocka_unit_test(test_lost),
	        cmocka_unit_test(test_away),    cmocka_unit_test(test_place),          cmocka_unit_test(test_causes),
	        cmocka_unit_test(test_order),   cmocka_unit_test(test_programs_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
