// SPDX-License-Identifier: GPL-2.0-only
#include "policy/unknown_fields.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/printable.h"
#include "policy/vector.h"

#define MAX_UNKNOWN_FIELDS 100
#define MAX_PATH_LENGTH    256

static bool is_known(const char *key, const char *const known[])
{
	for (; *known; known++)
		if (!strcmp(key, *known))
			return true;
	return false;
}

/* "targetRefs[3]" -> "targetRefs[]": the same field in each element. No key that is known has a bracket in it. */
static void drop_indexes(char *path)
{
	char *to = path;

	for (const char *from = path; *from; from++) {
		*to++ = *from;
		if (*from == '[')
			from += strspn(from + 1, "0123456789");
	}
	*to = '\0';
}

static int note(struct decoder *decoder, const char *path)
{
	struct unknown_fields *fields = decoder->unknown;
	struct unknown_field field = {.count = 1};

	for (size_t i = 0; i < fields->count; i++) {
		if (!strcmp(fields->items[i].path, path)) {
			fields->items[i].count++;
			return 0;
		}
	}
	if (vector_reserve(&fields->items, fields->count, &fields->capacity, sizeof(field)) < 0)
		return -ENOMEM;
	field.subject = strdup(decoder->subject);
	field.path = strdup(path);
	if (!field.subject || !field.path) {
		free(field.subject);
		free(field.path);
		return -ENOMEM;
	}
	fields->items[fields->count++] = field;
	return 0;
}

int note_unknown_fields(struct decoder *decoder, const struct path *where, const json_t *map, const char *const known[])
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)map, key, value) {
		char path[MAX_PATH_LENGTH] = "", shown[PRINTABLE_MAX];
		size_t length;

		if (is_known(key, known) || json_is_null(value))
			continue;
		if (decoder->unknown->count >= MAX_UNKNOWN_FIELDS)
			return 0;
		path_format(where, path, sizeof(path));
		drop_indexes(path);
		length = strlen(path);
		snprintf(path + length, sizeof(path) - length, "%s%s", length ? "." : "", printable(key, shown));
		if (note(decoder, path) < 0)
			return -ENOMEM;
	}
	return 0;
}

void unknown_fields_free(struct unknown_fields *fields)
{
	for (size_t i = 0; i < fields->count; i++) {
		free(fields->items[i].subject);
		free(fields->items[i].path);
	}
	free(fields->items);
	*fields = (struct unknown_fields){0};
}
