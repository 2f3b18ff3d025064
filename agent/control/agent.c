/* SPDX-License-Identifier: GPL-2.0-only */
#include "control/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "base/version.h"
#include "datapath/context_table.h"
#include "datapath/hooks.h"
#include "policy/compile.h"
#include "policy/snapshot_holder.h"
#include "tls/context.h"

#define DEFAULT_AGENT_CGROUP "/postern-agent"

static const struct relay_timeouts relay_timeouts = {
        .ticket_window_ns = 1000000000ull,
        .half_closed_ns = 30000000000ull,
};

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
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		const struct enrolment *enrolment = &agent->enrolments[i];

		if (enrolment->gateway && enrolment->gateway->state == GATEWAY_READY)
			continue;
		snprintf(reason, size, "gateway %.64s: %s", enrolment->config->name,
		         enrolment->gateway ? enrolment->gateway->reason : enrolment->reason);
		return false;
	}
	reason[0] = '\0';
	return true;
}

/* ---- the process ---- */

/* Every connection is two descriptors, and a node has thousands. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
		log_warning("descriptor limit not raised", "error=\"%s\"", strerror(errno));
}

/* Our own cgroup, as the cgroup2 hierarchy ("0::/path") names it. NULL: not to be had. */
static char *own_cgroup(const char *mount)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/cgroup", "re");
	char line[4096];
	char *path = NULL;

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (asprintf(&path, "%s%s", mount, strcmp(line + 3, "/") == 0 ? "" : line + 3) == -1)
			path = NULL;
		break;
	}
	return path;
}

static int join_cgroup(const char *path)
{
	_cleanup_free_ char *procs = NULL;
	_cleanup_close_ int fd = -1;

	if (mkdir(path, 0755) == -1 && errno != EEXIST)
		return -errno;
	if (asprintf(&procs, "%s/cgroup.procs", path) == -1) {
		procs = NULL;
		return -ENOMEM;
	}
	fd = open(procs, O_WRONLY | O_CLOEXEC);
	if (fd == -1 || write(fd, "0", 1) == -1)
		return -errno;
	return 0;
}

/*
 * B belongs to the cgroup that we are in at socket(): the witness looks there, and no gateway may be above or below it.
 * Started in the root cgroup (a shell, a test) we make one of our own.
 */
static int settle_in_cgroup(struct agent *agent)
{
	const char *mount = cgroup2_mount();
	const char *wanted = agent->config.agent_cgroup;
	int error;

	if (!mount) {
		log_error("no cgroup2", "remedy=\"mount cgroup2: its hooks see the gateways\"");
		return -ENOTSUP;
	}
	if (wanted[0] == '\0') {
		agent->agent_cgroup = own_cgroup(mount);
		if (!agent->agent_cgroup)
			return -ENOENT;
		if (strcmp(agent->agent_cgroup, mount) != 0)
			return 0;
		free(agent->agent_cgroup);
		wanted = DEFAULT_AGENT_CGROUP;
	}
	if (asprintf(&agent->agent_cgroup, "%s%s", strncmp(wanted, mount, strlen(mount)) == 0 ? "" : mount, wanted) ==
	    -1) {
		agent->agent_cgroup = NULL;
		return -ENOMEM;
	}
	error = join_cgroup(agent->agent_cgroup);
	if (error)
		log_error("agent's cgroup not joined", "cgroup=%s error=\"%s\"", agent->agent_cgroup, strerror(-error));
	return error;
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

	agent->worker_count = 0;
	agent->workers = calloc(count, sizeof(struct worker *));
	if (!agent->workers)
		return -ENOMEM;
	for (unsigned int i = 0; i < count; i++) {
		const struct worker_options options = {
		        .index = i,
		        .worker_count = count,
		        .hooks = agent->hooks,
		        .proof = &agent->proof,
		        .snapshots = agent->snapshots,
		        .failures = agent->failures,
		        .contexts = agent->contexts,
		        .request_decision = decide_request,
		        .context = agent,
		        .dial_limit_ns = config->dial_timeout_ns,
		        .handshake_limit_ns = config->handshake_timeout_ns,
		        .hold_limit_ns = 3000000000ull,
		        .max_attempts = config->max_handshakes / count + 1,
		        .max_connections = config->max_connections / count + 1,
		        .kernel_tls = config->ktls != SWITCH_OFF,
		        .lane = config->lane != SWITCH_OFF && agent->proof.hook[PROOF_LANE].verdict == PROOF_SAFE,
		        .splice = config->splice != SWITCH_OFF,
		        .timeouts = relay_timeouts,
		};
		int error = worker_start(&options, &agent->workers[i]);

		if (error) {
			log_error("worker did not start", "worker=%u error=\"%s\"", i, strerror(-error));
			return error;
		}
		agent->worker_count++;
	}
	return 0;
}

static int start(struct agent *agent)
{
	const struct hooks_options hooks_options = {
	        .bpffs = agent->config.bpffs,
	        .worker_count = agent->worker_count,
	        .max_destinations = agent->config.max_destinations,
	};
	int error = loop_new(&agent->loop);

	if (!error)
		error = watch_signals(agent);
	if (!error)
		error = settle_in_cgroup(agent);
	if (error)
		return error;
	raise_descriptor_limit();
	agent->failures = failures_new();
	agent->contexts = context_table_new();
	agent->snapshots = snapshot_holder_new();
	agent->registry = settings_registry_new();
	if (!agent->failures || !agent->contexts || !agent->snapshots || !agent->registry)
		return -ENOMEM;

	proof_run_crypto(&agent->proof);
	proof_run_hooks(&agent->proof, agent->agent_cgroup);
	log_info("proof done", "kernel_tls=%s milliseconds=%u hold=%s guard=%s witness=%s lane=%s",
	         agent->proof.kernel_tls ? "yes" : "no", agent->proof.milliseconds,
	         proof_verdict_name(agent->proof.hook[PROOF_HOLD].verdict),
	         proof_verdict_name(agent->proof.hook[PROOF_GUARD].verdict),
	         proof_verdict_name(agent->proof.hook[PROOF_WITNESS].verdict),
	         proof_verdict_name(agent->proof.hook[PROOF_LANE].verdict));

	error = hooks_load(&hooks_options, &agent->hooks);
	if (!error)
		error = hooks_attach_witness(agent->hooks, agent->agent_cgroup);
	if (error) {
		log_error("hooks not loaded", "error=\"%s\"", strerror(-error));
		return error;
	}
	/* The maps must be right before a gateway's hooks are: nothing is passed because it is not known yet. */
	error = start_workers(agent);
	if (!error)
		error = sync_start(agent);
	loop_set_wake(agent->loop, on_wake, agent);
	if (!error)
		error = report_start(agent);
	if (!error)
		error = enrol_start(agent);
	return error;
}

static void stop(struct agent *agent)
{
	if (agent->loop) {
		report_stop(agent);
		enrol_stop(agent);
	}
	for (unsigned int i = 0; i < agent->worker_count && agent->workers; i++)
		worker_stop(agent->workers[i]);
	free(agent->workers);
	if (agent->loop)
		sync_stop(agent);
	/* The hooks stay attached: covered destinations are refused until an agent is there again. */
	if (agent->hooks)
		hooks_free(agent->hooks);
	settings_registry_free(agent->registry);
	if (agent->snapshots)
		snapshot_holder_free(agent->snapshots);
	context_table_free(agent->contexts);
	failures_free(agent->failures);
	decide_free(agent);
	free(agent->agent_cgroup);
	if (agent->signal_event.registered)
		close(agent->signal_event.fd);
	loop_free(agent->loop);
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
