/* SPDX-License-Identifier: GPL-2.0-only */
/* Lines as they reach stderr: whole, never waited for, never a storm. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/log_json.h"

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
		log_info_unlimited("flood", "number=%d", i);
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

static void test_one_place_is_limited(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct log_statistics before;
	struct log_statistics after;
	struct reader reader;
	unsigned long suppressed = 0;
	unsigned int written = 0;

	(void)state;
	begin(&reader, 1 << 19);
	log_statistics(&before);
	/* It goes on until a line has said how many had none: in the second that follows. */
	for (unsigned int i = 0; suppressed == 0; i++) {
		const char *said;

		log_warning("storm", "number=%u", i);
		free(text);
		text = take(&reader);
		written += count(text, "event=\"storm\"");
		said = strstr(text, "suppressed=");
		suppressed = said ? strtoul(said + strlen("suppressed="), NULL, 10) : 0;
		if (suppressed)
			assert_int_equal(suppressed + written, i + 1);
	}
	log_statistics(&after);
	end(&reader);
	assert_in_range(written, LOG_LINES_PER_SECOND + 1, 2 * LOG_LINES_PER_SECOND + 1);
	assert_int_equal(after.suppressed - before.suppressed, suppressed);
	assert_int_equal(after.lines - before.lines, written);
}

static void test_each_subsystem_has_its_level(void **state)
{
	_cleanup_free_ char *text = NULL;
	enum log_subsystem subsystem;
	struct reader reader;

	(void)state;
	assert_int_equal(log_parse_subsystem("tls", &subsystem), 0);
	assert_int_equal(subsystem, LOG_TLS);
	assert_int_equal(log_parse_subsystem("TLS", &subsystem), -EINVAL);
	assert_null(log_subsystem_name(LOG_SUBSYSTEMS));
	begin(&reader, 65536);
	log_set_level(LOG_LEVEL_WARNING);
	log_set_subsystem_level(LOG_TLS, LOG_LEVEL_DEBUG);
	log_set_subsystem_level(LOG_AGENT, LOG_LEVEL_ERROR);
	for (unsigned int i = 0; i < LOG_SUBSYSTEMS; i++) {
		if (log_subsystem_enabled(i, LOG_LEVEL_DEBUG))
			log_write(NULL, 0, i, LOG_LEVEL_DEBUG, "quiet", "%s", "");
	}
	log_warning("of this file", "%s", ""); /* it counts as the agent's */
	log_error("still said", "%s", "");
	text = take(&reader);
	end(&reader);
	log_set_level(LOG_LEVEL_INFO);
	assert_int_equal(count(text, "\n"), 2);
	assert_non_null(strstr(text, "level=debug subsystem=tls event=\"quiet\"\n"));
	assert_non_null(strstr(text, "level=error subsystem=agent event=\"still said\"\n"));
}

static void test_json_members(void **state)
{
	static const struct {
		const char *pairs;
		const char *members;
	} rows[] = {
	        {"", ""},
	        {"a=b", ",\"a\":\"b\""},
	        {"count=12 below=-3 word=1a", ",\"count\":12,\"below\":-3,\"word\":\"1a\""},
	        {"number=007 big=1234567890123456 sign=- none=", /* no numbers of JSON, or not exactly */
	         ",\"number\":\"007\",\"big\":\"1234567890123456\",\"sign\":\"-\",\"none\":\"\""},
	        {"quoted=\"12\" zero=0", ",\"quoted\":\"12\",\"zero\":0"},
	        {"a=\"x y\" b=z", ",\"a\":\"x y\",\"b\":\"z\""},
	        {"a=\"say \\\"no\\\" and \\\\\"", ",\"a\":\"say \\\"no\\\" and \\\\\""},
	        {"a=\"one\\x0atwo\\x1b[\"", ",\"a\":\"one\\u000atwo\\u001b[\""},
	        {"a=\"never ends", ",\"a\":\"never ends\""},
	        {"a=\"ends in \\", ",\"a\":\"ends in \\\\\""},
	        {"word other=1", ",\"text\":\"word\",\"other\":1"},
	        {"=x", ",\"text\":\"=x\""},
	        {"\"lone\"", ",\"text\":\"lone\""},
	        {"a=tab\tand\x7f", ",\"a\":\"tab\\u0009and\\u007f\""},
	        {"a=\xc3\xa4 b=\xe2\x82\xac", ",\"a\":\"\xc3\xa4\",\"b\":\"\xe2\x82\xac\""},
	        /* Not UTF-8: a lone byte, a cut character, an overlong one, a surrogate, one above U+10FFFF. */
	        {"a=\xff", ",\"a\":\"\xef\xbf\xbd\""},
	        {"a=\xe2\x82", ",\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\""},
	        {"a=\xc0\x80", ",\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\""},
	        {"a=\xed\xa0\x80", ",\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	        {"a=\xf4\x90\x80\x80", ",\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	};
	char buffer[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t used = log_json_members(rows[i].pairs, strlen(rows[i].pairs), buffer, sizeof(buffer));

		if (used != strlen(rows[i].members) || memcmp(buffer, rows[i].members, used) != 0)
			fail_msg("%s: expected %s, seen %.*s", rows[i].pairs, rows[i].members, (int)used, buffer);
		/* With less room only whole members are there. */
		for (size_t size = 0; size < used; size++) {
			size_t less = log_json_members(rows[i].pairs, strlen(rows[i].pairs), buffer, size);

			assert_true(less <= size);
			assert_memory_equal(buffer, rows[i].members, less);
			assert_true(less == 0 || rows[i].members[less] == ',');
		}
	}
}

static void test_lines_are_json(void **state)
{
	static const char hostile[] = "a \"b\" \\ \n\x1b\xff {";
	_cleanup_free_ char *text = NULL;
	char quoted[128];
	char long_value[4096];
	struct reader reader;
	json_t *line;
	char *next;

	(void)state;
	memset(long_value, '"', sizeof(long_value) - 1);
	long_value[sizeof(long_value) - 1] = '\0';
	begin(&reader, 65536);
	log_set_format(LOG_FORMAT_JSON);
	log_error("hostile", "value=%s count=%d", log_quote(hostile, quoted, sizeof(quoted)), 7);
	log_error("long", "before=1 value=%s", long_value);
	log_error("empty", "%s", "");
	text = take(&reader);
	log_set_format(LOG_FORMAT_LOGFMT);
	end(&reader);
	assert_int_equal(count(text, "\n"), 3);
	next = strchr(text, '\n');
	*next++ = '\0';
	line = json_loads(text, 0, NULL);
	assert_non_null(line);
	assert_string_equal(json_string_value(json_object_get(line, "event")), "hostile");
	assert_string_equal(json_string_value(json_object_get(line, "level")), "error");
	assert_string_equal(json_string_value(json_object_get(line, "subsystem")), "agent");
	assert_int_equal(strlen(json_string_value(json_object_get(line, "time"))), strlen("2026-01-01T00:00:00.000Z"));
	assert_string_equal(json_string_value(json_object_get(line, "value")), "a \"b\" \\ \n\x1b\xef\xbf\xbd {");
	assert_int_equal(json_integer_value(json_object_get(line, "count")), 7);
	json_decref(line);
	line = json_loads(next, JSON_DISABLE_EOF_CHECK, NULL);
	assert_non_null(line);
	assert_int_equal(json_integer_value(json_object_get(line, "before")), 1);
	json_decref(line);
}

/* As systemd says it: the device and the inode of what it reads. */
static void set_journal(unsigned long difference)
{
	struct stat status;
	char stream[64];

	assert_int_equal(fstat(STDERR_FILENO, &status), 0);
	(void)snprintf(stream, sizeof(stream), "%lu:%lu", (unsigned long)status.st_dev,
	               (unsigned long)status.st_ino + difference);
	assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
}

static void test_the_journal_gets_priorities(void **state)
{
	static const char *const wanted[] = {"<3>level=error subsystem=", "<4>level=warning subsystem=",
	                                     "<6>level=info subsystem=", "<3>{\"level\":\"error\",", "time=2"};
	_cleanup_free_ char *text = NULL;
	struct reader reader;
	char *rest, *line;

	(void)state;
	begin(&reader, 65536);
	set_journal(0);
	log_error("one", "%s", "");
	log_warning("two", "%s", "");
	log_info("three", "%s", "");
	log_set_format(LOG_FORMAT_JSON);
	log_error("four", "%s", "");
	log_set_format(LOG_FORMAT_LOGFMT);
	set_journal(1); /* somebody's who was started by a service, and writes elsewhere */
	log_error("five", "%s", "");
	assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
	text = take(&reader);
	end(&reader);
	rest = text;
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		line = strsep(&rest, "\n");
		assert_non_null(line);
		if (strncmp(line, wanted[i], strlen(wanted[i])) != 0)
			fail_msg("line %zu: expected %s..., seen %s", i, wanted[i], line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_long_line_is_cut_and_ends),
	        cmocka_unit_test(test_nobody_reads),
	        cmocka_unit_test(test_failures_are_no_storm),
	        cmocka_unit_test(test_one_place_is_limited),
	        cmocka_unit_test(test_each_subsystem_has_its_level),
	        cmocka_unit_test(test_json_members),
	        cmocka_unit_test(test_lines_are_json),
	        cmocka_unit_test(test_the_journal_gets_priorities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
