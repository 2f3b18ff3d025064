/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * names.h: texts of which many are the same (the name of a policy in each of its connections), kept once. One thread.
 */
#ifndef POSTERN_BASE_NAMES_H
#define POSTERN_BASE_NAMES_H

#define NAMES_BUCKETS 256 /* a power of two */

struct name;

struct names { /* all zero: empty */
	struct name *buckets[NAMES_BUCKETS];
};

/* The one copy of text, and a reference to it. NULL: no memory. */
const char *names_take(struct names *names, const char *text);
/* A reference is given back. NULL-safe. */
void names_give(struct names *names, const char *name);

#endif
