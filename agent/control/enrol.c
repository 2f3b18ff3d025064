/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gateways of the configuration: each is tried again until its cgroup exists, its hooks are on and its namespace is
 * known; then the workers get its listeners. A gateway whose namespace is gone is taken back and tried anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/service_manager.h"
#include "control/agent.h"
#include "datapath/hooks.h"

#define RETRY_NS         100000000ull /* while one is not READY */
#define CHECK_NS         1000000000ull
#define AUDIT_NS         30000000000ull
#define PORTS_PER_WORKER 2

static void set_reason(struct enrolment *enrolment, const char *reason)
{
	char quoted[512];

	if (strcmp(enrolment->reason, reason) == 0)
		return;
	snprintf(enrolment->reason, sizeof(enrolment->reason), "%s", reason);
	if (reason[0])
		log_warning("gateway not enrolled", "gateway=%s reason=%s", enrolment->config->name,
		            log_quote(reason, quoted, sizeof(quoted)));
}

static void create(struct agent *agent, struct enrolment *enrolment)
{
	const struct gateway *others[POSTERN_MAX_GATEWAYS];
	size_t other_count = 0;
	char error[256] = "";

	for (size_t i = 0; i < agent->enrolment_count && other_count < ARRAY_SIZE(others); i++) {
		if (agent->enrolments[i].gateway)
			others[other_count++] = agent->enrolments[i].gateway;
	}
	if (gateway_new(&enrolment->options, others, other_count, &enrolment->gateway, error, sizeof(error)) != 0)
		set_reason(enrolment, error);
	else
		set_reason(enrolment, "");
}

static void unserve(void *context, const struct gateway *gateway)
{
	struct enrolment *enrolment = context;
	struct agent *agent = enrolment->agent;

	for (unsigned int i = 0; i < agent->worker_count; i++)
		(void)worker_remove_gateway(agent->workers[i], gateway);
	enrolment->served = false;
}

/* All workers or none: connects to the ports of one that does not serve would wait for their own limits. */
static int serve(void *context, const struct gateway *gateway)
{
	struct enrolment *enrolment = context;
	struct agent *agent = enrolment->agent;

	for (unsigned int i = 0; i < agent->worker_count; i++) {
		int error = worker_add_gateway(agent->workers[i], gateway);

		if (error) {
			unserve(context, gateway);
			return error;
		}
	}
	enrolment->served = true;
	return 0;
}

static void withdraw(struct enrolment *enrolment)
{
	if (enrolment->served)
		unserve(enrolment, enrolment->gateway);
	gateway_free(enrolment->gateway);
	enrolment->gateway = NULL;
}

/* Hooks first, for all: see gateway_attach(). */
static void attach(struct agent *agent, struct enrolment *enrolment)
{
	if (!enrolment->gateway)
		create(agent, enrolment);
	if (enrolment->gateway && enrolment->gateway->state != GATEWAY_LOST)
		(void)gateway_attach(enrolment->gateway, agent->hooks);
}

static void advance(struct agent *agent, struct enrolment *enrolment)
{
	if (!enrolment->gateway)
		return;
	if (enrolment->gateway->state == GATEWAY_READY) {
		if (gateway_check(enrolment->gateway, agent->hooks)) {
			log_warning("gateway lost", "gateway=%s", enrolment->gateway->name);
			withdraw(enrolment);
		}
		return;
	}
	/* What is not proved is not used: there is no listener behind the hooks, so covered connects are refused. */
	if (!agent_proved(agent, enrolment->gateway->reason, sizeof(enrolment->gateway->reason)))
		return;
	/* Plain connections from before its hooks were on carry nothing any more; now they end. */
	if (gateway_advance(enrolment->gateway, agent->hooks, &enrolment->options))
		sync_sweep(agent, enrolment->gateway, false);
}

static bool all_ready(const struct agent *agent)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (!agent->enrolments[i].gateway || agent->enrolments[i].gateway->state != GATEWAY_READY)
			return false;
	}
	return true;
}

/*
 * After the first round every cgroup that exists has its hooks, so a gateway may start. Not at "ready": that waits for
 * gateways which may be ordered after this service.
 */
static void notify_service_manager(struct agent *agent)
{
	int error;

	if (agent->notified)
		return;
	agent->notified = true;
	error = service_manager_notify("READY=1");
	if (error < 0)
		log_warning("service manager not told", "error=\"%s\"", strerror(-error));
}

static void on_enrol(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, enrol_timer);
	char reason[256];
	bool ready;

	for (size_t i = 0; i < agent->enrolment_count; i++)
		attach(agent, &agent->enrolments[i]);
	for (size_t i = 0; i < agent->enrolment_count; i++)
		advance(agent, &agent->enrolments[i]);
	notify_service_manager(agent);
	ready = agent_ready(agent, reason, sizeof(reason));
	if (ready && !agent->announced) {
		agent->announced = true;
		log_info("agent ready", "gateways=%zu workers=%u", agent->enrolment_count, agent->worker_count);
	}
	if (loop_timer_set(agent->loop, timer, all_ready(agent) ? CHECK_NS : RETRY_NS) != 0)
		log_error("no memory", "what=\"enrolment timer\"");
}

static void on_audit(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, audit_timer);

	for (size_t i = 0; i < agent->enrolment_count; i++)
		sync_sweep(agent, agent->enrolments[i].gateway, true);
	if (loop_timer_set(agent->loop, timer, AUDIT_NS) != 0)
		log_error("no memory", "what=\"audit timer\"");
}

/*
 * Gateways that an earlier agent served and that are no longer configured: their pinned hooks would refuse for ever.
 * One that cannot be taken away is no reason not to serve the others.
 */
static void forget_others(struct agent *agent)
{
	const char *names[POSTERN_MAX_GATEWAYS];
	size_t count = 0;
	int removed;

	while (count < agent->enrolment_count && count < ARRAY_SIZE(names)) {
		names[count] = agent->enrolments[count].config->name;
		count++;
	}
	removed = hooks_keep_gateways(agent->hooks, names, count);
	if (removed < 0)
		log_error("hooks of earlier gateways not taken away", "error=\"%s\"", strerror(-removed));
}

int enrol_start(struct agent *agent)
{
	const struct config *config = &agent->config;
	int error;

	agent->enrolments = calloc(config->gateways.count ? config->gateways.count : 1, sizeof(*agent->enrolments));
	if (!agent->enrolments)
		return -ENOMEM;
	agent->enrolment_count = config->gateways.count;
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		struct enrolment *enrolment = &agent->enrolments[i];

		enrolment->agent = agent;
		enrolment->config = &config->gateways.at[i];
		enrolment->options = (struct gateway_options){
		        .name = enrolment->config->name,
		        .cgroup = enrolment->config->cgroup,
		        .netns = enrolment->config->netns,
		        .mode = enrolment->config->mode,
		        .id = (uint32_t)i + 1,
		        .worker_count = agent->worker_count,
		        .ports_per_worker = PORTS_PER_WORKER,
		        .first_port = config->ports.first,
		        .last_port = config->ports.last,
		        .agent_cgroup = agent->agent_cgroup,
		        .serve = serve,
		        .unserve = unserve,
		        .context = enrolment,
		};
	}
	forget_others(agent);
	agent->enrol_timer.on_expire = on_enrol;
	agent->audit_timer.on_expire = on_audit;
	error = loop_timer_set(agent->loop, &agent->audit_timer, AUDIT_NS);
	if (!error)
		error = loop_timer_set(agent->loop, &agent->enrol_timer, 0);
	return error;
}

void enrol_stop(struct agent *agent)
{
	loop_timer_cancel(agent->loop, &agent->enrol_timer);
	loop_timer_cancel(agent->loop, &agent->audit_timer);
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (agent->enrolments[i].gateway)
			withdraw(&agent->enrolments[i]);
	}
	free(agent->enrolments);
	agent->enrolments = NULL;
	agent->enrolment_count = 0;
}
