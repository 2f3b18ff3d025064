/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From the source to the kernel. Order for a new snapshot:
 *
 *   new contexts -> publish -> old contexts go -> CIDRs, guarded ports, keys that become TLS or DENY and new ones
 *   -> sweep of plain sockets -> workers look at their connections -> 100 ms later: keys that become PLAIN or go
 *
 * Published first, so that a worker never meets a TLS verdict that it cannot carry out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "control/agent.h"
#include "control/successor.h"
#include "datapath/context_table.h"
#include "datapath/hooks.h"
#include "datapath/sweep.h"
#include "policy/compile.h"
#include "policy/gateway_identity.h"
#include "policy/shared_text.h"
#include "policy/snapshot_holder.h"
#include "policy/store.h"
#include "kubernetes/client.h"
#include "kubernetes/credentials.h"
#include "source/directory.h"
#include "source/kubernetes.h"

#define COMPILE_RETRY_NS 1000000000ull

/* ---- sweep ---- */

static bool sweep_covers(void *context, const struct postern_destination_key *remote)
{
	const struct destination *destination = snapshot_find(context, remote);

	return destination && destination->verdict != POSTERN_VERDICT_PLAIN;
}

void sync_sweep(struct agent *agent, struct gateway *gateway, bool audit)
{
	struct sweep_result result = {0};
	int error;

	if (!agent->maps.applied || !gateway || gateway->state != GATEWAY_READY ||
	    gateway->mode != POSTERN_MODE_ENFORCE || successor_has_taken_over(agent))
		return;
	error = sweep_gateway(gateway, agent->hooks, sweep_covers, agent->maps.applied, &result);
	if (error)
		log_warning("sweep failed", "gateway=%s error=\"%s\" held_by=guard", gateway->name, strerror(-error));
	if (result.failed)
		log_warning("sockets not destroyed", "gateway=%s count=%zu error=\"%s\" held_by=guard", gateway->name,
		            result.failed, strerror(result.error));
	if (!result.destroyed)
		return;
	log_info("plain sockets destroyed", "gateway=%s count=%zu cause=%s", gateway->name, result.destroyed,
	         audit ? "audit" : "covered");
	for (size_t i = 0; audit && i < result.destroyed; i++)
		failures_count(agent->failures, REASON_ESCAPED);
}

/* ---- one pass ---- */

static bool in_order(const struct agent *agent)
{
	return !agent->source || (source_synced(agent->source) && source_in_order(agent->source));
}

static void set_timer(struct agent *agent, struct loop_timer *timer, uint64_t due_ns, const char *what)
{
	uint64_t now = monotonic_ns();

	loop_timer_cancel(agent->loop, timer);
	if (due_ns && loop_timer_set(agent->loop, timer, due_ns > now ? due_ns - now : 0) != 0)
		log_error("no memory", "what=\"%s\"", what);
}

static void settle(struct agent *agent)
{
	uint64_t next = kernel_maps_settle(&agent->maps, monotonic_ns(), in_order(agent));

	set_timer(agent, &agent->settle_timer, next, "timer for keys that leave");
}

static void on_settle(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, settle_timer);

	settle(agent);
	decide_deferred(agent);
}

/*
 * Of agents that drain, as long as there are any, and once more. Before what is new is written, and after: whoever says
 * PLAIN in between looks once more after that (hooks_let_pass_unless_known()), so that one of the two sees the other.
 */
static void adopt_finds(struct agent *agent)
{
	bool others = worker_claim_others(&agent->claim) != 0;

	if (others || agent->others_lived)
		kernel_maps_adopt(&agent->maps);
	agent->others_lived = others;
}

/* Only now is a miss what the maps say it is. Where that cannot be written it stays a HOLD, which we answer. */
static void say_policy_is_known(struct agent *agent)
{
	int error = agent->maps.retired ? 0 : hooks_policy_is_known(agent->hooks);

	if (error)
		log_error("the kernel was not told that there is a policy",
		          "error=\"%s\" effect=\"every miss is held\"", strerror(-error));
}

/* False: some settings have no context yet, for want of memory; what they cover is refused. */
static bool apply(struct agent *agent, struct snapshot *snapshot)
{
	bool other_identities = !gateway_identities_equal(agent->maps.applied, snapshot);
	bool complete = context_table_add(agent->contexts, snapshot) == 0;
	struct kernel_maps_change change;

	if (!complete)
		log_error("no memory", "what=\"TLS contexts\"");
	snapshot_holder_publish(agent->snapshots, snapshot_ref(snapshot));
	context_table_trim(agent->contexts, snapshot);
	adopt_finds(agent);
	kernel_maps_apply(&agent->maps, snapshot, monotonic_ns(), &change);
	adopt_finds(agent);
	say_policy_is_known(agent);
	for (size_t i = 0; change.grew && i < agent->enrolment_count; i++)
		sync_sweep(agent, agent->enrolments[i].gateway, false);
	if (change.tightened || other_identities) {
		for (unsigned int i = 0; i < agent->worker_count; i++)
			worker_policy_changed(agent->workers[i]);
	}
	settle(agent);
	set_timer(agent, &agent->compile_timer, snapshot_next_expiry_ns(snapshot), "tombstone timer");
	log_info("snapshot applied", "generation=%llu destinations=%zu policies=%zu settings=%zu",
	         (unsigned long long)snapshot_generation(snapshot), snapshot_destination_count(snapshot),
	         snapshot_policy_count(snapshot), snapshot_settings_count(snapshot));
	return complete;
}

#define MAX_CONTESTED_PODS 200

static void want_contested_pods(struct agent *agent)
{
	struct object_name pods[MAX_CONTESTED_PODS];

	if (agent->source)
		source_want_pods(agent->source, pods,
		                 compiler_contested_pods(agent->compiler, pods, MAX_CONTESTED_PODS));
}

static int compile_and_apply(struct agent *agent, uint64_t as_of_ns)
{
	const struct object_store *store = agent->source ? source_store(agent->source) : agent->empty_store;
	struct snapshot *snapshot = NULL;
	int error = compiler_run(agent->compiler, store, as_of_ns, &snapshot);

	/* What the source has said must not be forgotten because it could not be compiled at once. */
	agent->compile_due = error != 0;
	if (error) {
		log_error("compile failed", "error=\"%s\" kept=\"the last snapshot\"", strerror(-error));
		set_timer(agent, &agent->compile_timer, as_of_ns + COMPILE_RETRY_NS, "compile timer");
		return error;
	}
	want_contested_pods(agent);
	if (!apply(agent, snapshot)) {
		agent->compile_due = true;
		set_timer(agent, &agent->compile_timer, as_of_ns + COMPILE_RETRY_NS, "compile timer");
	}
	snapshot_unref(snapshot);
	enrol_pods(agent);
	return 0;
}

bool sync_is_seen(const struct agent *agent)
{
	return !agent->source || source_synced(agent->source);
}

/* At once, or when it is seen. */
static int compile_what_is_seen(struct agent *agent)
{
	agent->compile_due = true;
	return sync_is_seen(agent) ? compile_and_apply(agent, monotonic_ns()) : 0;
}

/* True: there is another bundle. */
static bool refresh_system_ca(struct agent *agent)
{
	struct system_ca *ca = &agent->system_ca;
	char before[sizeof(ca->problem)];
	char quoted[2 * sizeof(ca->problem)];
	bool changed;

	memcpy(before, ca->problem, sizeof(before));
	changed = system_ca_refresh(ca);
	if (ca->problem[0] && strcmp(before, ca->problem) != 0)
		log_warning("system CA bundle not read", "file=%s error=%s in_force=\"%s\"", ca->path,
		            log_quote(ca->problem, quoted, sizeof(quoted)), ca->bundle ? "the last good one" : "none");
	if (changed)
		log_info("system CA bundle read", "file=%s bytes=%zu left_out=%zu", ca->path, ca->bundle->length,
		         ca->left_out);
	return changed;
}

bool sync_refresh(struct agent *agent, bool force)
{
	uint64_t now = monotonic_ns();

	if (agent->source)
		agent->compile_due |= source_refresh(agent->source, force);
	if (refresh_system_ca(agent)) {
		compiler_set_system_ca(agent->compiler, agent->system_ca.bundle);
		agent->compile_due = true;
	}
	if (!sync_is_seen(agent))
		return false;
	if (agent->compile_due && compile_and_apply(agent, now) != 0)
		return false;
	return in_order(agent);
}

/* A tombstone has ended, or the last compile failed, or there was no memory for its contexts. */
static void on_compile(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, compile_timer);

	agent->compile_due = true;
	sync_refresh(agent, false);
}

static void watch_system_ca(struct agent *agent)
{
	set_timer(agent, &agent->system_ca_timer, monotonic_ns() + SYSTEM_CA_INTERVAL_NS, "system CA timer");
}

static void on_system_ca(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, system_ca_timer);

	sync_refresh(agent, false);
	watch_system_ca(agent);
}

static void on_changed(void *context)
{
	sync_refresh(context, false);
}

static void on_current(void *context, uint64_t as_of_ns, enum source_scope scope)
{
	struct agent *agent = context;
	bool in_order = sync_refresh(agent, false);

	decide_answer(agent, as_of_ns, scope, in_order);
}

static int open_kubernetes(struct agent *agent, const struct source_events *events)
{
	struct kubernetes_source_options options = {
	        .loop = agent->loop, .node_name = agent->config.node_name, .events = *events};
	char message[512], quoted[1024];
	int error = kubernetes_credentials_open(agent->config.kubeconfig, NULL, &agent->credentials, message,
	                                        sizeof(message));

	if (error) {
		log_error("no way to the Kubernetes API", "error=%s", log_quote(message, quoted, sizeof(quoted)));
		return error;
	}
	log_info("Kubernetes API", "server=%s node=%s", kubernetes_credentials_server(agent->credentials),
	         agent->config.node_name);
	error = kubernetes_client_new(agent->loop, agent->credentials, &agent->kubernetes);
	options.client = agent->kubernetes;
	if (!error)
		error = kubernetes_source_open(&options, &agent->source);
	if (error)
		log_error("Kubernetes API not watched", "error=\"%s\"", strerror(-error));
	return error;
}

static int open_source(struct agent *agent)
{
	const struct source_events events = {.changed = on_changed, .current = on_current, .context = agent};
	int error;

	if (agent->config.source == SOURCE_KUBERNETES)
		return open_kubernetes(agent, &events);
	if (!agent->config.manifests[0]) {
		agent->empty_store = object_store_new();
		return agent->empty_store ? 0 : -ENOMEM;
	}
	error = directory_source_open(agent->config.manifests, agent->loop, &events, &agent->source);
	if (error)
		log_error("manifests unreadable", "directory=%s error=\"%s\"", agent->config.manifests,
		          strerror(-error));
	return error;
}

static int start_compiler(struct agent *agent)
{
	struct compile_options options = {
	        .cluster_cidrs = agent->config.cluster_cidrs.at,
	        .cluster_cidr_count = agent->config.cluster_cidrs.count,
	        .operators_own = agent->config.source == SOURCE_FILES,
	        .tombstone_ns = agent->config.tombstone_ns,
	        .registry = agent->registry,
	};

	system_ca_init(&agent->system_ca, agent->config.system_ca);
	(void)refresh_system_ca(agent);
	options.system_ca = agent->system_ca.bundle;
	agent->compiler = compiler_new(&options);
	agent->system_ca_timer.on_expire = on_system_ca;
	watch_system_ca(agent);
	return agent->compiler ? 0 : -ENOMEM;
}

static int start_maps(struct agent *agent, bool inherits)
{
	const struct postern_runtime_config runtime = {
	        .strict = agent->config.coverage == COVERAGE_STRICT,
	        .lane_enabled = agent->config.lane != SWITCH_OFF && agent->proof.hook[PROOF_LANE].verdict == PROOF_SAFE,
	};

	agent->maps = (struct kernel_maps){.inherits = inherits};
	return kernel_maps_start(&agent->maps, agent->hooks, &runtime, agent->config.tombstone_ns);
}

void sync_retire(struct agent *agent)
{
	loop_timer_cancel(agent->loop, &agent->settle_timer);
	kernel_maps_retire(&agent->maps);
}

int sync_resume(struct agent *agent)
{
	int error;

	kernel_maps_stop(&agent->maps);
	error = start_maps(agent, true);
	return error ? error : compile_what_is_seen(agent);
}

int sync_start(struct agent *agent)
{
	int error = start_maps(agent, agent->predecessor != NULL);

	agent->settle_timer.on_expire = on_settle;
	agent->compile_timer.on_expire = on_compile;
	if (error) {
		log_error("kernel's maps unreadable", "error=\"%s\"", strerror(-error));
		return error;
	}
	error = open_source(agent);
	if (!error)
		error = start_compiler(agent);
	return error ? error : compile_what_is_seen(agent);
}

void sync_stop(struct agent *agent)
{
	loop_timer_cancel(agent->loop, &agent->settle_timer);
	loop_timer_cancel(agent->loop, &agent->compile_timer);
	loop_timer_cancel(agent->loop, &agent->system_ca_timer);
	source_close(agent->source);
	kubernetes_client_free(agent->kubernetes);
	kubernetes_credentials_close(agent->credentials);
	agent->kubernetes = NULL;
	agent->credentials = NULL;
	object_store_free(agent->empty_store);
	kernel_maps_stop(&agent->maps);
	compiler_free(agent->compiler);
	system_ca_free(&agent->system_ca);
	agent->compiler = NULL;
	agent->source = NULL;
	agent->empty_store = NULL;
}
