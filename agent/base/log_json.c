/* SPDX-License-Identifier: GPL-2.0-only */
#include "base/log_json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct writer {
	char *at;
	size_t used;
	size_t size;
	bool full; /* something had no room: the member is taken back */
};

struct reader {
	const char *at;
	const char *end;
};

static void put(struct writer *writer, const char *bytes, size_t count)
{
	if (writer->full || count > writer->size - writer->used) {
		writer->full = true;
		return;
	}
	memcpy(writer->at + writer->used, bytes, count);
	writer->used += count;
}

/* How many bytes make one character of UTF-8 here; 0: none (RFC 3629). */
static size_t utf8_length(const unsigned char *byte, size_t left)
{
	size_t length;
	uint32_t code;

	if (byte[0] < 0x80)
		return 1;
	if (byte[0] >= 0xc2 && byte[0] <= 0xdf)
		length = 2;
	else if ((byte[0] & 0xf0) == 0xe0)
		length = 3;
	else if (byte[0] >= 0xf0 && byte[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (left < length)
		return 0;
	code = byte[0] & (0x7f >> length);
	for (size_t i = 1; i < length; i++) {
		if ((byte[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (byte[i] & 0x3f);
	}
	if ((length == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) ||
	    (length == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	return length;
}

/* One character of text, as a JSON string has it. Returns how many bytes were read. */
static size_t put_character(struct writer *writer, const char *text, size_t left)
{
	size_t length = utf8_length((const unsigned char *)text, left);
	char escape[8];

	if (length == 0) {
		put(writer, "\xef\xbf\xbd", 3);
		return 1;
	}
	if (*text == '"' || *text == '\\') {
		escape[0] = '\\';
		escape[1] = *text;
		put(writer, escape, 2);
	} else if ((unsigned char)*text < 0x20 || *text == 0x7f) {
		(void)snprintf(escape, sizeof(escape), "\\u%04x", (unsigned int)(unsigned char)*text);
		put(writer, escape, 6);
	} else {
		put(writer, text, length);
	}
	return length;
}

static void put_string(struct writer *writer, const char *text, size_t length)
{
	put(writer, "\"", 1);
	for (size_t i = 0; i < length;)
		i += put_character(writer, text + i, length - i);
	put(writer, "\"", 1);
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* What \xNN stands for, which is a control character; false: it is not written so. */
static bool read_hex(const struct reader *reader, char *byte)
{
	int high;
	int low;

	if (reader->end - reader->at < 4 || reader->at[1] != 'x')
		return false;
	high = hex_digit(reader->at[2]);
	low = hex_digit(reader->at[3]);
	if (high < 0 || low < 0)
		return false;
	*byte = (char)(high << 4 | low);
	return true;
}

/* From the opening quote to behind the closing one, or to the end of a line that was cut. */
static void put_quoted(struct writer *writer, struct reader *reader)
{
	char byte;

	reader->at++;
	put(writer, "\"", 1);
	while (reader->at < reader->end && *reader->at != '"') {
		if (*reader->at == '\\' && read_hex(reader, &byte)) {
			(void)put_character(writer, &byte, 1);
			reader->at += 4;
			continue;
		}
		if (*reader->at == '\\' && reader->end - reader->at > 1)
			reader->at++;
		reader->at += put_character(writer, reader->at, (size_t)(reader->end - reader->at));
	}
	if (reader->at < reader->end)
		reader->at++;
	put(writer, "\"", 1);
}

/* A JSON number that every reader holds exactly: an integer of up to 15 digits. */
static bool is_number(const char *text, size_t length)
{
	bool negative = length > 0 && text[0] == '-';
	size_t digits = length - negative;

	text += negative;
	if (digits == 0 || digits > 15 || (text[0] == '0' && length > 1))
		return false;
	for (size_t i = 0; i < digits; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
	}
	return true;
}

static size_t span_until(const struct reader *reader, const char *stops)
{
	size_t length = 0;

	while (reader->at + length < reader->end && !strchr(stops, reader->at[length]))
		length++;
	return length;
}

static void put_member(struct writer *writer, struct reader *reader)
{
	size_t length = span_until(reader, "= \"");
	bool has_key = length > 0 && reader->at + length < reader->end && reader->at[length] == '=';
	const char *word;

	put(writer, ",", 1);
	put_string(writer, has_key ? reader->at : "text", has_key ? length : strlen("text"));
	put(writer, ":", 1);
	if (has_key)
		reader->at += length + 1;
	if (reader->at < reader->end && *reader->at == '"') {
		put_quoted(writer, reader);
		return;
	}
	word = reader->at;
	length = span_until(reader, " ");
	reader->at += length;
	if (has_key && is_number(word, length))
		put(writer, word, length);
	else
		put_string(writer, word, length);
}

size_t log_json_members(const char *text, size_t length, char *buffer, size_t size)
{
	struct writer writer = {.at = buffer, .size = size};
	struct reader reader = {.at = text, .end = text + length};

	while (reader.at < reader.end && !writer.full) {
		size_t whole = writer.used;

		if (*reader.at == ' ') {
			reader.at++;
			continue;
		}
		put_member(&writer, &reader);
		if (writer.full)
			writer.used = whole;
	}
	return writer.used;
}
