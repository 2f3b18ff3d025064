// SPDX-License-Identifier: GPL-2.0-only
#include "fuzz.h"

#include <string.h>

char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	FUZZ_CHECK(text, "no memory");
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

char *fuzz_take(const uint8_t **data, size_t *size, char separator)
{
	const uint8_t *end = *size ? memchr(*data, separator, *size) : NULL;
	size_t length = end ? (size_t)(end - *data) : *size;
	char *text;

	if (!*size)
		return NULL;
	text = fuzz_text(*data, length);
	*data += length + (end != NULL);
	*size -= length + (end != NULL);
	return text;
}

bool fuzz_is_message(const char *text, size_t limit)
{
	size_t length = text ? strlen(text) : 0;
	json_t *string = text ? json_string(text) : NULL; /* NULL: not UTF-8 */
	bool good = string && length && length < limit;

	json_decref(string);
	for (size_t i = 0; i < length; i++)
		good &= (unsigned char)text[i] >= ' ' && text[i] != 0x7f;
	return good;
}
