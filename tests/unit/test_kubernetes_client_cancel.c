// SPDX-License-Identifier: GPL-2.0-only
/* Requests that are given up: from inside a line, from another's answer, with the client; no callback comes any more.
 */
#include "client_world.h"

#include <signal.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_cancel_inside_line),
	        cmocka_unit_test(test_cancel_another),
	        cmocka_unit_test(test_free_with_requests),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
