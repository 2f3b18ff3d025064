// SPDX-License-Identifier: GPL-2.0-only
#include "base/wiping.h"

#include <jansson.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

void wiping_free(void *memory)
{
	if (memory)
		OPENSSL_cleanse(memory, malloc_usable_size(memory));
	free(memory);
}

void *wiping_realloc(void *memory, size_t size)
{
	size_t old_size = malloc_usable_size(memory);
	void *moved = malloc(size ? size : 1);

	if (!moved)
		return NULL;
	if (memory)
		memcpy(moved, memory, old_size < size ? old_size : size);
	wiping_free(memory);
	return moved;
}

void wiping_use_for_json(void)
{
	json_set_alloc_funcs(malloc, wiping_free);
}
