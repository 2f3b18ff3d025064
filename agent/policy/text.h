/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * text.h: a message that grows up to a limit; what goes beyond is cut and marked with "...". Pure.
 */
#ifndef POSTERN_POLICY_TEXT_H
#define POSTERN_POLICY_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#define TEXT_MAX                                                                                                       \
	4096 /* bytes, the mark included; Gateway API allows 32768 bytes in a condition's message; nobody reads that   \
	      */

struct text { /* all zero = empty */
	char *data;
	size_t length;
	size_t capacity;
	bool cut;
	bool failed; /* no memory: the message is lost, and the owner says -ENOMEM */
};

void text_append(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with "; " before it unless the text is empty. */
void text_add_sentence(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A whole other text, with "; " before it unless the text is empty. */
void text_add(struct text *text, const char *sentence);
/* A text that was lost for want of memory is not empty: what it would have said still counts. */
bool text_is_empty(const struct text *text);
/* Gives the string away (never NULL unless there was no memory) and empties the text. */
char *text_take(struct text *text);
void text_free(struct text *text);

#endif
