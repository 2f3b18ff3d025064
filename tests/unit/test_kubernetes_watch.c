// SPDX-License-Identifier: GPL-2.0-only
/*
 * Watches: a script of what is expected to be asked and what is answered, and the sequence of what the watch told.
 *
 * Told: "[" and "]" a list's begin and end, "+ns/name@rv" an object, "-ns/name" one that is gone.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api_server.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "kubernetes/client.h"
#include "kubernetes/credentials.h"
#include "kubernetes/watch.h"

#define PATIENCE_NS 20000000000ull

enum way {
	ANSWER,     /* text is the body, with this status */
	STREAM,     /* text in chunks, then silence */
	STREAM_END, /* then the end in order */
	STREAM_CUT, /* then a reset, once the watch has told all */
	HUGE,       /* a body that is too large */
};

struct step {
	const char *asked; /* a part of the request's target; "!x": x is not in it; "x$": it ends so */
	enum way way;
	int status;
	const char *text;
	const char *headers;
};

#define LIST(rv, next, items)                                                                                          \
	"{\"kind\":\"ServiceList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"" rv                      \
	"\",\"continue\":\"" next "\"},\"items\":[" items "]}"
#define ITEM(name, rv)        "{\"metadata\":{\"namespace\":\"n\",\"name\":\"" name "\",\"resourceVersion\":\"" rv "\"}}"
#define EVENT(type, name, rv) "{\"type\":\"" type "\",\"object\":" ITEM(name, rv) "}\n"
#define BOOKMARK(rv)                                                                                                   \
	"{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"resourceVersion\":\"" rv "\"}}}\n"
#define ERROR_EVENT(code, reason)                                                                                      \
	"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":" code ",\"reason\":\"" reason                   \
	"\",\"message\":\"said the server\"}}\n"
#define STATUS(reason) "{\"kind\":\"Status\",\"reason\":\"" reason "\",\"message\":\"said the server\"}"

struct fixture {
	const struct step *steps;
	size_t step_count;
	char unexpected[600]; /* written by the server's threads, one at a time */
	_Atomic unsigned int served;
	struct loop *loop;
	struct api_server *server;
	struct kubernetes_credentials *credentials;
	struct kubernetes_client *client;
	struct kubernetes_watch *watch;
	char told[4096];
	const char *free_at; /* the watch frees itself when told ends with it */
};

static void tell(struct fixture *fixture, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void tell(struct fixture *fixture, const char *format, ...)
{
	size_t length = strlen(fixture->told), end;
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(fixture->told + length, sizeof(fixture->told) - length, format, arguments);
	va_end(arguments);
	length = strlen(fixture->told);
	end = fixture->free_at ? strlen(fixture->free_at) : 0;
	if (end && length >= end && strcmp(fixture->told + length - end, fixture->free_at) == 0)
		kubernetes_watch_free(TAKE_PTR(fixture->watch));
}

static void on_object(void *context, json_t *object)
{
	const char *namespace_, *name, *resource_version;
	const json_t *metadata = json_object_get(object, "metadata");

	assert_non_null(json_string_value(json_object_get(object, "kind")));
	assert_int_equal(json_unpack((json_t *)metadata, "{s:s,s:s,s:s}", "namespace", &namespace_, "name", &name,
	                             "resourceVersion", &resource_version),
	                 0);
	tell(context, "+%s/%s@%s ", namespace_, name, resource_version);
}

static void on_removed(void *context, const char *namespace_, const char *name)
{
	tell(context, "-%s/%s ", namespace_, name);
}

static void on_list(void *context, bool begins)
{
	tell(context, begins ? "[ " : "] ");
}

static bool has_part(const char *target, const char *part)
{
	size_t length = strlen(part), all = strlen(target);

	if (length && part[length - 1] == '$')
		return all >= length - 1 && strncmp(target + all - (length - 1), part, length - 1) == 0;
	return strstr(target, part) != NULL;
}

static bool is_as_asked(const struct api_request *request, const char *asked)
{
	return asked[0] == '!' ? !has_part(request->target, asked + 1) : has_part(request->target, asked);
}

static void send_huge(struct api_connection *connection)
{
	static char huge[1 << 20];

	memset(huge, ' ', sizeof(huge) - 1);
	api_stream(connection);
	for (unsigned int i = 0; i < (KUBERNETES_BODY_MAX >> 20) + 2; i++)
		api_send(connection, huge);
}

static void serve(void *context, struct api_connection *connection, const struct api_request *request)
{
	struct fixture *fixture = context;
	const struct step *step;

	if (request->number >= fixture->step_count) { /* the watch after the last step: nothing happens */
		api_stream(connection);
		fixture->served++;
		api_wait_for_end(connection);
		return;
	}
	step = &fixture->steps[request->number];
	if (!is_as_asked(request, step->asked) && !fixture->unexpected[0])
		(void)snprintf(fixture->unexpected, sizeof(fixture->unexpected), "request %u: expected %s, seen %s",
		               request->number, step->asked, request->target);
	fixture->served++;
	switch (step->way) {
	case ANSWER:
		api_answer(connection, step->status, step->headers, step->text);
		return;
	case HUGE:
		send_huge(connection);
		return;
	default:
		api_stream(connection);
		api_send(connection, step->text);
	}
	if (step->way == STREAM) {
		api_wait_for_end(connection);
	} else if (step->way == STREAM_END) {
		api_send_end(connection);
	} else {
		api_wait_for_go(connection);
		api_cut(connection);
	}
}

static void start(struct fixture *fixture, const struct step *steps, size_t count)
{
	const struct kubernetes_watch_options options = {
	        .group = "",
	        .version = "v1",
	        .namespace_ = "",
	        .resource = "services",
	        .name = "",
	        .label_selector = "a=b",
	        .field_selector = "",
	        .on_object = on_object,
	        .on_removed = on_removed,
	        .on_list = on_list,
	        .context = fixture,
	};
	char error[256];

	*fixture = (struct fixture){.steps = steps, .step_count = count, .free_at = fixture->free_at};
	assert_int_equal(loop_new(&fixture->loop), 0);
	fixture->server = api_server_start(serve, fixture);
	assert_int_equal(kubernetes_credentials_open("", api_server_account(fixture->server), &fixture->credentials,
	                                             error, sizeof(error)),
	                 0);
	assert_int_equal(kubernetes_client_new(fixture->loop, fixture->credentials, &fixture->client), 0);
	fixture->watch = kubernetes_watch_new(fixture->loop, fixture->client, &options);
	assert_non_null(fixture->watch);
}

static void stop(struct fixture *fixture)
{
	kubernetes_watch_free(fixture->watch);
	kubernetes_client_free(fixture->client);
	kubernetes_credentials_close(fixture->credentials);
	loop_free(fixture->loop);
	api_server_stop(fixture->server);
}

/* Back-offs are not waited for. */
static void wait_until_served(struct fixture *fixture, unsigned int requests)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (fixture->served < requests) {
		if (fixture->watch)
			kubernetes_watch_hurry(fixture->watch);
		assert_int_equal(loop_step(fixture->loop, 20), 0);
		if (monotonic_ns() > limit)
			fail_msg("only %u of %u requests in time; told: %s%s", fixture->served, requests, fixture->told,
			         fixture->unexpected);
	}
}

static void wait_for_told(struct fixture *fixture, const char *expected)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (strcmp(fixture->told, expected) != 0) {
		if (fixture->watch)
			kubernetes_watch_hurry(fixture->watch);
		assert_int_equal(loop_step(fixture->loop, 20), 0);
		if (monotonic_ns() > limit)
			fail_msg("expected \"%s\", seen \"%s\" %s", expected, fixture->told, fixture->unexpected);
	}
}

struct row {
	const char *name, *told, *resource_version;
	struct step steps[8];
	uint64_t failures;
	const char *error; /* of the last failure, unless it is over: "" */
};

static const struct row rows[] = {
        {
                .name = "a list in pages, then changes",
                .told = "[ +n/a@1 +n/b@2 +n/c@3 ] +n/d@11 +n/a@12 -n/b ",
                .resource_version = "20",
                .steps =
                        {
                                {"!continue", ANSWER, 200, LIST("10", "next%20", ITEM("a", "1") "," ITEM("b", "2"))},
                                {"/api/v1/services?labelSelector=a%3Db&limit=100&continue=next%2520", ANSWER, 200,
                                 LIST("10", "", ITEM("c", "3"))},
                                {"watch=1&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=", STREAM, 0,
                                 EVENT("ADDED", "d", "11") EVENT("MODIFIED", "a", "12") EVENT("DELETED", "b", "13")
                                         BOOKMARK("20")},
                        },
        },
        {
                .name = "an empty list, null for items",
                .told = "[ ] +n/a@11 ",
                .resource_version = "11",
                .steps =
                        {
                                {"!watch", ANSWER, 200, "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":null}"},
                                {"watch", STREAM, 0,
                                 "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"namespace\":"
                                 "\"n\",\"name\":\"a\",\"resourceVersion\":\"11\"}}}\n"},
                        },
        },
        {
                .name = "410 in mid-list begins anew",
                .told = "[ +n/a@1 [ +n/b@2 ] ",
                .resource_version = "30",
                .failures = 1,
                .steps =
                        {
                                {"!continue", ANSWER, 200, LIST("10", "x", ITEM("a", "1"))},
                                {"continue=x", ANSWER, 410, STATUS("Expired")},
                                {"!continue", ANSWER, 200, LIST("30", "", ITEM("b", "2"))},
                        },
        },
        {
                .name = "410 to the watch",
                .told = "[ +n/a@1 ] [ +n/a@2 ] ",
                .resource_version = "30",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1"))},
                                {"watch", ANSWER, 410, STATUS("Gone")},
                                {"!watch", ANSWER, 200, LIST("30", "", ITEM("a", "2"))},
                        },
        },
        {
                .name = "410 as an event",
                .told = "[ ] +n/a@11 [ +n/a@11 ] ",
                .resource_version = "30",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("ADDED", "a", "11") ERROR_EVENT("410", "Expired")},
                                {"!watch", ANSWER, 200, LIST("30", "", ITEM("a", "11"))},
                        },
        },
        {
                .name = "another error as an event: from where it was",
                .told = "[ ] +n/a@11 +n/b@12 ",
                .resource_version = "12",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("ADDED", "a", "11") ERROR_EVENT("500", "InternalError")},
                                {"resourceVersion=11", STREAM, 0, EVENT("ADDED", "b", "12")},
                        },
        },
        {
                .name = "the end in order: from the bookmark",
                .told = "[ ] +n/b@30 ",
                .resource_version = "30",
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"resourceVersion=10", STREAM_END, 0, BOOKMARK("20")},
                                {"resourceVersion=20", STREAM_END, 0, EVENT("ADDED", "b", "30")},
                                {"resourceVersion=30", STREAM_END, 0, ""},
                        },
        },
        {
                .name = "cut in mid-object: from the last whole one",
                .told = "[ ] +n/a@11 +n/b@12 ",
                .resource_version = "12",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM_CUT, 0,
                                 EVENT("ADDED", "a", "11") "{\"type\":\"ADDED\",\"object\":{\"metadata\":{"},
                                {"resourceVersion=11", STREAM, 0, EVENT("ADDED", "b", "12")},
                        },
        },
        {
                .name = "pages that are too large get smaller",
                .told = "[ +n/a@1 ] ",
                .resource_version = "10",
                .failures = 1,
                .steps =
                        {
                                {"limit=100", HUGE, 0, NULL},
                                {"limit=25", ANSWER, 200, LIST("10", "", ITEM("a", "1"))},
                        },
        },
        {
                .name = "a list without end",
                .told = "[ +n/a@1 +n/b@1 [ ] ",
                .resource_version = "10",
                .failures = 1,
                .steps =
                        {
                                {"!continue", ANSWER, 200, LIST("10", "x", ITEM("a", "1"))},
                                {"continue=x", ANSWER, 200, LIST("10", "x", ITEM("b", "1"))},
                                {"!continue", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "answers that make no sense: all are tried again, nothing is applied",
                .told = "[ +n/a@1 [ [ ] ",
                .resource_version = "10",
                .failures = 6,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("", "", ITEM("a", "1"))},
                                {"!watch", ANSWER, 200, "[]"},
                                {"!watch", ANSWER, 200, "{\"metadata\":{\"resourceVersion\":5},\"items\":[]}"},
                                {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1") ",{\"metadata\":{\"name\":[]}}")},
                                {"!watch", ANSWER, 200, "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":{}}"},
                                {"!watch", ANSWER, 200, "<html>"},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "events that make no sense: the list is read again",
                .told = "[ ] [ ] [ ] [ ] ",
                .resource_version = "10",
                .failures = 3,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0,
                                 "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"x\"}}}\n"},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("EXPLODED", "a", "11")},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, "[1,2,3]\n"},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "junk in the stream: from where it was",
                .told = "[ ] +n/a@11 ",
                .resource_version = "11",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("ADDED", "a", "11") "\x01\x02 junk\n"},
                                {"resourceVersion=11", STREAM, 0, ""},
                        },
        },
        {
                .name = "denied, then allowed",
                .told = "[ ] ",
                .resource_version = "10",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 403, STATUS("Forbidden")},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "denied in mid-watch: what was there stays",
                .told = "[ +n/a@1 ] ",
                .resource_version = "10",
                .failures = 2,
                .error = "403 Forbidden: said the server",
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1"))},
                                {"watch", ANSWER, 403, STATUS("Forbidden")},
                                {"!watch", ANSWER, 403, STATUS("Forbidden")},
                        },
        },
        {
                .name = "one name twice in a list",
                .told = "[ +n/a@1 +n/a@2 ] ",
                .resource_version = "10",
                .steps = {{"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1") "," ITEM("a", "2"))}},
        },
};

static size_t count_steps(const struct row *row)
{
	size_t count = 0;

	while (count < ARRAY_SIZE(row->steps) && row->steps[count].asked)
		count++;
	return count;
}

static bool has_cut(const struct row *row)
{
	for (size_t i = 0; i < count_steps(row); i++)
		if (row->steps[i].way == STREAM_CUT)
			return true;
	return false;
}

/* The last answer's, perhaps, which is on its way. */
static void wait_for_failures(struct fixture *fixture, const struct row *row)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (kubernetes_watch_statistics(fixture->watch)->failures < row->failures && monotonic_ns() < limit)
		assert_int_equal(loop_step(fixture->loop, 20), 0);
}

static void run_row(const struct row *row)
{
	struct fixture fixture = {0};
	const struct kubernetes_watch_statistics *statistics;
	size_t steps = count_steps(row);

	start(&fixture, row->steps, steps);
	if (has_cut(row)) {
		wait_until_served(&fixture, 2);
		wait_for_told(&fixture, "[ ] +n/a@11 ");
		api_server_go(fixture.server);
	}
	wait_until_served(&fixture, (unsigned int)steps);
	wait_for_told(&fixture, row->told);
	wait_for_failures(&fixture, row);
	for (unsigned int i = 0; i < 5; i++) /* and no more comes */
		assert_int_equal(loop_step(fixture.loop, 5), 0);
	statistics = kubernetes_watch_statistics(fixture.watch);
	if (fixture.unexpected[0])
		fail_msg("%s: %s", row->name, fixture.unexpected);
	if (strcmp(fixture.told, row->told) != 0)
		fail_msg("%s: expected \"%s\", seen \"%s\"", row->name, row->told, fixture.told);
	if (strcmp(statistics->resource_version, row->resource_version) != 0)
		fail_msg("%s: expected resourceVersion %s, seen %s", row->name, row->resource_version,
		         statistics->resource_version);
	if (statistics->failures != row->failures)
		fail_msg("%s: expected %llu failures, seen %llu (%s)", row->name, (unsigned long long)row->failures,
		         (unsigned long long)statistics->failures, statistics->error);
	assert_true(statistics->synced);
	if (row->error)
		assert_string_equal(statistics->error, row->error);
	assert_int_equal(statistics->failing_since_ns != 0, statistics->error[0] != '\0');
	stop(&fixture);
}

static void test_rows(void **state)
{
	const char *only = getenv("POSTERN_WATCH_ROW");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!only || strstr(rows[i].name, only))
			run_row(&rows[i]);
}

static void wait_for_state(struct fixture *fixture, enum kubernetes_watch_state expected)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (kubernetes_watch_statistics(fixture->watch)->state != expected) {
		assert_int_equal(loop_step(fixture->loop, 20), 0);
		if (monotonic_ns() > limit)
			fail_msg("expected state %s, seen %s (%s)", kubernetes_watch_state_name(expected),
			         kubernetes_watch_state_name(kubernetes_watch_statistics(fixture->watch)->state),
			         kubernetes_watch_statistics(fixture->watch)->error);
	}
}

static void test_states(void **state)
{
	static const struct {
		int status;
		enum kubernetes_watch_state expected;
		const char *error;
	} answers[] = {
	        {403, WATCH_DENIED, "403 Forbidden: said the server"},
	        {404, WATCH_ABSENT, "404 NotFound: said the server"},
	        {500, WATCH_BACKOFF, "500: said the server"},
	        {401, WATCH_BACKOFF, "401 Unauthorized: said the server"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		const struct step step = {"!watch", ANSWER, answers[i].status, "{\"message\":\"said the server\"}",
		                          NULL};
		struct fixture fixture = {0};

		start(&fixture, &step, 1);
		assert_int_equal(kubernetes_watch_statistics(fixture.watch)->state, WATCH_LISTING);
		wait_for_state(&fixture, answers[i].expected);
		assert_string_equal(kubernetes_watch_statistics(fixture.watch)->error, answers[i].error);
		assert_false(kubernetes_watch_statistics(fixture.watch)->synced);
		stop(&fixture);
	}
}

/* The server asks for two seconds, where the first back-off is one at most. */
static void test_retry_after(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 429, "{}", "Retry-After: 2\r\n"},
	        {"!watch", ANSWER, 200, LIST("10", "", ""), NULL},
	};
	struct fixture fixture = {0};
	uint64_t begun = monotonic_ns();

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	while (fixture.served < 2)
		assert_int_equal(loop_step(fixture.loop, 100), 0);
	assert_true(monotonic_ns() - begun >= 2000000000ull);
	stop(&fixture);
}

/* Wherever it is told something, a watch may end itself. */
static void test_freed_inside(void **state)
{
	static const struct step steps[] = {
	        {"!continue", ANSWER, 200, LIST("10", "x", ITEM("a", "1") "," ITEM("b", "2")), NULL},
	        {"continue", ANSWER, 200, LIST("10", "", ITEM("c", "3")), NULL},
	        {"watch", STREAM, 0, EVENT("ADDED", "d", "11") EVENT("DELETED", "b", "13") EVENT("ADDED", "e", "14"),
	         NULL},
	};
	static const char *const places[] = {"[ ", "+n/a@1 ", "+n/b@2 ", "+n/c@3 ", "] ", "+n/d@11 ", "-n/b "};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct fixture fixture = {.free_at = places[i]};
		size_t length;

		start(&fixture, steps, ARRAY_SIZE(steps));
		while (fixture.watch)
			assert_int_equal(loop_step(fixture.loop, 100), 0);
		for (unsigned int turns = 0; turns < 5; turns++)
			assert_int_equal(loop_step(fixture.loop, 5), 0);
		length = strlen(fixture.told) - strlen(places[i]);
		assert_string_equal(fixture.told + length, places[i]); /* nothing came after it */
		stop(&fixture);
	}
}

/* A server that is away for long: the watch goes on from where it was, and nothing is told in between. */
static void test_server_away(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1")), NULL},
	        {"watch", STREAM_CUT, 0, EVENT("ADDED", "b", "11"), NULL},
	        {"resourceVersion=11", ANSWER, 503, "{}", NULL},
	        {"resourceVersion=11", ANSWER, 500, "{}", NULL},
	        {"resourceVersion=11", ANSWER, 401, "{}", NULL},
	        {"resourceVersion=11", STREAM, 0, EVENT("ADDED", "c", "12"), NULL},
	};
	struct fixture fixture = {0};

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	wait_for_told(&fixture, "[ +n/a@1 ] +n/b@11 ");
	api_server_go(fixture.server);
	wait_until_served(&fixture, 4);
	assert_true(kubernetes_watch_statistics(fixture.watch)->failing_since_ns != 0);
	wait_until_served(&fixture, 6);
	wait_for_told(&fixture, "[ +n/a@1 ] +n/b@11 +n/c@12 ");
	assert_true(kubernetes_watch_statistics(fixture.watch)->failing_since_ns == 0);
	assert_string_equal(fixture.unexpected, "");
	stop(&fixture);
}

static void wait_for_resource_version(struct fixture *fixture, const char *expected)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (strcmp(kubernetes_watch_statistics(fixture->watch)->resource_version, expected) != 0) {
		assert_int_equal(loop_step(fixture->loop, 20), 0);
		if (monotonic_ns() > limit)
			fail_msg("expected resourceVersion %s, seen %s %s", expected,
			         kubernetes_watch_statistics(fixture->watch)->resource_version, fixture->unexpected);
	}
}

/*
 * How far does it reach? It is opened anew from where it was and for 3 s, so that the server's bookmark comes; nothing
 * is listed, told again or counted as a failure, and the one after it is as long as any.
 */
static void test_hasten(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1")), NULL},
	        {"resourceVersion=10", STREAM, 0, EVENT("ADDED", "b", "11"), NULL},
	        {"resourceVersion=11&timeoutSeconds=3$", STREAM_END, 0, BOOKMARK("20"), NULL},
	        {"!timeoutSeconds=3$", STREAM, 0, BOOKMARK("21"), NULL},
	        {"resourceVersion=21&timeoutSeconds=3$", STREAM, 0, BOOKMARK("30"), NULL},
	};
	struct fixture fixture = {0};

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	wait_for_told(&fixture, "[ +n/a@1 ] +n/b@11 ");
	assert_true(kubernetes_watch_is_open(fixture.watch));
	kubernetes_watch_hasten(fixture.watch);
	assert_false(kubernetes_watch_is_open(fixture.watch));
	wait_for_resource_version(&fixture, "21");
	assert_true(kubernetes_watch_is_open(fixture.watch));
	kubernetes_watch_hasten(fixture.watch);
	wait_for_resource_version(&fixture, "30");
	assert_string_equal(fixture.told, "[ +n/a@1 ] +n/b@11 ");
	assert_string_equal(fixture.unexpected, "");
	assert_int_equal(kubernetes_watch_statistics(fixture.watch)->lists, 1);
	assert_int_equal(kubernetes_watch_statistics(fixture.watch)->failures, 0);
	stop(&fixture);
}

/* What is not a watch that waits is not hastened: not before the first list, not in a list, not in a back-off. */
static void test_hasten_in_vain(void **state)
{
	static const struct step steps[] = {
	        {"!watch", ANSWER, 503, "{}", NULL},
	        {"!watch", ANSWER, 200, LIST("10", "x", ITEM("a", "1")), NULL},
	        {"continue=x", ANSWER, 200, LIST("10", "", ITEM("b", "2")), NULL},
	        {"resourceVersion=10", STREAM, 0, BOOKMARK("20"), NULL},
	};
	struct fixture fixture = {0};

	(void)state;
	start(&fixture, steps, ARRAY_SIZE(steps));
	kubernetes_watch_hasten(fixture.watch);
	while (kubernetes_watch_statistics(fixture.watch)->state != WATCH_BACKOFF) {
		assert_int_equal(loop_step(fixture.loop, 20), 0);
		kubernetes_watch_hasten(fixture.watch); /* the list is on its way */
	}
	assert_int_equal(fixture.served, 1);
	kubernetes_watch_hasten(fixture.watch);
	assert_int_equal(kubernetes_watch_statistics(fixture.watch)->state, WATCH_BACKOFF);
	kubernetes_watch_hurry(fixture.watch);
	while (!kubernetes_watch_statistics(fixture.watch)->synced) {
		assert_int_equal(loop_step(fixture.loop, 20), 0);
		if (!kubernetes_watch_statistics(fixture.watch)->synced)
			kubernetes_watch_hasten(fixture.watch); /* nor between its pages */
	}
	wait_for_resource_version(&fixture, "20");
	assert_int_equal(fixture.served, 4);
	assert_string_equal(fixture.unexpected, "");
	assert_string_equal(fixture.told, "[ +n/a@1 +n/b@2 ] ");
	stop(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_rows),           cmocka_unit_test(test_states),
	        cmocka_unit_test(test_retry_after),    cmocka_unit_test(test_freed_inside),
	        cmocka_unit_test(test_server_away),    cmocka_unit_test(test_hasten),
	        cmocka_unit_test(test_hasten_in_vain),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
