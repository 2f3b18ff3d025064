// SPDX-License-Identifier: GPL-2.0-only
/*
 * yaml: any text -> base/yaml.c.
 *
 * It is read or refused with a line that the text has. What was read, written as JSON, is read as the same; if the text
 * is JSON as jansson knows it, both readers agree. The reader that goes up to the error agrees with the one that does
 * not, on what is read as well as on the line.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/yaml.h"
#include "fuzz.h"

#define ERROR_SIZE 256

static size_t count_lines(const uint8_t *data, size_t size)
{
	size_t lines = 1;

	/* Of what libyaml takes for a line break, what jansson's texts can have, and more: CR, NEL, LS, PS. */
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n' || data[i] == '\r' || data[i] == 0x85 || data[i] == 0xa8 || data[i] == 0xa9;
	return lines;
}

static void check_strings(const json_t *value)
{
	const char *key;
	json_t *item;
	size_t index;

	if (json_is_string(value))
		FUZZ_CHECK(strlen(json_string_value(value)) == json_string_length(value), "a NUL in a string");
	json_array_foreach (value, index, item)
		check_strings(item);
	json_object_foreach ((json_t *)value, key, item)
		check_strings(item);
}

static void check_round_trip(const json_t *documents)
{
	const json_t *document;
	size_t index;

	json_array_foreach (documents, index, document) {
		char *text = json_dumps(document, JSON_ENCODE_ANY | JSON_COMPACT), error[ERROR_SIZE];
		json_t *again;

		FUZZ_CHECK(text, "what was read cannot be written");
		/* Not every character that has an escape in YAML may stand in it by itself. */
		if (yaml_load(text, strlen(text), &again, error, sizeof(error)) == 0) {
			FUZZ_CHECK(json_array_size(again) == 1 && json_equal(json_array_get(again, 0), document),
			           "read again, it is something else: %s", text);
			json_decref(again);
		}
		free(text);
	}
}

/* Where jansson reads it, too. libyaml takes NEL, LS and PS for line breaks, as YAML 1.1 did: ASCII is compared. */
static void check_against_json(const char *text, size_t size, const json_t *documents)
{
	json_t *document;

	for (size_t i = 0; i < size; i++)
		if ((unsigned char)text[i] >= 0x7f)
			return;
	document = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	if (!document)
		return;
	if (json_array_size(documents) == 1 && !json_equal(json_array_get(documents, 0), document)) {
		/* JSON's "1.0" and "1e2" are reals, as they are here; a real and an integer may differ in kind only. */
		FUZZ_CHECK(json_is_number(document), "YAML reads this JSON as something else");
		FUZZ_CHECK(fabs(json_number_value(document) - json_number_value(json_array_get(documents, 0))) == 0,
		           "YAML reads this number as another");
	}
	json_decref(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *documents = NULL, *until_error = NULL;
	char error[ERROR_SIZE] = "";
	size_t error_line = 0, line = 0;
	int result, second;

	result = yaml_load((const char *)data, size, &documents, error, sizeof(error));
	FUZZ_CHECK(result == 0 || result == -EINVAL || result == -E2BIG, "result %d: %s", result, error);
	second = yaml_load_until_error((const char *)data, size, &until_error, &error_line);
	FUZZ_CHECK(second == 0, "until the error: result %d", second);
	check_strings(until_error);
	if (result == 0) {
		FUZZ_CHECK(json_is_array(documents), "no array of documents");
		FUZZ_CHECK(error_line == 0, "an error in line %zu that there is not", error_line);
		FUZZ_CHECK(json_equal(documents, until_error), "the two readers differ");
		check_round_trip(documents);
		check_against_json((const char *)data, size, documents);
	} else {
		FUZZ_CHECK(!documents, "documents with an error");
		FUZZ_CHECK(fuzz_is_message(error, sizeof(error)), "\"%s\"", error);
		FUZZ_CHECK(error_line && error_line <= count_lines(data, size) + 1, "line %zu", error_line);
		FUZZ_CHECK(sscanf(error, "line %zu: ", &line) == 1 && line == error_line, "line %zu, but \"%s\"",
		           error_line, error);
	}
	json_decref(documents);
	json_decref(until_error);
	return 0;
}
