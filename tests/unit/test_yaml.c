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
	        {"[01, 0x1bb, 0o17, +1, 1_000, .5, 1.2.3, -, 10.0.0.1]",
	         "[[\"01\",\"0x1bb\",\"0o17\",\"+1\",\"1_000\",\".5\",\"1.2.3\",\"-\",\"10.0.0.1\"]]"},
	        {"[1e3, 1.5E-2, -0.0, 1., 1e, 1e+, --1, 1-, 12345678901234567890, 1e999, -1e999]",
	         "[[1000.0,0.014999999999999999,-0.0,\"1.\",\"1e\",\"1e+\",\"--1\",\"1-\",1.2345678901234567e19,"
	         "\"1e999\",\"-1e999\"]]"},
	        {"[yes, no, on, off, True, NULL, .inf, .nan]",
	         "[[\"yes\",\"no\",\"on\",\"off\",\"True\",\"NULL\",\".inf\",\".nan\"]]"},
	        {"[\"1\", '1', !!str 1, ! 1, \"true\", \"\"]", "[[\"1\",\"1\",\"1\",\"1\",\"true\",\"\"]]"},
	        {"[2024-01-01T00:00:00Z, 12:30:45]", "[[\"2024-01-01T00:00:00Z\",\"12:30:45\"]]"},
	        {"1: x\ntrue: y\n<<: z\n", "[{\"1\":\"x\",\"<<\":\"z\",\"true\":\"y\"}]"},
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
	        cmocka_unit_test(refusals),
	        cmocka_unit_test(depth_is_bounded),
	        cmocka_unit_test(size_and_nodes_are_bounded),
	        cmocka_unit_test(what_stands_before_an_error),
	        cmocka_unit_test(damage_is_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
