// SPDX-License-Identifier: GPL-2.0-only
/* Events against a played API server: told once, counted afterwards, never too many. And what in a status is worth one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/loop.h"
#include "controller/events.h"
#include "controller/json_cleanup.h"
#include "controller/refusals.h"
#include "played_api.h"

struct world {
	struct played_api api;
	struct loop *loop;
	struct events *events;
};

static const struct event_regarding some_policy = {"gateway.networking.k8s.io/v1", "BackendTLSPolicy", "n", "p",
                                                   "uid-1"};

static bool leads(void *context)
{
	return ((struct world *)context)->api.leads;
}

static void world_begin(struct world *world)
{
	struct events_options options = {
	        .send = played_send,
	        .cancel = played_cancel,
	        .leads = leads,
	        .context = world,
	        .controller = "postern.dev/backend-tls",
	        .instance = "postern-controller-0",
	};

	memset(world, 0, sizeof(*world));
	world->api.leads = true;
	assert_int_equal(loop_new(&world->loop), 0);
	options.loop = world->loop;
	options.client = played_client(&world->api);
	assert_int_equal(events_new(&options, &world->events), 0);
}

static void world_end(struct world *world)
{
	events_free(world->events);
	assert_int_equal(world->api.open, 0);
	loop_free(world->loop);
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

static json_int_t series_count(const json_t *body)
{
	return json_integer_value(json_object_get(json_object_get(body, "series"), "count"));
}

static void tell(struct world *world, const char *note)
{
	events_tell(world->events, &some_policy, true, "Invalid", "Accept", note);
}

static void once_then_counted(void **state)
{
	struct kubernetes_request *request;
	struct world world;
	char name[300];

	(void)state;
	world_begin(&world);
	tell(&world, "why");
	request = played_find(&world.api, "POST", "/apis/events.k8s.io/v1/namespaces/n/events");
	assert_string_equal(text(request->body, "reason"), "Invalid");
	assert_string_equal(text(request->body, "note"), "why");
	assert_string_equal(text(request->body, "type"), "Warning");
	assert_string_equal(text(json_object_get(request->body, "regarding"), "uid"), "uid-1");
	assert_null(json_object_get(request->body, "series"));
	snprintf(name, sizeof(name), "/%s", text(json_object_get(request->body, "metadata"), "name"));
	tell(&world, "why"); /* while it is being made */
	played_answer(request, 201, NULL);
	request = played_find(&world.api, "PATCH", name);
	assert_string_equal(request->content_type, "application/merge-patch+json");
	assert_int_equal(series_count(request->body), 2);
	played_answer(request, 200, NULL);
	/* From now on not more often than every minute. */
	for (int i = 0; i < 100; i++)
		tell(&world, "why");
	assert_int_equal(world.api.open, 0);
	assert_int_equal(events_statistics(world.events).told, 1);
	assert_int_equal(events_statistics(world.events).counted, 1);
	/* Another note is another Event. */
	tell(&world, "why else");
	request = played_find(&world.api, "POST", "/events");
	assert_string_not_equal(text(json_object_get(request->body, "metadata"), "name"), name + 1);
	world_end(&world);
}

/* Another leader has told it: counted on from there. */
static void existed(void **state)
{
	struct world world;

	(void)state;
	world_begin(&world);
	tell(&world, "why");
	played_answer(played_find(&world.api, "POST", "/events"), 409, NULL);
	played_answer(world.api.first, 200, json_pack("{s:{s:i}}", "series", "count", 7));
	assert_string_equal(world.api.first->method, "PATCH");
	assert_int_equal(series_count(world.api.first->body), 8);
	world_end(&world);
}

/* The server has forgotten it after an hour: it is told anew. */
static void expired(void **state)
{
	struct world world;

	(void)state;
	world_begin(&world);
	tell(&world, "why");
	played_answer(played_find(&world.api, "POST", "/events"), 201, NULL);
	tell(&world, "why");
	played_answer(world.api.first, 404, NULL);
	assert_int_equal(events_statistics(world.events).failures, 1);
	tell(&world, "why");
	played_find(&world.api, "POST", "/events");
	world_end(&world);
}

static void limits(void **state)
{
	struct world world;
	size_t made = 0;
	char note[32];

	(void)state;
	world_begin(&world);
	for (int i = 0; i < 100; i++) {
		snprintf(note, sizeof(note), "%d", i);
		tell(&world, note);
	}
	assert_int_equal(world.api.open, EVENTS_PARALLEL);
	for (; world.api.open; made++)
		played_answer(world.api.first, 201, NULL);
	assert_int_equal(made, EVENTS_PER_OBJECT);
	assert_int_equal(events_statistics(world.events).dropped, 100 - EVENTS_PER_OBJECT);
	/* Another object is not made to pay for it. */
	events_tell(world.events, &(struct event_regarding){"v1", "Pod", "n", "q", "uid-2"}, true, "StartRace", "Enrol",
	            "x");
	assert_int_equal(world.api.open, 1);
	world_end(&world);
}

static void not_leading(void **state)
{
	struct world world;

	(void)state;
	world_begin(&world);
	world.api.leads = false;
	tell(&world, "why");
	assert_int_equal(world.api.sent, 0);
	world.api.leads = true;
	tell(&world, "why");
	assert_int_equal(world.api.open, 1);
	events_stop(world.events);
	assert_int_equal(world.api.cancelled, 1);
	world_end(&world);
}

/* Names and notes that the API server would refuse. */
static void awkward(void **state)
{
	const struct {
		const char *name, *namespace_, *path, *prefix;
	} rows[] = {
	        {"p", "n", "/namespaces/n/events", "p."},
	        {"a.b", "", "/namespaces/default/events", "a.b."},
	        {"", "n", "/namespaces/n/events", "."},
	};
	char long_name[254], note[3001];
	struct kubernetes_request *request;
	struct world world;

	(void)state;
	world_begin(&world);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		events_tell(world.events, &(struct event_regarding){"v1", "K", rows[i].namespace_, rows[i].name, "u"},
		            false, "R", "A", "");
		request = played_find(&world.api, "POST", rows[i].path);
		assert_string_equal(text(request->body, "type"), "Normal");
		assert_memory_equal(text(json_object_get(request->body, "metadata"), "name"), rows[i].prefix,
		                    strlen(rows[i].prefix));
		played_answer(request, 201, NULL);
	}
	/* As long as a name can be, with a dash where it is cut; a note of 3,000 bytes of two-byte characters. */
	memset(long_name, '-', sizeof(long_name) - 1);
	long_name[0] = 'a';
	long_name[sizeof(long_name) - 1] = '\0';
	for (size_t i = 0; i < 3000; i += 2)
		memcpy(note + i, "\xc3\xa9", 2);
	note[3000] = '\0';
	events_tell(world.events, &(struct event_regarding){"v1", "K", "n", long_name, "u"}, false, "R", "A", note);
	request = played_find(&world.api, "POST", "/events");
	assert_memory_equal(text(json_object_get(request->body, "metadata"), "name"), "a.", 2);
	assert_in_range(strlen(text(request->body, "note")), EVENT_NOTE_MAX - 4, EVENT_NOTE_MAX);
	world_end(&world);
}

/* ---- what is worth an Event ---- */

struct heard {
	char text[512];
};

static void hear(void *context, const char *reason, const char *note)
{
	struct heard *heard = context;
	size_t length = strlen(heard->text);

	snprintf(heard->text + length, sizeof(heard->text) - length, "[%s: %s]", reason, note);
}

/* status, reason and message of Accepted and ResolvedRefs; NULL: no entry of ours. */
static json_t *status(const char *const words[6])
{
	if (!words[0])
		return json_pack("{s:{s:[{s:s, s:[{s:s, s:s}]}]}}", "status", "ancestors", "controllerName",
		                 "example.com/x", "conditions", "type", "Accepted", "status", "False");
	return json_pack("{s:{s:[{s:s, s:[{s:s, s:s, s:s, s:s}, {s:s, s:s, s:s, s:s}]}]}}", "status", "ancestors",
	                 "controllerName", "postern.dev/backend-tls", "conditions", "type", "Accepted", "status",
	                 words[0], "reason", words[1], "message", words[2], "type", "ResolvedRefs", "status", words[3],
	                 "reason", words[4], "message", words[5]);
}

static void worth_an_event(void **state)
{
	static const struct {
		const char *name;
		const char *before[6], *after[6];
		const char *heard;
	} rows[] = {
	        {"accepted", {NULL}, {"True", "Accepted", "m", "True", "ResolvedRefs", "m"}, ""},
	        {"refused from the start",
	         {NULL},
	         {"False", "Invalid", "why", "True", "ResolvedRefs", "m"},
	         "[Invalid: why]"},
	        {"both",
	         {"True", "Accepted", "m", "True", "ResolvedRefs", "m"},
	         {"False", "NoValidCACertificate", "a", "False", "InvalidCACertificateRef", "b"},
	         "[NoValidCACertificate: a][InvalidCACertificateRef: b]"},
	        {"still refused, the same",
	         {"False", "Invalid", "why", "True", "ResolvedRefs", "m"},
	         {"False", "Invalid", "why", "True", "ResolvedRefs", "other"},
	         ""},
	        {"refused for another reason",
	         {"False", "Invalid", "why", "True", "ResolvedRefs", "m"},
	         {"False", "Conflicted", "why", "True", "ResolvedRefs", "m"},
	         "[Conflicted: why]"},
	        {"good again",
	         {"False", "Invalid", "why", "True", "ResolvedRefs", "m"},
	         {"True", "Accepted", "m", "True", "ResolvedRefs", "m"},
	         ""},
	        {"ambiguous, and accepted",
	         {"True", "Accepted", "m", "True", "ResolvedRefs", "m"},
	         {"True", "Accepted", "in force; AmbiguousEndpoint: 10.0.0.1:80 is refused", "True", "ResolvedRefs",
	          "m"},
	         "[AmbiguousEndpoint: AmbiguousEndpoint: 10.0.0.1:80 is refused]"},
	        {"ambiguous as before",
	         {"True", "Accepted", "AmbiguousEndpoint: x", "True", "ResolvedRefs", "m"},
	         {"True", "Accepted", "AmbiguousEndpoint: x", "False", "InvalidKind", "k"},
	         "[InvalidKind: k]"},
	        {"no entry any more", {"False", "Invalid", "why", "True", "R", "m"}, {NULL}, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		_cleanup_json_ json_t *before = status(rows[i].before), *after = status(rows[i].after);
		struct heard heard = {""};

		assert_non_null(before);
		assert_non_null(after);
		refusals_find(before, after, hear, &heard);
		if (strcmp(heard.text, rows[i].heard))
			fail_msg("%s: expected \"%s\", saw \"%s\"", rows[i].name, rows[i].heard, heard.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(once_then_counted), cmocka_unit_test(existed),
	        cmocka_unit_test(expired),           cmocka_unit_test(limits),
	        cmocka_unit_test(not_leading),       cmocka_unit_test(awkward),
	        cmocka_unit_test(worth_an_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
