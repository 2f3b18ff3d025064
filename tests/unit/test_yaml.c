// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/yaml.h"

static void decref(json_t **value)
{
	json_decref(*value);
}
#define _cleanup_json_ _cleanup_(decref)

static void values(void **state)
{
	static const struct {
		const char *yaml;
		const char *json; /* compact, keys sorted */
	} rows[] = {
	        {"", "[]"},
	        {"---\n---\n", "[null,null]"},
	        {"# nothing\n", "[]"},
	        {"a: 1\n---\nb: [x, 'y']\n...\n", "[{\"a\":1},{\"b\":[\"x\",\"y\"]}]"},
	        {"{\"a\": {\"b\": [1, 2.5, true, null, \"1\"]}}", "[{\"a\":{\"b\":[1,2.5,true,null,\"1\"]}}]"},
	        {"[true, false, null, ~, ]", "[[true,false,null,null]]"},
	        {"a:\n", "[{\"a\":null}]"},
	        {"[0, -0, 1, -17, 9223372036854775807]", "[[0,0,1,-17,9223372036854775807]]"},
	        {"[1e3, 1.5E-2, -0.0, 1e, 1e+, --1, 1-, 12345678901234567890, 1e999, -1e999, 1.2.3, -, 10.0.0.1]",
	         "[[1000.0,0.014999999999999999,-0.0,\"1e\",\"1e+\",\"--1\",\"1-\",1.2345678901234567e19,"
	         "\"1e999\",\"-1e999\",\"1.2.3\",\"-\",\"10.0.0.1\"]]"},
	        {"[\"1\", '1', !!str 1, ! 1, \"true\", \"\"]", "[[\"1\",\"1\",\"1\",\"1\",\"true\",\"\"]]"},
	        {"[2024-01-01T00:00:00Z, 12:30:45]", "[[\"2024-01-01T00:00:00Z\",\"12:30:45\"]]"},
	        {"1: x\ntrue: z\n'<<': z\n", "[{\"1\":\"x\",\"<<\":\"z\",\"true\":\"z\"}]"},
	        {"a: |\n  x\n  y\nb: >-\n  x\n  y\n", "[{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}]"},
	        {"\xef\xbb\xbf"
	         "a: b",
	         "[{\"a\":\"b\"}]"},
	        {"a: gr\xc3\xbc\xc3\x9f", "[{\"a\":\"gr\xc3\xbc\xc3\x9f\"}]"},
	        {"!!map {a: !!seq [b]}", "[{\"a\":[\"b\"]}]"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *documents = NULL;
		_cleanup_free_ char *seen = NULL;
		char error[256];
		int result = yaml_load(rows[i].yaml, strlen(rows[i].yaml), &documents, error, sizeof(error));

		if (result)
			fail_msg("\"%s\": expected %s, saw %d %s", rows[i].yaml, rows[i].json, result, error);
		seen = json_dumps(documents, JSON_COMPACT | JSON_SORT_KEYS);
		if (strcmp(seen, rows[i].json))
			fail_msg("\"%s\": expected %s, saw %s", rows[i].yaml, rows[i].json, seen);
	}
}

/* What sigs.k8s.io/yaml 1.6.0 makes of it (YAMLToJSONStrict), which is what kubectl sends. */
static void as_kubectl(void **state)
{
	static const struct {
		const char *plain;
		const char *value; /* JSON; NULL: refused */
		const char *key;   /* NULL: refused */
	} rows[] = {
	        {"y", "true", "true"},
	        {"Y", "true", "true"},
	        {"yes", "true", "true"},
	        {"Yes", "true", "true"},
	        {"YES", "true", "true"},
	        {"yES", "\"yES\"", "yES"},
	        {"on", "true", "true"},
	        {"On", "true", "true"},
	        {"ON", "true", "true"},
	        {"oN", "\"oN\"", "oN"},
	        {"true", "true", "true"},
	        {"True", "true", "true"},
	        {"TRUE", "true", "true"},
	        {"tRUE", "\"tRUE\"", "tRUE"},
	        {"n", "false", "false"},
	        {"N", "false", "false"},
	        {"no", "false", "false"},
	        {"No", "false", "false"},
	        {"NO", "false", "false"},
	        {"nO", "\"nO\"", "nO"},
	        {"off", "false", "false"},
	        {"Off", "false", "false"},
	        {"OFF", "false", "false"},
	        {"oFF", "\"oFF\"", "oFF"},
	        {"false", "false", "false"},
	        {"False", "false", "false"},
	        {"FALSE", "false", "false"},
	        {"yess", "\"yess\"", "yess"},
	        {"falsehood", "\"falsehood\"", "falsehood"},
	        {"~", "null", NULL},
	        {"null", "null", NULL},
	        {"Null", "null", NULL},
	        {"NULL", "null", NULL},
	        {"nULL", "\"nULL\"", "nULL"},
	        {".inf", NULL, ".inf"},
	        {"-.Inf", NULL, "-.Inf"}, /* kubectl's key: -.inf */
	        {"+.INF", NULL, "+.INF"},
	        {".nan", NULL, ".nan"},
	        {".iNF", "\".iNF\"", ".iNF"},
	        {"inf", "\"inf\"", "inf"},
	        {"01", "1", "1"},
	        {"010", "8", "8"},
	        {"00", "0", "0"},
	        {"08", "8", "8"},
	        {"089", "89", "89"},
	        {"0x1bb", "443", "443"},
	        {"0XDEADbeef", "3735928559", "3735928559"},
	        {"-0x10", "-16", "-16"},
	        {"0x", "\"0x\"", "0x"},
	        {"0xg", "\"0xg\"", "0xg"},
	        {"0x-1", "\"0x-1\"", "0x-1"},
	        {"0x1p4", "\"0x1p4\"", "0x1p4"},
	        {"0o17", "15", "15"},
	        {"0O17", "15", "15"},
	        {"0o8", "\"0o8\"", "0o8"},
	        {"0b101", "5", "5"},
	        {"-0B11", "-3", "-3"},
	        {"0b2", "\"0b2\"", "0b2"},
	        {"+1", "1", "1"},
	        {"-0", "0", "0"},
	        {"+-1", "\"+-1\"", "+-1"},
	        {"+", "\"+\"", "+"},
	        {"1_000", "1000", "1000"},
	        {"_1", "\"_1\"", "_1"},
	        {"1_", "1", "1"},
	        {"-_1", "-1", "-1"},
	        {"1__0", "10", "10"},
	        {"0_7", "7", "7"},
	        {"0_x10", "16", "16"},
	        {"0x_1", "1", "1"},
	        {"1e_3", "1000", "1000"},
	        {".5", "0.5", ".5"}, /* kubectl's key: 0.5 */
	        {"-.5", "-0.5", "-.5"},
	        {"+._5", "0.5", "+._5"},
	        {"._5", "\"._5\"", "._5"},
	        {".5_", "\".5_\"", ".5_"},
	        {".5__0", "\".5__0\"", ".5__0"},
	        {".5_0_1", "0.501", ".5_0_1"},
	        {".5e3", "500", "500"},
	        {".", "\".\"", "."},
	        {".e1", "\".e1\"", ".e1"},
	        {"1.", "1", "1"},
	        {"1.e3", "1000", "1000"},
	        {"1_0.5", "10.5", "1_0.5"},
	        {"100.50", "100.5", "100.50"},
	        {"9223372036854775807", "9223372036854775807", "9223372036854775807"},
	        {"-9223372036854775808", "-9223372036854775808", "-9223372036854775808"},
	        {"0777777777777777777777", "9223372036854775807", "9223372036854775807"},
	        {"0x1ffffffffffffffff", "\"0x1ffffffffffffffff\"", "0x1ffffffffffffffff"},
	        {"2024-01-01", "\"2024-01-01\"", "2024-01-01"},
	        {"1:20", "\"1:20\"", "1:20"},
	        {"12:30:45", "\"12:30:45\"", "12:30:45"},
	        {"<<", "\"<<\"", NULL},
	        {"=", "\"=\"", "="},
	        {"'yes'", "\"yes\"", "yes"},
	        {"\"010\"", "\"010\"", "010"},
	        {"!!str on", "\"on\"", "on"},
	        {"'~'", "\"~\"", "~"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned int key = 0; key < 2; key++) {
			_cleanup_json_ json_t *documents = NULL;
			_cleanup_free_ char *seen = NULL;
			const char *wanted = key ? rows[i].key : rows[i].value;
			char yaml[64], expected[64], error[256];
			int result;

			(void)snprintf(yaml, sizeof(yaml), key ? "%s: x" : "[%s]", rows[i].plain);
			(void)snprintf(expected, sizeof(expected), key ? "[{\"%s\":\"x\"}]" : "[[%s]]",
			               wanted ? wanted : "");
			result = yaml_load(yaml, strlen(yaml), &documents, error, sizeof(error));
			seen = result ? strdup(error) : json_dumps(documents, JSON_COMPACT);
			assert_non_null(seen);
			if (wanted ? strcmp(seen, expected) != 0 : result != -EINVAL)
				fail_msg("\"%s\": expected %s, saw %s", yaml, wanted ? expected : "-EINVAL", seen);
		}
	}
}

static void refusals(void **state)
{
	static const struct {
		const char *yaml;
		size_t size; /* 0: strlen */
		const char *error;
	} rows[] = {
	        {"a: b\nc: [\n", 0, "line 3: "},
	        {"a: b\n\tc: d\n", 0, "line 2: "},
	        {"a: 1\nb: 2\na: 3\n", 0, "line 3: duplicate key \"a\""},
	        {"yes: 1\non: 2\n", 0, "line 2: duplicate key \"true\""},
	        {"010: 1\n0x8: 2\n", 0, "line 2: duplicate key \"8\""},
	        {"a:\n  <<: {b: c}\n", 0, "line 2: merge keys are not accepted"},
	        {"a: b\nNull: c\n", 0, "line 2: null is not accepted as a key"},
	        {"a: [1, .NaN]\n", 0, "line 1: .NaN is no number of JSON's"},
	        {"{\"a\\n\\e[1m\": 1, \"a\\n\\e[1m\": 2}", 0, "line 1: duplicate key \"a??[1m\""},
	        {"a\xc3\xbc: 1\na\xc3\xbc: 2", 0, "line 2: duplicate key \"a??\""},
	        {"a: &x 1\n", 0, "line 1: anchors and aliases are not accepted"},
	        {"- &x [1]\n", 0, "line 1: anchors and aliases are not accepted"},
	        {"- &x {a: 1}\n", 0, "line 1: anchors and aliases are not accepted"},
	        {"a: 1\nb: *x\n", 0, "line 2: anchors and aliases are not accepted"},
	        {"*x : 1\n", 0, "line 1: anchors and aliases are not accepted"},
	        {"a: !!binary aGk=\n", 0, "line 1: tag \"tag:yaml.org,2002:binary\" is not accepted"},
	        {"a: !!int 1\n", 0, "line 1: tag \"tag:yaml.org,2002:int\" is not accepted"},
	        {"a: !mine {}\n", 0, "line 1: tags are not accepted"},
	        {"{[a]: b}\n", 0, "line 1: a mapping or sequence is not accepted as a key"},
	        {"{{a: b}: c}\n", 0, "line 1: a mapping or sequence is not accepted as a key"},
	        {"a: \"x\\0y\"\n", 0, "line 1: a NUL character is not accepted"},
	        {"\"x\\0y\": a\n", 0, "line 1: a NUL character is not accepted"},
	        {"a: \xff\xfe\n", 0, "line 1: "},
	        {"a: b\0c", 6, "line 1: "},
	        {"\xff\xfe"
	         "a\0:\0 \0b\0",
	         10, "line 1: "}, /* UTF-16 */
	        {"a: 'x\n", 0, "line 2: "},
	        {"\x01\x02\x03", 0, "line 1: "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *documents = NULL;
		size_t size = rows[i].size ? rows[i].size : strlen(rows[i].yaml);
		char error[256];
		int result = yaml_load(rows[i].yaml, size, &documents, error, sizeof(error));

		if (result != -EINVAL || documents || strncmp(error, rows[i].error, strlen(rows[i].error)))
			fail_msg("row %zu \"%s\": expected -EINVAL \"%s\", saw %d \"%s\"", i, rows[i].yaml,
			         rows[i].error, result, error);
	}
}

static void depth_is_bounded(void **state)
{
	char text[2 * (YAML_MAX_DEPTH + 1) + 1];

	(void)state;
	for (size_t depth = YAML_MAX_DEPTH; depth <= YAML_MAX_DEPTH + 1; depth++) {
		_cleanup_json_ json_t *documents = NULL;
		char error[256];
		int expected = depth > YAML_MAX_DEPTH ? -E2BIG : 0;

		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		assert_int_equal(yaml_load(text, 2 * depth, &documents, error, sizeof(error)), expected);
		if (expected)
			assert_string_equal(error, "line 1: nested deeper than 64");
	}
}

static void size_and_nodes_are_bounded(void **state)
{
	_cleanup_free_ char *text = malloc(YAML_MAX_BYTES + 1);
	_cleanup_json_ json_t *documents = NULL;
	char error[256];
	size_t size = 0;

	(void)state;
	assert_non_null(text);
	memset(text, ' ', YAML_MAX_BYTES + 1);
	assert_int_equal(yaml_load(text, YAML_MAX_BYTES + 1, &documents, error, sizeof(error)), -E2BIG);
	assert_string_equal(error, "larger than 16 MiB");

	text[size++] = '[';
	for (size_t i = 0; i <= YAML_MAX_NODES; i++) {
		text[size++] = '1';
		text[size++] = ',';
	}
	text[size++] = ']';
	assert_int_equal(yaml_load(text, size, &documents, error, sizeof(error)), -E2BIG);
	assert_string_equal(error, "line 1: more than 1000000 values");
	assert_null(documents);
}

static void what_stands_before_an_error(void **state)
{
	static const struct {
		const char *yaml, *json;
		size_t line;
	} rows[] = {
	        {"a: [1, {b: 2}]\n", "[{\"a\":[1,{\"b\":2}]}]", 0},
	        {"a: [1, {b: 2\n", "[{\"a\":[1,{\"b\":2}]}]", 2},
	        {"a: 1\nb: &x 2\nc: 3\n", "[{\"a\":1}]", 2},
	        {"a: 1\n---\nb: {c: 'd\n", "[{\"a\":1},{\"b\":{}}]", 4},
	        {"a: 1\na: 2\n", "[{\"a\":1}]", 2},
	        {"[\n", "[[]]", 2},
	        {"\x01", "[]", 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *documents = NULL;
		_cleanup_free_ char *seen = NULL;
		size_t line;

		assert_int_equal(yaml_load_until_error(rows[i].yaml, strlen(rows[i].yaml), &documents, &line), 0);
		seen = json_dumps(documents, JSON_COMPACT | JSON_SORT_KEYS);
		if (strcmp(seen, rows[i].json) || line != rows[i].line)
			fail_msg("\"%s\": expected %s and line %zu, saw %s and line %zu", rows[i].yaml, rows[i].json,
			         rows[i].line, seen, line);
	}
}

/* Every prefix and every flipped bit of a document is read or refused, with a message, and nothing else. */
static void damage_is_read_or_refused(void **state)
{
	static const char good[] =
	        "a: [1, 'two', {three: null}]\nb: |\n  text\n---\n{\"c\": \"\\u00fc\", d: *x, e: &y 1}\n";
	char text[sizeof(good)];
	char error[256];

	(void)state;
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		for (int bit = -1; bit < 8; bit++) {
			_cleanup_json_ json_t *documents = NULL;
			size_t size = sizeof(good) - 1, line;
			int result;

			memcpy(text, good, sizeof(good));
			if (bit < 0)
				size = i;
			else
				text[i] ^= (char)(1 << bit);
			result = yaml_load(text, size, &documents, error, sizeof(error));
			if (result == 0)
				assert_true(json_is_array(documents));
			else if (result != -EINVAL || strncmp(error, "line ", 5))
				fail_msg("byte %zu bit %d: saw %d \"%s\"", i, bit, result, error);
			json_decref(documents);
			documents = NULL;
			assert_int_equal(yaml_load_until_error(text, size, &documents, &line), 0);
			assert_int_equal(line == 0, result == 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(values),
	        cmocka_unit_test(as_kubectl),
	        cmocka_unit_test(refusals),
	        cmocka_unit_test(depth_is_bounded),
	        cmocka_unit_test(size_and_nodes_are_bounded),
	        cmocka_unit_test(what_stands_before_an_error),
	        cmocka_unit_test(damage_is_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
