/* SPDX-License-Identifier: GPL-2.0-only */
/* The status socket: what is asked, and where the answer comes from. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/agent.h"
#include "observe/control_socket.h"
#include "observe/status.h"

static const struct {
	const char *command;
	json_t *(*document)(const struct status_sources *sources);
} documents[] = {
        {"status", status_document},
        {"connections", connections_document},
        {"failures", failures_document},
};

static json_t *answer(void *context, const char *command)
{
	struct agent *agent = context;
	const struct gateway *gateways[POSTERN_MAX_GATEWAYS];
	char reason[256];
	struct status_sources sources = {
	        .config = &agent->config,
	        .started_ns = agent->started_ns,
	        .ready = agent_ready(agent, reason, sizeof(reason)),
	        .reason = reason,
	        .hooks = agent->hooks,
	        .gateways = gateways,
	        .proof = &agent->proof,
	        .snapshots = agent->snapshots,
	        .failures = agent->failures,
	        .files = agent->files,
	        .workers = agent->workers,
	        .worker_count = agent->worker_count,
	};

	for (size_t i = 0; i < agent->enrolment_count && sources.gateway_count < POSTERN_MAX_GATEWAYS; i++) {
		if (agent->enrolments[i].gateway)
			gateways[sources.gateway_count++] = agent->enrolments[i].gateway;
	}
	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
		if (strcmp(documents[i].command, command) == 0)
			return documents[i].document(&sources);
	}
	return NULL;
}

int report_start(struct agent *agent)
{
	const struct control_socket_options options = {
	        .run_dir = agent->config.run_dir,
	        .answer = answer,
	        .context = agent,
	};
	char message[256];
	char quoted[512];
	int error = control_socket_open(agent->loop, &options, &agent->socket, message, sizeof(message));

	if (error)
		log_error("status socket not opened", "error=%s", log_quote(message, quoted, sizeof(quoted)));
	return error;
}

void report_stop(struct agent *agent)
{
	control_socket_close(agent->socket);
	agent->socket = NULL;
}
