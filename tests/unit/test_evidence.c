/* SPDX-License-Identifier: GPL-2.0-only */
/* What is counted for the auditor, and what an earlier agent has saved of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/evidence.h"

#define HOUR 490000 /* since 1970 */

static struct evidence_row row_of(const char *gateway, int64_t hour, uint64_t connections, uint64_t resumed)
{
	struct evidence_row row = {.hour = hour, .connections = connections, .resumed = resumed};

	(void)snprintf(row.gateway, sizeof(row.gateway), "%s", gateway);
	(void)snprintf(row.version, sizeof(row.version), "TLSv1.3");
	return row;
}

static void count(struct evidence *evidence, const char *gateway, int64_t hour, bool resumed)
{
	const struct evidence_row row = row_of(gateway, hour, 0, resumed);

	evidence_connection(evidence, &row);
}

static int restore(struct evidence *evidence, const char *gateway, int64_t hour, uint64_t connections, uint64_t resumed)
{
	const struct evidence_row row = row_of(gateway, hour, connections, resumed);

	return evidence_restore_row(evidence, &row);
}

struct text {
	char at[1024];
};

static void put_row(void *context, const struct evidence_row *row)
{
	struct text *text = context;
	size_t used = strlen(text->at);

	(void)snprintf(text->at + used, sizeof(text->at) - used, "%s+%d:%d/%d ", row->gateway, (int)(row->hour - HOUR),
	               (int)row->resumed, (int)row->connections);
}

static void put_interval(void *context, const struct evidence_interval *interval)
{
	struct text *text = context;
	size_t used = strlen(text->at);

	(void)snprintf(text->at + used, sizeof(text->at) - used, "[%s %s %d-%d] ", interval->gateway, interval->mode,
	               (int)interval->from, (int)interval->until);
}

static void expect_text(struct evidence *evidence, const char *wanted)
{
	struct text text = {""};

	evidence_for_each(evidence, 0, put_row, put_interval, &text);
	assert_string_equal(text.at, wanted);
}

/* An agent that takes over reads the file when its workers have counted already. */
static void test_saved_rows_come_late(void **state)
{
	struct evidence *evidence = evidence_new();

	(void)state;
	assert_non_null(evidence);
	count(evidence, "one", HOUR + 2, false);
	count(evidence, "two", HOUR + 2, true);
	assert_int_equal(restore(evidence, "one", HOUR, 10, 4), 0);
	assert_int_equal(restore(evidence, "one", HOUR + 2, 5, 1), 0);
	assert_int_equal(restore(evidence, "three", HOUR + 1, 7, 0), 0);
	expect_text(evidence, "one+0:4/10 three+1:0/7 one+2:1/6 two+2:1/1 ");
	/* Whatever came in between, each goes on where it was. */
	count(evidence, "one", HOUR + 2, true);
	count(evidence, "two", HOUR + 2, false);
	count(evidence, "two", HOUR + 3, false);
	expect_text(evidence, "one+0:4/10 three+1:0/7 one+2:2/7 two+2:1/2 two+3:0/1 ");
	evidence_free(evidence);
}

static void test_there_is_room_for_so_many(void **state)
{
	struct evidence *evidence = evidence_new();
	char name[32];

	(void)state;
	assert_non_null(evidence);
	for (int i = 0; i < EVIDENCE_ROWS; i++) {
		(void)snprintf(name, sizeof(name), "gateway-%d", i);
		assert_int_equal(restore(evidence, name, HOUR, 1, 0), 0);
	}
	assert_int_equal(restore(evidence, "beyond", HOUR, 1, 0), -ENOSPC);
	assert_int_equal(restore(evidence, "gateway-0", HOUR, 1, 0), 0);
	evidence_free(evidence);
}

static void test_an_interval_goes_on_over_a_restart(void **state)
{
	const struct evidence_interval saved = {.gateway = "one", .mode = "enforce", .from = 100, .until = 200};
	struct evidence *evidence = evidence_new();

	(void)state;
	assert_non_null(evidence);
	assert_int_equal(evidence_restore_interval(evidence, &saved), 0);
	evidence_gateway(evidence, "one", "enforce", 201);
	expect_text(evidence, "[one enforce 100-201] ");
	evidence_gateway(evidence, "one", "observe", 202);
	expect_text(evidence, "[one enforce 100-201] [one observe 202-202] ");
	evidence_free(evidence);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_saved_rows_come_late),
	        cmocka_unit_test(test_there_is_room_for_so_many),
	        cmocka_unit_test(test_an_interval_goes_on_over_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
