// SPDX-License-Identifier: GPL-2.0-only
/*
 * posternctl as a program, against an agent that this test plays: the real status socket, documents of its own. The
 * binary lies two directories above this test's (build/posternctl, build/tests/unit/test_posternctl).
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/evidence.h"
#include "base/log.h"
#include "base/loop.h"
#include "observe/control_socket.h"
#include "postern/abi.h"

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

static json_t *answer(void *context, const char *command)
{
	struct fixture *fixture = context;
	const char *text = strcmp(command, "status") == 0        ? fixture->status
	                   : strcmp(command, "connections") == 0 ? fixture->connections
	                   : strcmp(command, "failures") == 0    ? fixture->failures
	                                                         : NULL;

	return text ? json_loads(text, 0, NULL) : NULL;
}

static void *run_loop(void *context)
{
	struct fixture *fixture = context;

	(void)loop_run(fixture->loop);
	return NULL;
}

static void stop_loop(void *context)
{
	loop_stop(context);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	strcpy(fixture->run_dir, "/tmp/postern-test-posternctl-XXXXXX");
	assert_non_null(mkdtemp(fixture->run_dir));
	(void)snprintf(fixture->bpffs, sizeof(fixture->bpffs), "%s/bpf/postern", fixture->run_dir);
	*state = fixture;
	return 0;
}

static void start_agent(struct fixture *fixture)
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

static int teardown(void **state)
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

static void slurp(int fd, char *buffer)
{
	ssize_t got = pread(fd, buffer, OUTPUT_MAX - 1, 0);

	assert_true(got >= 0 && got < OUTPUT_MAX - 1);
	buffer[got] = '\0';
}

/* Runs posternctl WORDS... --run-dir --bpffs; output and errors are in the fixture. Returns its exit status. */
static int run(struct fixture *fixture, const char *const *words)
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

static int run_one(struct fixture *fixture, const char *word)
{
	const char *const words[] = {word, NULL};

	return run(fixture, words);
}

static int run_json(struct fixture *fixture, const char *word, json_t **document)
{
	const char *const words[] = {"--json", word, NULL};
	int status = run(fixture, words);
	json_error_t error;

	*document = json_loads(fixture->output, JSON_REJECT_DUPLICATES, &error);
	if (!*document)
		fail_msg("no JSON (%s): %s", error.text, fixture->output);
	return status;
}

static void assert_says(const struct fixture *fixture, const char *text)
{
	if (!strstr(fixture->output, text) && !strstr(fixture->errors, text))
		fail_msg("expected \"%s\" in:\n%s\n%s", text, fixture->output, fixture->errors);
}

/* No byte that a terminal would obey, but line breaks. */
static void assert_harmless(const char *text)
{
	for (const char *byte = text; *byte; byte++) {
		if (((unsigned char)*byte < 0x20 && *byte != '\n') || *byte == 0x7f)
			fail_msg("control character \\x%02x in the output:\n%s", (unsigned char)*byte, text);
	}
	assert_null(strstr(text, "\xe2\x80\xae")); /* U+202E, right-to-left override */
	assert_null(strstr(text, "\xc2\x9b"));     /* U+009B, the one-byte CSI */
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

static void good_status_page(void **state)
{
	struct fixture *fixture = *state;

	fixture->status = good_status;
	start_agent(fixture);
	assert_int_equal(run_one(fixture, "status"), 0);
	assert_says(fixture, "posternd 9.9, pid 4711, up 2h 1m: ready");
	assert_says(fixture, "shop/edge  enforce  ready  2");
	assert_says(fixture, "default/echo  accepted  resolved    3");
	assert_says(fixture, "transmit TLSv1.3  kernel, copy");
	assert_says(fixture, "receive TLSv1.3   user space");
	assert_says(fixture, "unsafe: splice transmit TLSv1.3 AES-128-GCM: byte 3 changed");
	assert_says(fixture, "5 connect_tls");
	assert_says(fixture, "3 backend_refused  nothing listens on the backend's port");
	assert_null(strstr(fixture->output, "connect_deny")); /* zero */
	assert_null(strstr(fixture->output, "no padding there"));
	assert_harmless(fixture->output);
	assert_string_equal(fixture->errors, "");
}

static void status_is_the_default_and_the_json_is_the_agents(void **state)
{
	struct fixture *fixture = *state;
	const char *const none[] = {NULL};
	json_t *seen;
	json_t *sent = json_loads(good_status, 0, NULL);

	fixture->status = good_status;
	start_agent(fixture);
	assert_int_equal(run(fixture, none), 0);
	assert_says(fixture, "posternd 9.9");
	assert_int_equal(run_json(fixture, "status", &seen), 0);
	assert_string_equal(json_string_value(json_object_get(seen, "agent")), "running");
	assert_true(json_is_object(json_object_get(seen, "kernel")));
	json_object_del(seen, "agent");
	json_object_del(seen, "kernel");
	assert_int_equal(json_array_size(json_object_get(seen, "disagreements")), 0);
	json_object_del(seen, "disagreements");
	assert_true(json_equal(seen, sent));
	json_decref(seen);
	json_decref(sent);
}

/* Each of these alone makes the exit status 1, in both forms. */
static void what_is_wrong_gives_status_1(void **state)
{
	static const struct {
		const char *status;
		const char *says;
	} rows[] = {
	        {"{\"ready\":false,\"reason\":\"the hold failed its proof\"}", "NOT READY: the hold failed its proof"},
	        {"{\"ready\":true,\"gateways\":[{\"name\":\"a\",\"state\":\"attached\",\"reason\":\"no process\"}]}",
	         "no process"},
	        {"{\"ready\":true,\"policies\":[{\"name\":\"p\",\"namespace\":\"n\",\"accepted\":{\"status\":false,"
	         "\"reason\":\"Invalid\",\"message\":\"spec: bad\"},\"resolvedRefs\":{\"status\":true}}]}",
	         "not accepted: Invalid"},
	        {"{\"ready\":true,\"policies\":[{\"name\":\"p\",\"namespace\":\"n\",\"accepted\":{\"status\":true},"
	         "\"resolvedRefs\":{\"status\":false,\"reason\":\"InvalidCACertificateRef\"}}]}",
	         "not resolved: InvalidCACertificateRef"},
	        {"{\"ready\":true,\"source_errors\":[{\"object\":\"a.yaml\",\"message\":\"line 3: bad\"}]}",
	         "a.yaml: line 3: bad"},
	};
	struct fixture *fixture = *state;

	fixture->status = rows[0].status;
	start_agent(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *document;

		fixture->status = rows[i].status;
		if (run_one(fixture, "status") != 1)
			fail_msg("expected status 1 for %s", rows[i].status);
		assert_says(fixture, rows[i].says);
		assert_int_equal(run_json(fixture, "status", &document), 1);
		json_decref(document);
	}
	fixture->status = "{\"ready\":true}";
	assert_int_equal(run_one(fixture, "status"), 0);
}

static const char hostile_rows[] =
        "[{\"gateway\":\"a\\u001b]0;owned\\u0007\",\"gateway_port\":1,\"destination\":\"10.0.0.1:80\\n\\n\","
        "\"policy\":\"\\u202etxt\",\"sni\":\"\\u009b31m\",\"peer\":\"CN=\\r\\b\\u007f\",\"tls_version\":\"TLSv1.3\","
        "\"cipher\":\"x\\ty\",\"alpn\":\"\\u2066\",\"resumed\":true,\"to_backend\":\"ktls_copy\",\"to_gateway\":"
        "\"user_tls\",\"mode_reason\":\"ktls_unproved\",\"lane\":true,\"ulp\":\"tcp-ulp-tls\\u001b[2J\","
        "\"bytes_to_backend\":1536,\"bytes_to_gateway\":9223372036854775807,\"age_seconds\":75.5,"
        "\"time\":\"t\\u001b[1m\",\"reason\":\"r\\u001b[1m\",\"detail\":\"%s%n\\u001b[1m\",\"remedy\":\"do\\u0008\"}]";

static void hostile_values_are_escaped(void **state)
{
	static const char status[] =
	        "{\"ready\":false,\"reason\":\"\\u001b[31m%n%s\",\"version\":\"\\u001b[1m\",\"gateways\":[{\"name\":"
	        "\"g\\u001b[1m\",\"reason\":\"\\u001b[2J\"}],\"policies\":[{\"namespace\":\"\\u202e\",\"name\":\"\\r\","
	        "\"accepted\":{\"message\":\"\\u001b[1m\\n\"}}],\"source_errors\":[{\"object\":\"\\u001b\","
	        "\"message\":\"\\u0007\"}],\"counters\":{\"\\u001b[1m\":1},\"failures\":{\"\\u001b[1m\":1},"
	        "\"helper_errors\":[{\"site\":\"\\u001b\",\"errno\":\"\\u001b\",\"count\":1}],\"would\":[{\"gateway\":"
	        "\"\\u001b\",\"destination\":\"\\u001b\",\"verdict\":\"\\u001b\",\"count\":1}],\"proof\":{\"crypto\":["
	        "{\"mode\":\"\\u001b\",\"direction\":\"\\u001b\",\"version\":\"\\u001b\",\"cipher\":\"\\u001b[1m\","
	        "\"verdict\":\"unsafe\",\"detail\":\"\\u001b\"}],\"hooks\":[{\"hook\":\"\\u001b\",\"verdict\":"
	        "\"\\u001b\",\"detail\":\"\\u001b\"}]}}";
	struct fixture *fixture = *state;

	fixture->status = status;
	fixture->connections = hostile_rows;
	fixture->failures = hostile_rows;
	start_agent(fixture);
	assert_int_equal(run_one(fixture, "status"), 1);
	assert_harmless(fixture->output);
	assert_says(fixture, "NOT READY: \\x1b[31m%n%s");
	assert_says(fixture, "\\u{202e}/\\x0d");
	assert_int_equal(run_one(fixture, "connections"), 0);
	assert_harmless(fixture->output);
	assert_says(fixture, "a\\x1b]0;owned\\x07");
	assert_says(fixture, "lane+ktls_copy");
	assert_says(fixture, "1.5 KiB");
	assert_says(fixture, "8.0 EiB");
	assert_says(fixture, "1m 15s");
	assert_says(fixture, "kernel says: tcp-ulp-tls\\x1b[2J");
	assert_says(fixture, "ktls_unproved: the start-up proof refused this version and cipher");
	assert_int_equal(run_one(fixture, "failures"), 0);
	assert_harmless(fixture->output);
	assert_says(fixture, "%s%n\\x1b[1m");
	assert_says(fixture, "remedy: do\\x08");
}

/* Members missing, of other types, nested where a text is meant: pages with holes, never a crash. */
static void nonsense_documents(void **state)
{
	static const char *const documents[] = {
	        "{}",
	        "{\"ready\":\"yes\",\"gateways\":7,\"policies\":{\"a\":1},\"proof\":[],\"counters\":[1],\"failures\":"
	        "null}",
	        "{\"ready\":true,\"gateways\":[1,null,\"x\",[]],\"policies\":[[],{\"accepted\":7}],\"would\":[{}],"
	        "\"source_errors\":{},\"proof\":{\"crypto\":[1,{}],\"hooks\":[null],\"rekey\":3},"
	        "\"snapshot\":{\"age_seconds\":-1e300},\"uptime_seconds\":1e300,\"counters\":{\"a\":\"b\"}}",
	};
	static const char *const lists[] = {"[]", "[1,null,[],{}]", "[{\"gateway\":7,\"age_seconds\":\"old\"}]"};
	struct fixture *fixture = *state;

	fixture->status = documents[0];
	start_agent(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		fixture->status = documents[i];
		assert_int_equal(run_one(fixture, "status"), 1);
		fixture->connections = lists[i];
		fixture->failures = lists[i];
		assert_int_equal(run_one(fixture, "connections"), 0);
		assert_int_equal(run_one(fixture, "failures"), 0);
	}
	/* A document of another kind is refused. */
	fixture->status = "[]";
	fixture->connections = "{}";
	assert_int_equal(run_one(fixture, "status"), 3);
	assert_says(fixture, "not understood");
	assert_int_equal(run_one(fixture, "connections"), 3);
	assert_says(fixture, "not understood");
	/* So is one that the agent does not have. */
	fixture->status = "{}";
	fixture->connections = NULL;
	assert_int_equal(run_one(fixture, "connections"), 1);
	assert_says(fixture, "the agent says: unknown command");
}

static void dead_agent(void **state)
{
	struct fixture *fixture = *state;
	json_t *document;

	assert_int_equal(run_one(fixture, "status"), 3);
	assert_says(fixture, "posternd is not running: ");
	assert_says(fixture, "no gateway is intercepted");
	assert_int_equal(run_json(fixture, "status", &document), 3);
	assert_string_equal(json_string_value(json_object_get(document, "agent")), "dead");
	assert_true(json_is_false(json_object_get(document, "ready")));
	assert_true(json_is_false(json_object_get(json_object_get(document, "kernel"), "pinned")));
	json_decref(document);
	assert_int_equal(run_one(fixture, "connections"), 3);
	assert_says(fixture, "the agent is not running");
	assert_int_equal(run_json(fixture, "failures", &document), 3);
	assert_true(json_is_string(json_object_get(document, "error")));
	json_decref(document);
}

/* A listener that takes the connection and closes it, and one that says nonsense. */
static void broken_agent(void **state)
{
	static const char *const answers[] = {"", "{\"ready\":tr", "\xff\xfe", "null\n"};
	struct fixture *fixture = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/" CONTROL_SOCKET_NAME, fixture->run_dir);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		pid_t child;

		assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
		assert_int_equal(listen(listener, 1), 0);
		child = fork();
		if (child == 0) {
			char command[64];
			int fd = accept(listener, NULL, NULL);

			if (recv(fd, command, sizeof(command), 0) <= 0 ||
			    send(fd, answers[i], strlen(answers[i]), MSG_NOSIGNAL) == -1)
				_exit(1);
			_exit(0);
		}
		close(listener);
		assert_int_equal(run_one(fixture, "status"), 3);
		assert_says(fixture, "posternd cannot be asked: the agent's answer is cut short or not understood");
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_int_equal(unlink(address.sun_path), 0);
	}
}

static void usage(void **state)
{
	static const struct {
		const char *words[6];
		int status;
		const char *says;
	} rows[] = {
	        {{"stat"}, 3, "posternd is not running"}, /* a prefix */
	        {{"conn"}, 3, "the agent is not running"},
	        {{"f"}, 3, "the agent is not running"},
	        {{"v"}, 0, "posternctl "},
	        {{"--version"}, 0, "posternctl "},
	        {{"help"}, 0, "usage: posternctl"},
	        {{"-h"}, 0, "usage: posternctl"},
	        {{"help", "uninstall"}, 0, "--force"},
	        {{"uninstall", "-h"}, 0, "usage: posternctl uninstall"},
	        {{"help", "ch"}, 0, "usage: posternctl check [OPTION]... [FILE...]"},
	        {{"statuses"}, 2, "posternctl: \"statuses\" is no command; see posternctl help"},
	        {{""}, 2, "\"\" is no command"},
	        {{"\x1b[31m"}, 2, "\"\\x1b[31m\" is no command"},
	        {{"c"}, 2, "\"c\" fits connections, certs, check and completion"},
	        {{"check", "--watch"}, 2, "check cannot be watched"},
	        {{"status", "--watch=soon"}, 2, "\"soon\" is no number of seconds"},
	        {{"status", "--mode", "ktls"}, 2, "--mode belongs to connections"},
	        {{"failures", "--reason="}, 2, "--reason needs a value"},
	        {{"help", "foo"}, 2, "\"foo\" is no command"},
	        {{"help", "status", "check"}, 2, "one command at a time"},
	        {{"--colour"}, 2, "\"--colour\" is no option"},
	        {{"--\x1b[31m"}, 2, "\"--\\x1b[31m\" is no option"},
	        {{"--run-dirx", "a"}, 2, "is no option"},
	        {{"--json=yes"}, 2, "is no option"},
	        {{"--run-dir="}, 2, "--run-dir needs a value"},
	        {{"status", "failures"}, 2, "status takes no words; see posternctl help status"},
	        {{"--force"}, 2, "--force belongs to uninstall"},
	        {{"status", "--force"}, 2, "--force belongs to uninstall"},
	        {{"status", "--system-ca", "x"}, 2, "--system-ca belongs to check"},
	        {{"check"}, 2, "check needs a FILE"},
	        {{"check", "--cluster-cidr", "10.0.0.1/8", "/dev/null"}, 2, "10.0.0.1/8: no CIDR"},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int seen = run(fixture, rows[i].words);

		if (seen != rows[i].status)
			fail_msg("%s: expected %d, seen %d", rows[i].words[0], rows[i].status, seen);
		assert_says(fixture, rows[i].says);
		assert_harmless(fixture->errors);
	}
}

/* Each command that the help lists stands in the man page. To be run from the root of the tree. */
static void man_page(void **state)
{
	static const char page[] = "docs/man/posternctl.8";
	struct fixture *fixture = *state;
	_cleanup_fclose_ FILE *file = fopen(page, "re");
	_cleanup_free_ char *text = calloc(1, OUTPUT_MAX);
	unsigned int commands = 0;
	char name[32];

	if (!file)
		fail_msg("%s: expected to be run from the root of the tree", page);
	assert_non_null(text);
	assert_true(fread(text, 1, OUTPUT_MAX - 1, file) < OUTPUT_MAX - 1);
	assert_int_equal(run_one(fixture, "help"), 0);
	for (const char *line = fixture->output; line; line = strchr(line + 1, '\n')) {
		char alone[64];
		char with_words[64];

		if (strncmp(line, "\n  ", 3) != 0 || sscanf(line + 3, "%31[a-z-]", name) != 1 || name[0] == '-')
			continue;
		(void)snprintf(alone, sizeof(alone), "\n.It Cm %s\n", name);
		(void)snprintf(with_words, sizeof(with_words), "\n.It Cm %s ", name);
		if (!strstr(text, alone) && !strstr(text, with_words))
			fail_msg("%s: expected the item of %s", page, name);
		commands++;
	}
	assert_true(commands > 10);
}

static void uninstall_under_a_live_agent(void **state)
{
	struct fixture *fixture = *state;
	const char *const force[] = {"uninstall", "--force", NULL};

	fixture->status = good_status;
	start_agent(fixture);
	assert_int_equal(run_one(fixture, "uninstall"), 1);
	assert_says(fixture, "the agent runs (pid 4711): stop it first, or use --force");
	assert_int_equal(run(fixture, force), 0);
	/* Its socket is not ours to remove. */
	assert_int_equal(run_one(fixture, "status"), 0);
}

static void uninstall_leaves_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	json_t *document;
	int dead = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/" CONTROL_SOCKET_NAME, fixture->run_dir);
	assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dead);
	assert_int_equal(run_one(fixture, "uninstall"), 0);
	assert_says(fixture, "nothing is pinned in ");
	assert_int_equal(access(fixture->run_dir, F_OK), -1);
	assert_int_equal(run_json(fixture, "uninstall", &document), 0); /* idempotent */
	assert_int_equal(json_integer_value(json_object_get(document, "removed")), 0);
	json_decref(document);
}

/* The auditor's: it goes only when that is asked for. */
static void uninstall_leaves_the_evidence(void **state)
{
	struct fixture *fixture = *state;
	const char *const purge[] = {"uninstall", "--purge", NULL};
	char path[256];
	json_t *document;
	int file;

	(void)snprintf(path, sizeof(path), "%s/" EVIDENCE_FILE, fixture->run_dir);
	file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(file >= 0);
	close(file);
	assert_int_equal(run_one(fixture, "uninstall"), 0);
	assert_says(fixture, "stays in ");
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(run_json(fixture, "uninstall", &document), 0);
	assert_string_equal(json_string_value(json_object_get(document, "evidence")), path);
	json_decref(document);
	assert_int_equal(run(fixture, purge), 0);
	assert_null(strstr(fixture->output, "stays in "));
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(fixture->run_dir, F_OK), -1);
}

static void pin_map(const char *directory, const char *name, enum bpf_map_type type, uint32_t key, uint32_t value,
                    int *fd)
{
	char path[256];

	*fd = bpf_map_create(type, name, key, value, 16, NULL);
	if (*fd < 0)
		fail_msg("bpf_map_create: %s", strerror(errno));
	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	assert_int_equal(bpf_obj_pin(*fd, path), 0);
}

/* A bpf file system that only this process and its children see, at <run_dir>/bpf. False: no right to do so. */
static bool mount_bpffs(const struct fixture *fixture)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/bpf", fixture->run_dir);
	if (unshare(CLONE_NEWNS) == -1 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1)
		return false;
	assert_int_equal(mkdir(path, 0700), 0);
	if (mount("bpf", path, "bpf", 0, NULL) == 0)
		return true;
	assert_int_equal(rmdir(path), 0);
	return false;
}

static void unmount_bpffs(const struct fixture *fixture)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/bpf", fixture->run_dir);
	assert_int_equal(umount(path), 0);
	assert_int_equal(rmdir(path), 0);
}

/* The kernel's own word with real pins, and their removal. (Real hooks on real cgroups: tests/e2e.) */
static void kernel_truth_without_agent(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_close_ int map = -1;
	char directory[128];
	char links[160];
	json_t *document;

	(void)snprintf(directory, sizeof(directory), "%s/v%d", fixture->bpffs, POSTERN_ABI_VERSION);
	(void)snprintf(links, sizeof(links), "%s/links", directory);
	if (!mount_bpffs(fixture)) {
		print_message("[  SKIP    ] needs root, for a bpf file system: %s\n", strerror(errno));
		skip();
	}
	assert_int_equal(mkdir(fixture->bpffs, 0700), 0);
	assert_int_equal(mkdir(directory, 0700), 0);
	assert_int_equal(mkdir(links, 0700), 0);
	strcat(links, "/shop_2fedge"); /* as hooks_pins.c writes "shop/edge" */
	assert_int_equal(mkdir(links, 0700), 0);
	pin_map(directory, "destination_map", BPF_MAP_TYPE_HASH, sizeof(struct postern_destination_key),
	        sizeof(struct postern_destination), &map);
	for (uint16_t i = 0; i < 7; i++) {
		struct postern_destination_key key = {.port = i};
		struct postern_destination value = {.verdict = i < 4   ? POSTERN_VERDICT_TLS
		                                               : i < 6 ? POSTERN_VERDICT_DENY
		                                                       : POSTERN_VERDICT_PLAIN};

		assert_int_equal(bpf_map_update_elem(map, &key, &value, BPF_ANY), 0);
	}

	assert_int_equal(run_one(fixture, "status"), 3);
	assert_says(fixture, "posternd is not running");
	assert_says(fixture, "shop/edge: 0 of 0 hooks attached; connects are NOT intercepted");
	assert_says(fixture, "destinations in the kernel's map: 4 tls, 2 deny, 1 plain");
	assert_int_equal(run_json(fixture, "status", &document), 3);
	assert_true(json_is_true(json_object_get(json_object_get(document, "kernel"), "pinned")));
	json_decref(document);

	assert_int_equal(run_json(fixture, "uninstall", &document), 0);
	assert_int_equal(json_integer_value(json_object_get(document, "removed")), 1);
	json_decref(document);
	assert_int_equal(access(fixture->bpffs, F_OK), -1);
	unmount_bpffs(fixture);
}

static int find_program(void **state)
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

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
	        TEST(good_status_page),
	        TEST(status_is_the_default_and_the_json_is_the_agents),
	        TEST(what_is_wrong_gives_status_1),
	        TEST(hostile_values_are_escaped),
	        TEST(nonsense_documents),
	        TEST(dead_agent),
	        TEST(broken_agent),
	        TEST(usage),
	        TEST(man_page),
	        TEST(uninstall_under_a_live_agent),
	        TEST(uninstall_leaves_nothing),
	        TEST(uninstall_leaves_the_evidence),
	        TEST(kernel_truth_without_agent),
	};
#undef TEST

	return cmocka_run_group_tests(tests, find_program, NULL);
}
