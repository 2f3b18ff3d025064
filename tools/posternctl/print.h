/* SPDX-License-Identifier: GPL-2.0-only */
/* print.h: what the commands share when they print. */
#ifndef POSTERNCTL_PRINT_H
#define POSTERNCTL_PRINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent_client.h"
#include "posternctl.h"

#define REMEDY_DEAD                                                                                                    \
	"start posternd (systemctl start posternd, or its DaemonSet); its log says why it ended; --run-dir if it has " \
	"another one"
#define REMEDY_HUNG "it hangs or was stopped: `posternctl bugreport`, then restart posternd"

/*
 * Ask the agent. EXIT_FINE, or EXIT_DEAD, or EXIT_WRONG if it lives and has no such answer; what is wrong was printed
 * ({"error": ...} with --json).
 */
enum exit_status ask_or_complain(const struct options *options, const char *command, json_type expected,
                                 json_t **answer);

/*
 * Why the agent did not answer, what stands after it on the line, and what to do, on stderr. EXIT_WRONG if it lives and
 * refused, EXIT_DEAD else.
 */
enum exit_status complain_of_agent(enum agent_answer answer, const char *reason, const char *after);

/* Indented JSON and a line break on stdout, with --watch one line; takes the document over. NULL: out of memory. */
int print_json(const struct options *options, json_t *document);

#define AMOUNT_TEXT_MAX 32
/* "0 B", "1.5 MiB" */
const char *format_bytes(long long bytes, char text[static AMOUNT_TEXT_MAX]);
/* "0.5s", "3m 2s", "2h 5m", "4d 1h" */
const char *format_age(double seconds, char text[static AMOUNT_TEXT_MAX]);

/* "1 policy", "3 policies" */
#define COUNTED(count, one, many) (size_t)(count), (count) == 1 ? (one) : (many)

/* Is it, by its name, why a direction is not in kernel TLS, and no failure? */
bool is_mode_reason(const char *reason);
/* The remedy of a reason by its name (base/reason.h); "" if the name is unknown to this posternctl. */
const char *remedy_of(const char *reason);

#endif
