/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * slab.h: objects of one size that live long, in pages of their own. One thread.
 *
 * On the heap an object of a kilobyte that lives for hours lies between what a handshake has allocated and freed around
 * it, and holds its whole pages back: several times its own size. Here objects share pages with their like only, so
 * that malloc_trim() finds the heap free. Pages without an object are given back.
 *
 * An object is zero when it is taken, and wiped when it is given back. Under AddressSanitizer each is a block of
 * malloc()'s, so that it is watched like any other.
 */
#ifndef POSTERN_BASE_SLAB_H
#define POSTERN_BASE_SLAB_H

#include <stddef.h>

struct slab_block;

struct slab {
	size_t object_size;        /* with what the slab adds */
	struct slab_block *blocks; /* those with a free object */
	size_t block_count;        /* all of them */
	size_t live;               /* objects */
};

void slab_init(struct slab *slab, size_t object_size); /* at most SLAB_OBJECT_MAX */
/* No object is live any more; the pages of one that is stay. Idempotent. */
void slab_destroy(struct slab *slab);
/* NULL: no memory. Aligned to 16 bytes. */
void *slab_take(struct slab *slab);
/* The object knows its slab. NULL-safe. */
void slab_give(void *object);

#define SLAB_BLOCK_SIZE ((size_t)16 << 10)
#define SLAB_OBJECT_MAX ((size_t)4 << 10)

#endif
