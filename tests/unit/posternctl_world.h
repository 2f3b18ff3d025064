/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * posternctl_world.h: posternctl as a program, against an agent that the test plays: the real status socket, documents
 * of its own. The binary lies two directories above the test's (build/posternctl, build/tests/unit/test_posternctl).
 * Included by the tests of the program (one .c a program, so its functions are defined here).
 */
#ifndef POSTERN_TESTS_POSTERNCTL_WORLD_H
#define POSTERN_TESTS_POSTERNCTL_WORLD_H

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "observe/control_socket.h"

#define OUTPUT_MAX    (256u << 10)
#define ARGUMENTS_MAX 8

struct fixture {
	char run_dir[64];
	char bpffs[96]; /* does not exist, unless a test makes it */
	struct loop *loop;
	struct control_socket *socket;
	pthread_t thread;
	const char *status; /* JSON that the agent answers with */
	const char *connections;
	const char *failures;
	char output[OUTPUT_MAX];
	char errors[OUTPUT_MAX];
};

static char program[PATH_MAX];

static inline json_t *answer(void *context, const char *command)
{
	struct fixture *fixture = context;
	const char *text = strcmp(command, "status") == 0        ? fixture->status
	                   : strcmp(command, "connections") == 0 ? fixture->connections
	                   : strcmp(command, "failures") == 0    ? fixture->failures
	                                                         : NULL;

	return text ? json_loads(text, 0, NULL) : NULL;
}

static inline void *run_loop(void *context)
{
	struct fixture *fixture = context;

	(void)loop_run(fixture->loop);
	return NULL;
}

static inline void stop_loop(void *context)
{
	loop_stop(context);
}

static inline int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	strcpy(fixture->run_dir, "/tmp/postern-test-posternctl-XXXXXX");
	assert_non_null(mkdtemp(fixture->run_dir));
	(void)snprintf(fixture->bpffs, sizeof(fixture->bpffs), "%s/bpf/postern", fixture->run_dir);
	*state = fixture;
	return 0;
}

static inline void start_agent(struct fixture *fixture)
{
	const struct control_socket_options options = {
	        .run_dir = fixture->run_dir,
	        .answer = answer,
	        .context = fixture,
	};
	char error[256];

	assert_int_equal(loop_new(&fixture->loop), 0);
	loop_set_wake(fixture->loop, stop_loop, fixture->loop);
	if (control_socket_open(fixture->loop, &options, &fixture->socket, error, sizeof(error)))
		fail_msg("%s", error);
	assert_int_equal(pthread_create(&fixture->thread, NULL, run_loop, fixture), 0);
}

static inline int teardown(void **state)
{
	struct fixture *fixture = *state;
	char path[128];

	if (fixture->loop) {
		loop_wake(fixture->loop);
		assert_int_equal(pthread_join(fixture->thread, NULL), 0);
		control_socket_close(fixture->socket);
		loop_free(fixture->loop);
	}
	(void)snprintf(path, sizeof(path), "%s/" CONTROL_SOCKET_NAME ".lock", fixture->run_dir);
	(void)unlink(path);
	(void)rmdir(fixture->run_dir);
	assert_int_equal(access(fixture->run_dir, F_OK), -1);
	free(fixture);
	return 0;
}

static inline void slurp(int fd, char *buffer)
{
	ssize_t got = pread(fd, buffer, OUTPUT_MAX - 1, 0);

	assert_true(got >= 0 && got < OUTPUT_MAX - 1);
	buffer[got] = '\0';
}

/* Runs posternctl WORDS... --run-dir --bpffs; output and errors are in the fixture. Returns its exit status. */
static inline int run(struct fixture *fixture, const char *const *words)
{
	_cleanup_close_ int output = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	_cleanup_close_ int errors = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	const char *argv[ARGUMENTS_MAX + 6] = {program};
	size_t argc = 1;
	int status;
	pid_t child;

	assert_true(output >= 0 && errors >= 0);
	for (; *words; words++) {
		assert_true(argc < ARGUMENTS_MAX);
		argv[argc++] = *words;
	}
	argv[argc++] = "--run-dir";
	argv[argc++] = fixture->run_dir;
	argv[argc++] = "--bpffs";
	argv[argc++] = fixture->bpffs;
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		dup2(output, STDOUT_FILENO);
		dup2(errors, STDERR_FILENO);
		execv(program, (char *const *)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	slurp(output, fixture->output);
	slurp(errors, fixture->errors);
	if (!WIFEXITED(status))
		fail_msg("posternctl was killed by signal %d: %s", WTERMSIG(status), fixture->errors);
	return WEXITSTATUS(status);
}

static inline int run_one(struct fixture *fixture, const char *word)
{
	const char *const words[] = {word, NULL};

	return run(fixture, words);
}

static inline int run_json(struct fixture *fixture, const char *word, json_t **document)
{
	const char *const words[] = {"--json", word, NULL};
	int status = run(fixture, words);
	json_error_t error;

	*document = json_loads(fixture->output, JSON_REJECT_DUPLICATES, &error);
	if (!*document)
		fail_msg("no JSON (%s): %s", error.text, fixture->output);
	return status;
}

static inline void assert_says(const struct fixture *fixture, const char *text)
{
	if (!strstr(fixture->output, text) && !strstr(fixture->errors, text))
		fail_msg("expected \"%s\" in:\n%s\n%s", text, fixture->output, fixture->errors);
}

#define GOOD_GATEWAY                                                                                                   \
	"{\"name\":\"shop/edge\",\"cgroup\":\"/edge\",\"mode\":\"enforce\",\"state\":\"ready\",\"reason\":\"\","       \
	"\"netns\":\"\",\"listeners\":[28100,28101]}"
#define GOOD_POLICY                                                                                                    \
	"{\"namespace\":\"default\",\"name\":\"echo\",\"generation\":1,\"accepted\":{\"status\":true,\"reason\":"      \
	"\"Accepted\",\"message\":\"\"},\"resolvedRefs\":{\"status\":true,\"reason\":\"ResolvedRefs\",\"message\":"    \
	"\"\"},\"destinations\":3}"

static const char good_status[] =
        "{\"version\":\"9.9\",\"pid\":4711,\"ready\":true,\"reason\":\"\",\"uptime_seconds\":7300,"
        "\"snapshot\":{\"generation\":4,\"age_seconds\":12.0,\"policies\":1,\"destinations\":3},"
        "\"gateways\":[" GOOD_GATEWAY "],\"policies\":[" GOOD_POLICY "],\"source_errors\":[],"
        "\"counters\":{\"connect_tls\":5,\"connect_deny\":0},\"failures\":{\"backend_refused\":3},"
        "\"proof\":{\"kernel_tls\":true,\"milliseconds\":12,\"crypto\":["
        "{\"mode\":\"copy\",\"direction\":\"transmit\",\"version\":\"TLSv1.3\",\"cipher\":\"AES-128-GCM\","
        "\"verdict\":\"safe\",\"detail\":\"\"},"
        "{\"mode\":\"splice\",\"direction\":\"transmit\",\"version\":\"TLSv1.3\",\"cipher\":\"AES-128-GCM\","
        "\"verdict\":\"unsafe\",\"detail\":\"byte 3 changed\"},"
        "{\"mode\":\"no_pad\",\"direction\":\"transmit\",\"version\":\"TLSv1.3\",\"cipher\":\"AES-128-GCM\","
        "\"verdict\":\"unavailable\",\"detail\":\"no padding there\"}],\"hooks\":[]}}";

static inline int find_program(void **state)
{
	char self[PATH_MAX] = "";

	(void)state;
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) == -1)
		return -1;
	(void)snprintf(program, sizeof(program), "%.4000s/posternctl", dirname(dirname(dirname(self))));
	log_set_level(LOG_LEVEL_ERROR);
	if (access(program, X_OK) == 0)
		return 0;
	print_error("%s is not built\n", program);
	return -1;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
