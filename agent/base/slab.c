/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/slab.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <openssl/crypto.h>

#if defined(__SANITIZE_ADDRESS__)
#define EACH_OF_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EACH_OF_MALLOC 1
#endif
#endif
#ifndef EACH_OF_MALLOC
#define EACH_OF_MALLOC 0
#endif

#define ALIGNMENT 16

/* Before each object. */
struct header {
	union {
		struct slab_block *block; /* of a live one; EACH_OF_MALLOC: NULL */
		struct header *next_free;
	};
	struct slab *slab;
};
_Static_assert(sizeof(struct header) == ALIGNMENT, "objects are aligned");

struct slab_block {
	struct slab *slab;
	struct slab_block *next; /* of those with a free object */
	struct slab_block *previous;
	struct header *free;
	size_t untouched; /* objects at the end that were never taken */
	size_t live;
};

#define FIRST ((sizeof(struct slab_block) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

void slab_init(struct slab *slab, size_t object_size)
{
	*slab = (struct slab){.object_size = sizeof(struct header) +
	                                     (object_size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT};
}

static size_t capacity(const struct slab *slab)
{
	return (SLAB_BLOCK_SIZE - FIRST) / slab->object_size;
}

static bool is_full(const struct slab_block *block)
{
	return !block->free && block->untouched == 0;
}

static void enlist(struct slab_block *block)
{
	struct slab *slab = block->slab;

	block->previous = NULL;
	block->next = slab->blocks;
	if (slab->blocks)
		slab->blocks->previous = block;
	slab->blocks = block;
}

static void delist(struct slab_block *block)
{
	if (block->previous)
		block->previous->next = block->next;
	else
		block->slab->blocks = block->next;
	if (block->next)
		block->next->previous = block->previous;
}

static struct slab_block *new_block(struct slab *slab)
{
	struct slab_block *block = mmap(NULL, SLAB_BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
	                                0);

	if (block == MAP_FAILED)
		return NULL;
	block->slab = slab;
	block->untouched = capacity(slab);
	slab->block_count++;
	enlist(block);
	return block;
}

static void free_block(struct slab_block *block)
{
	block->slab->block_count--;
	delist(block);
	munmap(block, SLAB_BLOCK_SIZE);
}

static void *take_of_malloc(struct slab *slab)
{
	struct header *header = calloc(1, slab->object_size);

	if (!header)
		return NULL;
	header->slab = slab;
	slab->live++;
	return header + 1;
}

void *slab_take(struct slab *slab)
{
	struct slab_block *block = slab->blocks;
	struct header *header;

	if (EACH_OF_MALLOC)
		return take_of_malloc(slab);
	if (!block)
		block = new_block(slab);
	if (!block)
		return NULL;
	header = block->free;
	if (header) {
		block->free = header->next_free;
	} else {
		/* From the front: pages that were never needed are never touched. */
		header = (struct header *)((uint8_t *)block + FIRST +
		                           (capacity(slab) - block->untouched) * slab->object_size);
		block->untouched--;
	}
	header->block = block;
	header->slab = slab;
	block->live++;
	slab->live++;
	if (is_full(block))
		delist(block);
	return header + 1;
}

void slab_give(void *object)
{
	struct header *header = object ? (struct header *)object - 1 : NULL;
	struct slab_block *block;
	struct slab *slab;

	if (!header)
		return;
	slab = header->slab;
	OPENSSL_cleanse(object, slab->object_size - sizeof(*header));
	slab->live--;
	if (EACH_OF_MALLOC) {
		free(header);
		return;
	}
	block = header->block;
	if (is_full(block))
		enlist(block);
	header->next_free = block->free;
	block->free = header;
	/* One block is kept, so that a connection that comes and goes costs no system call. */
	if (--block->live == 0 && (block->next || block->previous))
		free_block(block);
}

void slab_destroy(struct slab *slab)
{
	struct slab_block *next;

	for (struct slab_block *block = slab->blocks; block; block = next) {
		next = block->next;
		if (block->live == 0)
			free_block(block);
	}
	*slab = (struct slab){0};
}
