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
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/failures.h"
#include "base/log.h"
#include "control/agent.h"
#include "datapath/context_table.h"
#include "datapath/hooks.h"
#include "datapath/sweep.h"
#include "policy/compile.h"
#include "policy/snapshot_holder.h"
#include "policy/store.h"
#include "source/files.h"

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
	    gateway->mode != POSTERN_MODE_ENFORCE)
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

static bool source_in_order(const struct agent *agent)
{
	return !agent->files || files_source_error_count(agent->files) == 0;
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
	uint64_t next = kernel_maps_settle(&agent->maps, monotonic_ns(), source_in_order(agent));

	set_timer(agent, &agent->settle_timer, next, "timer for keys that leave");
}

static void on_settle(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, settle_timer);

	settle(agent);
	if (agent->deferred.count)
		decide_pending(agent);
}

static void apply(struct agent *agent, struct snapshot *snapshot)
{
	struct kernel_maps_change change;

	if (context_table_add(agent->contexts, snapshot) != 0)
		log_error("no memory", "what=\"TLS contexts\"");
	snapshot_holder_publish(agent->snapshots, snapshot_ref(snapshot));
	context_table_trim(agent->contexts, snapshot);
	kernel_maps_apply(&agent->maps, snapshot, monotonic_ns(), &change);
	for (size_t i = 0; change.grew && i < agent->enrolment_count; i++)
		sync_sweep(agent, agent->enrolments[i].gateway, false);
	for (unsigned int i = 0; change.tightened && i < agent->worker_count; i++)
		worker_policy_changed(agent->workers[i]);
	settle(agent);
	set_timer(agent, &agent->compile_timer, snapshot_next_expiry_ns(snapshot), "tombstone timer");
	log_info("snapshot applied", "generation=%llu destinations=%zu policies=%zu settings=%zu",
	         (unsigned long long)snapshot_generation(snapshot), snapshot_destination_count(snapshot),
	         snapshot_policy_count(snapshot), snapshot_settings_count(snapshot));
}

static int compile_and_apply(struct agent *agent, uint64_t as_of_ns)
{
	const struct compile_options options = {
	        .cluster_cidrs = agent->config.cluster_cidrs.at,
	        .cluster_cidr_count = agent->config.cluster_cidrs.count,
	        .trust_every_slice = true,
	        .now_ns = as_of_ns,
	        .tombstone_ns = agent->config.tombstone_ns,
	        .registry = agent->registry,
	};
	const struct object_store *store = agent->files ? files_source_store(agent->files) : agent->empty_store;
	struct snapshot *snapshot = NULL;
	int error = compile_snapshot(store, &options, agent->maps.applied, &snapshot);

	/* What the source has said must not be forgotten because it could not be compiled at once. */
	agent->compile_due = error != 0;
	if (error) {
		log_error("compile failed", "error=\"%s\" kept=\"the last snapshot\"", strerror(-error));
		set_timer(agent, &agent->compile_timer, as_of_ns + COMPILE_RETRY_NS, "compile timer");
		return error;
	}
	apply(agent, snapshot);
	snapshot_unref(snapshot);
	return 0;
}

bool sync_refresh(struct agent *agent, bool force)
{
	uint64_t now = monotonic_ns();

	if (agent->files) {
		bool changed = force ? files_source_reload(agent->files) : files_source_refresh(agent->files);

		agent->files_read_ns = now;
		agent->compile_due |= changed;
	}
	if (agent->compile_due && compile_and_apply(agent, now) != 0)
		return false;
	return source_in_order(agent);
}

/* A tombstone has ended, or the last compile failed. */
static void on_compile(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, compile_timer);

	agent->compile_due = true;
	sync_refresh(agent, false);
}

static void on_files(struct loop_source *source, uint32_t events)
{
	(void)events;
	sync_refresh(container_of(source, struct agent, files_event), false);
}

static int open_files(struct agent *agent)
{
	int error = files_source_open(agent->config.manifests, &agent->files);

	if (error) {
		log_error("manifests unreadable", "directory=%s error=\"%s\"", agent->config.manifests,
		          strerror(-error));
		return error;
	}
	agent->files_event.on_event = on_files;
	return loop_add(agent->loop, &agent->files_event, files_source_fd(agent->files), EPOLLIN);
}

int sync_start(struct agent *agent)
{
	const struct postern_runtime_config runtime = {
	        .strict = agent->config.coverage == COVERAGE_STRICT,
	        .lane_enabled = agent->config.lane != SWITCH_OFF && agent->proof.hook[PROOF_LANE].verdict == PROOF_SAFE,
	};
	int error = kernel_maps_start(&agent->maps, agent->hooks, &runtime, agent->config.tombstone_ns);

	agent->settle_timer.on_expire = on_settle;
	agent->compile_timer.on_expire = on_compile;
	agent->files_read_ns = monotonic_ns();
	if (error) {
		log_error("kernel's maps unreadable", "error=\"%s\"", strerror(-error));
		return error;
	}
	if (agent->config.manifests[0] != '\0') {
		error = open_files(agent);
	} else {
		agent->empty_store = object_store_new();
		error = agent->empty_store ? 0 : -ENOMEM;
	}
	return error ? error : compile_and_apply(agent, agent->files_read_ns);
}

void sync_stop(struct agent *agent)
{
	loop_remove(agent->loop, &agent->files_event);
	loop_timer_cancel(agent->loop, &agent->settle_timer);
	loop_timer_cancel(agent->loop, &agent->compile_timer);
	files_source_close(agent->files);
	object_store_free(agent->empty_store);
	kernel_maps_stop(&agent->maps);
	agent->files = NULL;
	agent->empty_store = NULL;
}
