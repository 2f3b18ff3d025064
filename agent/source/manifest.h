/* SPDX-License-Identifier: GPL-2.0-only */
/* manifest.h: the text of one manifest -> objects. Pure; control thread. */
#ifndef POSTERN_SOURCE_MANIFEST_H
#define POSTERN_SOURCE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/decode.h"

struct manifest {
	/*
	 * Of a text that is not YAML, the documents that can be read by themselves: for the quarantine, so that their
	 * policies are seen.
	 */
	struct decoded decoded;
	char *unreadable; /* "line 12: ...", NULL if the text is YAML */
};

/* name goes into the objects as their origin. NULL: no memory. */
struct manifest *manifest_new(const char *name, const char *text, size_t size);
/* No version of a file, but the statement that there is one which cannot be used. */
struct manifest *manifest_new_unreadable(const char *why);
void manifest_free(struct manifest *manifest); /* NULL-safe */

/* Nothing of a broken manifest comes into force. */
bool manifest_is_broken(const struct manifest *manifest);

#endif
