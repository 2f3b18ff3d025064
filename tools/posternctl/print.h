/* SPDX-License-Identifier: GPL-2.0-only */
/* print.h: what the commands share when they print. */
#ifndef POSTERNCTL_PRINT_H
#define POSTERNCTL_PRINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "posternctl.h"

/*
 * Ask the agent. EXIT_FINE, or EXIT_DEAD, or EXIT_WRONG if it lives and has no such answer; what is wrong was printed
 * ({"error": ...} with --json).
 */
enum exit_status ask_or_complain(const struct options *options, const char *command, json_type expected,
                                 json_t **answer);

/* Indented JSON and a line break on stdout, with --watch one line; takes the document over. NULL: out of memory. */
int print_json(const struct options *options, json_t *document);

#define AMOUNT_TEXT_MAX 32
/* "0 B", "1.5 MiB" */
const char *format_bytes(long long bytes, char text[static AMOUNT_TEXT_MAX]);
/* "0.5s", "3m 2s", "2h 5m", "4d 1h" */
const char *format_age(double seconds, char text[static AMOUNT_TEXT_MAX]);

/* The remedy of a reason by its name (base/reason.h); "" if the name is unknown to this posternctl. */
const char *remedy_of(const char *reason);

#endif
