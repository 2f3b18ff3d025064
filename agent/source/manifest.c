// SPDX-License-Identifier: GPL-2.0-only
#include "source/manifest.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/yaml.h"
#include "source/salvage.h"

static void decref(json_t **value)
{
	json_decref(*value);
}
#define _cleanup_json_ _cleanup_(decref)

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
	return manifest->unreadable ? salvage_documents(name, text, size, &manifest->decoded) : -ENOMEM;
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
