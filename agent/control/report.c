/* SPDX-License-Identifier: GPL-2.0-only */
/* The status socket: what is asked, and where the answer comes from. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/trace.h"
#include "control/agent.h"
#include "control/try_command.h"
#include "observe/control_socket.h"
#include "observe/evidence_document.h"
#include "observe/json.h"
#include "observe/log_levels.h"
#include "observe/policy_documents.h"
#include "observe/status.h"
#include "observe/trace_document.h"

static const struct {
	const char *command;
	json_t *(*document)(const struct status_sources *sources);
} documents[] = {
        {"status", status_document},
        {"connections", connections_document},
        {"failures", failures_document},
        {"policies", policies_document},
        {"destinations", destinations_document},
        {"certificates", certificates_document},
};

/* With a word behind the command. */
static const struct {
	const char *command;
	json_t *(*document)(const struct status_sources *sources, const char *argument);
} with_argument[] = {
        {"settings ", settings_document},
};

static uint64_t read_programs(void *context)
{
	struct agent *agent = context;

	trace_watch_read(agent);
	return trace_watch_counted(agent);
}

static json_t *look_at_trace(struct agent *agent, const char *arguments)
{
	const struct trace_programs programs = {.read = read_programs, .context = agent};
	json_t *document;

	/* The bulk of it while workers may go on. */
	trace_watch_read(agent);
	document = trace_document(agent->trace, arguments, &programs);
	trace_watch_ask(agent);
	return document;
}

static json_t *metrics_document(struct agent *agent)
{
	size_t length = 0;
	_cleanup_free_ char *text = monitor_metrics(agent, true, &length);

	return text ? json_pack("{s:o}", "text", json_text(text)) : NULL;
}

static json_t *answer(void *context, const char *command)
{
	struct agent *agent = context;
	struct enrol_findings findings;
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
	        .shadow = agent->shadow,
	        .failures = agent->failures,
	        .source = agent->source,
	        .system_ca =
	                {
	                        .file = agent->system_ca.path,
	                        .in_force = agent->system_ca.bundle != NULL,
	                        .left_out = agent->system_ca.left_out,
	                        .problem = agent->system_ca.problem,
	                },
	        .memory_budget = &agent->memory_budget,
	        .memory_source = agent->memory_watch.source,
	        .descriptor_limit = agent->descriptors.limit,
	        .descriptors_needed = agent->descriptors.needed,
	        .max_connections = agent->descriptors.max_connections,
	        .destinations_without_room = agent->maps.overflow.count,
	        .workers = agent->workers,
	        .worker_count = agent->worker_count,
	};

	for (size_t i = 0; i < agent->enrolment_count && sources.gateway_count < POSTERN_MAX_GATEWAYS; i++) {
		if (agent->enrolments[i].gateway)
			gateways[sources.gateway_count++] = agent->enrolments[i].gateway;
	}
	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
		json_t *document;

		if (strcmp(documents[i].command, command) != 0)
			continue;
		enrol_findings_make(agent, &findings);
		sources.findings = findings.at;
		sources.finding_count = findings.count;
		document = documents[i].document(&sources);
		enrol_findings_free(&findings);
		return document;
	}
	for (size_t i = 0; i < sizeof(with_argument) / sizeof(with_argument[0]); i++) {
		size_t length = strlen(with_argument[i].command);

		if (strncmp(with_argument[i].command, command, length) == 0)
			return with_argument[i].document(&sources, command + length);
	}
	if (strncmp(command, "trace ", 6) == 0)
		return look_at_trace(agent, command + 6);
	if (strncmp(command, "try ", 4) == 0)
		return try_begin(agent, command + 4);
	if (strncmp(command, "tried ", 6) == 0)
		return try_end(agent, command + 6);
	if (strncmp(command, "evidence", 8) == 0)
		return evidence_document(&sources, agent->evidence, agent->evidence_store.problem, command + 8);
	if (strcmp(command, "metrics") == 0)
		return metrics_document(agent);
	return log_levels_command(command);
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
	else
		monitor_start(agent);
	if (!error)
		evidence_store_start(agent);
	return error;
}

void report_stop(struct agent *agent)
{
	/* One that drains in a pod of its own goes on answering its probes; elsewhere its successor has the address. */
	if (agent->config.after_handover == AFTER_HANDOVER_EXIT)
		monitor_stop(agent);
	evidence_store_stop(agent);
	control_socket_close(agent->socket);
	agent->socket = NULL;
}
