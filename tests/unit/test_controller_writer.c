// SPDX-License-Identifier: GPL-2.0-only
/* The status writer against a played API server: what it reads and puts, and when it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/loop.h"
#include "controller/json_cleanup.h"
#include "controller/status_writer.h"
#include "played_api.h"

#define POLICIES "/apis/gateway.networking.k8s.io/v1/namespaces/n/backendtlspolicies/"

struct world {
	struct played_api api;
	struct loop *loop;
	struct status_writer *writer;
	unsigned int written;
};

static bool leads(void *context)
{
	return ((struct world *)context)->api.leads;
}

static void on_written(void *context, enum written_kind kind, const json_t *before, const json_t *after)
{
	(void)kind;
	assert_non_null(before);
	assert_non_null(after);
	assert_false(json_equal(before, after));
	((struct world *)context)->written++;
}

static void world_begin(struct world *world)
{
	struct status_writer_options options = {
	        .send = played_send,
	        .cancel = played_cancel,
	        .leads = leads,
	        .on_written = on_written,
	        .context = world,
	};

	memset(world, 0, sizeof(*world));
	world->api.leads = true;
	assert_int_equal(loop_new(&world->loop), 0);
	options.loop = world->loop;
	options.client = played_client(&world->api);
	assert_int_equal(status_writer_new(&options, &world->writer), 0);
	status_writer_lead(world->writer, true);
}

static void world_end(struct world *world)
{
	status_writer_free(world->writer);
	assert_int_equal(world->api.open, 0); /* nothing is left behind */
	played_end(&world->api);
	loop_free(world->loop);
}

/* What should be said of a policy: one ancestor. */
static json_t *wanted(int generation, const char *message)
{
	return json_pack("{s:i, s:[{s:s, s:b, s:s, s:s}], s:[{s:s, s:s}]}", "generation", generation, "conditions",
	                 "type", "Accepted", "status", 1, "reason", "Accepted", "message", message, "ancestors",
	                 "namespace", "n", "name", "g");
}

static json_t *policy(const char *name, int generation, const char *version)
{
	return json_pack("{s:{s:s, s:s, s:i, s:s}}", "metadata", "namespace", "n", "name", name, "generation",
	                 generation, "resourceVersion", version);
}

static void want(struct world *world, const char *name, json_t *what, uint64_t seen)
{
	status_writer_begin(world->writer);
	assert_int_equal(status_writer_want(world->writer, WRITTEN_POLICY, "n", name, what, seen), 0);
	status_writer_end(world->writer);
}

static const char *message_of(const json_t *body)
{
	return json_string_value(json_object_get(
	        json_array_get(json_object_get(
	                               json_array_get(json_object_get(json_object_get(body, "status"), "ancestors"), 0),
	                               "conditions"),
	                       0),
	        "message"));
}

static void reads_merges_puts(void **state)
{
	struct kubernetes_request *request;
	json_t *written;
	struct world world;

	(void)state;
	world_begin(&world);
	want(&world, "p", wanted(3, "m"), 1);
	request = played_find(&world.api, "GET", POLICIES "p");
	assert_null(request->body);
	played_answer(request, 200, policy("p", 3, "41"));
	request = played_find(&world.api, "PUT", POLICIES "p/status");
	assert_string_equal(
	        json_string_value(json_object_get(json_object_get(request->body, "metadata"), "resourceVersion")),
	        "41");
	assert_string_equal(message_of(request->body), "m");
	written = json_deep_copy(request->body);
	played_answer(request, 200, NULL);
	assert_int_equal(world.written, 1);
	assert_int_equal(world.api.open, 0);
	/* The same again: nothing. Another version of the object: read, and nothing put. */
	want(&world, "p", wanted(3, "m"), 1);
	assert_int_equal(world.api.open, 0);
	want(&world, "p", wanted(3, "m"), 2);
	played_answer(played_find(&world.api, "GET", "/p"), 200, written);
	assert_int_equal(world.api.open, 0);
	assert_int_equal(status_writer_statistics(world.writer).unchanged, 1);
	assert_int_equal(status_writer_statistics(world.writer).writes, 1);
	/* Not its generation yet: left alone until there is news. */
	want(&world, "p", wanted(3, "m"), 3);
	played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 4, "50"));
	assert_int_equal(world.api.open, 0);
	assert_int_equal(status_writer_statistics(world.writer).stale, 1);
	world_end(&world);
}

/* Wait for the back-off's end: the loop's timer is the event. */
static void step_until_open(struct world *world)
{
	for (int i = 0; i < 1000 && !world->api.open; i++)
		loop_step(world->loop, 1000);
	assert_int_equal(world->api.open, 1);
}

/* A conflict is read and merged again: what others wrote in the meantime stays. */
static void conflict(void **state)
{
	struct kubernetes_request *request;
	struct world world;
	json_t *theirs;

	(void)state;
	world_begin(&world);
	want(&world, "p", wanted(3, "m"), 1);
	played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 3, "1"));
	played_answer(played_find(&world.api, "PUT", "/p/status"), 409, NULL);
	assert_int_equal(status_writer_statistics(world.writer).conflicts, 1);
	step_until_open(&world);
	theirs = policy("p", 3, "2");
	json_object_set_new(theirs, "status",
	                    json_pack("{s:[{s:{s:s}, s:s, s:[]}]}", "ancestors", "ancestorRef", "name", "g",
	                              "controllerName", "example.com/x", "conditions"));
	played_answer(played_find(&world.api, "GET", "/p"), 200, theirs);
	request = played_find(&world.api, "PUT", "/p/status");
	assert_int_equal(json_array_size(json_object_get(json_object_get(request->body, "status"), "ancestors")), 2);
	played_answer(request, 200, NULL);
	assert_int_equal(world.written, 1);
	world_end(&world);
}

/* What counts is what is wanted when the object was read; what comes later is one more round. */
static void coalesced(void **state)
{
	struct world world;
	char message[16];

	(void)state;
	world_begin(&world);
	for (int i = 0; i < 50; i++) {
		snprintf(message, sizeof(message), "m%d", i);
		want(&world, "p", wanted(3, message), 1);
	}
	assert_int_equal(world.api.sent, 1);
	played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 3, "1"));
	assert_string_equal(message_of(played_find(&world.api, "PUT", "/p/status")->body), "m49");
	want(&world, "p", wanted(3, "late"), 1);
	assert_int_equal(world.api.open, 1);
	played_answer(played_find(&world.api, "PUT", "/p/status"), 200, NULL);
	played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 3, "2"));
	assert_string_equal(message_of(played_find(&world.api, "PUT", "/p/status")->body), "late");
	world_end(&world);
}

struct fate {
	int status;
	bool on_put;
	const char *what;
	bool again; /* at once, when something else is wanted */
};

/* Each answer that is no success is counted as what it is. */
static void refusals(void **state)
{
	static const struct fate fates[] = {
	        {404, false, "gone", true},     {404, true, "gone", true},     {403, false, "denied", true},
	        {403, true, "denied", true},    {422, true, "invalid", true},  {500, true, "failures", false},
	        {429, true, "failures", false}, {0, false, "failures", false}, {401, false, "denied", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(fates) / sizeof(fates[0]); i++) {
		struct status_writer_statistics statistics;
		const char *seen;
		struct world world;

		world_begin(&world);
		want(&world, "p", wanted(3, "m"), 1);
		if (fates[i].on_put) {
			played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 3, "1"));
			played_answer(played_find(&world.api, "PUT", "/p/status"), fates[i].status, NULL);
		} else {
			played_answer(played_find(&world.api, "GET", "/p"), fates[i].status, NULL);
		}
		statistics = status_writer_statistics(world.writer);
		seen = statistics.gone       ? "gone"
		       : statistics.denied   ? "denied"
		       : statistics.invalid  ? "invalid"
		       : statistics.failures ? "failures"
		                             : "nothing";
		if (strcmp(seen, fates[i].what) || statistics.in_flight || world.api.open)
			fail_msg("%d: expected %s, saw %s, %zu in flight", fates[i].status, fates[i].what, seen,
			         statistics.in_flight);
		assert_int_equal(statistics.waiting, strcmp(seen, "gone") != 0);
		want(&world, "p", wanted(3, "other"), 1);
		if ((world.api.open != 0) != fates[i].again)
			fail_msg("%d: %s at once", fates[i].status, world.api.open ? "again" : "not again");
		world_end(&world);
	}
}

/* Eight at a time, and in the order in which they came. */
static void bounded(void **state)
{
	struct world world;
	char name[16];

	(void)state;
	world_begin(&world);
	status_writer_begin(world.writer);
	for (int i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "p%02d", i);
		assert_int_equal(status_writer_want(world.writer, WRITTEN_POLICY, "n", name, wanted(3, "m"), 1), 0);
	}
	status_writer_end(world.writer);
	for (int i = 0; i < 30; i++) {
		size_t expected = 30 - i < STATUS_WRITER_PARALLEL ? 30 - i : STATUS_WRITER_PARALLEL;

		assert_int_equal(world.api.open, expected);
		snprintf(name, sizeof(name), "/p%02d", i);
		played_answer(played_find(&world.api, "GET", name), 404, NULL);
	}
	assert_int_equal(world.api.open, 0);
	world_end(&world);
}

/* No more than the rate, whatever comes: 100 at once, and the rest as tokens come. */
static void limited(void **state)
{
	struct world world;
	char name[16];
	size_t answered = 0;
	uint64_t began_ns = monotonic_ns(), tokens;

	(void)state;
	world_begin(&world);
	status_writer_begin(world.writer);
	for (int i = 0; i < 150; i++) {
		snprintf(name, sizeof(name), "p%03d", i);
		assert_int_equal(status_writer_want(world.writer, WRITTEN_POLICY, "n", name, wanted(3, "m"), 1), 0);
	}
	status_writer_end(world.writer);
	for (; world.api.open; answered++)
		played_answer(world.api.first, 404, NULL);
	/* What came in since, if the machine was slow, was no waiting of ours. */
	tokens = STATUS_WRITER_RATE + (monotonic_ns() - began_ns) * STATUS_WRITER_RATE / 1000000000 + 1;
	if (answered < 100 || (answered >= 150 && tokens < 150) || answered > tokens)
		fail_msg("%zu of 150 without waiting", answered);
	while (answered < 150) {
		loop_step(world.loop, 1000);
		for (; world.api.open; answered++)
			played_answer(world.api.first, 404, NULL);
	}
	world_end(&world);
}

/* Who does not lead sends nothing; who loses it stops what is under way; who gains it looks at everything. */
static void leading(void **state)
{
	struct world world;

	(void)state;
	world_begin(&world);
	status_writer_lead(world.writer, false);
	want(&world, "p", wanted(3, "m"), 1);
	assert_int_equal(world.api.sent, 0);
	status_writer_lead(world.writer, true);
	played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 3, "1"));
	played_find(&world.api, "PUT", "/p/status");
	world.api.leads = false;
	status_writer_lead(world.writer, false);
	assert_int_equal(world.api.open, 0);
	assert_int_equal(world.api.cancelled, 1);
	assert_int_equal(status_writer_statistics(world.writer).in_flight, 0);
	world.api.leads = true;
	status_writer_lead(world.writer, true);
	/* The term is over between reading and writing, and nobody has told us yet. */
	world.api.leads = false;
	played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 3, "1"));
	assert_int_equal(world.api.open, 0);
	assert_int_equal(world.written, 0);
	world.api.leads = true;
	status_writer_lead(world.writer, false);
	status_writer_lead(world.writer, true);
	played_find(&world.api, "GET", "/p");
	world_end(&world);
}

/* Objects that are wanted no more, in every state that they may be in. */
static void forgotten(void **state)
{
	struct world world;

	(void)state;
	world_begin(&world);
	for (int at = 0; at < 4; at++) {
		want(&world, "p", wanted(3, "m"), 1);
		if (at >= 1)
			played_answer(played_find(&world.api, "GET", "/p"), 200, policy("p", 3, "1"));
		if (at >= 2)
			played_answer(played_find(&world.api, "PUT", "/p/status"), at == 2 ? 409 : 200, NULL);
		status_writer_begin(world.writer);
		status_writer_end(world.writer);
		assert_int_equal(world.api.open, 0);
		assert_int_equal(status_writer_statistics(world.writer).objects, 0);
		assert_int_equal(status_writer_statistics(world.writer).waiting, 0);
	}
	world_end(&world);
}

static void kinds(void **state)
{
	struct world world;

	(void)state;
	world_begin(&world);
	status_writer_begin(world.writer);
	assert_int_equal(status_writer_want(world.writer, WRITTEN_GATEWAY, "n", "x", wanted(1, "m"), 1), 0);
	assert_int_equal(status_writer_want(world.writer, WRITTEN_GATEWAY_CLASS, "", "x", wanted(1, "m"), 1), 0);
	status_writer_end(world.writer);
	played_find(&world.api, "GET", "/apis/gateway.networking.k8s.io/v1/namespaces/n/gateways/x");
	played_answer(played_find(&world.api, "GET", "/apis/gateway.networking.k8s.io/v1/gatewayclasses/x"), 200,
	              json_pack("{s:{s:i}}", "metadata", "generation", 1));
	played_find(&world.api, "PUT", "/apis/gateway.networking.k8s.io/v1/gatewayclasses/x/status");
	world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(reads_merges_puts), cmocka_unit_test(conflict),  cmocka_unit_test(coalesced),
	        cmocka_unit_test(refusals),          cmocka_unit_test(bounded),   cmocka_unit_test(limited),
	        cmocka_unit_test(leading),           cmocka_unit_test(forgotten), cmocka_unit_test(kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
