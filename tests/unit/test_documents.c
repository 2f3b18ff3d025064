/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The documents say what the tables of the program say: each metric and each reason in docs/operations.md, each setting
 * in the man pages. With POSTERN_WRITE_DOCUMENTS in the environment the tables of operations.md are written anew. To be
 * run from the root of the tree.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/reason.h"
#include "config/setting.h"
#include "observe/metric.h"

#define OPERATIONS "docs/operations.md"

static char *read_file(const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	size_t size = 1 << 20;
	char *text = calloc(1, size);

	if (!file)
		fail_msg("%s: expected to be run from the root of the tree", path);
	assert_non_null(text);
	assert_true(fread(text, 1, size - 1, file) < size - 1);
	return text;
}

static void write_file(const char *path, const char *text)
{
	_cleanup_fclose_ FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
}

/* What stands between the lines that begin with <!-- NAME: and <!-- NAME end. */
static void check_table(const char *name, void (*print)(FILE *stream))
{
	_cleanup_free_ char *text = read_file(OPERATIONS);
	_cleanup_free_ char *wanted = NULL;
	_cleanup_free_ char *whole = NULL;
	char mark[64];
	size_t size;
	FILE *stream;
	char *begin;
	char *end;

	(void)snprintf(mark, sizeof(mark), "<!-- %s: ", name);
	begin = strstr(text, mark);
	assert_non_null(begin);
	begin = strchr(begin, '\n') + 1;
	(void)snprintf(mark, sizeof(mark), "<!-- %s end", name);
	end = strstr(begin, mark);
	assert_non_null(end);
	stream = open_memstream(&wanted, &size);
	assert_non_null(stream);
	print(stream);
	assert_int_equal(fclose(stream), 0);
	if ((size_t)(end - begin) == size && memcmp(begin, wanted, size) == 0)
		return;
	if (!getenv("POSTERN_WRITE_DOCUMENTS"))
		fail_msg(OPERATIONS
		         ": the table of %s is not what the program says; POSTERN_WRITE_DOCUMENTS=1 writes it",
		         name);
	stream = open_memstream(&whole, &size);
	assert_non_null(stream);
	fprintf(stream, "%.*s%s%s", (int)(begin - text), text, wanted, end);
	assert_int_equal(fclose(stream), 0);
	write_file(OPERATIONS, whole);
}

static void print_metrics(FILE *stream)
{
	static const char *const types[] = {
	        [METRIC_GAUGE] = "gauge",
	        [METRIC_COUNTER] = "counter",
	        [METRIC_HISTOGRAM] = "histogram",
	        [METRIC_INFO] = "info",
	};
	static const char *const owners[] = {
	        [METRIC_OF_AGENT] = "agent",
	        [METRIC_OF_CONTROLLER] = "controller",
	        [METRIC_OF_BOTH] = "both",
	};

	fprintf(stream, "| metric | type | labels | of | what it says |\n|---|---|---|---|---|\n");
	for (unsigned int i = 0; i < METRIC_COUNT; i++) {
		const struct metric_family *family = &metric_families[i];

		fprintf(stream, "| `%s` | %s | %s | %s | %s |\n", family->name, types[family->type], family->labels,
		        owners[family->owner], family->help);
	}
}

static void print_reasons(FILE *stream)
{
	fprintf(stream, "| reason | class | remedy |\n|---|---|---|\n");
	for (unsigned int i = REASON_NONE + 1; i < REASON_COUNT; i++)
		fprintf(stream, "| `%s` | %s | %s |\n", reason_name((enum postern_reason)i),
		        reason_class_name(reason_class((enum postern_reason)i)), reason_remedy((enum postern_reason)i));
}

static void every_metric(void **state)
{
	(void)state;
	check_table("metrics", print_metrics);
}

static void every_reason(void **state)
{
	(void)state;
	for (unsigned int i = REASON_NONE + 1; i < REASON_COUNT; i++) {
		if (reason_remedy((enum postern_reason)i)[0] == '\0')
			fail_msg("%s: expected a remedy", reason_name((enum postern_reason)i));
	}
	check_table("reasons", print_reasons);
}

/* The paragraph of an item: from its line to the next item. */
static char *item_of(const char *page, const char *text, const char *line)
{
	const char *begin = strstr(text, line);
	const char *end;

	if (!begin) {
		fail_msg("%s: expected the line \"%s\"", page, line);
		return NULL; /* for the compiler: fail_msg() does not come back */
	}
	end = strstr(begin + 1, "\n.It ");
	return strndup(begin, end ? (size_t)(end - begin) : strlen(begin));
}

static void every_setting(void **state)
{
	static const char file_page[] = "docs/man/postern.yaml.5";
	static const char daemon_page[] = "docs/man/posternd.8";
	_cleanup_free_ char *file_text = read_file(file_page);
	_cleanup_free_ char *daemon_text = read_file(daemon_page);

	(void)state;
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *setting = &settings[i];
		_cleanup_free_ char *item = NULL;
		char line[128];

		(void)snprintf(line, sizeof(line), "\n.It Cm %s", setting->key);
		item = item_of(file_page, file_text, line);
		if (setting->fallback && setting->fallback[0] && !strstr(item, setting->fallback))
			fail_msg("%s: %s: expected the default %s", file_page, setting->key, setting->fallback);
		for (const struct setting_choice *choice = setting->choices; choice && choice->name; choice++) {
			if (!strstr(item, choice->name))
				fail_msg("%s: %s: expected the choice %s", file_page, setting->key, choice->name);
		}
		(void)snprintf(line, sizeof(line), "\n.It Fl Fl %s ", setting->flag);
		free(item_of(daemon_page, daemon_text, line));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_metric),
	        cmocka_unit_test(every_reason),
	        cmocka_unit_test(every_setting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
