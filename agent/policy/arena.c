// SPDX-License-Identifier: GPL-2.0-only
#include "policy/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_FIRST   512
#define CHUNK_LARGEST 16384
#define ALIGNMENT     _Alignof(max_align_t)

struct arena_chunk {
	struct arena_chunk *older;
	size_t size;
	size_t used;
	max_align_t memory[];
};

static struct arena_chunk *add_chunk(struct arena *arena, size_t wanted)
{
	size_t size = arena->newest ? arena->newest->size * 2 : CHUNK_FIRST;
	struct arena_chunk *chunk;

	if (size > CHUNK_LARGEST)
		size = CHUNK_LARGEST;
	if (size < wanted)
		size = wanted;
	chunk = calloc(1, sizeof(*chunk) + size);
	if (!chunk)
		return NULL;
	chunk->size = size;
	chunk->older = arena->newest;
	arena->newest = chunk;
	return chunk;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size)
{
	struct arena_chunk *chunk = arena->newest;
	size_t wanted;
	void *memory;

	if (__builtin_mul_overflow(count, size, &wanted) || wanted > SIZE_MAX / 2)
		return NULL;
	wanted = (wanted + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (!chunk || chunk->size - chunk->used < wanted)
		chunk = add_chunk(arena, wanted);
	if (!chunk)
		return NULL;
	memory = (char *)chunk->memory + chunk->used;
	chunk->used += wanted;
	return memory;
}

char *arena_strdup(struct arena *arena, const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = arena_alloc(arena, size, 1);

	if (copy)
		memcpy(copy, text, size);
	return copy;
}

void arena_free(struct arena *arena)
{
	while (arena->newest) {
		struct arena_chunk *older = arena->newest->older;

		free(arena->newest);
		arena->newest = older;
	}
}
