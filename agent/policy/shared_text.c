// SPDX-License-Identifier: GPL-2.0-only
#include "policy/shared_text.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct shared_text *shared_text_new(const char *text, size_t length)
{
	struct shared_text *shared = malloc(sizeof(*shared) + length + 1);

	if (!shared)
		return NULL;
	if (!EVP_Digest(text, length, shared->digest, NULL, EVP_sha256(), NULL)) {
		free(shared);
		return NULL;
	}
	atomic_init(&shared->references, 1);
	shared->length = length;
	memcpy(shared->text, text, length);
	shared->text[length] = '\0';
	return shared;
}

struct shared_text *shared_text_ref(struct shared_text *text)
{
	atomic_fetch_add_explicit(&text->references, 1, memory_order_relaxed);
	return text;
}

void shared_text_unref(struct shared_text *text)
{
	if (text && atomic_fetch_sub_explicit(&text->references, 1, memory_order_acq_rel) == 1)
		free(text);
}
