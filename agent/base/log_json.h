/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * log_json.h: the key=value pairs of a log line as members of a JSON object. Pure.
 *
 * A value is quoted, with \" \\ and \xNN inside as log_quote() makes them, or goes to the next space. An unquoted
 * decimal integer becomes a number, anything else a string; what is not UTF-8 becomes U+FFFD. Words without '=' belong
 * to the member "text". A key that came before is written all the same: the last one counts for most readers.
 */
#ifndef POSTERN_BASE_LOG_JSON_H
#define POSTERN_BASE_LOG_JSON_H

#include <stddef.h>

/*
 * Appends ,"key":value for each pair of text (length bytes, no NUL) to what is in buffer. Returns how many bytes were
 * written, without a NUL; only whole members are, and not more than size bytes.
 */
size_t log_json_members(const char *text, size_t length, char *buffer, size_t size);

#endif
