/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From the source to the kernel. Order for a new snapshot:
 *
 *   contexts -> publish -> CIDRs, guarded ports -> keys that become TLS or DENY, and new ones -> sweep of plain sockets
 *   -> workers look at their connections -> 100 ms later: keys that become PLAIN or go
 *
 * Published first, so that a worker never meets a TLS verdict that it cannot carry out. Coverage grows at once and
 * shrinks late, so that an object that is replaced (deleted and made again) never opens a gap.
 */
#include <arpa/inet.h>
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
#include "policy/snapshot.h"
#include "policy/snapshot_holder.h"
#include "source/files.h"

#define REMOVAL_DELAY_NS 100000000ull
#define RETRY_NS         1000000000ull

static bool is_covered(const struct destination *destination)
{
	return destination &&
	       (destination->verdict == POSTERN_VERDICT_TLS || destination->verdict == POSTERN_VERDICT_DENY);
}

/* ---- the kernel's maps ---- */

/*
 * A covered key that does not fit into the map must not become a miss that passes: a host route of its own in the CIDR
 * trie and its guarded port make the miss a HOLD, which the agent answers from the snapshot.
 */
static void hold_instead(struct agent *agent, const struct destination *destination, int map_error)
{
	const struct cidr host = {.address = destination->key.address, .prefix_length = 128};
	char text[DESTINATION_TEXT_MAX];
	int error = hooks_set_cidr(agent->hooks, &host, true);

	if (!error && destination->key.port)
		error = hooks_set_guarded_port(agent->hooks, ntohs(destination->key.port), true);
	if (!error && !destination->key.port)
		error = -E2BIG; /* any port: no guarded port stands for it */
	agent->map_overflow = true;
	if (error)
		agent->map_broken = true;
	log_error("destination map refused a key", "destination=%s error=\"%s\" instead=%s",
	          destination_format(&destination->key, text), strerror(-map_error), error ? "nothing" : "hold");
}

static void set_key(struct agent *agent, const struct destination *destination)
{
	const struct postern_destination value = {
	        .verdict = destination->verdict,
	        .settings_id = destination->verdict == POSTERN_VERDICT_TLS ? destination->settings_id : 0,
	};
	int error = hooks_set_destination(agent->hooks, &destination->key, &value);

	if (error && is_covered(destination))
		hold_instead(agent, destination, error);
	else if (error)
		agent->map_overflow = true; /* an uncovered key: its miss is a HOLD or passes, both right */
}

static bool same_key(const struct postern_destination_key *left, const struct postern_destination_key *right)
{
	return memcmp(left, right, sizeof(*left)) == 0;
}

/* Coverage that grows: at once. True if a key became covered that was not. */
static bool apply_growth(struct agent *agent, const struct snapshot *snapshot)
{
	bool grew = false;

	for (size_t i = 0; i < snapshot_destination_count(snapshot); i++) {
		const struct destination *destination = snapshot_destination_at(snapshot, i);
		const struct destination *before = agent->applied ? snapshot_find(agent->applied, &destination->key)
		                                                  : NULL;

		if (before && !same_key(&before->key, &destination->key))
			before = NULL; /* it was answered by (address, any port) */
		if (before && before->verdict == destination->verdict &&
		    before->settings_id == destination->settings_id)
			continue;
		if (destination->verdict == POSTERN_VERDICT_PLAIN && before)
			continue; /* shrinks: later */
		if (is_covered(destination) && !is_covered(before))
			grew = true;
		set_key(agent, destination);
	}
	return grew;
}

struct removal {
	struct agent *agent;
	struct snapshot *snapshot;
	struct postern_destination_key *keys;
	size_t count;
	size_t size;
};

static void collect_unknown(void *context, const struct postern_destination_key *key,
                            const struct postern_destination *value)
{
	struct removal *removal = context;
	const struct destination *destination = snapshot_find(removal->snapshot, key);

	(void)value;
	if (destination && same_key(&destination->key, key))
		return;
	if (decide_is_plain(removal->agent, key) && value->verdict == POSTERN_VERDICT_PLAIN)
		return;
	if (removal->count == removal->size) {
		size_t size = removal->size ? 2 * removal->size : 256;
		struct postern_destination_key *keys = realloc(removal->keys, size * sizeof(*keys));

		if (!keys)
			return; /* stays until the next removal: the safe side */
		removal->keys = keys;
		removal->size = size;
	}
	removal->keys[removal->count++] = *key;
}

/* Coverage that shrinks: by what the kernel's map holds, so that an earlier life of the agent is tidied up, too. */
static void apply_shrinkage(struct loop_timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, removal_timer);
	struct removal removal = {.agent = agent, .snapshot = agent->applied};
	int error;

	for (size_t i = 0; i < snapshot_destination_count(agent->applied); i++) {
		const struct destination *destination = snapshot_destination_at(agent->applied, i);

		if (destination->verdict == POSTERN_VERDICT_PLAIN)
			set_key(agent, destination);
	}
	error = hooks_for_each_destination(agent->hooks, collect_unknown, &removal);
	for (size_t i = 0; i < removal.count && (!error || error == -ENOENT); i++)
		error = hooks_delete_destination(agent->hooks, &removal.keys[i]);
	free(removal.keys);
	if (error && error != -ENOENT)
		log_error("destination map not tidied", "error=\"%s\"", strerror(-error));
}

static int apply_guards(struct agent *agent, const struct snapshot *snapshot)
{
	int error = 0;

	for (size_t i = 0; i < snapshot_cidr_count(snapshot) && !error; i++)
		error = hooks_set_cidr(agent->hooks, snapshot_cidr_at(snapshot, i), true);
	for (unsigned int port = 1; port <= UINT16_MAX && !error; port++) {
		bool guarded = snapshot_port_guarded(snapshot, (uint16_t)port);
		bool before = agent->applied && snapshot_port_guarded(agent->applied, (uint16_t)port);

		/* The first time all are written: an earlier life may have left its own. */
		if (guarded != before || !agent->applied)
			error = hooks_set_guarded_port(agent->hooks, (uint16_t)port, guarded);
	}
	if (error) {
		agent->map_broken = true;
		log_error("guard maps refused a key", "error=\"%s\"", strerror(-error));
	}
	return error;
}

/* ---- sweep ---- */

struct sweep_context {
	const struct snapshot *snapshot;
};

static bool sweep_covers(void *context, const struct postern_destination_key *remote)
{
	const struct sweep_context *sweep = context;

	return is_covered(snapshot_find(sweep->snapshot, remote));
}

void sync_sweep(struct agent *agent, bool audit)
{
	struct sweep_context context = {.snapshot = agent->applied};

	if (!agent->applied)
		return;
	for (size_t i = 0; i < agent->enrolment_count; i++) {
		struct gateway *gateway = agent->enrolments[i].gateway;
		struct sweep_result result = {0};
		int error;

		if (!gateway || gateway->state != GATEWAY_READY || gateway->mode != POSTERN_MODE_ENFORCE)
			continue;
		error = sweep_gateway(gateway, agent->hooks, sweep_covers, &context, &result);
		if (error)
			log_warning("sweep failed", "gateway=%s error=\"%s\" held_by=guard", gateway->name,
			            strerror(-error));
		if (result.failed)
			log_warning("sockets not destroyed", "gateway=%s count=%zu error=\"%s\" held_by=guard",
			            gateway->name, result.failed, strerror(result.error));
		if (!result.destroyed)
			continue;
		log_info("plain sockets destroyed", "gateway=%s count=%zu cause=%s", gateway->name, result.destroyed,
		         audit ? "audit" : "covered");
		for (size_t j = 0; audit && j < result.destroyed; j++)
			failures_count(agent->failures, REASON_ESCAPED);
	}
}

/* ---- one pass ---- */

static void on_tombstone_end(struct loop_timer *timer)
{
	sync_refresh(container_of(timer, struct agent, expiry_timer), true);
}

static void apply(struct agent *agent, struct snapshot *snapshot)
{
	uint64_t expiry = snapshot_next_expiry_ns(snapshot);
	uint64_t now = monotonic_ns();
	bool grew;

	if (context_table_update(agent->contexts, snapshot) != 0)
		log_error("no memory", "what=\"TLS contexts\"");
	decide_forget_known(agent, snapshot);
	snapshot_holder_publish(agent->snapshots, snapshot_ref(snapshot));
	apply_guards(agent, snapshot);
	grew = apply_growth(agent, snapshot);
	snapshot_unref(agent->applied);
	agent->applied = snapshot;
	if (grew)
		sync_sweep(agent, false);
	for (unsigned int i = 0; i < agent->worker_count; i++)
		worker_policy_changed(agent->workers[i]);
	if (loop_timer_set(agent->loop, &agent->removal_timer, REMOVAL_DELAY_NS) != 0)
		log_error("no memory", "what=\"removal timer\"");
	loop_timer_cancel(agent->loop, &agent->expiry_timer);
	if (expiry && loop_timer_set(agent->loop, &agent->expiry_timer, expiry > now ? expiry - now : 0) != 0)
		log_error("no memory", "what=\"tombstone timer\"");
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
	struct snapshot *snapshot = NULL;
	int error = compile_snapshot(files_source_store(agent->files), &options, agent->applied, &snapshot);

	if (error) {
		log_error("compile failed", "error=\"%s\" kept=\"the last snapshot\"", strerror(-error));
		return error;
	}
	apply(agent, snapshot);
	return 0;
}

static void log_source_errors(const struct agent *agent)
{
	for (size_t i = 0; i < files_source_error_count(agent->files); i++) {
		const struct source_error *error = files_source_error_at(agent->files, i);
		char object[512];
		char message[1024];

		log_error("manifest refused", "object=%s error=%s kept=\"its last good state\"",
		          log_quote(error->object, object, sizeof(object)),
		          log_quote(error->message, message, sizeof(message)));
	}
}

bool sync_refresh(struct agent *agent, bool force)
{
	uint64_t now = monotonic_ns();
	bool changed;

	if (!agent->files)
		return true;
	changed = force ? files_source_reload(agent->files) : files_source_refresh(agent->files);
	agent->files_read_ns = now;
	if (changed || !agent->applied || agent->expiry_timer.due_ns == 0) {
		if (changed)
			log_source_errors(agent);
		if (changed || !agent->applied || snapshot_next_expiry_ns(agent->applied))
			return compile_and_apply(agent, now) == 0 && files_source_error_count(agent->files) == 0;
	}
	return files_source_error_count(agent->files) == 0;
}

static void on_files(struct loop_source *source, uint32_t events)
{
	(void)events;
	sync_refresh(container_of(source, struct agent, files_event), false);
}

int sync_start(struct agent *agent)
{
	const struct postern_runtime_config runtime = {
	        .strict = agent->config.coverage == COVERAGE_STRICT,
	        .lane_enabled = agent->config.lane != SWITCH_OFF && agent->proof.hook[PROOF_LANE].verdict == PROOF_SAFE,
	};
	int error = hooks_set_runtime_config(agent->hooks, &runtime);

	agent->removal_timer.on_expire = apply_shrinkage;
	agent->expiry_timer.on_expire = on_tombstone_end;
	if (error || agent->config.manifests[0] == '\0')
		return error;
	error = files_source_open(agent->config.manifests, &agent->files);
	if (error) {
		log_error("manifests unreadable", "directory=%s error=\"%s\"", agent->config.manifests,
		          strerror(-error));
		return error;
	}
	agent->files_event.on_event = on_files;
	error = loop_add(agent->loop, &agent->files_event, files_source_fd(agent->files), EPOLLIN);
	if (error)
		return error;
	agent->files_read_ns = monotonic_ns();
	log_source_errors(agent);
	return compile_and_apply(agent, agent->files_read_ns);
}

void sync_stop(struct agent *agent)
{
	loop_remove(agent->loop, &agent->files_event);
	loop_timer_cancel(agent->loop, &agent->removal_timer);
	loop_timer_cancel(agent->loop, &agent->expiry_timer);
	files_source_close(agent->files);
	snapshot_unref(agent->applied);
	agent->files = NULL;
	agent->applied = NULL;
}
