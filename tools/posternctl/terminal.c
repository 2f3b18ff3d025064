/* SPDX-License-Identifier: GPL-2.0-only */
#include "terminal.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "posternctl.h"

#define ESCAPE_MAX   10 /* "\u{10ffff}" */
#define COLUMN_SPACE 2

static const char *const sequences[] = {
        [COLOUR_NONE] = "",          [COLOUR_BOLD] = "\x1b[1m",  [COLOUR_GOOD] = "\x1b[32m",
        [COLOUR_BAD] = "\x1b[1;31m", [COLOUR_WARN] = "\x1b[33m", [COLOUR_DIM] = "\x1b[2m",
};

static void *checked(void *memory)
{
	if (memory)
		return memory;
	fprintf(stderr, "posternctl: out of memory\n");
	exit(EXIT_WRONG);
}

static bool colour_wanted(void)
{
	const char *terminal = getenv("TERM");

	return isatty(STDOUT_FILENO) && !getenv("NO_COLOR") && (!terminal || strcmp(terminal, "dumb") != 0);
}

/* One UTF-8 character. Returns its length, or 0 if there is none here. */
static size_t decode(const unsigned char *bytes, uint32_t *character)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t first; /* smaller ones would be overlong */
	} forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		uint32_t value;

		if ((bytes[0] & forms[i].mask) != forms[i].lead)
			continue;
		value = bytes[0] & (unsigned char)~forms[i].mask;
		for (size_t j = 1; j <= i; j++) {
			if ((bytes[j] & 0xc0) != 0x80) /* a NUL ends here, too */
				return 0;
			value = value << 6 | (bytes[j] & 0x3f);
		}
		if (value < forms[i].first || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
			return 0;
		*character = value;
		return i + 1;
	}
	return 0;
}

/* Characters that move the cursor, change the terminal's state, hide, or turn the direction of what follows. */
static bool is_dangerous(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character <= 0x9f) || character == 0xad ||
	       character == 0x61c || (character >= 0x200b && character <= 0x200f) ||
	       (character >= 0x2028 && character <= 0x202e) || (character >= 0x2060 && character <= 0x206f) ||
	       character == 0xfeff;
}

char *terminal_safe(const char *text, size_t *columns)
{
	char *safe = checked(malloc(strlen(text) * ESCAPE_MAX + 1));
	char *end = safe;
	size_t shown = 0;

	while (*text) {
		uint32_t character = 0;
		size_t length = decode((const unsigned char *)text, &character);
		size_t written;

		if (length && !is_dangerous(character)) {
			memcpy(end, text, length);
			written = length;
			shown++;
		} else if (length && character > 0x7f) {
			written = (size_t)snprintf(end, ESCAPE_MAX + 1, "\\u{%x}", character);
			shown += written;
		} else {
			written = (size_t)snprintf(end, ESCAPE_MAX + 1, "\\x%02x", (unsigned char)*text);
			shown += written;
		}
		text += length ? length : 1;
		end += written;
	}
	*end = '\0';
	if (columns)
		*columns = shown;
	return safe;
}

static void put_safe(enum colour colour, const char *safe)
{
	bool coloured = colour != COLOUR_NONE && colour_wanted();

	printf("%s%s%s", coloured ? sequences[colour] : "", safe, coloured ? "\x1b[0m" : "");
}

void terminal_put(enum colour colour, const char *text)
{
	_cleanup_free_ char *safe = terminal_safe(text, NULL);

	put_safe(colour, safe);
}

__attribute__((format(printf, 1, 0))) static char *format_text(const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) == -1)
		text = NULL;
	return checked(text);
}

void terminal_printf(enum colour colour, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;

	va_start(args, format);
	text = format_text(format, args);
	va_end(args);
	terminal_put(colour, text);
}

struct cell {
	char *text; /* safe */
	size_t columns;
	enum colour colour;
};

struct row {
	struct cell cells[TABLE_COLUMNS_MAX];
	bool is_note; /* the first cell only, over the whole line */
};

struct table {
	struct cell headings[TABLE_COLUMNS_MAX];
	size_t column_count;
	size_t widths[TABLE_COLUMNS_MAX];
	struct row *rows;
	size_t row_count;
	size_t next_cell; /* of the last row; column_count = full */
};

struct table *table_new(const char *const *headings)
{
	struct table *table = checked(calloc(1, sizeof(*table)));

	while (headings[table->column_count] && table->column_count < TABLE_COLUMNS_MAX) {
		struct cell *heading = &table->headings[table->column_count];

		heading->text = terminal_safe(headings[table->column_count], &heading->columns);
		heading->colour = COLOUR_DIM;
		table->widths[table->column_count++] = heading->columns;
	}
	table->next_cell = table->column_count;
	return table;
}

static struct row *add_row(struct table *table)
{
	table->rows = checked(reallocarray(table->rows, table->row_count + 1, sizeof(*table->rows)));
	table->rows[table->row_count] = (struct row){0};
	return &table->rows[table->row_count++];
}

void table_cell(struct table *table, enum colour colour, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	struct cell *cell;
	va_list args;

	va_start(args, format);
	text = format_text(format, args);
	va_end(args);
	if (table->next_cell == table->column_count) {
		(void)add_row(table);
		table->next_cell = 0;
	}
	cell = &table->rows[table->row_count - 1].cells[table->next_cell];
	cell->text = terminal_safe(text[0] ? text : "-", &cell->columns);
	cell->colour = colour;
	if (cell->columns > table->widths[table->next_cell])
		table->widths[table->next_cell] = cell->columns;
	table->next_cell++;
}

void table_note(struct table *table, enum colour colour, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	struct row *row = add_row(table);
	va_list args;

	va_start(args, format);
	text = format_text(format, args);
	va_end(args);
	row->is_note = true;
	row->cells[0] = (struct cell){.text = terminal_safe(text, NULL), .colour = colour};
	table->next_cell = table->column_count;
}

static void print_cells(struct table *table, struct cell *cells)
{
	for (size_t i = 0; i < table->column_count && cells[i].text; i++) {
		put_safe(cells[i].colour, cells[i].text);
		if (i + 1 < table->column_count)
			printf("%*s", (int)(table->widths[i] - cells[i].columns + COLUMN_SPACE), "");
	}
	putchar('\n');
}

void table_discard(struct table *table)
{
	for (size_t i = 0; i < TABLE_COLUMNS_MAX; i++)
		free(table->headings[i].text);
	for (size_t i = 0; i < table->row_count; i++)
		for (size_t j = 0; j < TABLE_COLUMNS_MAX; j++)
			free(table->rows[i].cells[j].text);
	free(table->rows);
	free(table);
}

void table_print(struct table *table, size_t indent)
{
	printf("%*s", (int)indent, "");
	print_cells(table, table->headings);
	for (size_t i = 0; i < table->row_count; i++) {
		struct row *row = &table->rows[i];

		printf("%*s", (int)(row->is_note ? indent + COLUMN_SPACE : indent), "");
		if (row->is_note) {
			put_safe(row->cells[0].colour, row->cells[0].text);
			putchar('\n');
		} else {
			print_cells(table, row->cells);
		}
	}
	table_discard(table);
}

void table_print_or(struct table *table, const char *none)
{
	if (table->row_count) {
		table_print(table, 0);
		return;
	}
	puts(none);
	table_discard(table);
}
