// SPDX-License-Identifier: GPL-2.0-only
/* The small grammars: names, times, durations; and messages that grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/printable.h"
#include "policy/names.h"
#include "policy/text.h"
#include "policy/times.h"

#define TEN   "aaaaaaaaaa"
#define SIXTY TEN TEN TEN TEN TEN TEN

static void names(void **state)
{
	static const struct {
		const char *text;
		bool label, subdomain, wildcard, kind, key, well_known;
	} rows[] = {
	        {"a", true, true, true, true, true, false},
	        {"a-1", true, true, true, true, true, false},
	        {"1", true, true, true, false, true, false},
	        {"", false, false, false, false, false, false},
	        {"-a", false, false, false, false, false, false},
	        {"a-", false, false, false, false, false, false},
	        {"A", false, false, false, true, true, false},
	        {"System", false, false, false, true, true, true},
	        {"a.b", false, true, true, false, true, false},
	        {"a..b", false, false, false, false, true, false},
	        {".a", false, false, false, false, false, false},
	        {"*.a", false, false, true, false, false, false},
	        {"*.*.a", false, false, false, false, false, false},
	        {"*", false, false, false, false, false, false},
	        {"a.b/C_d.e", false, false, false, false, true, true},
	        {"a.b/", false, false, false, false, false, false},
	        {"/a", false, false, false, false, false, false},
	        {"A/b", false, false, false, false, false, false},
	        {"a/b/c", false, false, false, false, false, false},
	        {"a_b", false, false, false, false, true, false},
	        {SIXTY "aaa", true, true, true, true, true, false},
	        {SIXTY "aaaa", false, true, true, false, false, false},
	        {SIXTY "." SIXTY "." SIXTY "." SIXTY "." TEN, false, false, false, false, false, false},
	        {"a/" SIXTY "aaa", false, false, false, false, true, true},
	        {"a/" SIXTY "aaaa", false, false, false, false, false, false},
	        {"\xc3\xbc", false, false, false, false, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *text = rows[i].text;
		const bool expected[] = {rows[i].label, rows[i].subdomain, rows[i].wildcard,
		                         rows[i].kind,  rows[i].key,       rows[i].well_known};
		const bool seen[] = {is_dns_label(text), is_dns_subdomain(text),  is_wildcard_hostname(text),
		                     is_kind(text),      is_annotation_key(text), is_well_known_ca(text)};

		for (size_t j = 0; j < ARRAY_SIZE(seen); j++)
			if (seen[j] != expected[j])
				fail_msg("\"%s\": grammar %zu: expected %d", text, j, expected[j]);
	}
}

static void numeric_hosts(void **state)
{
	static const struct {
		const char *text;
		bool numeric;
	} rows[] = {
	        {"10.0.0.1", true}, {"127.1", true}, {"2130706433", true}, {"0x7f000001", true}, {"0X7F.0.0x1", true},
	        {"0177.1", true},   {"0x", true},    {"1.2.3.4.5", true},  {"", false},          {".", false},
	        {"1.", false},      {".1", false},   {"1..2", false},      {"a", false},         {"1.a", false},
	        {"0xg", false},     {"x1", false},   {"1-2", false},       {"0x1.b", false},     {"1e5", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (is_numeric_host(rows[i].text) != rows[i].numeric)
			fail_msg("\"%s\": expected %d", rows[i].text, rows[i].numeric);
}

static void trust_bundle_names(void **state)
{
	static const char *const good[] = {"a", "a.b", "example.com:signer:bundle", "a:b"},
	                         *const bad[] = {"", ":", "a:", ":a", "a::b", "A", "a:B", "a/b", "a:b c"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (!is_trust_bundle_name(good[i]))
			fail_msg("\"%s\": expected a name", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (is_trust_bundle_name(bad[i]))
			fail_msg("\"%s\": expected no name", bad[i]);
}

static void timestamps(void **state)
{
	static const struct {
		const char *text;
		bool valid;
		int64_t seconds;
	} rows[] = {
	        {"1970-01-01T00:00:00Z", true, 0},
	        {"1969-12-31T23:59:59Z", true, -1},
	        {"2024-05-01T12:00:00Z", true, 1714564800},
	        {"2024-05-01t12:00:00z", true, 1714564800},
	        {"2024-05-01T12:00:00.999999999Z", true, 1714564800},
	        {"2024-05-01T14:30:00+02:30", true, 1714564800},
	        {"2024-05-01T09:00:00-03:00", true, 1714564800},
	        {"2024-02-29T00:00:00Z", true, 1709164800},
	        {"2016-12-31T23:59:60Z", true, 1483228800},
	        {"9999-12-31T23:59:59Z", true, 253402300799},
	        {"2023-02-29T00:00:00Z", false, 0},
	        {"2024-13-01T00:00:00Z", false, 0},
	        {"2024-00-01T00:00:00Z", false, 0},
	        {"2024-01-00T00:00:00Z", false, 0},
	        {"2024-01-01T24:00:00Z", false, 0},
	        {"2024-01-01T00:60:00Z", false, 0},
	        {"2024-01-01T00:00:61Z", false, 0},
	        {"2024-01-01T00:00:00", false, 0},
	        {"2024-01-01T00:00:00.Z", false, 0},
	        {"2024-01-01T00:00:00+24:00", false, 0},
	        {"2024-01-01T00:00:00Z ", false, 0},
	        {"2024-01-01 00:00:00Z", false, 0},
	        {"2024-1-1T00:00:00Z", false, 0},
	        {"-024-01-01T00:00:00Z", false, 0},
	        {"", false, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int64_t seconds = 0;
		bool valid = timestamp_parse(rows[i].text, &seconds);

		if (valid != rows[i].valid || (valid && seconds != rows[i].seconds))
			fail_msg("\"%s\": expected %d %lld, saw %d %lld", rows[i].text, rows[i].valid,
			         (long long)rows[i].seconds, valid, (long long)seconds);
	}
}

static void durations(void **state)
{
	static const struct {
		const char *text;
		bool valid;
		unsigned int milliseconds;
	} rows[] = {
	        {"0s", true, 0},         {"1ms", true, 1},         {"5s", true, 5000},
	        {"1m30s", true, 90000},  {"30s1m", true, 90000},   {"1h", true, 3600000},
	        {"24h", true, 86400000}, {"99999ms", true, 99999}, {"1h1m1s1ms", true, 3661001},
	        {"24h1ms", false, 0},    {"99999h", false, 0},     {"", false, 0},
	        {"5", false, 0},         {"s", false, 0},          {"5 s", false, 0},
	        {"5d", false, 0},        {"100000s", false, 0},    {"1s1s1s1s1s", false, 0},
	        {"+5s", false, 0},       {"5sx", false, 0},        {"5us", false, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned int milliseconds = 0;
		bool valid = duration_parse(rows[i].text, &milliseconds);

		if (valid != rows[i].valid || (valid && milliseconds != rows[i].milliseconds))
			fail_msg("\"%s\": expected %d %u, saw %d %u", rows[i].text, rows[i].valid, rows[i].milliseconds,
			         valid, milliseconds);
	}
}

static void messages_grow_to_a_limit(void **state)
{
	struct text text = {0};
	_cleanup_free_ char *taken = NULL;

	(void)state;
	assert_true(text_is_empty(&text));
	text_add_sentence(&text, "one %d", 1);
	text_add_sentence(&text, "two");
	text_append(&text, "!");
	text_add(&text, "three");
	assert_string_equal(text.data, "one 1; two!; three");
	for (int i = 0; i < 1000; i++)
		text_add_sentence(&text, "sentence %d", i);
	assert_int_equal(strlen(text.data), TEXT_MAX);
	assert_string_equal(text.data + TEXT_MAX - 3, "...");
	taken = text_take(&text);
	assert_true(text_is_empty(&text));
	assert_int_equal(strlen(taken), TEXT_MAX);
	free(taken);
	taken = text_take(&text);
	assert_string_equal(taken, "");
}

/* At the limit itself nothing is cut, and a cut never halves a character. */
static void messages_are_cut_between_characters(void **state)
{
	static const char two_bytes[] = "\xc3\xbc";

	(void)state;
	for (size_t before = TEXT_MAX - 8; before <= TEXT_MAX + 4; before++) {
		for (int formatted = 0; formatted < 2; formatted++) {
			_cleanup_free_ char *long_piece = calloc(1, before + 1);
			struct text text = {0};
			bool fits = before + 2 <= TEXT_MAX;
			size_t kept;

			memset(long_piece, 'a', before);
			if (formatted) {
				text_append(&text, "%s%s", long_piece, two_bytes);
			} else {
				text_add(&text, long_piece);
				text_append(&text, "%s", two_bytes);
			}
			kept = strspn(text.data, "a");
			if (strcmp(text.data + kept, fits ? two_bytes : "...") != 0 || strlen(text.data) > TEXT_MAX ||
			    kept != (fits ? before : TEXT_MAX - 3))
				fail_msg("%zu letters and one of two bytes: kept %zu, then \"%s\"", before, kept,
				         text.data + kept);
			text_free(&text);
		}
	}
}

static void values_are_made_printable(void **state)
{
	static const struct {
		const char *value, *shown;
	} rows[] = {
	        {"plain", "plain"},
	        {"a\nb\x1b[31m\"c\x7f", "a?b?[31m?c?"},
	        {"gr\xc3\xbc\xc3\x9f", "gr????"},
	        {SIXTY "aaa", SIXTY "aaa"},
	        {SIXTY "aaaa", SIXTY "..."},
	        {"", ""},
	};
	char buffer[PRINTABLE_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(printable(rows[i].value, buffer), rows[i].shown);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(names),
	        cmocka_unit_test(numeric_hosts),
	        cmocka_unit_test(trust_bundle_names),
	        cmocka_unit_test(timestamps),
	        cmocka_unit_test(durations),
	        cmocka_unit_test(messages_grow_to_a_limit),
	        cmocka_unit_test(messages_are_cut_between_characters),
	        cmocka_unit_test(values_are_made_printable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
