/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/names.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct name {
	struct name *next;
	size_t references;
	char text[];
};

/* FNV-1a. Who chooses policy names could make a bucket long, and would slow down nothing but the beginning of
 * connections. */
static struct name **bucket_of(struct names *names, const char *text)
{
	uint32_t hash = 2166136261u;

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 16777619u;
	return &names->buckets[hash & (NAMES_BUCKETS - 1)];
}

const char *names_take(struct names *names, const char *text)
{
	struct name **bucket = bucket_of(names, text);
	size_t size = strlen(text) + 1;
	struct name *name;

	for (name = *bucket; name; name = name->next) {
		if (strcmp(name->text, text) == 0) {
			name->references++;
			return name->text;
		}
	}
	name = malloc(sizeof(*name) + size);
	if (!name)
		return NULL;
	memcpy(name->text, text, size);
	name->references = 1;
	name->next = *bucket;
	*bucket = name;
	return name->text;
}

void names_give(struct names *names, const char *text)
{
	struct name **link;
	struct name *name;

	if (!text)
		return;
	for (link = bucket_of(names, text); (*link)->text != text; link = &(*link)->next)
		;
	name = *link;
	if (--name->references > 0)
		return;
	*link = name->next;
	free(name);
}
