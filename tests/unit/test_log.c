/* SPDX-License-Identifier: GPL-2.0-only */
/* Lines as they reach stderr: whole, never waited for, never a storm. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"

/* stderr is a pipe while a test looks at it. */
struct reader {
	int pipe[2];
	int kept; /* the real stderr */
};

static void begin(struct reader *reader, int size)
{
	assert_int_equal(pipe(reader->pipe), 0);
	assert_int_not_equal(fcntl(reader->pipe[1], F_SETPIPE_SZ, size), -1);
	assert_int_equal(fcntl(reader->pipe[0], F_SETFL, O_NONBLOCK), 0);
	reader->kept = dup(STDERR_FILENO);
	assert_int_not_equal(reader->kept, -1);
	assert_int_not_equal(dup2(reader->pipe[1], STDERR_FILENO), -1);
	close(reader->pipe[1]);
}

/* What is in the pipe now. free() it. */
static char *take(struct reader *reader)
{
	size_t used = 0;
	size_t size = 1 << 20;
	char *text = calloc(1, size);
	ssize_t got;

	assert_non_null(text);
	while ((got = read(reader->pipe[0], text + used, size - 1 - used)) > 0)
		used += (size_t)got;
	return text;
}

static void end(struct reader *reader)
{
	assert_int_not_equal(dup2(reader->kept, STDERR_FILENO), -1);
	close(reader->kept);
	close(reader->pipe[0]);
}

static size_t count(const char *text, const char *word)
{
	size_t found = 0;

	for (text = strstr(text, word); text; text = strstr(text + 1, word))
		found++;
	return found;
}

static void test_long_line_is_cut_and_ends(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct reader reader;
	char value[4096];

	(void)state;
	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	begin(&reader, 65536);
	log_error("long", "value=%s", value);
	log_error("next", "value=%s", "a\nlevel=error");
	text = take(&reader);
	end(&reader);
	assert_int_equal(count(text, "\n"), 2);
	assert_int_equal(strchr(text, '\n') - text, 2046);
	assert_non_null(strstr(text, "event=\"next\" value=a level=error\n"));
}

static void test_nobody_reads(void **state)
{
	_cleanup_free_ char *before = NULL;
	_cleanup_free_ char *after = NULL;
	struct reader reader;

	(void)state;
	begin(&reader, 8192);
	/* Would block for ever at the first line that the pipe has no room for. */
	for (int i = 0; i < 1000; i++)
		log_error("flood", "number=%d", i);
	before = take(&reader);
	log_error("after", "%s", "");
	after = take(&reader);
	end(&reader);
	assert_true(count(before, "event=\"flood\"") < 1000);
	assert_int_equal(count(before, "event=\"flood\""), count(before, "\n"));
	assert_int_equal(count(after, "event=\"log lines lost\""), 1);
	assert_int_equal(strtoul(strstr(after, "count=") + strlen("count="), NULL, 10),
	                 1000 - count(before, "event=\"flood\""));
	assert_int_equal(count(after, "event=\"after\""), 1);
}

static void test_failures_are_no_storm(void **state)
{
	struct failures *failures = failures_new();
	const struct failure refused = {.reason = REASON_BACKEND_REFUSED};
	const struct failure reset = {.reason = REASON_BACKEND_RESET};
	_cleanup_free_ char *text = NULL;
	struct reader reader;

	(void)state;
	assert_non_null(failures);
	log_set_level(LOG_LEVEL_INFO);
	begin(&reader, 1 << 19);
	for (int i = 0; i < 500; i++)
		failures_add(failures, &refused);
	failures_add(failures, &reset);
	text = take(&reader);
	end(&reader);
	assert_int_equal(failures_total(failures, REASON_BACKEND_REFUSED), 500);
	/* 20 a second; the loop may have seen one second end. */
	assert_in_range(count(text, "event=\"connection failed\" reason=backend_refused"), 20, 40);
	assert_int_equal(count(text, "reason=backend_reset"), 1);
	failures_free(failures);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_long_line_is_cut_and_ends),
	        cmocka_unit_test(test_nobody_reads),
	        cmocka_unit_test(test_failures_are_no_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
