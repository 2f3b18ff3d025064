/* SPDX-License-Identifier: GPL-2.0-only */
/* rows.h: which rows of a list are shown (--gateway, --policy, --destination, --mode, --reason). */
#ifndef POSTERNCTL_ROWS_H
#define POSTERNCTL_ROWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct options;

/*
 * A name is the whole of it, or what stands behind its last '/': "edge" and "shop/edge" both find shop/edge. A
 * destination is "10.96.0.7", "10.96.0.7:443", ":443", "fd00::7", "[fd00::7]" or "[fd00::7]:443". A mode or reason is a
 * prefix of either direction's mode, or of the reason.
 */
bool row_wanted(const struct options *options, const json_t *row);
/* The rows that are wanted; takes the list over. NULL: out of memory. */
json_t *rows_wanted(const struct options *options, json_t *rows);

/* Can the filters find anything at all? False after a message: nonsense is not told as "none". */
bool filters_make_sense(const struct options *options);

#define NONE_TEXT_MAX 96
/* "no policy", or "no policy that fits, of 5" where so many were left out. */
const char *none_text(const char *none, size_t before, char text[static NONE_TEXT_MAX]);

bool name_fits(const char *wanted, const char *name);
bool destination_fits(const char *wanted, const char *destination);

#endif
