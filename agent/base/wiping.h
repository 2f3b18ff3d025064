/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * wiping.h: memory that is overwritten before it is freed, for text that may hold a private key: the file of a
 * manifest, what libyaml makes of it, the JSON values of it. Any thread.
 *
 * Who is covered: jansson, once wiping_use_for_json() was called; libyaml, whose yaml_free() and yaml_realloc() are
 * replaced in yaml.c; OpenSSL's PEM reader (policy/pem_blocks.c). Who is not: the page cache, and what OpenSSL's
 * decoder of private keys allocates in between, of which OpenSSL promises nothing.
 */
#ifndef POSTERN_BASE_WIPING_H
#define POSTERN_BASE_WIPING_H

#include <stddef.h>

/* free(), the whole block wiped before. NULL-safe. */
void wiping_free(void *memory);
/* realloc() that never leaves the old block behind unwiped. NULL: no memory, and the old block is as it was. */
void *wiping_realloc(void *memory, size_t size);

/* Every JSON value from here on is wiped when it goes. Before the first of them, once a process. */
void wiping_use_for_json(void);

static inline void cleanup_wiping_free(void *pointer)
{
	wiping_free(*(void **)pointer);
}
#define _cleanup_wiping_free_ __attribute__((cleanup(cleanup_wiping_free)))

#endif
