/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * client_world.h: a client of an API server that the test plays (api_server.h), and what came back of each request:
 *
 *   start(&fixture, serve); get(&fixture, &outcome, "/path"); assert what outcome holds; free(outcome.body);
 * stop(&fixture);
 *
 * Included by the tests of kubernetes/client.h (one .c a program, so its functions are defined here).
 */
#ifndef POSTERN_TESTS_CLIENT_WORLD_H
#define POSTERN_TESTS_CLIENT_WORLD_H

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

#define PATIENCE_NS 120000000000ull /* it ends a hang: 64 MB by TLS took 20 s of a machine that was busy */
#define LINES_MAX   64

struct fixture {
	struct loop *loop;
	struct api_server *server;
	struct kubernetes_credentials *credentials;
	struct kubernetes_client *client;
};

/* What came back of one request. */
struct outcome {
	struct fixture *fixture;
	struct kubernetes_request *request;
	unsigned int answers, opened, lines;
	int status;
	char error[512]; /* "" for NULL */
	uint64_t retry_after_ns;
	char *body; /* dumped; NULL: none */
	char line[LINES_MAX][128];
	unsigned int cancel_at_line; /* 1: the first; 0: never */
};

static inline void on_answer(void *context, const struct kubernetes_answer *answer)
{
	struct outcome *outcome = context;

	outcome->answers++;
	outcome->request = NULL;
	outcome->status = answer->status;
	(void)snprintf(outcome->error, sizeof(outcome->error), "%s", answer->error ? answer->error : "");
	outcome->retry_after_ns = answer->retry_after_ns;
	free(outcome->body);
	outcome->body = answer->body ? json_dumps(answer->body, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) : NULL;
}

static inline void on_line(void *context, json_t *line)
{
	struct outcome *outcome = context;
	_cleanup_free_ char *text = json_dumps(line, JSON_COMPACT | JSON_ENCODE_ANY);

	assert_int_equal(outcome->answers, 0);
	assert_true(outcome->lines < LINES_MAX);
	(void)snprintf(outcome->line[outcome->lines++], sizeof(outcome->line[0]), "%s", text);
	if (outcome->lines == outcome->cancel_at_line)
		kubernetes_cancel(TAKE_PTR(outcome->request));
}

static inline void on_open(void *context)
{
	struct outcome *outcome = context;

	assert_int_equal(outcome->lines, 0);
	outcome->opened++;
}

/* By what the account's directory and the environment say now. */
static inline void open_client(struct fixture *fixture)
{
	char error[256] = "";

	if (kubernetes_credentials_open("", api_server_account(fixture->server), &fixture->credentials, error,
	                                sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(kubernetes_client_new(fixture->loop, fixture->credentials, &fixture->client), 0);
}

static inline void close_client(struct fixture *fixture)
{
	kubernetes_client_free(fixture->client);
	kubernetes_credentials_close(fixture->credentials);
}

static inline void start(struct fixture *fixture, api_serve serve)
{
	*fixture = (struct fixture){0};
	assert_int_equal(loop_new(&fixture->loop), 0);
	fixture->server = api_server_start(serve, fixture);
	open_client(fixture);
}

static inline void stop(struct fixture *fixture)
{
	close_client(fixture);
	loop_free(fixture->loop);
	api_server_stop(fixture->server);
}

static inline void send_call(struct fixture *fixture, struct outcome *outcome, struct kubernetes_call call)
{
	*outcome = (struct outcome){.fixture = fixture, .cancel_at_line = outcome->cancel_at_line};
	call.on_answer = on_answer;
	call.context = outcome;
	outcome->request = kubernetes_send(fixture->client, &call);
	assert_non_null(outcome->request);
	assert_int_equal(outcome->answers, 0); /* never from inside */
}

static inline void turn(struct fixture *fixture, unsigned int rounds)
{
	while (rounds--)
		assert_int_equal(loop_step(fixture->loop, 10), 0);
}

static inline void wait_for_answer(struct fixture *fixture, const struct outcome *outcome)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (!outcome->answers) {
		assert_int_equal(loop_step(fixture->loop, 100), 0);
		if (monotonic_ns() > limit)
			fail_msg("no answer in time");
	}
}

static inline void get(struct fixture *fixture, struct outcome *outcome, const char *path)
{
	send_call(fixture, outcome, (struct kubernetes_call){.method = "GET", .path = path});
	wait_for_answer(fixture, outcome);
}

static inline void assert_contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("expected \"%s\" in \"%s\"", part, text);
}

/* The path says what comes. */
static inline void serve_paths(void *context, struct api_connection *connection, const struct api_request *request)
{
	static char huge[1 << 20];

	(void)context;
	if (strcmp(request->target, "/good") == 0) {
		api_answer(connection, 200, NULL, "{\"kind\":\"Fine\"}");
	} else if (strcmp(request->target, "/empty") == 0) {
		api_answer(connection, 200, NULL, "");
	} else if (strcmp(request->target, "/nul") == 0) {
		api_answer(connection, 200, NULL, "{\"a\":\"b\\u0000c\"}");
	} else if (strcmp(request->target, "/junk") == 0) {
		api_answer(connection, 200, NULL, "{\"secret\": \"hidden\", oops}");
	} else if (strcmp(request->target, "/junk-error") == 0) {
		api_answer(connection, 502, NULL, "<html>bad gateway</html>");
	} else if (strcmp(request->target, "/forbidden") == 0) {
		api_answer(
		        connection, 403, NULL,
		        "{\"kind\":\"Status\",\"reason\":\"Forbidden\",\"message\":\"User \\\"x\\\" cannot\\nlist\"}");
	} else if (strcmp(request->target, "/wrong-types") == 0) {
		api_answer(connection, 404, NULL, "{\"kind\":[],\"reason\":7,\"message\":{}}");
	} else if (strcmp(request->target, "/array") == 0) {
		api_answer(connection, 500, NULL, "[1,2]");
	} else if (strcmp(request->target, "/redirect") == 0) {
		api_answer(connection, 302, "Location: /good\r\n", "");
	} else if (strcmp(request->target, "/busy") == 0) {
		api_answer(connection, 429, "Retry-After: 7\r\n", "{}");
	} else if (strcmp(request->target, "/busy-forever") == 0) {
		api_answer(connection, 503, "Retry-After: 99999999999999999999999\r\n", "{}");
	} else if (strcmp(request->target, "/busy-date") == 0) {
		api_answer(connection, 503, "Retry-After: Fri, 27 Nov 2026 10:00:00 GMT\r\n", "{}");
	} else if (strcmp(request->target, "/huge") == 0) {
		memset(huge, ' ', sizeof(huge) - 1);
		api_stream(connection);
		for (unsigned int i = 0; i < (KUBERNETES_BODY_MAX >> 20) + 2; i++)
			api_send(connection, huge);
	} else if (strcmp(request->target, "/huge-headers") == 0) {
		static const char line[] = "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";

		api_send_raw(connection, "HTTP/1.1 200 OK\r\n", 17);
		for (unsigned int i = 0; i < 2000; i++)
			api_send_raw(connection, line, sizeof(line) - 1);
		api_wait_for_end(connection);
	} else if (strcmp(request->target, "/slow-headers") == 0) {
		api_send_raw(connection, "HTTP/1.1 200 OK\r\nX-", 19);
		api_wait_for_end(connection);
	} else if (strcmp(request->target, "/slow-body") == 0) {
		api_stream(connection);
		api_send(connection, "{\"a\":");
		api_wait_for_end(connection);
	} else if (strcmp(request->target, "/cut-body") == 0) {
		api_stream(connection);
		api_send(connection, "{}");
		api_cut(connection);
	} else if (strcmp(request->target, "/no-http") == 0) {
		api_send_raw(connection, "\x80\x81 hello\r\n\r\n", 12);
		api_cut(connection);
	} else {
		api_answer(connection, 400, NULL, "{}");
	}
}

static inline void serve_streams(void *context, struct api_connection *connection, const struct api_request *request)
{
	(void)context;
	if (strcmp(request->target, "/forbidden") == 0) {
		api_answer(connection, 403, NULL, "{\"reason\":\"Forbidden\",\"message\":\"no\"}\n");
		return;
	}
	api_stream(connection);
	api_send(connection, "{\"n\":1}\n{\"n\"");
	api_send(connection, ":2}\n\n");
	if (strcmp(request->target, "/end") == 0) {
		api_send_end(connection);
	} else if (strcmp(request->target, "/partial") == 0) {
		api_send(connection, "{\"n\":3}"); /* no line without its end */
		api_send_end(connection);
	} else if (strcmp(request->target, "/cut") == 0) {
		api_send(connection, "{\"n\":3");
		api_wait_for_go(connection); /* what came before is read */
		api_cut(connection);
	} else if (strcmp(request->target, "/junk") == 0) {
		api_send(connection, "{\"n\":3\n{\"n\":4}\n");
		api_wait_for_end(connection);
	} else if (strcmp(request->target, "/silent") == 0) {
		api_wait_for_end(connection);
	} else if (strcmp(request->target, "/huge") == 0) {
		static char huge[1 << 20];

		memset(huge, ' ', sizeof(huge) - 1);
		for (unsigned int i = 0; i < (KUBERNETES_BODY_MAX >> 20) + 2; i++)
			api_send(connection, huge);
		api_wait_for_end(connection);
	}
}

#endif
