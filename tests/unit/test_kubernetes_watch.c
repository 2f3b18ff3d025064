// SPDX-License-Identifier: GPL-2.0-only
/* Watches, row by row: what the API server says, and what the watch asks and tells then. */
#include "watch_world.h"

#include <signal.h>

struct row {
	const char *name, *told, *resource_version;
	struct step steps[8];
	uint64_t failures;
	const char *error; /* of the last failure, unless it is over: "" */
};

static const struct row rows[] = {
        {
                .name = "a list in pages, then changes",
                .told = "[ +n/a@1 +n/b@2 +n/c@3 ] +n/d@11 +n/a@12 -n/b ",
                .resource_version = "20",
                .steps =
                        {
                                {"!continue", ANSWER, 200, LIST("10", "next%20", ITEM("a", "1") "," ITEM("b", "2"))},
                                {"/api/v1/services?labelSelector=a%3Db&limit=100&continue=next%2520", ANSWER, 200,
                                 LIST("10", "", ITEM("c", "3"))},
                                {"watch=1&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=", STREAM, 0,
                                 EVENT("ADDED", "d", "11") EVENT("MODIFIED", "a", "12") EVENT("DELETED", "b", "13")
                                         BOOKMARK("20")},
                        },
        },
        {
                .name = "an empty list, null for items",
                .told = "[ ] +n/a@11 ",
                .resource_version = "11",
                .steps =
                        {
                                {"!watch", ANSWER, 200, "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":null}"},
                                {"watch", STREAM, 0,
                                 "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"namespace\":"
                                 "\"n\",\"name\":\"a\",\"resourceVersion\":\"11\"}}}\n"},
                        },
        },
        {
                .name = "410 in mid-list begins anew",
                .told = "[ +n/a@1 [ +n/b@2 ] ",
                .resource_version = "30",
                .failures = 1,
                .steps =
                        {
                                {"!continue", ANSWER, 200, LIST("10", "x", ITEM("a", "1"))},
                                {"continue=x", ANSWER, 410, STATUS("Expired")},
                                {"!continue", ANSWER, 200, LIST("30", "", ITEM("b", "2"))},
                        },
        },
        {
                .name = "410 to the watch",
                .told = "[ +n/a@1 ] [ +n/a@2 ] ",
                .resource_version = "30",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1"))},
                                {"watch", ANSWER, 410, STATUS("Gone")},
                                {"!watch", ANSWER, 200, LIST("30", "", ITEM("a", "2"))},
                        },
        },
        {
                .name = "410 as an event",
                .told = "[ ] +n/a@11 [ +n/a@11 ] ",
                .resource_version = "30",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("ADDED", "a", "11") ERROR_EVENT("410", "Expired")},
                                {"!watch", ANSWER, 200, LIST("30", "", ITEM("a", "11"))},
                        },
        },
        {
                .name = "another error as an event: from where it was",
                .told = "[ ] +n/a@11 +n/b@12 ",
                .resource_version = "12",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("ADDED", "a", "11") ERROR_EVENT("500", "InternalError")},
                                {"resourceVersion=11", STREAM, 0, EVENT("ADDED", "b", "12")},
                        },
        },
        {
                .name = "the end in order: from the bookmark",
                .told = "[ ] +n/b@30 ",
                .resource_version = "30",
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"resourceVersion=10", STREAM_END, 0, BOOKMARK("20")},
                                {"resourceVersion=20", STREAM_END, 0, EVENT("ADDED", "b", "30")},
                                {"resourceVersion=30", STREAM_END, 0, ""},
                        },
        },
        {
                .name = "cut in mid-object: from the last whole one",
                .told = "[ ] +n/a@11 +n/b@12 ",
                .resource_version = "12",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM_CUT, 0,
                                 EVENT("ADDED", "a", "11") "{\"type\":\"ADDED\",\"object\":{\"metadata\":{"},
                                {"resourceVersion=11", STREAM, 0, EVENT("ADDED", "b", "12")},
                        },
        },
        {
                .name = "pages that are too large get smaller",
                .told = "[ +n/a@1 ] ",
                .resource_version = "10",
                .failures = 1,
                .steps =
                        {
                                {"limit=100", HUGE, 0, NULL},
                                {"limit=25", ANSWER, 200, LIST("10", "", ITEM("a", "1"))},
                        },
        },
        {
                .name = "a list without end",
                .told = "[ +n/a@1 +n/b@1 [ ] ",
                .resource_version = "10",
                .failures = 1,
                .steps =
                        {
                                {"!continue", ANSWER, 200, LIST("10", "x", ITEM("a", "1"))},
                                {"continue=x", ANSWER, 200, LIST("10", "x", ITEM("b", "1"))},
                                {"!continue", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "answers that make no sense: all are tried again, nothing is applied",
                .told = "[ +n/a@1 [ [ ] ",
                .resource_version = "10",
                .failures = 6,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("", "", ITEM("a", "1"))},
                                {"!watch", ANSWER, 200, "[]"},
                                {"!watch", ANSWER, 200, "{\"metadata\":{\"resourceVersion\":5},\"items\":[]}"},
                                {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1") ",{\"metadata\":{\"name\":[]}}")},
                                {"!watch", ANSWER, 200, "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":{}}"},
                                {"!watch", ANSWER, 200, "<html>"},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "events that make no sense: the list is read again",
                .told = "[ ] [ ] [ ] [ ] ",
                .resource_version = "10",
                .failures = 3,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0,
                                 "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"x\"}}}\n"},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("EXPLODED", "a", "11")},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, "[1,2,3]\n"},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "junk in the stream: from where it was",
                .told = "[ ] +n/a@11 ",
                .resource_version = "11",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                                {"watch", STREAM, 0, EVENT("ADDED", "a", "11") "\x01\x02 junk\n"},
                                {"resourceVersion=11", STREAM, 0, ""},
                        },
        },
        {
                .name = "denied, then allowed",
                .told = "[ ] ",
                .resource_version = "10",
                .failures = 1,
                .steps =
                        {
                                {"!watch", ANSWER, 403, STATUS("Forbidden")},
                                {"!watch", ANSWER, 200, LIST("10", "", "")},
                        },
        },
        {
                .name = "denied in mid-watch: what was there stays",
                .told = "[ +n/a@1 ] ",
                .resource_version = "10",
                .failures = 2,
                .error = "403 Forbidden: said the server",
                .steps =
                        {
                                {"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1"))},
                                {"watch", ANSWER, 403, STATUS("Forbidden")},
                                {"!watch", ANSWER, 403, STATUS("Forbidden")},
                        },
        },
        {
                .name = "one name twice in a list",
                .told = "[ +n/a@1 +n/a@2 ] ",
                .resource_version = "10",
                .steps = {{"!watch", ANSWER, 200, LIST("10", "", ITEM("a", "1") "," ITEM("a", "2"))}},
        },
};

static size_t count_steps(const struct row *row)
{
	size_t count = 0;

	while (count < ARRAY_SIZE(row->steps) && row->steps[count].asked)
		count++;
	return count;
}

static bool has_cut(const struct row *row)
{
	for (size_t i = 0; i < count_steps(row); i++)
		if (row->steps[i].way == STREAM_CUT)
			return true;
	return false;
}

/* The last answer's, perhaps, which is on its way. */
static void wait_for_failures(struct fixture *fixture, const struct row *row)
{
	uint64_t limit = monotonic_ns() + PATIENCE_NS;

	while (kubernetes_watch_statistics(fixture->watch)->failures < row->failures && monotonic_ns() < limit)
		assert_int_equal(loop_step(fixture->loop, 20), 0);
}

static void run_row(const struct row *row)
{
	struct fixture fixture = {0};
	const struct kubernetes_watch_statistics *statistics;
	size_t steps = count_steps(row);

	start(&fixture, row->steps, steps);
	if (has_cut(row)) {
		wait_until_served(&fixture, 2);
		wait_for_told(&fixture, "[ ] +n/a@11 ");
		api_server_go(fixture.server);
	}
	wait_until_served(&fixture, (unsigned int)steps);
	wait_for_told(&fixture, row->told);
	wait_for_failures(&fixture, row);
	for (unsigned int i = 0; i < 5; i++) /* and no more comes */
		assert_int_equal(loop_step(fixture.loop, 5), 0);
	statistics = kubernetes_watch_statistics(fixture.watch);
	if (fixture.unexpected[0])
		fail_msg("%s: %s", row->name, fixture.unexpected);
	if (strcmp(fixture.told, row->told) != 0)
		fail_msg("%s: expected \"%s\", seen \"%s\"", row->name, row->told, fixture.told);
	if (strcmp(statistics->resource_version, row->resource_version) != 0)
		fail_msg("%s: expected resourceVersion %s, seen %s", row->name, row->resource_version,
		         statistics->resource_version);
	if (statistics->failures != row->failures)
		fail_msg("%s: expected %llu failures, seen %llu (%s)", row->name, (unsigned long long)row->failures,
		         (unsigned long long)statistics->failures, statistics->error);
	assert_true(statistics->synced);
	if (row->error)
		assert_string_equal(statistics->error, row->error);
	assert_int_equal(statistics->failing_since_ns != 0, statistics->error[0] != '\0');
	stop(&fixture);
}

static void test_rows(void **state)
{
	const char *only = getenv("POSTERN_WATCH_ROW");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!only || strstr(rows[i].name, only))
			run_row(&rows[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_rows),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
