/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of metrics against its own rules, the text in both formats, "other", and which format is wanted. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "observe/metric.h"

/* ---- the table ---- */

static unsigned int label_count(const char *labels)
{
	unsigned int count = labels[0] != '\0';

	for (; *labels; labels++)
		count += *labels == ',';
	return count;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text);
	size_t size = strlen(end);

	return length > size && strcmp(text + length - size, end) == 0;
}

static void every_family_keeps_the_rules(void **state)
{
	unsigned int series = 0;

	(void)state;
	for (unsigned int i = 0; i < METRIC_COUNT; i++) {
		const struct metric_family *family = &metric_families[i];
		unsigned int labels = label_count(family->labels);

		if (strncmp(family->name, "postern_", 8) != 0)
			fail_msg("%s: expected a name that begins with postern_", family->name);
		for (const char *byte = family->name; *byte; byte++) {
			if (!islower((unsigned char)*byte) && *byte != '_')
				fail_msg("%s: expected lower case letters and _", family->name);
		}
		if (family->unit[0] && !ends_with(family->name, family->unit))
			fail_msg("%s: expected a name that ends with its unit %s", family->name, family->unit);
		if (ends_with(family->name, "_total") || ends_with(family->name, "_info"))
			fail_msg("%s: the suffix comes from the type", family->name);
		if (labels > METRIC_LABELS_MAX || (labels == 0 && family->series != 1))
			fail_msg("%s: %u labels and %u series", family->name, labels, family->series);
		if (!ends_with(family->help, ".") || strpbrk(family->help, "\\\n|"))
			fail_msg("%s: expected a help of whole sentences, without line break, backslash or bar",
			         family->name);
		for (unsigned int j = 0; j < i; j++)
			assert_string_not_equal(metric_families[j].name, family->name);
		/* And "other", of a histogram as many as of one set of labels. */
		series += family->series + (labels ? (family->type == METRIC_HISTOGRAM ? 15 : 1) : 0);
	}
	if (series >= METRIC_SERIES_MAX)
		fail_msg("expected less than %d series in all, seen %u", METRIC_SERIES_MAX, series);
}

/* ---- the text ---- */

static char *finish(struct metric_text *text)
{
	size_t length;
	char *bytes = metric_finish(text, &length);

	assert_non_null(bytes);
	assert_int_equal(strlen(bytes), length);
	return bytes;
}

/* One of each type. */
static void add_all(struct metric_text *text)
{
	static const uint64_t buckets[] = {2, 0, 1};
	static const double bounds[] = {0.5, 1};

	metric_add(text, METRIC_BUILD, 1, "v\"1\\\n", "3.0");
	metric_add(text, METRIC_MEMORY_USED, 1.5e10);
	metric_add(text, METRIC_THREAD_CPU, 0.125, "control");
	metric_add(text, METRIC_HANDSHAKES, 3, "full");
	metric_add(text, METRIC_HANDSHAKES, 4, "resumed");
	metric_add_histogram(text, METRIC_HANDSHAKE_DURATION, buckets, bounds, 2, 2.25, "a/g");
}

static void openmetrics_text(void **state)
{
	static const char wanted[] =
	        "# HELP postern_build What runs.\n"
	        "# TYPE postern_build info\n"
	        "postern_build_info{version=\"v\\\"1\\\\\\n\",openssl=\"3.0\"} 1\n"
	        "# HELP postern_memory_used_bytes What is used of it, the kernel's memory for sockets included.\n"
	        "# TYPE postern_memory_used_bytes gauge\n"
	        "# UNIT postern_memory_used_bytes bytes\n"
	        "postern_memory_used_bytes 15000000000\n"
	        "# HELP postern_thread_cpu_seconds CPU time of each thread.\n"
	        "# TYPE postern_thread_cpu_seconds counter\n"
	        "# UNIT postern_thread_cpu_seconds seconds\n"
	        "postern_thread_cpu_seconds_total{thread=\"control\"} 0.125\n"
	        "# HELP postern_handshakes Handshakes that succeeded, full or resumed: the resumption ratio is resumed "
	        "by "
	        "all.\n"
	        "# TYPE postern_handshakes counter\n"
	        "postern_handshakes_total{kind=\"full\"} 3\n"
	        "postern_handshakes_total{kind=\"resumed\"} 4\n"
	        "# HELP postern_handshake_duration_seconds From B's TCP connection to its verified TLS session, of "
	        "handshakes "
	        "that succeeded.\n"
	        "# TYPE postern_handshake_duration_seconds histogram\n"
	        "# UNIT postern_handshake_duration_seconds seconds\n"
	        "postern_handshake_duration_seconds_bucket{gateway=\"a/g\",le=\"0.5\"} 2\n"
	        "postern_handshake_duration_seconds_bucket{gateway=\"a/g\",le=\"1.0\"} 2\n"
	        "postern_handshake_duration_seconds_bucket{gateway=\"a/g\",le=\"+Inf\"} 3\n"
	        "postern_handshake_duration_seconds_sum{gateway=\"a/g\"} 2.25\n"
	        "postern_handshake_duration_seconds_count{gateway=\"a/g\"} 3\n"
	        "# EOF\n";
	struct metric_text *text = metric_start(true);
	_cleanup_free_ char *seen = NULL;

	(void)state;
	add_all(text);
	assert_int_equal(metric_series(text), 10);
	seen = finish(text);
	assert_string_equal(seen, wanted);
}

static void older_text(void **state)
{
	struct metric_text *text = metric_start(false);
	_cleanup_free_ char *seen = NULL;

	(void)state;
	add_all(text);
	seen = finish(text);
	assert_non_null(strstr(seen, "# TYPE postern_build_info gauge\npostern_build_info{version="));
	assert_non_null(
	        strstr(seen, "# TYPE postern_thread_cpu_seconds_total counter\npostern_thread_cpu_seconds_total{"));
	assert_non_null(strstr(seen, "# TYPE postern_handshake_duration_seconds histogram\n"));
	assert_null(strstr(seen, "# UNIT"));
	assert_null(strstr(seen, "# EOF"));
}

static void past_a_limit_it_is_other(void **state)
{
	struct metric_text *text = metric_start(true);
	_cleanup_free_ char *seen = NULL;
	unsigned int limit = metric_families[METRIC_CA_EXPIRY].series;
	char name[32];

	(void)state;
	for (unsigned int i = 0; i < limit + 3; i++) {
		(void)snprintf(name, sizeof(name), "a/%u", i);
		metric_add(text, METRIC_CA_EXPIRY, 5000 - i, name); /* LEAST */
	}
	assert_int_equal(metric_folded(text), 3);
	for (unsigned int i = 0; i < metric_families[METRIC_WATCH_EVENTS].series + 2; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		metric_add(text, METRIC_WATCH_EVENTS, 10, "secrets", name); /* SUM */
	}
	assert_int_equal(metric_folded(text), 5);
	seen = finish(text);
	(void)snprintf(name, sizeof(name), "\"other\"} %u\n", 5000 - (limit + 2));
	assert_non_null(strstr(seen, name));
	assert_non_null(strstr(seen, "postern_watch_events_total{resource=\"other\",namespace=\"other\"} 20\n"));
}

static void histograms_are_put_together(void **state)
{
	static const double bounds[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	static const uint64_t buckets[13] = {1, [12] = 2};
	struct metric_text *text = metric_start(true);
	_cleanup_free_ char *seen = NULL;
	char name[32];

	(void)state;
	for (unsigned int i = 0; i < metric_families[METRIC_HANDSHAKE_DURATION].series / 15 + 2; i++) {
		(void)snprintf(name, sizeof(name), "a/%u", i);
		metric_add_histogram(text, METRIC_HANDSHAKE_DURATION, buckets, bounds, 12, 1.5, name);
	}
	assert_int_equal(metric_folded(text), 2);
	seen = finish(text);
	assert_non_null(strstr(seen, "_bucket{gateway=\"other\",le=\"1.0\"} 2\n"));
	assert_non_null(strstr(seen, "_bucket{gateway=\"other\",le=\"+Inf\"} 6\n"));
	assert_non_null(strstr(seen, "_sum{gateway=\"other\"} 3\n"));
	assert_non_null(strstr(seen, "_count{gateway=\"other\"} 6\n"));
}

/* ---- which format ---- */

static void format_by_accept(void **state)
{
	static const struct {
		const char *accept;
		bool openmetrics;
	} rows[] = {
	        {NULL, false},
	        {"", false},
	        {"*/*", false},
	        {"text/plain", false},
	        {"application/openmetrics-text", true},
	        /* Prometheus 2.42, as it was seen. */
	        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
	         "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
	         true},
	        {"text/plain;q=0.9, application/openmetrics-text; version=1.0.0; q=0.1", false},
	        {"application/openmetrics-text;q=0", false},
	        {"application/openmetrics-text;q=0.001", true},
	        {"application/openmetrics-textual", false},
	        {"application/openmetrics-text;q=", false},
	        {",,;q=;,application/openmetrics-text;;;q=9.9.9", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (metric_wants_openmetrics(rows[i].accept) != rows[i].openmetrics)
			fail_msg("%s: expected %d", rows[i].accept, rows[i].openmetrics);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(every_family_keeps_the_rules),
	        cmocka_unit_test(openmetrics_text),
	        cmocka_unit_test(older_text),
	        cmocka_unit_test(past_a_limit_it_is_other),
	        cmocka_unit_test(histograms_are_put_together),
	        cmocka_unit_test(format_by_accept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
