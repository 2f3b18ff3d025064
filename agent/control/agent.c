/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/evidence.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/trace.h"
#include "base/version.h"
#include "base/watchdog.h"
#include "control/own_cgroup.h"
#include "control/predecessor.h"
#include "control/successor.h"
#include "datapath/context_table.h"
#include "datapath/hooks.h"
#include "datapath/traffic.h"
#include "policy/compile.h"
#include "policy/snapshot_holder.h"
#include "source/source.h"
#include "tls/context.h"

#define TICKET_WINDOW_NS 1000000000ull
#define HALF_CLOSED_NS   30000000000ull
/* A round of the control thread may compile a whole cluster, or wait for a source. */
#define CONTROL_WATCHDOG 6
/* The agent that is replaced is frozen for a minute at most. */
#define SOURCE_LIMIT_NS 30000000000ull

bool agent_proved(const struct agent *agent, char *reason, size_t size)
{
	static const enum proof_hook needed[] = {PROOF_HOLD, PROOF_GUARD, PROOF_WITNESS};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		const struct proof_result *result = &agent->proof.hook[needed[i]];

		if (result->verdict == PROOF_SAFE)
			continue;
		snprintf(reason, size, "the %s did not pass its proof: %s", proof_hook_name(needed[i]), result->detail);
		return false;
	}
	return true;
}

bool agent_ready(const struct agent *agent, char *reason, size_t size)
{
	if (!agent_proved(agent, reason, size))
		return false;
	if (kernel_maps_broken(&agent->maps)) {
		snprintf(reason, size, "the kernel's maps do not hold every covered destination");
		return false;
	}
	/* Until then nobody knows which Pods are gateways: one that started now would dial without hooks. */
	if (!sync_is_seen(agent)) {
		snprintf(reason, size,
		         "the source was not read yet: which Pods are gateways, and what is covered, is not known");
		return false;
	}
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct enrolment *enrolment = &agent->enrolments[i];

		/* A Pod may be waiting for its image: that is no fault of the agent's, and said with the Pod. */
		if (!enrolment->config || (enrolment->gateway && enrolment->gateway->state == GATEWAY_READY))
			continue;
		snprintf(reason, size, "gateway %.64s: %s", enrolment->name,
		         enrolment->gateway ? enrolment->gateway->reason : enrolment->reason);
		return false;
	}
	reason[0] = '\0';
	return true;
}

/* ---- signals ---- */

static void on_signal(struct loop_source *source, uint32_t events)
{
	struct agent *agent = container_of(source, struct agent, signal_event);
	struct signalfd_siginfo info;

	(void)events;
	if (read(source->fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP) {
		log_info("reload asked for", "pid=%u", info.ssi_pid);
		sync_refresh(agent, true);
		return;
	}
	if (successor_delays_end(agent)) {
		log_info("agent ends when it is drained", "signal=%u", info.ssi_signo);
		return;
	}
	log_info("agent stops", "signal=%u", info.ssi_signo);
	loop_stop(agent->loop);
}

static int watch_signals(struct agent *agent)
{
	sigset_t signals;
	int fd;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd == -1)
		return -errno;
	agent->signal_event.on_event = on_signal;
	return loop_add(agent->loop, &agent->signal_event, fd, EPOLLIN);
}

/* ---- start and stop ---- */

static void on_wake(void *context)
{
	decide_pending(context);
}

static int start_workers(struct agent *agent)
{
	const struct config *config = &agent->config;
	unsigned int count = agent->worker_count;
	uint64_t other_rings = worker_claim_others(&agent->claim);

	agent->worker_count = 0;
	agent->workers = calloc(count, sizeof(struct worker *));
	agent->traffic = traffic_new(count);
	if (!agent->workers || !agent->traffic)
		return -ENOMEM;
	for (unsigned int i = 0; i < count; i++) {
		const struct worker_options options = {
		        .index = i,
		        .worker_count = count,
		        .ring = hooks_ring_number(agent->hooks, i),
		        .other_rings = other_rings,
		        .hooks = agent->hooks,
		        .proof = &agent->proof,
		        .snapshots = agent->snapshots,
		        .failures = agent->failures,
		        .trace = agent->trace,
		        .evidence = agent->evidence,
		        .traffic = agent->traffic,
		        .contexts = agent->contexts,
		        .request_decision = decide_request,
		        .context = agent,
		        .dial_limit_ns = config->dial_timeout_ns,
		        .handshake_limit_ns = config->handshake_timeout_ns,
		        .hold_limit_ns = 3000000000ull,
		        .max_attempts = config->max_handshakes / count + 1,
		        .max_connections = config->max_connections / count + 1,
		        .max_descriptors = (unsigned int)(agent->descriptors.for_connections / count + 1),
		        .max_gateway_connections =
		                config->max_gateway_connections ? config->max_gateway_connections / count + 1 : 0,
		        .budget = &agent->memory_budget,
		        .kernel_tls = config->ktls != SWITCH_OFF,
		        .lane = config->lane != SWITCH_OFF && agent->proof.hook[PROOF_LANE].verdict == PROOF_SAFE,
		        .splice = config->splice != SWITCH_OFF,
		        .access_log = config->access_log == ACCESS_LOG_ON,
		        .timeouts =
		                {
		                        .ticket_window_ns = TICKET_WINDOW_NS,
		                        .half_closed_ns = HALF_CLOSED_NS,
		                        .idle_ns = config->idle_timeout_ns,
		                        .gather_ns = RELAY_GATHER_MAX_NS,
		                },
		};
		int error = worker_start(&options, &agent->workers[i]);

		if (error) {
			log_error("worker did not start", "worker=%u error=\"%s\"", i, strerror(-error));
			return error;
		}
		agent->worker_count++;
		memory_watch_workers(&agent->memory_watch, agent->workers, agent->worker_count);
	}
	return heap_trim_start(&agent->heap_trim, agent->loop);
}

static int start_watchdog(struct agent *agent)
{
	uint64_t limit = agent->config.watchdog_ns;
	int error;

	if (limit == 0)
		return 0;
	error = watchdog_new(&agent->watchdog);
	if (!error)
		error = watchdog_add(agent->watchdog, "control", agent->loop, limit * CONTROL_WATCHDOG);
	for (unsigned int i = 0; i < agent->worker_count && !error; i++)
		error = watchdog_add(agent->watchdog, "worker", worker_loop(agent->workers[i]), limit);
	return error ? error : watchdog_start(agent->watchdog);
}

static int claim_workers(struct agent *agent)
{
	int error = worker_claim(agent->config.run_dir, agent->worker_count, &agent->claim);

	if (error) {
		log_error("no worker numbers", "run_dir=%s error=\"%s\"", agent->config.run_dir, strerror(-error));
		return error;
	}
	if (agent->claim.count < agent->worker_count)
		log_warning("fewer workers", "wanted=%u workers=%u reason=\"agents that drain have the others\"",
		            agent->worker_count, agent->claim.count);
	agent->worker_count = agent->claim.count;
	return 0;
}

static void prove(struct agent *agent)
{
	proof_run_crypto(&agent->proof);
	proof_run_hooks(&agent->proof, agent->agent_cgroup);
	log_info("proof done", "kernel_tls=%s milliseconds=%u hold=%s guard=%s witness=%s lane=%s",
	         agent->proof.kernel_tls ? "yes" : "no", agent->proof.milliseconds,
	         proof_verdict_name(agent->proof.hook[PROOF_HOLD].verdict),
	         proof_verdict_name(agent->proof.hook[PROOF_GUARD].verdict),
	         proof_verdict_name(agent->proof.hook[PROOF_WITNESS].verdict),
	         proof_verdict_name(agent->proof.hook[PROOF_LANE].verdict));
}

/* What must not disturb an agent that runs: nothing of it is replaced yet. */
static int prepare(struct agent *agent)
{
	struct hooks_options options = {
	        .bpffs = agent->config.bpffs,
	        .max_destinations = agent->config.max_destinations,
	};
	char reason[256];
	int error = predecessor_find(agent);

	if (error)
		return error;
	agent->pins_lock = resources_lock_pins(agent->config.bpffs, agent->predecessor != NULL);
	if (agent->pins_lock < 0)
		return agent->pins_lock;
	error = claim_workers(agent);
	if (error)
		return error;
	prove(agent);
	if (agent->predecessor && !agent_proved(agent, reason, sizeof(reason))) {
		log_error("not proved beside a running agent", "reason=\"%s\" effect=\"the running one goes on\"",
		          reason);
		return -ENOTSUP;
	}
	options.worker_count = agent->worker_count;
	options.first_ring = agent->claim.first;
	options.other_rings = worker_claim_others(&agent->claim);
	options.beside = predecessor_shares_maps(agent);
	error = hooks_load(&options, &agent->hooks);
	if (error) {
		log_error("hooks not loaded", "error=\"%s\"", strerror(-error));
		return error;
	}
	error = start_workers(agent);
	return error ? error : predecessor_freeze(agent);
}

/* From here on the kernel is this agent's to write; connects become its own gateway by gateway. */
static int take_over(struct agent *agent)
{
	int error = hooks_take_over(agent->hooks);

	if (!error)
		error = hooks_attach_witness(agent->hooks, agent->agent_cgroup);
	if (error) {
		log_error("hooks not attached", "error=\"%s\"", strerror(-error));
		return error;
	}
	/* The maps must be right before a gateway's hooks are: nothing is passed because it is not known yet. */
	error = sync_start(agent);
	loop_set_wake(agent->loop, on_wake, agent);
	/* A second agent that starts at the same time finds its name taken. */
	if (!error && !agent->predecessor)
		error = report_start(agent);
	if (!error)
		error = enrol_start(agent);
	return error;
}

/*
 * A cluster is seen as a whole some time after its source was opened; until then nobody knows which Pods are gateways,
 * and those of the running agent would be let down.
 */
static int await_source(struct agent *agent)
{
	uint64_t limit = monotonic_ns() + SOURCE_LIMIT_NS;
	int error = 0;

	while (!error && agent->source && (!source_synced(agent->source) || agent->compile_due)) {
		error = loop_step(agent->loop, 100);
		if (!error && monotonic_ns() >= limit)
			error = -ETIMEDOUT;
	}
	if (error)
		log_error("the source was not seen as a whole", "error=\"%s\" effect=\"the running agent goes on\"",
		          strerror(-error));
	return error;
}

/* The agent that ran lets go, or the start has failed. */
static int replace(struct agent *agent)
{
	int error = await_source(agent);

	if (!error)
		error = enrol_at_once(agent);
	if (!error)
		error = predecessor_switch(agent);
	if (error)
		return error;
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		agent->enrolments[i].options.beside = false;
		if (agent->enrolments[i].gateway)
			agent->enrolments[i].gateway->beside = false;
	}
	enrol_forget_others(agent);
	/* Now, and not at the next round: until then connects go to the one that drains. */
	enrol_clear_other_versions(agent);
	error = report_start(agent);
	return error ? error : predecessor_follow(agent);
}

static int start(struct agent *agent)
{
	int error = loop_new(&agent->loop);

	if (!error)
		error = watch_signals(agent);
	if (!error)
		error = own_cgroup_settle(agent->config.agent_cgroup, &agent->agent_cgroup);
	if (error)
		return error;
	resources_raise_descriptors(agent->config.max_connections, agent->config.gateways.count, agent->worker_count,
	                            &agent->descriptors);
	error = memory_watch_start(&agent->memory_watch, agent->loop, agent->agent_cgroup, cgroup2_mount(),
	                           agent->config.memory_budget, &agent->memory_budget);
	if (error)
		return error;
	agent->failures = failures_new();
	agent->trace = trace_new(TRACE_LOOK_NS);
	agent->evidence = evidence_new();
	agent->contexts = context_table_new();
	agent->snapshots = snapshot_holder_new();
	agent->registry = settings_registry_new();
	if (!agent->failures || !agent->trace || !agent->evidence || !agent->contexts || !agent->snapshots ||
	    !agent->registry)
		return -ENOMEM;
	error = prepare(agent);
	if (!error)
		error = take_over(agent);
	if (!error && !agent->socket)
		error = replace(agent);
	if (!error)
		error = ulp_watch_start(agent);
	if (!error)
		error = start_watchdog(agent);
	if (!error)
		successor_listen(agent);
	return error;
}

static void stop(struct agent *agent)
{
	watchdog_free(agent->watchdog);
	heap_trim_stop(&agent->heap_trim);
	memory_watch_stop(&agent->memory_watch);
	if (agent->loop) {
		predecessor_free(agent);
		monitor_stop(agent);
		ulp_watch_stop(agent);
		report_stop(agent);
		trace_watch_stop(agent);
		enrol_stop(agent);
	}
	for (unsigned int i = 0; i < agent->worker_count && agent->workers; i++)
		worker_stop(agent->workers[i]);
	free(agent->workers);
	if (agent->loop) {
		successor_free(agent); /* until now workers may have sent by it */
		sync_stop(agent);
	}
	/* The hooks stay attached: covered destinations are refused until an agent is there again. */
	if (agent->hooks)
		hooks_free(agent->hooks);
	settings_registry_free(agent->registry);
	if (agent->snapshots)
		snapshot_holder_free(agent->snapshots);
	context_table_free(agent->contexts);
	failures_free(agent->failures);
	trace_free(agent->trace);
	evidence_free(agent->evidence);
	traffic_free(agent->traffic);
	decide_free(agent);
	free(agent->agent_cgroup);
	resources_unlock_pins(&agent->pins_lock);
	if (agent->signal_event.registered)
		close(agent->signal_event.fd);
	loop_free(agent->loop);
	worker_claim_release(&agent->claim);
	config_free(&agent->config);
	pthread_mutex_destroy(&agent->decisions_lock);
	free(agent);
}

int agent_run(struct config *config)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	int error;

	if (!agent) {
		config_free(config);
		return -ENOMEM;
	}
	agent->config = *config;
	memset(config, 0, sizeof(*config));
	pthread_mutex_init(&agent->decisions_lock, NULL);
	agent->started_ns = monotonic_ns();
	agent->claim.fd = -1;
	agent->pins_lock = -1;
	agent->worker_count = config_worker_count(&agent->config);
	log_info("agent starts", "version=%s workers=%u", postern_version, agent->worker_count);
	error = start(agent);
	if (error)
		log_error("agent did not start", "error=\"%s\"", strerror(-error));
	else
		error = loop_run(agent->loop);
	stop(agent);
	return error;
}
