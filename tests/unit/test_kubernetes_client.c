// SPDX-License-Identifier: GPL-2.0-only
/* The API server's client against a server that answers right, wrong, late, too much and not at all. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api_server.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "certificates.h"
#include "kubernetes/client.h"
#include "kubernetes/credentials.h"

#define PATIENCE_NS 20000000000ull
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

static void on_answer(void *context, const struct kubernetes_answer *answer)
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

static void on_line(void *context, json_t *line)
{
	struct outcome *outcome = context;
	_cleanup_free_ char *text = json_dumps(line, JSON_COMPACT | JSON_ENCODE_ANY);

	assert_int_equal(outcome->answers, 0);
	assert_true(outcome->lines < LINES_MAX);
	(void)snprintf(outcome->line[outcome->lines++], sizeof(outcome->line[0]), "%s", text);
	if (outcome->lines == outcome->cancel_at_line)
		kubernetes_cancel(TAKE_PTR(outcome->request));
}

static void on_open(void *context)
{
	struct outcome *outcome = context;

	assert_int_equal(outcome->lines, 0);
	outcome->opened++;
}

static void start(struct fixture *fixture, api_serve serve)
{
	char error[256] = "";

	*fixture = (struct fixture){0};
	assert_int_equal(loop_new(&fixture->loop), 0);
	fixture->server = api_server_start(serve, fixture);
	if (kubernetes_credentials_open("", api_server_account(fixture->server), &fixture->credentials, error,
	                                sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(kubernetes_client_new(fixture->loop, fixture->credentials, &fixture->client), 0);
}

static void stop(struct fixture *fixture)
{
	kubernetes_client_free(fixture->client);
	kubernetes_credentials_close(fixture->credentials);
	loop_free(fixture->loop);
	api_server_stop(fixture->server);
}

static void send_call(struct fixture *fixture, struct outcome *outcome, struct kubernetes_call call)
{
	*outcome = (struct outcome){.fixture = fixture, .cancel_at_line = outcome->cancel_at_line};
	call.on_answer = on_answer;
	call.context = outcome;
	outcome->request = kubernetes_send(fixture->client, &call);
	assert_non_null(outcome->request);
	assert_int_equal(outcome->answers, 0); /* never from inside */
}

static void turn(struct fixture *fixture, unsigned int rounds)
{
	while (rounds--)
		assert_int_equal(loop_step(fixture->loop, 10), 0);
}

static void wait_for_answer(struct fixture *fixture, const struct outcome *outcome)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (!outcome->answers) {
		assert_int_equal(loop_step(fixture->loop, 100), 0);
		if (monotonic_ns() > limit)
			fail_msg("no answer in time");
	}
}

static void get(struct fixture *fixture, struct outcome *outcome, const char *path)
{
	send_call(fixture, outcome, (struct kubernetes_call){.method = "GET", .path = path});
	wait_for_answer(fixture, outcome);
}

static void assert_contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("expected \"%s\" in \"%s\"", part, text);
}

/* ---- answers ---- */

/* The path says what comes. */
static void serve_paths(void *context, struct api_connection *connection, const struct api_request *request)
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

static void test_answers(void **state)
{
	static const struct {
		const char *path;
		int status;
		const char *error; /* a part of it; "": none */
		const char *body;  /* NULL: none */
		uint64_t timeout_ns, retry_after_s;
	} rows[] = {
	        {"/good", 200, "", "{\"kind\":\"Fine\"}", 0, 0},
	        {"/empty", 200, "", NULL, 0, 0},
	        {"/nul", 200, "", "{\"a\":\"b\\u0000c\"}", 0, 0},
	        {"/junk", 200, "the answer is no JSON (at byte", NULL, 0, 0},
	        {"/junk-error", 502, "502", NULL, 0, 0},
	        {"/forbidden", 403, "403 Forbidden: User ?x? cannot?list", "Forbidden", 0, 0},
	        {"/wrong-types", 404, "404 NotFound", "kind", 0, 0},
	        {"/array", 500, "500", "[1,2]", 0, 0},
	        {"/redirect", 302, "302 a redirect, which is not followed", NULL, 0, 0},
	        {"/busy", 429, "429 TooManyRequests", "{}", 0, 7},
	        {"/busy-forever", 503, "503", "{}", 0, 300},
	        {"/busy-date", 503, "503", "{}", 0, 0},
	        {"/huge", 0, KUBERNETES_TOO_LARGE, NULL, 0, 0},
	        {"/huge-headers", 0, "headers of more than 64 KiB", NULL, 0, 0},
	        {"/slow-headers", 0, "no answer in time", NULL, 200000000, 0},
	        {"/slow-body", 0, "no answer in time", NULL, 200000000, 0},
	        {"/cut-body", 0, "", NULL, 0, 0}, /* libcurl's words */
	        {"/no-http", 0, "", NULL, 0, 0},
	        {"/good", 200, "", "{\"kind\":\"Fine\"}", 0, 0}, /* none of it has harmed the client */
	};
	struct fixture fixture;

	(void)state;
	start(&fixture, serve_paths);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct outcome outcome = {0};

		send_call(&fixture, &outcome,
		          (struct kubernetes_call){
		                  .method = "GET", .path = rows[i].path, .timeout_ns = rows[i].timeout_ns});
		wait_for_answer(&fixture, &outcome);
		if (outcome.status != rows[i].status)
			fail_msg("%s: expected status %d, seen %d (%s)", rows[i].path, rows[i].status, outcome.status,
			         outcome.error);
		assert_contains(outcome.error, rows[i].error);
		if ((rows[i].status == 200 && !*rows[i].error) == (outcome.error[0] != '\0'))
			fail_msg("%s: seen error \"%s\"", rows[i].path, outcome.error);
		if (strstr(outcome.error, "hidden"))
			fail_msg("%s: the error quotes the body: %s", rows[i].path, outcome.error);
		if (!rows[i].body)
			assert_null(outcome.body);
		else
			assert_contains(outcome.body, rows[i].body);
		assert_int_equal(outcome.retry_after_ns, rows[i].retry_after_s * 1000000000);
		assert_int_equal(outcome.answers, 1);
		free(outcome.body);
	}
	assert_int_equal(kubernetes_client_statistics(fixture.client)->requests, ARRAY_SIZE(rows));
	assert_int_equal(kubernetes_client_statistics(fixture.client)->failures, 6);
	assert_string_equal(kubernetes_client_statistics(fixture.client)->last_error, "");
	stop(&fixture);
}

/* ---- what is asked ---- */

static void serve_echo(void *context, struct api_connection *connection, const struct api_request *request)
{
	json_t *echo = json_pack("{s:s,s:s,s:s,s:s}", "method", request->method, "target", request->target, "head",
	                         request->head, "body", request->body);
	_cleanup_free_ char *text = json_dumps(echo, 0);

	(void)context;
	json_decref(echo);
	api_answer(connection, 200, NULL, text);
}

static void test_what_is_asked(void **state)
{
	struct fixture fixture;
	struct outcome outcome = {0};
	json_t *patch = json_pack("{s:{s:i}}", "status", "observedGeneration", 3);

	(void)state;
	start(&fixture, serve_echo);
	get(&fixture, &outcome, "/api/v1/services?limit=1");
	assert_contains(outcome.body, "\"method\":\"GET\"");
	assert_contains(outcome.body, "\"target\":\"/api/v1/services?limit=1\"");
	assert_contains(outcome.body, "Accept: application/json\\r\\n");
	assert_contains(outcome.body, "Authorization: Bearer first-token");
	assert_contains(outcome.body, "User-Agent: postern/");
	free(outcome.body);
	send_call(&fixture, &outcome,
	          (struct kubernetes_call){
	                  .method = "PATCH",
	                  .path = "/x",
	                  .content_type = "application/merge-patch+json",
	                  .accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
	                  .body = patch,
	          });
	json_decref(patch); /* it was copied */
	wait_for_answer(&fixture, &outcome);
	assert_contains(outcome.body, "\"method\":\"PATCH\"");
	assert_contains(outcome.body, "Content-Type: application/merge-patch+json");
	assert_contains(outcome.body, "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
	assert_contains(outcome.body, "\"body\":\"{\\\"status\\\":{\\\"observedGeneration\\\":3}}\"");
	free(outcome.body);
	send_call(&fixture, &outcome, (struct kubernetes_call){.method = "DELETE", .path = "/x"});
	wait_for_answer(&fixture, &outcome);
	assert_contains(outcome.body, "\"method\":\"DELETE\"");
	free(outcome.body);
	send_call(&fixture, &outcome, (struct kubernetes_call){.method = "POST", .path = "/x"});
	wait_for_answer(&fixture, &outcome);
	assert_contains(outcome.body, "\"method\":\"POST\"");
	assert_contains(outcome.body, "Content-Length: 0");
	free(outcome.body);
	/* All of it over one connection. */
	assert_int_equal(kubernetes_client_statistics(fixture.client)->connections, 1);
	stop(&fixture);
}

/* ---- who is talked to ---- */

static void test_verified_only(void **state)
{
	struct fixture fixture;
	struct outcome outcome = {0};
	const struct certificate_options options = {.common_name = "another CA", .authority = true};
	struct certificate *other;
	_cleanup_free_ char *pem = NULL;
	char path[128], error[256];
	FILE *file;

	(void)state;
	start(&fixture, serve_paths);
	kubernetes_client_free(fixture.client);
	kubernetes_credentials_close(fixture.credentials);
	other = certificate_new(&options);
	pem = certificate_pem((const struct certificate *const[]){other, NULL});
	(void)snprintf(path, sizeof(path), "%s/ca.crt", api_server_account(fixture.server));
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(pem, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(kubernetes_credentials_open("", api_server_account(fixture.server), &fixture.credentials,
	                                             error, sizeof(error)),
	                 0);
	assert_int_equal(kubernetes_client_new(fixture.loop, fixture.credentials, &fixture.client), 0);
	get(&fixture, &outcome, "/good");
	assert_int_equal(outcome.status, 0);
	assert_contains(outcome.error, "certificate");
	certificate_free(other);
	stop(&fixture);
}

/* The certificate is for 127.0.0.1. */
static void test_wrong_name(void **state)
{
	struct fixture fixture;
	struct outcome outcome = {0};
	char error[256];

	(void)state;
	start(&fixture, serve_paths);
	kubernetes_client_free(fixture.client);
	kubernetes_credentials_close(fixture.credentials);
	assert_int_equal(setenv("KUBERNETES_SERVICE_HOST", "127.0.0.2", 1), 0);
	/* The proxies of the environment are nobody's to use. */
	assert_int_equal(setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(kubernetes_credentials_open("", api_server_account(fixture.server), &fixture.credentials,
	                                             error, sizeof(error)),
	                 0);
	assert_int_equal(kubernetes_client_new(fixture.loop, fixture.credentials, &fixture.client), 0);
	get(&fixture, &outcome, "/good");
	assert_int_equal(outcome.status, 0);
	assert_contains(outcome.error, "127.0.0.2");
	assert_int_equal(unsetenv("HTTPS_PROXY"), 0);
	stop(&fixture);
}

static void test_nobody_listens(void **state)
{
	struct fixture fixture;
	struct outcome outcome = {0};

	(void)state;
	start(&fixture, serve_paths);
	api_server_stop(TAKE_PTR(fixture.server));
	get(&fixture, &outcome, "/good");
	assert_int_equal(outcome.status, 0);
	assert_contains(outcome.error, "connect");
	assert_int_equal(kubernetes_client_statistics(fixture.client)->failures, 1);
	assert_string_equal(kubernetes_client_statistics(fixture.client)->last_error, outcome.error);
	assert_int_equal(kubernetes_client_statistics(fixture.client)->last_success_ns, 0);
	stop(&fixture);
}

static void serve_token(void *context, struct api_connection *connection, const struct api_request *request)
{
	(void)context;
	if (api_has_header(request, "Authorization: Bearer second-token"))
		api_answer(connection, 200, NULL, "{}");
	else
		api_answer(connection, 401, NULL, "{\"reason\":\"Unauthorized\"}");
}

/* After a 401 the file is read again, before its minute is over; and a file that is gone gives no token. */
static void test_token_rotates(void **state)
{
	struct fixture fixture;
	struct outcome outcome = {0};
	char path[128];
	FILE *file;

	(void)state;
	start(&fixture, serve_token);
	get(&fixture, &outcome, "/x");
	assert_int_equal(outcome.status, 401);
	assert_string_equal(outcome.error, "401 Unauthorized");
	free(outcome.body);
	(void)snprintf(path, sizeof(path), "%s/token", api_server_account(fixture.server));
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs("second-token\n", file) >= 0);
	assert_int_equal(fclose(file), 0);
	get(&fixture, &outcome, "/x");
	assert_int_equal(outcome.status, 200);
	free(outcome.body);
	assert_int_equal(unlink(path), 0);
	get(&fixture, &outcome, "/x");
	assert_int_equal(outcome.status, 200); /* kept for its minute */
	free(outcome.body);
	kubernetes_credentials_expire(fixture.credentials);
	get(&fixture, &outcome, "/x");
	assert_int_equal(outcome.status, 401);
	free(outcome.body);
	stop(&fixture);
}

/* ---- streams ---- */

static void serve_streams(void *context, struct api_connection *connection, const struct api_request *request)
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

static void test_streams(void **state)
{
	static const struct {
		const char *path;
		int status;
		const char *error;
		unsigned int opened, lines;
	} rows[] = {
	        {"/end", 200, "", 1, 2},
	        {"/partial", 200, "the stream ended in the middle of a line", 1, 2},
	        {"/cut", 200, "", 1, 2}, /* libcurl's words */
	        {"/junk", 200, "a line of the stream is no JSON", 1, 2},
	        {"/silent", 200, "the stream was silent for too long", 1, 2},
	        {"/huge", 200, KUBERNETES_TOO_LARGE, 1, 2},
	        {"/forbidden", 403, "403 Forbidden: no", 0, 0},
	};
	struct fixture fixture;

	(void)state;
	start(&fixture, serve_streams);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct outcome outcome = {0};

		send_call(&fixture, &outcome,
		          (struct kubernetes_call){
		                  .method = "GET",
		                  .path = rows[i].path,
		                  .on_line = on_line,
		                  .on_open = on_open,
		                  .idle_timeout_ns = strcmp(rows[i].path, "/silent") ? PATIENCE_NS : 100000000,
		          });
		if (strcmp(rows[i].path, "/cut") == 0) {
			while (outcome.lines < 2)
				turn(&fixture, 1);
			api_server_go(fixture.server);
		}
		wait_for_answer(&fixture, &outcome);
		if (outcome.status != rows[i].status || outcome.opened != rows[i].opened ||
		    outcome.lines != rows[i].lines)
			fail_msg("%s: expected %d %u %u, seen %d %u %u (%s)", rows[i].path, rows[i].status,
			         rows[i].opened, rows[i].lines, outcome.status, outcome.opened, outcome.lines,
			         outcome.error);
		assert_contains(outcome.error, rows[i].error);
		if (strcmp(rows[i].path, "/end") == 0)
			assert_string_equal(outcome.error, "");
		else
			assert_string_not_equal(outcome.error, "");
		if (rows[i].lines) {
			assert_string_equal(outcome.line[0], "{\"n\":1}");
			assert_string_equal(outcome.line[1], "{\"n\":2}");
		}
		free(outcome.body);
	}
	stop(&fixture);
}

/* ---- cancelling ---- */

static void test_cancel_inside_line(void **state)
{
	struct fixture fixture;
	struct outcome outcome = {.cancel_at_line = 1}, next = {0};
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	(void)state;
	start(&fixture, serve_streams);
	send_call(&fixture, &outcome,
	          (struct kubernetes_call){
	                  .method = "GET", .path = "/end", .on_line = on_line, .idle_timeout_ns = PATIENCE_NS});
	while (!outcome.lines && monotonic_ns() < limit)
		turn(&fixture, 1);
	turn(&fixture, 5);
	assert_int_equal(outcome.lines, 1);
	assert_int_equal(outcome.answers, 0);
	send_call(&fixture, &next,
	          (struct kubernetes_call){
	                  .method = "GET", .path = "/end", .on_line = on_line, .idle_timeout_ns = PATIENCE_NS});
	wait_for_answer(&fixture, &next);
	assert_int_equal(next.lines, 2);
	stop(&fixture);
}

struct pair {
	struct outcome first, second;
};

/* The answer to the first ends the second, and asks again. */
static void cancel_other(void *context, const struct kubernetes_answer *answer)
{
	struct pair *pair = context;
	struct fixture *fixture = pair->first.fixture;

	on_answer(&pair->first, answer);
	kubernetes_cancel(TAKE_PTR(pair->second.request));
	send_call(fixture, &pair->second, (struct kubernetes_call){.method = "GET", .path = "/good"});
}

static void test_cancel_another(void **state)
{
	struct fixture fixture;
	struct pair pair = {0};

	(void)state;
	start(&fixture, serve_paths);
	send_call(&fixture, &pair.second, (struct kubernetes_call){.method = "GET", .path = "/slow-body"});
	pair.first.fixture = &fixture;
	assert_non_null(kubernetes_send(fixture.client, &(struct kubernetes_call){.method = "GET",
	                                                                          .path = "/forbidden",
	                                                                          .on_answer = cancel_other,
	                                                                          .context = &pair}));
	wait_for_answer(&fixture, &pair.second);
	assert_int_equal(pair.first.status, 403);
	assert_int_equal(pair.second.status, 200);
	free(pair.first.body);
	free(pair.second.body);
	stop(&fixture);
}

/* Requests in every state: not connected, answered in part, waiting. No callback comes. */
static void test_free_with_requests(void **state)
{
	static const char *const paths[] = {"/slow-headers", "/slow-body", "/good"};
	struct fixture fixture;
	struct outcome outcomes[ARRAY_SIZE(paths)] = {0};

	(void)state;
	for (unsigned int rounds = 0; rounds < 8; rounds++) {
		start(&fixture, serve_paths);
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
			send_call(&fixture, &outcomes[i], (struct kubernetes_call){.method = "GET", .path = paths[i]});
		turn(&fixture, rounds);
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
			free(outcomes[i].body);
			outcomes[i].answers = 0;
		}
		stop(&fixture);
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
			assert_int_equal(outcomes[i].answers, 0);
	}
}

/* What no name can have must not become another path. */
static void test_paths(void **state)
{
	static const struct {
		const char *group, *version, *namespace_, *resource, *name, *subresource, *path;
	} rows[] = {
	        {"", "v1", "", "services", "", "", "/api/v1/services"},
	        {"", "v1", "default", "services", "echo", "", "/api/v1/namespaces/default/services/echo"},
	        {"a.b", "v1", "n", "things", "x", "status", "/apis/a.b/v1/namespaces/n/things/x/status"},
	        {"c.k8s.io", "v1beta1", "", "bundles", "example.com:s:b", "",
	         "/apis/c.k8s.io/v1beta1/bundles/example.com:s:b"},
	        {"", "v1", "..", "services", "", "", NULL},
	        {"", "v1", "n", "services", ".", "", NULL},
	        {"", "v1", "n", "services", "a/b", "", NULL},
	        {"", "v1", "n", "services", "a?watch=1", "", NULL},
	        {"", "v1", "n", "services", "a%2fb", "", NULL},
	        {"", "v1", "n", "services", "a b", "", NULL},
	        {"", "v1", "n", "services", "a\r\nb", "", NULL},
	        {"", "v1", "n", "services", "", "status", NULL},
	        {"", "", "n", "services", "", "", NULL},
	        {"", "v1", "n", "", "", "", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *path = NULL;
		int result = kubernetes_path(rows[i].group, rows[i].version, rows[i].namespace_, rows[i].resource,
		                             rows[i].name, rows[i].subresource, &path);

		assert_int_equal(result, rows[i].path ? 0 : -EINVAL);
		if (rows[i].path) {
			assert_string_equal(path, rows[i].path);
			assert_int_equal(kubernetes_path_add(&path, "fieldSelector", "metadata.name=a b&c"), 0);
			assert_int_equal(kubernetes_path_add(&path, "limit", "5"), 0);
			assert_string_equal(path + strlen(rows[i].path),
			                    "?fieldSelector=metadata.name%3Da%20b%26c&limit=5");
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_answers),        cmocka_unit_test(test_what_is_asked),
	        cmocka_unit_test(test_verified_only),  cmocka_unit_test(test_wrong_name),
	        cmocka_unit_test(test_nobody_listens), cmocka_unit_test(test_token_rotates),
	        cmocka_unit_test(test_streams),        cmocka_unit_test(test_cancel_inside_line),
	        cmocka_unit_test(test_cancel_another), cmocka_unit_test(test_free_with_requests),
	        cmocka_unit_test(test_paths),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
