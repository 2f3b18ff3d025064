// SPDX-License-Identifier: GPL-2.0-only
#include "policy/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char cut_mark[] = "...";

static bool reserve(struct text *text, size_t length)
{
	size_t wanted = text->length + length + sizeof(cut_mark);
	size_t capacity = text->capacity ? text->capacity : 128;
	char *data;

	if (wanted <= text->capacity)
		return true;
	while (capacity < wanted)
		capacity *= 2;
	data = realloc(text->data, capacity);
	if (!data) {
		text->failed = true;
		return false;
	}
	text->data = data;
	text->capacity = capacity;
	return true;
}

static void append(struct text *text, const char *piece, size_t length)
{
	if (text->cut || text->failed)
		return;
	if (text->length + length > TEXT_MAX) {
		length = TEXT_MAX - text->length;
		text->cut = true;
	}
	if (!reserve(text, length))
		return;
	memcpy(text->data + text->length, piece, length);
	text->length += length;
	if (text->cut)
		memcpy(text->data + text->length, cut_mark, sizeof(cut_mark));
	else
		text->data[text->length] = '\0';
}

static void append_format(struct text *text, const char *format, va_list arguments)
{
	char piece[1024];
	int length = vsnprintf(piece, sizeof(piece), format, arguments);

	if (length < 0)
		return;
	append(text, piece, (size_t)length < sizeof(piece) ? (size_t)length : sizeof(piece) - 1);
}

void text_append(struct text *text, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	append_format(text, format, arguments);
	va_end(arguments);
}

void text_add_sentence(struct text *text, const char *format, ...)
{
	va_list arguments;

	if (text->length)
		append(text, "; ", 2);
	va_start(arguments, format);
	append_format(text, format, arguments);
	va_end(arguments);
}

void text_add(struct text *text, const char *sentence)
{
	if (text->length)
		append(text, "; ", 2);
	append(text, sentence, strlen(sentence));
}

bool text_is_empty(const struct text *text)
{
	return !text->length && !text->failed;
}

char *text_take(struct text *text)
{
	char *data = text->failed ? NULL : text->data ? text->data : strdup("");

	if (text->failed)
		free(text->data);
	*text = (struct text){0};
	return data;
}

void text_free(struct text *text)
{
	free(text->data);
	*text = (struct text){0};
}

const char *printable(const char *value, char buffer[static PRINTABLE_MAX])
{
	size_t length = 0;

	for (; value[length] && length < PRINTABLE_MAX - 1; length++) {
		unsigned char character = (unsigned char)value[length];

		buffer[length] = (char)(character < 0x20 || character >= 0x7f || character == '"' ? '?' : character);
	}
	if (value[length])
		memcpy(buffer + PRINTABLE_MAX - sizeof(cut_mark), cut_mark, sizeof(cut_mark));
	else
		buffer[length] = '\0';
	return buffer;
}
