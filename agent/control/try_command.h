/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * try_command.h: the status socket's `try GATEWAY ADDRESS PORT` and `tried TICKET`, for posternctl explain --try: one
 * handshake as the gateway would make it, by the policy's settings and with its client certificate, whose key stays
 * here (datapath/shadow.h). Nothing waits: who asked comes again with its ticket. Control thread.
 */
#ifndef POSTERN_CONTROL_TRY_COMMAND_H
#define POSTERN_CONTROL_TRY_COMMAND_H

#include <jansson.h>

struct agent;

/* {"ticket": n}, or {"error"}. */
json_t *try_begin(struct agent *agent, const char *arguments);
/*
 * {"pending": true}; {"pending": false, "verified", "reason", "remedy", "detail", "version", "cipher", "alpn",
 * "client_certificate"}; or {"error"}.
 */
json_t *try_end(struct agent *agent, const char *arguments);

#endif
