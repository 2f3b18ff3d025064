/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * printable.h: text from outside, made fit for a message: '?' stands for each control character, each byte beyond ASCII
 * and each double quote. Pure.
 */
#ifndef POSTERN_BASE_PRINTABLE_H
#define POSTERN_BASE_PRINTABLE_H

#include <stddef.h>

#define PRINTABLE_MAX 64

/* At most 63 bytes of a value; "..." says that there is more. */
const char *printable(const char *value, char buffer[static PRINTABLE_MAX]);
/* As much as fits; size is at least 1. */
void printable_copy(char *to, size_t size, const char *from);
void printable_in_place(char *text);

#endif
