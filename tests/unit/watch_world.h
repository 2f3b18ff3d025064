/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * watch_world.h: a watch whose API server is a script: what is expected to be asked and what is answered, step by step;
 * and the sequence of what the watch told: "[" and "]" a list's begin and end, "+ns/name@rv" an object, "-ns/name" one
 * that is gone.
 *
 * Included by the tests of kubernetes/watch.h (one .c a program, so its functions are defined here).
 */
#ifndef POSTERN_TESTS_WATCH_WORLD_H
#define POSTERN_TESTS_WATCH_WORLD_H

#include <setjmp.h>
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

#define PATIENCE_NS 120000000000ull /* it ends a hang, and judges no speed */

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

static inline void tell(struct fixture *fixture, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void tell(struct fixture *fixture, const char *format, ...)
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

static inline void on_object(void *context, json_t *object)
{
	const char *namespace_, *name, *resource_version;
	const json_t *metadata = json_object_get(object, "metadata");

	assert_non_null(json_string_value(json_object_get(object, "kind")));
	assert_int_equal(json_unpack((json_t *)metadata, "{s:s,s:s,s:s}", "namespace", &namespace_, "name", &name,
	                             "resourceVersion", &resource_version),
	                 0);
	tell(context, "+%s/%s@%s ", namespace_, name, resource_version);
}

static inline void on_removed(void *context, const char *namespace_, const char *name)
{
	tell(context, "-%s/%s ", namespace_, name);
}

static inline void on_list(void *context, bool begins)
{
	tell(context, begins ? "[ " : "] ");
}

static inline bool has_part(const char *target, const char *part)
{
	size_t length = strlen(part), all = strlen(target);

	if (length && part[length - 1] == '$')
		return all >= length - 1 && strncmp(target + all - (length - 1), part, length - 1) == 0;
	return strstr(target, part) != NULL;
}

static inline bool is_as_asked(const struct api_request *request, const char *asked)
{
	return asked[0] == '!' ? !has_part(request->target, asked + 1) : has_part(request->target, asked);
}

static inline void send_huge(struct api_connection *connection)
{
	static char huge[1 << 20];

	memset(huge, ' ', sizeof(huge) - 1);
	api_stream(connection);
	for (unsigned int i = 0; i < (KUBERNETES_BODY_MAX >> 20) + 2; i++)
		api_send(connection, huge);
}

static inline void serve(void *context, struct api_connection *connection, const struct api_request *request)
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

static inline void start(struct fixture *fixture, const struct step *steps, size_t count)
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

static inline void stop(struct fixture *fixture)
{
	kubernetes_watch_free(fixture->watch);
	kubernetes_client_free(fixture->client);
	kubernetes_credentials_close(fixture->credentials);
	loop_free(fixture->loop);
	api_server_stop(fixture->server);
}

/* Back-offs are not waited for. */
static inline void wait_until_served(struct fixture *fixture, unsigned int requests)
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

static inline void wait_for_told(struct fixture *fixture, const char *expected)
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

#endif
