// SPDX-License-Identifier: GPL-2.0-only
/* What posternctl makes of a narrow terminal: tables that fit, whole; and of a pipe: nothing else than ever. */
#include "posternctl_world.h"

#include <errno.h>
#include <pty.h>
#include <sys/ioctl.h>

#define LONG_GATEWAY "a-namespace-with-a-long-name/a-gateway-with-a-name-that-is-longer-still"
#define LONG_POLICY  "another-namespace/a-policy-whose-name-has-no-end-in-sight"
#define REMEDY       "give the backend a certificate that the policy's CA has signed, or the policy the CA that signed it"

#define ROW(gateway, port, policy, reason, remedy)                                                                     \
	"{\"time\":\"2026-11-28T01:00:00Z\",\"gateway\":\"" gateway "\",\"gateway_port\":" port                        \
	",\"destination\":\"10.96.0.10:443\",\"policy\":\"" policy "\",\"reason\":\"" reason "\",\"remedy\":\"" remedy \
	"\"}"

static const char rows[] = "[" ROW(LONG_GATEWAY, "40001", LONG_POLICY, "certificate_untrusted",
                                   "") "," ROW("shop/edge", "40002", "shop/echo", "backend_refused", "") "]";
static const char noted[] = "[" ROW("shop/edge", "40003", "shop/echo", "certificate_untrusted", REMEDY) "]";

/* posternctl WORDS... on a terminal of so many columns; told: COLUMNS, or NULL. What it wrote, without returns. */
static void run_on_terminal(struct fixture *fixture, unsigned short columns, const char *told, const char *const *words)
{
	const struct winsize size = {.ws_row = 25, .ws_col = columns};
	const char *argv[ARGUMENTS_MAX + 6] = {program, "--run-dir", fixture->run_dir, "--bpffs", fixture->bpffs};
	size_t used = 0;
	int terminal, status;
	pid_t child;

	for (size_t i = 0; words[i]; i++) {
		assert_true(i < ARGUMENTS_MAX);
		argv[5 + i] = words[i];
	}
	child = forkpty(&terminal, NULL, NULL, &size);
	assert_true(child >= 0);
	if (child == 0) {
		setenv("NO_COLOR", "1", 1);
		if (told)
			setenv("COLUMNS", told, 1);
		else
			unsetenv("COLUMNS");
		execv(program, (char *const *)argv);
		_exit(127);
	}
	for (;;) {
		char piece[4096];
		ssize_t got = read(terminal, piece, sizeof(piece));

		if (got == -1 && errno == EINTR)
			continue;
		if (got <= 0) /* EIO: nobody has the other end any more */
			break;
		for (ssize_t i = 0; i < got; i++) {
			assert_true(used + 1 < OUTPUT_MAX);
			if (piece[i] != '\r')
				fixture->output[used++] = piece[i];
		}
	}
	fixture->output[used] = '\0';
	close(terminal);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status) || WEXITSTATUS(status) == 127)
		fail_msg("posternctl: status %#x: %s", (unsigned int)status, fixture->output);
}

static size_t longest_line(const char *text)
{
	size_t longest = 0;

	while (*text) {
		size_t length = strcspn(text, "\n");

		longest = length > longest ? length : longest;
		text += length + (text[length] == '\n');
	}
	return longest;
}

/* What stands in one column of the rows, from top to bottom: each line from the heading's place to the next one's. */
static void column_of(const char *text, const char *heading, const char *next, char *into, size_t size)
{
	size_t from = (size_t)(strstr(text, heading) - text), to = (size_t)(strstr(text, next) - text);
	size_t used = 0;

	for (text = strchr(text, '\n') + 1; *text; text += strcspn(text, "\n") + 1) {
		size_t length = strcspn(text, "\n");

		for (size_t i = from; i < to && i < length; i++) {
			if (text[i] != ' ' && used + 1 < size)
				into[used++] = text[i];
		}
	}
	into[used] = '\0';
}

static const char *const failures_words[] = {"failures", NULL};

/* At each width: no line is wider, and no character is lost. */
static void a_table_fits_whole(void **state)
{
	static const unsigned short widths[] = {70, 80, 100, 132};
	struct fixture *fixture = *state;
	char seen[512];

	fixture->failures = rows;
	start_agent(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		run_on_terminal(fixture, widths[i], NULL, failures_words);
		if (longest_line(fixture->output) > widths[i])
			fail_msg("a line is wider than %u columns:\n%s", widths[i], fixture->output);
		column_of(fixture->output, "GATEWAY", "PORT", seen, sizeof(seen));
		if (!strstr(seen, LONG_GATEWAY "shop/edge"))
			fail_msg("at %u columns the gateways are \"%s\":\n%s", widths[i], seen, fixture->output);
		column_of(fixture->output, "POLICY", "REASON", seen, sizeof(seen));
		if (!strstr(seen, LONG_POLICY "shop/echo"))
			fail_msg("at %u columns the policies are \"%s\":\n%s", widths[i], seen, fixture->output);
	}
}

/* The line below a row, too: broken between words, each of them whole. */
static void a_note_fits(void **state)
{
	struct fixture *fixture = *state;
	char words[] = REMEDY, *rest = words;

	fixture->failures = noted;
	start_agent(fixture);
	run_on_terminal(fixture, 80, NULL, failures_words);
	assert_true(longest_line(fixture->output) <= 80);
	assert_null(strstr(fixture->output, REMEDY));
	for (const char *word = strsep(&rest, " "); word; word = strsep(&rest, " "))
		assert_says(fixture, word);
}

/* COLUMNS is the user's word, against what the terminal says. */
static void columns_win(void **state)
{
	struct fixture *fixture = *state;

	fixture->failures = rows;
	start_agent(fixture);
	run_on_terminal(fixture, 70, "300", failures_words);
	assert_says(fixture, LONG_GATEWAY);
	run_on_terminal(fixture, 300, "70", failures_words);
	assert_true(longest_line(fixture->output) <= 70);
	run_on_terminal(fixture, 70, "many", failures_words); /* no number: the terminal's */
	assert_true(longest_line(fixture->output) <= 70);
}

/* One too narrow for any table is no reason to hang or to lose anything. */
static void next_to_no_columns(void **state)
{
	static const unsigned short widths[] = {1, 5, 20, 40};
	struct fixture *fixture = *state;

	fixture->failures = rows;
	start_agent(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		run_on_terminal(fixture, widths[i], NULL, failures_words);
		assert_says(fixture, "40001");
		assert_says(fixture, "40002");
	}
	/* It does not say how many it has. */
	run_on_terminal(fixture, 0, NULL, failures_words);
	assert_says(fixture, LONG_GATEWAY);
}

/* Programs read those: a row is a line, and JSON is JSON, whatever COLUMNS says. */
static void pipes_and_json_are_as_ever(void **state)
{
	static const char *const json[] = {"--json", "failures", NULL};
	struct fixture *fixture = *state;
	char *before;

	fixture->failures = rows;
	start_agent(fixture);
	unsetenv("COLUMNS");
	assert_int_equal(run_one(fixture, "failures"), 0);
	assert_says(fixture, LONG_GATEWAY);
	assert_says(fixture, LONG_POLICY);
	before = strdup(fixture->output);
	setenv("COLUMNS", "40", 1);
	assert_int_equal(run_one(fixture, "failures"), 0);
	unsetenv("COLUMNS");
	assert_string_equal(fixture->output, before);
	free(before);
	run_on_terminal(fixture, 40, "40", json);
	assert_says(fixture, "\"" LONG_GATEWAY "\"");
}

/* Which words there are is known without an agent; that there is none is said of good ones alone. */
static void log_levels_without_an_agent(void **state)
{
	static const struct {
		const char *words[4];
		int status;
		const char *said;
	} questions[] = {
	        {{"log-level", "loud"}, 2, "unknown level; known are error, warning, info, debug"},
	        {{"log-level", "tls", "loud"}, 2, "unknown level; known are error, warning, info, debug"},
	        {{"log-level", "kernel", "debug"},
	         2,
	         "unknown subsystem; known are agent, policy, source, tls, datapath, observe, controller, access"},
	        {{"log-level", "debug", "tls"}, 2, "unknown level"},
	        {{"log-level", "tls", "debug"}, 3, "the agent is not running"},
	        {{"log-level", "debug"}, 3, "the agent is not running"},
	        {{"log-level"}, 3, "the agent is not running"},
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
		int status = run(fixture, questions[i].words);

		if (status != questions[i].status)
			fail_msg("row %zu: expected status %d, seen %d", i, questions[i].status, status);
		assert_says(fixture, questions[i].said);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        TEST(a_table_fits_whole),
	        TEST(a_note_fits),
	        TEST(columns_win),
	        TEST(next_to_no_columns),
	        TEST(pipes_and_json_are_as_ever),
	        TEST(log_levels_without_an_agent),
	};

	return cmocka_run_group_tests(tests, find_program, NULL);
}
