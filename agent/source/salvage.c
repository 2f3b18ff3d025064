// SPDX-License-Identifier: GPL-2.0-only
#include "source/salvage.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/wiping.h"
#include "base/yaml.h"

/* A hostile file must not cost more than this to look at. */
#define MAX_DAMAGED_BYTES (1u << 20) /* of all documents that are not YAML */
#define MAX_FRAGMENTS     1024       /* of one document */
#define FRAGMENT_BYTES    8192       /* sixteen references of the longest names */

static void decref(json_t **value)
{
	json_decref(*value);
}
#define _cleanup_json_ _cleanup_(decref)

static bool is_document_marker(const char *line, size_t left)
{
	return left >= 3 && !memcmp(line, "---", 3) &&
	       (left == 3 || line[3] == ' ' || line[3] == '\t' || line[3] == '\r' || line[3] == '\n');
}

/* A line that begins with "---" separates documents wherever it stands (YAML 1.2.2, 9.1.2, c-forbidden). */
static size_t document_length(const char *text, size_t size)
{
	const char *line = text;

	while (line < text + size) {
		line = memchr(line, '\n', size - (size_t)(line - text));
		if (!line)
			break;
		line++;
		if (is_document_marker(line, size - (size_t)(line - text)))
			return (size_t)(line - text);
	}
	return size;
}

/* Names are ASCII: anything else, and control characters, would stop libyaml's reader and says nothing. */
static char *copy_readable(const char *text, size_t size)
{
	char *copy = malloc(size + 1);

	for (size_t i = 0; copy && i < size; i++) {
		bool readable = (text[i] >= 0x20 && text[i] < 0x7f) || text[i] == '\t' || text[i] == '\n';

		copy[i] = readable ? text[i] : ' ';
	}
	if (copy)
		copy[size] = '\0';
	return copy;
}

/* How far the block that begins at start is indented; 0 if other text stands before it in its line (flow style). */
static size_t block_column(const char *text, const char *start)
{
	const char *line = start;
	size_t before;

	while (line > text && line[-1] != '\n')
		line--;
	before = (size_t)(start - line);
	return strspn(line, " -") >= before ? before : 0;
}

/*
 * The text from start on, as a document of its own: each further line loses the indentation that the first one has. It
 * ends before a line that is indented less. Returns its size.
 */
static size_t cut_out(const char *text, const char *start, char fragment[static FRAGMENT_BYTES])
{
	size_t column = block_column(text, start), size = 0;

	for (const char *line = start; *line;) {
		size_t length = strcspn(line, "\n"), indentation;

		if (size + length + 1 > FRAGMENT_BYTES)
			break;
		memcpy(fragment + size, line, length);
		size += length;
		fragment[size++] = '\n';
		line += length + (line[length] == '\n');
		indentation = strspn(line, " ");
		if (indentation < column && indentation < strcspn(line, "\n"))
			break;
		line += indentation < column ? indentation : column;
	}
	return size;
}

/* The value of the key that stands at start, as far as it can be read. NULL: none. A key in quotes is read with them.
 */
static int read_fragment(const char *text, const char *start, const char *key, json_t **value)
{
	bool quoted = start > text && strchr("\"'", start[-1]) && start[strlen(key)] == start[-1];
	char fragment[FRAGMENT_BYTES];
	_cleanup_json_ json_t *documents = NULL;
	size_t line;
	int result = yaml_load_until_error(fragment, cut_out(text, start - quoted, fragment), &documents, &line);

	*value = result == 0 ? json_incref(json_object_get(json_array_get(documents, 0), key)) : NULL;
	OPENSSL_cleanse(fragment, sizeof(fragment)); /* whatever stands after the key */
	return result;
}

/* The metadata that belongs to what stands at place: the last before it, or else the first after it. */
static int find_metadata(const char *text, const char *place, json_t **metadata)
{
	static const char key[] = "metadata";
	const char *best = NULL;

	for (const char *found = strstr(text, key); found; found = strstr(found + 1, key)) {
		if (found > place && best)
			break;
		best = found;
	}
	*metadata = NULL;
	return best ? read_fragment(text, best, key, metadata) : 0;
}

/* Takes over metadata and targets, either of which may be NULL. */
static int add_policy(const char *name, const char *key, json_t *metadata, json_t *targets, struct decoded *decoded)
{
	_cleanup_json_ json_t *documents = json_pack(
	        "[{s:s, s:s, s:o, s:{s:o}}]", "apiVersion", "gateway.networking.k8s.io/v1", "kind", "BackendTLSPolicy",
	        "metadata", metadata ? metadata : json_object(), "spec", key, targets ? targets : json_null());

	return documents ? decode_documents(documents, name, decoded) : -ENOMEM;
}

/*
 * Wherever targetRefs (or targetRef, of the old schema) stands, what follows is read as a document of its own: neither
 * an open quote nor a lost indentation before it hides a policy's targets.
 */
static int add_policies(const char *name, const char *text, struct decoded *decoded)
{
	static const char *const keys[] = {"targetRef", "targetRefs"};
	const char *place = strstr(text, keys[0]);
	int result = 0;

	for (unsigned int count = 0; result == 0 && place && count < MAX_FRAGMENTS; count++) {
		const char *key = keys[place[strlen(keys[0])] == 's'];
		json_t *targets, *metadata = NULL;

		result = read_fragment(text, place, key, &targets);
		if (result == 0 && targets)
			result = find_metadata(text, place, &metadata);
		if (result == 0 && targets)
			result = add_policy(name, key, metadata, targets, decoded);
		else
			json_decref(targets);
		place = strstr(place + strlen(keys[0]), keys[0]);
	}
	return result;
}

static int salvage_damaged(const char *name, const char *text, size_t size, struct decoded *decoded)
{
	_cleanup_wiping_free_ char *copy = copy_readable(text, size);
	_cleanup_json_ json_t *documents = NULL;
	size_t line;
	int result;

	if (!copy)
		return -ENOMEM;
	result = yaml_load_until_error(copy, size, &documents, &line);
	if (result == 0)
		result = decode_documents(documents, name, decoded);
	if (result == 0 && strcasestr(copy, "BackendTLSPolicy"))
		result = add_policies(name, copy, decoded);
	return result;
}

int salvage_documents(const char *name, const char *text, size_t size, struct decoded *decoded)
{
	size_t budget = MAX_DAMAGED_BYTES;
	int result = 0;

	while (result == 0 && size) {
		_cleanup_json_ json_t *documents = NULL;
		size_t length = document_length(text, size);
		char error[256];

		result = yaml_load(text, length, &documents, error, sizeof(error));
		if (result == 0) {
			result = decode_documents(documents, name, decoded);
		} else if (result != -ENOMEM) {
			size_t looked_at = length < budget ? length : budget;

			result = salvage_damaged(name, text, looked_at, decoded);
			budget -= looked_at;
		}
		text += length;
		size -= length;
	}
	return result;
}
