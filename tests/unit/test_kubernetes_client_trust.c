// SPDX-License-Identifier: GPL-2.0-only
/* Whom the API server's client talks to, and as whom: the server is verified, its name too; a token may change on disk.
 */
#include "client_world.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certificates.h"

static void test_verified_only(void **state)
{
	struct fixture fixture;
	struct outcome outcome = {0};
	const struct certificate_options options = {.common_name = "another CA", .authority = true};
	struct certificate *other;
	_cleanup_free_ char *pem = NULL;
	char path[128];
	FILE *file;

	(void)state;
	start(&fixture, serve_paths);
	close_client(&fixture);
	other = certificate_new(&options);
	pem = certificate_pem((const struct certificate *const[]){other, NULL});
	(void)snprintf(path, sizeof(path), "%s/ca.crt", api_server_account(fixture.server));
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(pem, file) >= 0);
	assert_int_equal(fclose(file), 0);
	open_client(&fixture);
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

	(void)state;
	start(&fixture, serve_paths);
	close_client(&fixture);
	assert_int_equal(setenv("KUBERNETES_SERVICE_HOST", "127.0.0.2", 1), 0);
	/* The proxies of the environment are nobody's to use. */
	assert_int_equal(setenv("HTTPS_PROXY", "http://127.0.0.1:1", 1), 0);
	open_client(&fixture);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_verified_only),
	        cmocka_unit_test(test_wrong_name),
	        cmocka_unit_test(test_nobody_listens),
	        cmocka_unit_test(test_token_rotates),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
