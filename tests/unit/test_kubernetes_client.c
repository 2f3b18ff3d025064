// SPDX-License-Identifier: GPL-2.0-only
/* What the API server's client asks and takes: of a server that answers right, wrong, late, too much and not at all. */
#include "client_world.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certificates.h"

/* ---- answers ---- */

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

/* ---- streams ---- */

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
		                  /* Long enough for a handshake and two lines on a machine that is busy. */
		                  .idle_timeout_ns = strcmp(rows[i].path, "/silent") ? PATIENCE_NS : 2000000000,
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
	        cmocka_unit_test(test_answers),
	        cmocka_unit_test(test_what_is_asked),
	        cmocka_unit_test(test_streams),
	        cmocka_unit_test(test_paths),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
