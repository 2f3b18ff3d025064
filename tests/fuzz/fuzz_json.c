// SPDX-License-Identifier: GPL-2.0-only
/*
 * json: any text -> jansson with the flags that postern reads with, then what an API server might answer with it: an
 * object, a typed list, an event of a watch.
 *
 * It is read or not, and decoded or refused with messages of one line; strings with a NUL in them are refused where a
 * field wants a string. What is written of it is read as the same.
 */
#include <string.h>

#include "fuzz.h"
#include "policy/decode.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	size_t mutated = fuzz_mutate_yaml(data, size, max_size, seed, 0);

	/* One document, without its marker, is JSON. */
	if (mutated > 4 && !memcmp(data, "---\n", 4)) {
		memmove(data, data + 4, mutated - 4);
		mutated -= 4;
	}
	return mutated;
}

static void check_decoded(json_t *documents)
{
	struct decoded decoded = {0};

	FUZZ_CHECK(decode_documents(documents, "fuzz.json", &decoded) == 0, "no memory");
	for (size_t i = 0; i < decoded.problem_count; i++)
		FUZZ_CHECK(fuzz_is_message(decoded.problems[i].object, 512) &&
		                   fuzz_is_message(decoded.problems[i].message, 1024),
		           "\"%s\": \"%s\"", decoded.problems[i].object, decoded.problems[i].message);
	for (size_t i = 0; i < decoded.unknown_kind_count; i++)
		FUZZ_CHECK(fuzz_is_message(decoded.unknown_kinds[i].name, 256), "\"%s\"",
		           decoded.unknown_kinds[i].name);
	for (size_t i = 0; i < decoded.unknown_fields.count; i++)
		FUZZ_CHECK(fuzz_is_message(decoded.unknown_fields.items[i].path, 512), "\"%s\"",
		           decoded.unknown_fields.items[i].path);
	decoded_free(&decoded);
}

static void check_round_trip(const json_t *document)
{
	char *text = json_dumps(document, JSON_ENCODE_ANY);
	json_t *again = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;

	FUZZ_CHECK(again && json_equal(document, again), "written and read again, it is something else");
	json_decref(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *document = json_loadb((const char *)data, size, 0, NULL);
	json_t *nul = json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL);
	json_t *documents;

	FUZZ_CHECK(!document || (nul && json_equal(document, nul)), "the flag for NUL changes more than NUL");
	if (nul) {
		documents = json_pack("[O, {s:s, s:s, s:[O]}, o?]", nul, "kind", "List", "apiVersion", "v1", "items",
		                      nul, json_incref(json_object_get(nul, "object")));
		check_round_trip(nul);
		FUZZ_CHECK(documents, "no memory");
		check_decoded(documents);
		json_decref(documents);
	}
	json_decref(document);
	json_decref(nul);
	return 0;
}
