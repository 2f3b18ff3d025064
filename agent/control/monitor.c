/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/monitor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "datapath/hooks.h"
#include "datapath/hooks_info.h"
#include "observe/http_server.h"
#include "observe/metric.h"
#include "observe/metric_agent.h"
#include "policy/snapshot.h"
#include "source/source.h"

#define RETRY_NS  1000000000ull
#define MAPS      3
#define HTTP_OK   200
#define HTTP_BUSY 503

/* What the agent has put into the kernel's maps: to count a hash there would be to read it all. */
static size_t describe_maps(const struct agent *agent, struct metric_map maps[static MAPS])
{
	const struct kernel_maps *kernel = &agent->maps;
	size_t keys = kernel->plain.count + kernel->kept.count;

	if (kernel->applied)
		keys += snapshot_destination_count(kernel->applied) - kernel->overflow.count;
	maps[0] = (struct metric_map){"destination_map", keys, hooks_destination_capacity(agent->hooks)};
	maps[1] = (struct metric_map){"cluster_cidrs", kernel->cidr_count, POSTERN_MAX_CIDRS};
	maps[2] = (struct metric_map){"lane_slots", hooks_lane_slots_used(agent->hooks), POSTERN_MAX_LANE_SLOTS};
	return MAPS;
}

char *monitor_metrics(struct agent *agent, bool openmetrics, size_t *length)
{
	struct monitor *monitor = &agent->monitor;
	const struct gateway *gateways[POSTERN_MAX_GATEWAYS];
	struct metric_map maps[MAPS];
	char reason[256];
	struct metric_sources sources = {
	        .started = monitor->started,
	        .ready = agent_ready(agent, reason, sizeof(reason)),
	        .hooks = agent->hooks,
	        .gateways = gateways,
	        .proof = &agent->proof,
	        .snapshots = agent->snapshots,
	        .figures = &monitor->figures,
	        .failures = agent->failures,
	        .traffic = agent->traffic,
	        .trace = agent->trace,
	        .memory_budget = &agent->memory_budget,
	        .workers = agent->workers,
	        .worker_count = agent->worker_count,
	        .maps = maps,
	        .map_count = describe_maps(agent, maps),
	        .map_overflow = agent->maps.overflow.count,
	        .probes_passed = monitor->probe.passes,
	        .probes_failed = monitor->probe.failures,
	        .ulp_checks = agent->ulp_watch.checks,
	        .ulp_mismatches = agent->ulp_watch.mismatches,
	        .tls_decrypt_errors = agent->ulp_watch.decrypt_errors,
	        .source_errors = agent->source ? source_error_count(agent->source) : 0,
	        .watch_count = agent->source ? source_watch_count(agent->source) : 0,
	};
	_cleanup_free_ struct source_watch *watches = calloc(sources.watch_count + 1, sizeof(*watches));
	struct metric_text *text = metric_start(openmetrics);
	char *body = NULL;

	for (size_t i = 0; i < agent->enrolment_count && sources.gateway_count < POSTERN_MAX_GATEWAYS; i++) {
		if (agent->enrolments[i].gateway)
			gateways[sources.gateway_count++] = agent->enrolments[i].gateway;
	}
	if (!watches)
		sources.watch_count = 0;
	for (size_t i = 0; i < sources.watch_count; i++)
		watches[i] = source_watch_at(agent->source, i);
	sources.watches = watches;
	if (text) {
		metrics_of_agent(text, &sources);
		body = metric_finish(text, length);
	}
	return body;
}

static void reply_metrics(struct monitor *monitor, struct http_request *request, const char *accept)
{
	bool openmetrics = metric_wants_openmetrics(accept);
	size_t length = 0;
	char *body = monitor_metrics(monitor->agent, openmetrics, &length);

	http_reply(request, HTTP_OK, openmetrics ? metric_type_openmetrics : metric_type_text, body, length);
}

static void reply_result(struct http_request *request, bool passed, const char *reason)
{
	char text[320];

	(void)snprintf(text, sizeof(text), "%s\n", passed ? "ready" : reason);
	http_reply_text(request, passed ? HTTP_OK : HTTP_BUSY, text);
}

static void on_probe(void *context, void *asker, bool passed, const char *reason)
{
	(void)context;
	reply_result(asker, passed, reason);
}

static void reply_ready(struct monitor *monitor, struct http_request *request)
{
	struct agent *agent = monitor->agent;
	char unready[256];
	const char *reason;
	bool passed;

	if (!agent->socket)
		reply_result(request, false, "another agent has taken over; this one drains");
	else if (!agent_ready(agent, unready, sizeof(unready)))
		reply_result(request, false, unready);
	else if (!agent->maps.applied)
		reply_result(request, false, "the policy has not been read yet: every connection is held or refused");
	else if (path_probe_ask(&monitor->probe, request, &passed, &reason))
		reply_result(request, passed, reason);
}

static void reply_enrolled(const struct monitor *monitor, struct http_request *request)
{
	size_t length;
	char *body = enrol_answer(monitor->agent, &length);

	http_reply(request, HTTP_OK, "application/json", body, length);
}

static void forget(void *context, struct http_request *request)
{
	struct monitor *monitor = context;

	path_probe_forget(&monitor->probe, request);
}

static bool answer(void *context, struct http_request *request, const char *path, const char *accept)
{
	struct monitor *monitor = context;

	if (strcmp(path, "/metrics") == 0)
		reply_metrics(monitor, request, accept);
	else if (strcmp(path, "/livez") == 0)
		http_reply_text(request, HTTP_OK, "alive\n");
	else if (strcmp(path, "/readyz") == 0)
		reply_ready(monitor, request);
	else if (strcmp(path, "/enrolled") == 0)
		reply_enrolled(monitor, request);
	else
		return false;
	return true;
}

static void try_open(struct monitor *monitor)
{
	struct agent *agent = monitor->agent;
	const struct config_address *where = &agent->config.metrics_address;
	const struct http_options options = {
	        .address = where->address,
	        .port = where->port,
	        .answer = answer,
	        .forget = forget,
	        .context = monitor,
	};
	char text[ADDRESS_TEXT_MAX];
	int error = http_server_open(agent->loop, &options, &monitor->server);

	if (!error) {
		log_info("metrics served", "address=%s port=%u", address_format(&where->address, text), where->port);
		return;
	}
	if (!monitor->told)
		log_warning("metrics not served", "address=%s port=%u error=\"%s\" next=\"tried again each second\"",
		            address_format(&where->address, text), where->port, strerror(-error));
	monitor->told = true;
	if (loop_timer_set(agent->loop, &monitor->retry, RETRY_NS) != 0)
		log_error("no memory", "what=\"timer of the metrics\"");
}

static void on_retry(struct loop_timer *timer)
{
	try_open(container_of(timer, struct monitor, retry));
}

void monitor_start(struct agent *agent)
{
	struct monitor *monitor = &agent->monitor;
	struct timespec now;

	if (monitor->agent || agent->config.metrics_address.port == 0)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	monitor->agent = agent;
	monitor->started = (double)now.tv_sec - (double)(monotonic_ns() - agent->started_ns) / 1e9;
	monitor->retry.on_expire = on_retry;
	path_probe_init(&monitor->probe, agent, on_probe, monitor);
	try_open(monitor);
}

void monitor_stop(struct agent *agent)
{
	struct monitor *monitor = &agent->monitor;

	if (monitor->agent) {
		loop_timer_cancel(agent->loop, &monitor->retry);
		path_probe_stop(&monitor->probe);
		http_server_close(monitor->server);
	}
	metric_snapshot_free(&monitor->figures); /* the status socket shows metrics where no address does */
	*monitor = (struct monitor){0};
}
