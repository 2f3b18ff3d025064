/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * terminal.h: what people see: safe text, colour on a terminal only (and not with NO_COLOR), tables. Values come from
 * manifests, certificates and the network: an escape sequence in a name must not reach the terminal.
 *
 * On a terminal a table is not wider than it (COLUMNS, else what the terminal says): the widest columns become
 * narrower, and what has no room in its cell goes on below, in the same column. Nothing is cut off, and elsewhere (a
 * pipe, a file) each row is one line, whatever COLUMNS says.
 */
#ifndef POSTERNCTL_TERMINAL_H
#define POSTERNCTL_TERMINAL_H

#include <stdarg.h>
#include <stddef.h>

enum colour {
	COLOUR_NONE,
	COLOUR_BOLD,
	COLOUR_GOOD,
	COLOUR_BAD,
	COLOUR_WARN,
	COLOUR_DIM,
};

/*
 * A malloc'd copy in which control characters, bidirectional overrides and bytes that are not UTF-8 are written as
 * \xNN or \u{N}. Never NULL: exits with status 1 when memory is out, as every function here does. Sets *columns (if not
 * NULL) to how many characters it shows.
 */
char *terminal_safe(const char *text, size_t *columns);

/* Print a value, made safe, in a colour. */
void terminal_put(enum colour colour, const char *text);
/* printf() whose result is made safe as a whole; line breaks are kept out of it, so the caller prints them. */
void terminal_printf(enum colour colour, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define TABLE_COLUMNS_MAX 12

struct table;

/* Headings end with NULL, and are made safe, too. */
struct table *table_new(const char *const *headings);
/* One cell after the other; a row is full when it has as many cells as there are headings. */
void table_cell(struct table *table, enum colour colour, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A line of text below the row that was filled last, indented. */
void table_note(struct table *table, enum colour colour, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Print it, every line after the indent, and free it. */
void table_print(struct table *table, size_t indent);
/* The same without an indent; if it has no row, only this line. */
void table_print_or(struct table *table, const char *none);
void table_discard(struct table *table);

#endif
