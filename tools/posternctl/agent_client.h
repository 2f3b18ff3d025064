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
	AGENT_HUNG,    /* it took the connection, and did not answer in time */
	AGENT_UNKNOWN, /* no permission, nonsense: it may well be alive */
	AGENT_REFUSED, /* it lives, and says why there is no such answer */
};

/* The document in *answer (of the expected type, a new reference), or a message for the operator in error. */
enum agent_answer agent_ask(const char *run_dir, const char *command, json_type expected, json_t **answer, char *error,
                            size_t error_size);

/* From now on nobody is asked any more: every answer is AGENT_HUNG, for this reason. */
void agent_give_up(const char *reason);

/* Members of a document: "" or 0 when they are missing or of another type. */
const char *text_of(const json_t *object, const char *key);
long long number_of(const json_t *object, const char *key);
double real_of(const json_t *object, const char *key);
bool truth_of(const json_t *object, const char *key);

#endif
