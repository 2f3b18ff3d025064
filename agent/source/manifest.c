// SPDX-License-Identifier: GPL-2.0-only
#include "source/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/yaml.h"

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

static int salvage(const char *name, const char *text, size_t size, struct decoded *decoded)
{
	int result = 0;

	while (result == 0 && size) {
		_cleanup_json_ json_t *documents = NULL;
		size_t length = document_length(text, size);
		char error[256];

		result = yaml_load(text, length, &documents, error, sizeof(error));
		if (result == 0)
			result = decode_documents(documents, name, decoded);
		if (result != -ENOMEM)
			result = 0;
		text += length;
		size -= length;
	}
	return result;
}

static int fill(struct manifest *manifest, const char *name, const char *text, size_t size)
{
	_cleanup_json_ json_t *documents = NULL;
	char error[256];
	int result = yaml_load(text, size, &documents, error, sizeof(error));

	if (result == -ENOMEM)
		return result;
	if (result == 0)
		return decode_documents(documents, name, &manifest->decoded);
	manifest->unreadable = strdup(error);
	return manifest->unreadable ? salvage(name, text, size, &manifest->decoded) : -ENOMEM;
}

struct manifest *manifest_new(const char *name, const char *text, size_t size)
{
	struct manifest *manifest = calloc(1, sizeof(*manifest));

	if (manifest && fill(manifest, name, text, size) < 0) {
		manifest_free(manifest);
		return NULL;
	}
	return manifest;
}

struct manifest *manifest_new_unreadable(const char *why)
{
	struct manifest *manifest = calloc(1, sizeof(*manifest));

	if (!manifest)
		return NULL;
	manifest->unreadable = strdup(why);
	if (!manifest->unreadable) {
		free(manifest);
		return NULL;
	}
	return manifest;
}

void manifest_free(struct manifest *manifest)
{
	if (!manifest)
		return;
	decoded_free(&manifest->decoded);
	free(manifest->unreadable);
	free(manifest);
}

bool manifest_is_broken(const struct manifest *manifest)
{
	return manifest->unreadable || manifest->decoded.problem_count;
}
