/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sorted.h: qsort() and bsearch() for lists that may be empty. C11 7.22.5 forbids both a null list even for a count of
 * 0, and an empty list is NULL nearly everywhere in this tree. Any thread; no state.
 */
#ifndef POSTERN_BASE_SORTED_H
#define POSTERN_BASE_SORTED_H

#include <stdlib.h>

/* Sort list, of count items of size bytes each. list may be NULL if count is 0. */
static inline void sort_list(void *list, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	if (count > 1)
		qsort(list, count, size, compare);
}

/* The item of the sorted list that compares equal to key. NULL: there is none. list may be NULL if count is 0. */
static inline void *find_sorted(const void *key, const void *list, size_t count, size_t size,
                                int (*compare)(const void *, const void *))
{
	return count ? bsearch(key, list, count, size, compare) : NULL;
}

#endif
