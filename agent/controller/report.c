/* SPDX-License-Identifier: GPL-2.0-only */
#include "controller/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/version.h"
#include "config/config.h"
#include "config/value.h"
#include "controller/controller.h"
#include "controller/enrolments.h"
#include "controller/json_cleanup.h"
#include "observe/http_server.h"
#include "observe/json.h"
#include "observe/metric.h"
#include "observe/metric_agent.h"

#define HTTP_OK   200
#define HTTP_BUSY 503

struct report {
	struct controller *controller;
	struct http_server *server;
	double started;
};

/* ---- /metrics ---- */

static void add_statuses(struct metric_text *text, const struct status_writer_statistics *statistics)
{
	const struct {
		const char *result;
		uint64_t count;
	} results[] = {
	        {"read", statistics->reads},  {"written", statistics->writes},     {"unchanged", statistics->unchanged},
	        {"stale", statistics->stale}, {"conflict", statistics->conflicts}, {"denied", statistics->denied},
	        {"gone", statistics->gone},   {"invalid", statistics->invalid},    {"failed", statistics->failures},
	};

	for (size_t i = 0; i < ARRAY_SIZE(results); i++)
		metric_add(text, METRIC_STATUS_REQUESTS, (double)results[i].count, results[i].result);
	metric_add(text, METRIC_STATUS_OBJECTS, (double)statistics->queued, "queued");
	metric_add(text, METRIC_STATUS_OBJECTS, (double)statistics->in_flight, "in_flight");
	metric_add(text, METRIC_STATUS_OBJECTS, (double)statistics->waiting, "waiting");
}

/* A family is told in one piece. */
static void add_watches(struct metric_text *text, const struct source *source)
{
	for (int family = 0; family < 4; family++) {
		for (size_t i = 0; i < source_watch_count(source); i++) {
			const struct source_watch watch = source_watch_at(source, i);
			const struct {
				enum metric metric;
				double value;
			} values[] = {
			        {METRIC_WATCH_UP, !strcmp(watch.state, "watching")},
			        {METRIC_WATCH_EVENTS, (double)watch.events},
			        {METRIC_WATCH_LISTS, (double)watch.lists},
			        {METRIC_WATCH_FAILURES, (double)watch.failures},
			};

			metric_add(text, values[family].metric, values[family].value, watch.resource, watch.namespace_);
		}
	}
}

static void add_all(struct metric_text *text, const struct report *report)
{
	const struct controller *controller = report->controller;
	const struct status_writer_statistics statuses = status_writer_statistics(controller->writer);
	const struct events_statistics events = events_statistics(controller->events);

	metric_add(text, METRIC_LEADER, controller->lease && lease_leads(controller->lease));
	metric_add(text, METRIC_UNPROTECTED_PODS,
	           (double)pod_findings_count(controller->findings, FINDING_UNPROTECTED_GATEWAY_POD));
	for (enum finding_reason reason = 0; reason < FINDING_REASONS; reason++) {
		/* That one is for agents to find: 0 would be more than the controller knows. */
		if (reason != FINDING_HOST_PORT_CONFLICT)
			metric_add(text, METRIC_FINDINGS, (double)pod_findings_count(controller->findings, reason),
			           finding_reason_name(reason));
	}
	if (controller->fleet)
		metric_add(text, METRIC_READY_AGENTS, (double)fleet_ready_agents(controller->fleet));
	if (controller->lease) {
		metric_add(text, METRIC_LEASE_TERMS, (double)lease_terms(controller->lease));
		metric_add(text, METRIC_LEASE_FAILURES, (double)lease_failures(controller->lease));
	}
	add_statuses(text, &statuses);
	metric_add(text, METRIC_EVENTS, (double)events.told, "told");
	metric_add(text, METRIC_EVENTS, (double)events.counted, "counted");
	metric_add(text, METRIC_EVENTS, (double)events.dropped, "dropped");
	metric_add(text, METRIC_EVENTS, (double)events.failures, "failed");
	if (controller->source)
		add_watches(text, controller->source);
	metrics_of_both(text, report->started, 0);
}

static void reply_metrics(const struct report *report, struct http_request *request, const char *accept)
{
	bool openmetrics = metric_wants_openmetrics(accept);
	struct metric_text *text = metric_start(openmetrics);
	char *body = NULL;
	size_t length = 0;

	if (text) {
		add_all(text, report);
		body = metric_finish(text, &length);
	}
	http_reply(request, HTTP_OK, openmetrics ? metric_type_openmetrics : metric_type_text, body, length);
}

/* ---- /status ---- */

static json_t *errors_json(const struct source *source)
{
	json_t *list = json_array();

	for (size_t i = 0; i < source_error_count(source); i++) {
		const struct source_error *error = source_error_at(source, i);

		json_append(&list, json_pack("{s:o, s:o}", "object", json_text(error->object), "message",
		                             json_text(error->message)));
	}
	return list;
}

static json_t *statuses_json(const struct status_writer *writer)
{
	const struct status_writer_statistics statistics = status_writer_statistics(writer);

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "objects", (json_int_t)statistics.objects,
	                 "queued", (json_int_t)statistics.queued, "in_flight", (json_int_t)statistics.in_flight,
	                 "waiting", (json_int_t)statistics.waiting, "written", (json_int_t)statistics.writes,
	                 "conflicts", (json_int_t)statistics.conflicts, "denied", (json_int_t)statistics.denied,
	                 "last_error", json_text(statistics.last_error));
}

/* Those that a readiness gate is asked about, and that did not answer. */
static json_t *silent_json(const struct controller *controller)
{
	return controller->enrolments ? enrolments_silent(controller->enrolments) : json_array();
}

static json_t *lease_json(const struct lease *lease)
{
	return json_pack("{s:o, s:o, s:I}", "problem", json_text(lease_problem(lease)), "remedy",
	                 json_text(lease_remedy(lease)), "failures", (json_int_t)lease_failures(lease));
}

static json_t *status_json(const struct controller *controller)
{
	return json_pack("{s:s, s:s, s:b, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "version", postern_version,
	                 "identity", controller->identity, "leads", lease_leads(controller->lease), "leader",
	                 json_text(lease_holder(controller->lease)), "lease", lease_json(controller->lease), "policies",
	                 (json_int_t)(controller->snapshot ? snapshot_policy_count(controller->snapshot) : 0), "agents",
	                 (json_int_t)fleet_agents(controller->fleet), "ready_agents",
	                 (json_int_t)fleet_ready_agents(controller->fleet), "statuses",
	                 statuses_json(controller->writer), "silent_agents", silent_json(controller), "findings",
	                 pod_findings_json(controller->findings), "errors", errors_json(controller->source));
}

static void reply_status(const struct controller *controller, struct http_request *request)
{
	_cleanup_json_ json_t *document = controller->lease ? status_json(controller) : NULL;
	char *body = document ? json_dumps(document, JSON_INDENT(1)) : NULL;

	http_reply(request, HTTP_OK, "application/json", body, body ? strlen(body) : 0);
}

/* ---- who asks ---- */

static void reply_ready(const struct controller *controller, struct http_request *request)
{
	if (controller->snapshot && !controller->ending)
		http_reply_text(request, HTTP_OK, "ready\n");
	else
		http_reply_text(request, HTTP_BUSY,
		                controller->ending ? "stopping\n" : "the cluster has not been seen yet\n");
}

static bool answer(void *context, struct http_request *request, const char *path, const char *accept)
{
	struct report *report = context;

	if (!strcmp(path, "/metrics"))
		reply_metrics(report, request, accept);
	else if (!strcmp(path, "/livez"))
		http_reply_text(request, HTTP_OK, "alive\n");
	else if (!strcmp(path, "/readyz"))
		reply_ready(report->controller, request);
	else if (!strcmp(path, "/status"))
		reply_status(report->controller, request);
	else
		return false;
	return true;
}

int report_open(struct controller *controller, struct report **result)
{
	struct report *report;
	struct http_options options = {.answer = answer};
	struct config_address where;
	struct timespec now;
	char error[256] = "";
	int status;

	if (!*controller->options->listen)
		return 0;
	report = calloc(1, sizeof(*report));
	if (!report)
		return -ENOMEM;
	clock_gettime(CLOCK_REALTIME, &now);
	*report = (struct report){.controller = controller, .started = (double)now.tv_sec};
	status = value_address(controller->options->listen, &where, error, sizeof(error));
	options.address = where.address;
	options.port = where.port;
	options.context = report;
	if (status == 0)
		status = http_server_open(controller->loop, &options, &report->server);
	if (status < 0) {
		log_error("not listening", "address=%s error=\"%s\"", controller->options->listen,
		          *error ? error : strerror(-status));
		free(report);
		return status;
	}
	log_info("listening", "address=%s port=%u", controller->options->listen, http_server_port(report->server));
	*result = report;
	return 0;
}

void report_close(struct report *report)
{
	if (!report)
		return;
	http_server_close(report->server);
	free(report);
}
