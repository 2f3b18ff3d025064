/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * shared_text.h: an immutable string with many owners, in any thread: CA material, of which a thousand policies may use
 * the same 200 KB.
 */
#ifndef POSTERN_POLICY_SHARED_TEXT_H
#define POSTERN_POLICY_SHARED_TEXT_H

#include <stdatomic.h>
#include <stddef.h>

struct shared_text {
	atomic_uint references;
	unsigned char digest[32]; /* SHA-256 of the text */
	size_t length;
	char text[];
};

/* One reference, or NULL: no memory. */
struct shared_text *shared_text_new(const char *text, size_t length);
struct shared_text *shared_text_ref(struct shared_text *text);
void shared_text_unref(struct shared_text *text); /* NULL-safe */

#endif
