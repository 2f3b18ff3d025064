/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * arena.h: memory of one object: many small pieces that are freed together. One thread at a time.
 */
#ifndef POSTERN_POLICY_ARENA_H
#define POSTERN_POLICY_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena { /* all zero = empty */
	struct arena_chunk *newest;
};

/* Zeroed, aligned for any type. NULL: no memory, or count * size overflows. A count of 0 gives a valid pointer. */
void *arena_alloc(struct arena *arena, size_t count, size_t size);
char *arena_strdup(struct arena *arena, const char *text);
void arena_free(struct arena *arena);

#endif
