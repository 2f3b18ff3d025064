/* SPDX-License-Identifier: GPL-2.0-only */
/* vector.h: room for one more item in an array that doubles. Pure. */
#ifndef POSTERN_POLICY_VECTOR_H
#define POSTERN_POLICY_VECTOR_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* items_pointer is the address of the array's pointer. 0, or -ENOMEM with the array as it was. */
static inline int vector_reserve(void *items_pointer, size_t count, size_t *capacity, size_t item_size)
{
	size_t wanted = *capacity ? *capacity * 2 : 8;
	void *items;

	if (count < *capacity)
		return 0;
	memcpy(&items, items_pointer, sizeof(items));
	items = reallocarray(items, wanted, item_size);
	if (!items)
		return -ENOMEM;
	memcpy(items_pointer, &items, sizeof(items));
	*capacity = wanted;
	return 0;
}

#endif
