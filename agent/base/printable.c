// SPDX-License-Identifier: GPL-2.0-only
#include "base/printable.h"

#include <string.h>

static const char cut_mark[] = "...";

static char shown(char byte)
{
	return (unsigned char)byte < 0x20 || (unsigned char)byte >= 0x7f || byte == '"' ? '?' : byte;
}

void printable_copy(char *to, size_t size, const char *from)
{
	size_t length = 0;

	for (; from[length] && length + 1 < size; length++)
		to[length] = shown(from[length]);
	to[length] = '\0';
}

void printable_in_place(char *text)
{
	for (; *text; text++)
		*text = shown(*text);
}

const char *printable(const char *value, char buffer[static PRINTABLE_MAX])
{
	printable_copy(buffer, PRINTABLE_MAX, value);
	if (strnlen(value, PRINTABLE_MAX) == PRINTABLE_MAX)
		memcpy(buffer + PRINTABLE_MAX - sizeof(cut_mark), cut_mark, sizeof(cut_mark));
	return buffer;
}
