/* SPDX-License-Identifier: GPL-2.0-only */
#include "terminal.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "posternctl.h"

#define ESCAPE_MAX   10 /* "\u{10ffff}" */
#define COLUMN_SPACE 2
#define COLUMN_MIN   8 /* a narrower one could not be read */
#define COLUMNS_MAX  10000

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

/* How many columns the terminal has; 0: it is none, or does not say, and lines are as long as they are. */
static size_t terminal_columns(void)
{
	const char *told = getenv("COLUMNS");
	unsigned long columns = told ? strtoul(told, NULL, 10) : 0;
	struct winsize size;

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (columns > 0 && columns <= COLUMNS_MAX)
		return columns;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* Makes the widest columns narrower until a row has room, or none can be. */
static void fit(struct table *table, size_t room)
{
	size_t total = COLUMN_SPACE * (table->column_count - 1);

	for (size_t i = 0; i < table->column_count; i++)
		total += table->widths[i];
	for (; total > room; total--) {
		size_t widest = 0;

		for (size_t i = 1; i < table->column_count; i++)
			widest = table->widths[i] > table->widths[widest] ? i : widest;
		if (table->widths[widest] <= COLUMN_MIN)
			return;
		table->widths[widest]--;
	}
}

/*
 * How many bytes of a safe text go into one line of so many columns: all, or up to behind the last blank or sign at
 * which people part names, if that fills half of the line.
 */
static size_t part_of(const char *text, size_t columns, size_t *shown)
{
	size_t length = 0, good = 0, good_shown = 0;

	for (*shown = 0; text[length] && *shown < columns; (*shown)++) {
		bool parts = strchr(" ,;/:=", text[length]) != NULL;

		do
			length++;
		while ((text[length] & 0xc0) == 0x80); /* the rest of a character */
		if (parts) {
			good = length;
			good_shown = *shown + 1;
		}
	}
	if (!text[length] || 2 * good_shown < columns)
		return length;
	*shown = good_shown;
	return good;
}

static void put_part(enum colour colour, const char *text, size_t length)
{
	_cleanup_free_ char *part = checked(strndup(text, length));

	put_safe(colour, part);
}

/* A row, in as many lines as its longest cell needs in its column. */
static void print_cells(const struct table *table, const struct cell *cells, size_t indent)
{
	const char *rest[TABLE_COLUMNS_MAX];
	bool more = true;

	for (size_t i = 0; i < table->column_count; i++)
		rest[i] = cells[i].text ? cells[i].text : "";
	while (more) {
		size_t blanks = indent;

		more = false;
		for (size_t i = 0; i < table->column_count; i++) {
			size_t shown, length = part_of(rest[i], table->widths[i], &shown);

			if (length) {
				printf("%*s", (int)blanks, "");
				put_part(cells[i].colour, rest[i], length);
				blanks = 0;
			}
			blanks += table->widths[i] - shown + COLUMN_SPACE;
			rest[i] += length;
			more |= *rest[i] != '\0';
		}
		putchar('\n');
	}
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

static void print_note(const struct cell *note, size_t indent, size_t room)
{
	const char *rest = note->text;

	do {
		size_t shown, length = part_of(rest, room, &shown);

		printf("%*s", (int)indent, "");
		put_part(note->colour, rest, length);
		putchar('\n');
		rest += length;
	} while (*rest);
}

void table_print(struct table *table, size_t indent)
{
	size_t columns = terminal_columns(), note_indent = indent + COLUMN_SPACE;
	size_t note_room = columns > note_indent + COLUMN_MIN ? columns - note_indent : SIZE_MAX;

	if (columns)
		fit(table, columns > indent ? columns - indent : 1);
	print_cells(table, table->headings, indent);
	for (size_t i = 0; i < table->row_count; i++) {
		if (table->rows[i].is_note)
			print_note(&table->rows[i].cells[0], note_indent, note_room);
		else
			print_cells(table, table->rows[i].cells, indent);
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
