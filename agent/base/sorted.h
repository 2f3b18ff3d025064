/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sorted.h: qsort() and bsearch() for lists that may be empty, and where something belongs in one. C11 7.22.5 forbids
 * both a null list even for a count of 0, and an empty list is NULL nearly everywhere in this tree. Any thread; no
 * state.
 */
#ifndef POSTERN_BASE_SORTED_H
#define POSTERN_BASE_SORTED_H

#include <stdbool.h>
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

/*
 * The index of the first item that is not less than key; count if all are. compare is given key first. The last item is
 * looked at before the others: what comes is often in order. list may be NULL if count is 0.
 */
static inline size_t first_sorted(const void *key, const void *list, size_t count, size_t size,
                                  int (*compare)(const void *, const void *))
{
	const char *items = list;
	size_t low = 0, high = count;

	if (count && compare(key, items + (count - 1) * size) > 0)
		return count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare(key, items + middle * size) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The same: there key belongs. *found: the item there compares equal to it. */
static inline size_t place_sorted(const void *key, const void *list, size_t count, size_t size,
                                  int (*compare)(const void *, const void *), bool *found)
{
	size_t place = first_sorted(key, list, count, size, compare);

	*found = place < count && !compare(key, (const char *)list + place * size);
	return place;
}

#endif
