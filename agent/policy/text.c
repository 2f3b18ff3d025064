// SPDX-License-Identifier: GPL-2.0-only
#include "policy/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char cut_mark[] = "...";
#define MARK_LENGTH (sizeof(cut_mark) - 1)

static bool reserve(struct text *text, size_t length)
{
	size_t wanted = text->length + length + 1;
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

/* Where a cut at length leaves no half of a character (UTF-8: 10xxxxxx goes on). */
static size_t whole_characters(const char *text, size_t length)
{
	while (length && ((unsigned char)text[length] & 0xc0) == 0x80)
		length--;
	return length;
}

/* text->length has grown past what may be shown. */
static void cut(struct text *text)
{
	text->length = whole_characters(text->data, TEXT_MAX - MARK_LENGTH);
	memcpy(text->data + text->length, cut_mark, sizeof(cut_mark));
	text->length += MARK_LENGTH;
	text->cut = true;
}

static void append(struct text *text, const char *piece, size_t length)
{
	if (text->cut || text->failed)
		return;
	if (length > TEXT_MAX - text->length)
		length = TEXT_MAX - text->length + 1;
	if (!reserve(text, length))
		return;
	memcpy(text->data + text->length, piece, length);
	text->length += length;
	text->data[text->length] = '\0';
	if (text->length > TEXT_MAX)
		cut(text);
}

static void append_format(struct text *text, const char *format, va_list arguments)
{
	char piece[TEXT_MAX + 2]; /* enough that append() sees what is too long */
	int length = vsnprintf(piece, sizeof(piece), format, arguments);

	if (length > 0)
		append(text, piece, strlen(piece));
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
