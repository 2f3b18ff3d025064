/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gateways: each is tried again until its cgroup exists, its hooks are on and its namespace is known; then the workers
 * get its listeners. A gateway whose namespace is gone is taken back and tried anew. Which there are is said by the
 * configuration, and by enrol_pods.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "control/predecessor.h"
#include "control/successor.h"
#include "datapath/hooks.h"
#include "datapath/shadow.h"
#include "datapath/traffic.h"
#include "node/pod_gateways.h"

#define RETRY_NS         100000000ull /* while one is not READY */
#define CHECK_NS         1000000000ull
#define AUDIT_NS         30000000000ull
#define PORTS_PER_WORKER 2
#define IMPATIENT_NS     30000000000ull /* a Pod that was news so long ago is waited for without haste */

static void set_reason(struct enrolment *enrolment, const char *reason)
{
	char quoted[512];

	if (strcmp(enrolment->reason, reason) == 0)
		return;
	snprintf(enrolment->reason, sizeof(enrolment->reason), "%s", reason);
	if (reason[0])
		log_warning("gateway not enrolled", "gateway=%s reason=%s", enrolment->name,
		            log_quote(reason, quoted, sizeof(quoted)));
}

/* The options borrow what lives in the enrolment; a Pod's Gateways and mode may have changed since. */
static void describe(struct enrolment *enrolment)
{
	if (!enrolment->pod)
		return;
	enrolment->options.refs = enrolment->pod->refs;
	enrolment->options.ref_count = enrolment->pod->ref_count;
	enrolment->options.mode = enrolment->pod->mode;
}

static void create(struct agent *agent, struct enrolment *enrolment)
{
	const struct gateway *others[POSTERN_MAX_SERVED];
	_cleanup_free_ char *cgroup = NULL;
	size_t other_count = 0;
	char error[256] = "";

	if (enrolment->pod) {
		cgroup = enrol_pod_cgroup(enrolment);
		if (!cgroup)
			return;
		enrolment->options.cgroup = cgroup;
	}
	for (size_t i = 0; i < agent->enrolment_count && other_count < ARRAY_SIZE(others); i++) {
		if (agent->enrolments[i].gateway)
			others[other_count++] = agent->enrolments[i].gateway;
	}
	describe(enrolment);
	if (gateway_new(&enrolment->options, others, other_count, &enrolment->gateway, error, sizeof(error)) != 0)
		set_reason(enrolment, error);
	else
		set_reason(enrolment, "");
	enrolment->options.cgroup = enrolment->config ? enrolment->config->cgroup : NULL;
}

void agent_unserve_gateway(struct agent *agent, const struct gateway *gateway)
{
	for (unsigned int i = 0; i < agent->worker_count; i++)
		(void)worker_remove_gateway(agent->workers[i], gateway);
}

int agent_serve_gateway(struct agent *agent, const struct gateway *gateway)
{
	int error = 0;

	for (unsigned int i = 0; i < agent->worker_count && !error; i++)
		error = worker_add_gateway(agent->workers[i], gateway);
	if (error)
		agent_unserve_gateway(agent, gateway);
	return error;
}

static void unserve(void *context, const struct gateway *gateway)
{
	struct enrolment *enrolment = context;

	agent_unserve_gateway(enrolment->agent, gateway);
	traffic_forget_gateway(enrolment->agent->traffic, gateway->name);
	enrolment->served = false;
}

static int serve(void *context, const struct gateway *gateway)
{
	struct enrolment *enrolment = context;
	int error = agent_serve_gateway(enrolment->agent, gateway);

	enrolment->served = !error;
	return error;
}

static void withdraw(struct enrolment *enrolment)
{
	if (enrolment->served)
		unserve(enrolment, enrolment->gateway);
	gateway_forget_listeners(enrolment->gateway, enrolment->agent->hooks);
	gateway_free(enrolment->gateway);
	enrolment->gateway = NULL;
}

/* Hooks first, for all: see gateway_attach(). */
static void attach(struct agent *agent, struct enrolment *enrolment)
{
	if (!enrolment->name)
		return;
	if (!enrolment->gateway)
		create(agent, enrolment);
	if (!enrolment->gateway || enrolment->gateway->state == GATEWAY_LOST)
		return;
	if (enrolment->pod && enrolment->gateway->state == GATEWAY_CONFIGURED)
		enrol_pod_attaching(enrolment, enrolment->gateway->cgroup_path);
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

/* Is there one whose next step is worth a look every tenth of a second? */
static bool is_pressing(const struct enrolment *enrolment, uint64_t now_ns)
{
	if (!enrolment->name || (enrolment->gateway && enrolment->gateway->state == GATEWAY_READY))
		return false;
	return !enrolment->pod || (!enrolment->out_of_reach && now_ns - enrolment->looked_ns < IMPATIENT_NS);
}

static bool any_pressing(const struct agent *agent)
{
	uint64_t now = monotonic_ns();

	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (is_pressing(&agent->enrolments[i], now))
			return true;
	}
	return false;
}

static size_t enrolled_count(const struct agent *agent)
{
	size_t count = 0;

	for (size_t i = 0; i < agent->enrolment_count; i++)
		count += agent->enrolments[i].name != NULL;
	return count;
}

static void advance_all(struct agent *agent)
{
	for (size_t i = 0; i < agent->enrolment_count; i++)
		attach(agent, &agent->enrolments[i]);
	for (size_t i = 0; i < agent->enrolment_count; i++)
		advance(agent, &agent->enrolments[i]);
}

/* Its source is not seen yet, perhaps never: connects are the running agent's until enrol_at_once(). */
static bool stands_back(const struct agent *agent)
{
	return agent->predecessor && !agent->socket;
}

static void run_round(struct agent *agent)
{
	char reason[256];

	enrol_pods_ended(agent);
	advance_all(agent);
	/* Every cgroup that exists has its hooks now, so a gateway may start. Not at "ready": that waits for gateways
	 * which may be ordered after this service. */
	service_started(agent);
	if (!successor_is_expected(agent))
		enrol_clear_other_versions(agent);
	if (agent_ready(agent, reason, sizeof(reason)) && !agent->announced) {
		agent->announced = true;
		log_info("agent ready", "gateways=%zu workers=%u", enrolled_count(agent), agent->worker_count);
	}
}

static void on_enrol(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, enrol_timer);
	bool back = stands_back(agent);

	if (!back)
		run_round(agent);
	if (loop_timer_set(agent->loop, timer, back || any_pressing(agent) ? RETRY_NS : CHECK_NS) != 0)
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

static int check_served(struct agent *agent)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct enrolment *enrolment = &agent->enrolments[i];
		const struct gateway *gateway = enrolment->gateway;

		if (!enrolment->name || !predecessor_serves(agent, enrolment->name) ||
		    (gateway && gateway->state == GATEWAY_READY))
			continue;
		log_error("a gateway of the running agent cannot be served", "gateway=%s reason=\"%s\"",
		          enrolment->name, gateway ? gateway->reason : enrolment->reason);
		return -EAGAIN;
	}
	return 0;
}

int enrol_at_once(struct agent *agent)
{
	advance_all(agent);
	return check_served(agent);
}

void enrol_pause(struct agent *agent)
{
	agent->enrolment_paused = true;
	loop_timer_cancel(agent->loop, &agent->enrol_timer);
	loop_timer_cancel(agent->loop, &agent->audit_timer);
}

int enrol_resume(struct agent *agent)
{
	int first_error = 0;

	agent->enrolment_paused = false;
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		struct gateway *gateway = agent->enrolments[i].gateway;
		int error = gateway ? gateway_reopen(gateway, agent->hooks) : 0;

		first_error = first_error ? first_error : error;
	}
	if (loop_timer_set(agent->loop, &agent->audit_timer, AUDIT_NS) != 0 ||
	    loop_timer_set(agent->loop, &agent->enrol_timer, 0) != 0)
		first_error = -ENOMEM;
	enrol_pods(agent); /* what came and went meanwhile */
	return first_error;
}

/* ---- places ---- */

struct enrolment *enrol_find(const struct agent *agent, const char *name)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (agent->enrolments[i].name && strcmp(agent->enrolments[i].name, name) == 0)
			return &agent->enrolments[i];
	}
	return NULL;
}

static struct enrolment *free_place(struct agent *agent)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (!agent->enrolments[i].name)
			return &agent->enrolments[i];
	}
	return agent->enrolment_count < POSTERN_MAX_SERVED ? &agent->enrolments[agent->enrolment_count++] : NULL;
}

struct enrolment *enrol_add(struct agent *agent, const char *name)
{
	struct enrolment *enrolment = free_place(agent);
	char *copy = enrolment ? strdup(name) : NULL;

	if (!copy)
		return NULL;
	*enrolment = (struct enrolment){.agent = agent, .looked_ns = monotonic_ns()};
	enrolment->options = (struct gateway_options){
	        .name = copy,
	        .id = enrol_id_for(agent, name),
	        .worker_count = agent->worker_count,
	        .ports_per_worker = PORTS_PER_WORKER,
	        .beside = predecessor_shares_maps(agent),
	        .first_port = agent->config.ports.first,
	        .last_port = agent->config.ports.last,
	        .agent_cgroup = agent->agent_cgroup,
	        .serve = serve,
	        .unserve = unserve,
	        .avoid_port = enrol_port_is_taken,
	        .context = enrolment,
	};
	enrolment->name = copy;
	return enrolment;
}

static void release_place(struct enrolment *enrolment)
{
	free(enrolment->name);
	enrolment->name = NULL;
}

void enrol_remove(struct enrolment *enrolment)
{
	struct agent *agent = enrolment->agent;
	struct gateway *gateway = enrolment->gateway;

	shadow_forget_gateway(agent->shadow, enrolment->options.id);
	if (enrolment->served)
		unserve(enrolment, gateway);
	if (gateway) {
		(void)gateway_detach(gateway, agent->hooks);
		gateway_free(gateway);
	} else {
		/* It was never there in this life; in an earlier one it may have been. */
		(void)hooks_detach_gateway(agent->hooks, enrolment->name, "");
		(void)hooks_delete_gateway(agent->hooks, enrolment->options.id);
	}
	enrolment->gateway = NULL;
	release_place(enrolment);
}

void enrol_hurry(struct agent *agent)
{
	loop_timer_cancel(agent->loop, &agent->enrol_timer);
	if (loop_timer_set(agent->loop, &agent->enrol_timer, 0) != 0)
		log_error("no memory", "what=\"enrolment timer\"");
}

static int add_configured(struct agent *agent, const struct config_gateway *config)
{
	struct enrolment *enrolment = enrol_add(agent, config->name);

	if (!enrolment)
		return -ENOMEM;
	enrolment->config = config;
	enrolment->options.cgroup = config->cgroup;
	enrolment->options.netns = config->netns;
	enrolment->options.refs = config->refs;
	enrolment->options.ref_count = config->ref_count;
	enrolment->options.mode = config->mode;
	return 0;
}

int enrol_start(struct agent *agent)
{
	const struct config *config = &agent->config;
	int error = 0;

	agent->enrolments = calloc(POSTERN_MAX_SERVED, sizeof(*agent->enrolments));
	if (!agent->enrolments)
		return -ENOMEM;
	agent->enrol_timer.on_expire = on_enrol;
	agent->audit_timer.on_expire = on_audit;
	for (size_t i = 0; i < config->gateways.count && !error; i++)
		error = add_configured(agent, &config->gateways.at[i]);
	if (!error)
		error = loop_timer_set(agent->loop, &agent->audit_timer, AUDIT_NS);
	if (!error)
		error = loop_timer_set(agent->loop, &agent->enrol_timer, 0);
	if (!error)
		error = shadow_watch_start(agent);
	if (error)
		return error;
	enrol_pods(agent);
	return 0;
}

void enrol_stop(struct agent *agent)
{
	shadow_watch_stop(agent);
	loop_timer_cancel(agent->loop, &agent->enrol_timer);
	loop_timer_cancel(agent->loop, &agent->audit_timer);
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (agent->enrolments[i].gateway)
			withdraw(&agent->enrolments[i]);
		release_place(&agent->enrolments[i]);
	}
	enrol_pods_stop(agent);
	free(agent->enrolments);
	agent->enrolments = NULL;
	agent->enrolment_count = 0;
}
