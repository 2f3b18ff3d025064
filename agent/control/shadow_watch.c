/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What observed gateways dial, and what would be TLS, is tried beside them (datapath/shadow.h): each destination when
 * it is first seen, when its settings are others, and every five minutes.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/agent.h"
#include "datapath/hooks.h"
#include "datapath/shadow.h"
#include "policy/snapshot.h"

#define TICK_NS  1000000000ull
#define AGAIN_NS 300000000000ull

static bool is_observed(const struct enrolment *enrolment)
{
	const struct gateway *gateway = enrolment->name ? enrolment->gateway : NULL;

	return gateway && gateway->mode == POSTERN_MODE_OBSERVE && gateway->state == GATEWAY_READY;
}

static const struct gateway *observed_gateway(const struct agent *agent, uint32_t id)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (is_observed(&agent->enrolments[i]) && agent->enrolments[i].gateway->id == id)
			return agent->enrolments[i].gateway;
	}
	return NULL;
}

static void look_at(void *context, const struct postern_would_key *key, uint64_t count)
{
	struct agent *agent = context;
	const struct gateway *gateway = observed_gateway(agent, key->gateway_id);
	const struct destination *destination = gateway ? snapshot_find(agent->maps.applied, &key->destination) : NULL;
	struct shadow_result result;

	(void)count;
	if (!destination || destination->verdict != POSTERN_VERDICT_TLS)
		return;
	if (shadow_find(agent->shadow, gateway->id, &key->destination, &result) &&
	    result.settings_id == destination->settings_id && monotonic_ns() - result.at_ns < AGAIN_NS)
		return;
	(void)shadow_ask(agent->shadow, gateway, agent->maps.applied, &key->destination);
}

/* Its thread is there only where somebody is observed. */
static bool is_needed(const struct agent *agent)
{
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		if (is_observed(&agent->enrolments[i]))
			return true;
	}
	return false;
}

struct shadow *shadow_watch_need(struct agent *agent)
{
	const struct shadow_options options = {
	        .hooks = agent->hooks,
	        .contexts = agent->contexts,
	        .dial_limit_ns = agent->config.dial_timeout_ns,
	        .handshake_limit_ns = agent->config.handshake_timeout_ns,
	};
	int error = agent->shadow ? 0 : shadow_start(&options, &agent->shadow);

	if (error)
		log_warning("nothing can be tried", "error=\"%s\"", strerror(-error));
	return agent->shadow;
}

static void on_tick(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, shadow_timer);

	if (agent->maps.applied && !agent->enrolment_paused && is_needed(agent) && shadow_watch_need(agent)) {
		int error = hooks_for_each_would(agent->hooks, look_at, agent);

		if (error)
			log_warning("observed destinations not tried", "error=\"%s\"", strerror(-error));
	}
	if (loop_timer_set(agent->loop, timer, TICK_NS) != 0)
		log_error("no memory", "what=\"timer of shadow handshakes\"");
}

int shadow_watch_start(struct agent *agent)
{
	agent->shadow_timer.on_expire = on_tick;
	return loop_timer_set(agent->loop, &agent->shadow_timer, TICK_NS);
}

void shadow_watch_stop(struct agent *agent)
{
	loop_timer_cancel(agent->loop, &agent->shadow_timer);
	shadow_stop(agent->shadow);
	agent->shadow = NULL;
}
