/* SPDX-License-Identifier: GPL-2.0-only */
/* agent_client.h: asks the agent over <run-dir>/posternd.sock (observe/control_socket.h). */
#ifndef POSTERNCTL_AGENT_CLIENT_H
#define POSTERNCTL_AGENT_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum agent_answer {
	AGENT_ANSWERED,
	AGENT_DEAD,    /* nobody listens there */
	AGENT_UNKNOWN, /* no permission, no answer in time, nonsense: it may well be alive */
	AGENT_REFUSED, /* it lives, and says why there is no such answer */
};

/* The document in *answer (of the expected type, a new reference), or a message for the operator in error. */
enum agent_answer agent_ask(const char *run_dir, const char *command, json_type expected, json_t **answer, char *error,
                            size_t error_size);

/* Members of a document: "" or 0 when they are missing or of another type. */
const char *text_of(const json_t *object, const char *key);
long long number_of(const json_t *object, const char *key);
double real_of(const json_t *object, const char *key);
bool truth_of(const json_t *object, const char *key);

#endif
