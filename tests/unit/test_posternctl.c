// SPDX-License-Identifier: GPL-2.0-only
/* The pages of posternctl and its exit status: of a good agent, a bad one, a lying one and none. */
#include "posternctl_world.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

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
		if (i > 0) /* the agent itself: the first line says it */
			assert_says(fixture, "Needs attention\n  ");
		assert_int_equal(run_json(fixture, "status", &document), 1);
		json_decref(document);
	}
	fixture->status = "{\"ready\":true}";
	assert_int_equal(run_one(fixture, "status"), 0);
	assert_null(strstr(fixture->output, "Needs attention"));
}

/* Why TLS is made in user space is no refusal. */
static void lesser_modes_are_no_failures(void **state)
{
	static const char status[] =
	        "{\"ready\":true,\"failures\":{\"ktls_off\":3,\"not_tls\":2,\"tickets_pending\":1}}";
	struct fixture *fixture = *state;
	const char *refused;

	fixture->status = status;
	start_agent(fixture);
	assert_int_equal(run_one(fixture, "status"), 0);
	refused = strstr(fixture->output, "Refused and reset connections");
	assert_non_null(refused);
	assert_non_null(strstr(refused, "2 not_tls"));
	assert_null(strstr(refused, "ktls_off"));
	assert_null(strstr(refused, "tickets_pending"));
	assert_says(fixture, "3 ktls_off");
}

/* What was left out is not told as if there were none, and nonsense finds nothing because it is nonsense. */
static void filters(void **state)
{
	static const struct {
		const char *words[4];
		int status;
		const char *says;
	} rows[] = {
	        {{"failures", "--reason", "not_t"}, 0, "no failure that fits, of 1"},
	        {{"failures", "--reason", "key_"}, 0, "key_limit"},
	        {{"failures", "--reason", "xyz"}, 2, "\"xyz\" is no reason, and none begins so"},
	        {{"connections", "--gateway", "nobody"}, 0, "no live connection that fits, of 1"},
	        {{"connections", "--destination", "abc"}, 2, "\"abc\" is no ADDRESS[:PORT] and no :PORT"},
	        {{"connections", "--destination", ":99999"}, 2, "is no ADDRESS[:PORT]"},
	        {{"connections", "--destination", "10.0.0.1:x"}, 2, "is no ADDRESS[:PORT]"},
	        {{"connections", "--destination", "[fd00::7"}, 2, "is no ADDRESS[:PORT]"},
	        {{"connections", "--destination", "\x1b[2J"}, 2, "\"\\x1b[2J\" is no"},
	        {{"connections", "--destination", ""}, 2, "--destination needs a value"},
	        {{"connections", "--destination", ":80"}, 0, "10.0.0.1:80"},
	        {{"connections", "--destination", "10.0.0.1"}, 0, "10.0.0.1:80"},
	        {{"connections", "--destination", "10.0.0.1:80"}, 0, "10.0.0.1:80"},
	        {{"connections", "--destination", "fd00::7"}, 0, "that fits, of 1"},
	        {{"connections", "--destination", "[fd00::7]"}, 0, "that fits, of 1"},
	        {{"connections", "--destination", "[fd00::7]:443"}, 0, "that fits, of 1"},
	};
	static const char list[] =
	        "[{\"gateway\":\"shop/edge\",\"destination\":\"10.0.0.1:80\",\"reason\":\"key_limit\"}]";
	struct fixture *fixture = *state;

	fixture->connections = fixture->failures = list;
	start_agent(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (run(fixture, rows[i].words) != rows[i].status)
			fail_msg("%s %s: expected status %d", rows[i].words[0], rows[i].words[2], rows[i].status);
		assert_says(fixture, rows[i].says);
	}
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
	        {{"certs", "--reason", "x"}, 2, "--reason belongs to failures and trace\n"},
	        {{"check", "--policy", "x"},
	         2,
	         "--policy belongs to connections, policies, destinations and failures\n"},
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(good_status_page),
	        TEST(status_is_the_default_and_the_json_is_the_agents),
	        TEST(what_is_wrong_gives_status_1),
	        TEST(lesser_modes_are_no_failures),
	        TEST(filters),
	        TEST(hostile_values_are_escaped),
	        TEST(nonsense_documents),
	        TEST(dead_agent),
	        TEST(broken_agent),
	        TEST(usage),
	        TEST(man_page),
	};

	return cmocka_run_group_tests(tests, find_program, NULL);
}
