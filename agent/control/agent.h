/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * agent.h: posternd's one struct and its control thread: sources, compile, the kernel's maps, gateways, status. There
 * is no other global state.
 *
 *   agent.c       start, stop, signals
 *   sync.c        source -> compile -> contexts -> publish -> kernel's maps -> sweep
 *   decide.c      HOLD: answers to the workers
 *   enrol.c       gateways from CONFIGURED to READY and LOST
 *   report.c      the documents of the status socket
 */
#ifndef POSTERN_CONTROL_AGENT_H
#define POSTERN_CONTROL_AGENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "config/config.h"
#include "datapath/gateway.h"
#include "datapath/proof.h"
#include "datapath/worker.h"

struct control_socket;
struct files_source;
struct settings_registry;
struct snapshot;
struct snapshot_holder;

struct agent;

/* One gateway of the configuration. It may not exist yet: a cgroup that systemd makes later. */
struct enrolment {
	const struct config_gateway *config;
	struct gateway_options options;
	struct gateway *gateway; /* NULL until its cgroup exists and the rules allow it */
	bool served;             /* the workers have its listeners */
	char reason[256];        /* why there is no gateway */
};

/* A worker's question: what is this key, as of now? */
struct decision {
	unsigned int worker;
	struct postern_destination_key key;
};

/* Keys that were decided PLAIN after HOLD, although no object names them. */
struct plain_keys {
	struct postern_destination_key *keys;
	size_t count;
	size_t size;
};

struct agent {
	struct config config;
	struct loop *loop;
	char *agent_cgroup; /* absolute */
	struct hooks *hooks;
	struct proof proof;
	struct failures *failures;
	struct context_table *contexts;
	struct snapshot_holder *snapshots;
	struct settings_registry *registry;
	struct files_source *files; /* NULL: no manifests */
	struct loop_source files_event;
	uint64_t files_read_ns; /* the store shows the directory as of then */

	struct snapshot *applied; /* what the kernel's maps show, but for removals that are still due */
	struct loop_timer removal_timer;
	struct loop_timer expiry_timer;
	struct plain_keys plain_keys;
	bool map_overflow; /* a covered key did not fit, and is held by a CIDR of its own */
	bool map_broken;   /* not even that: the agent is not ready */

	pthread_mutex_t decisions_lock;
	struct decision *decisions;
	size_t decision_count;
	size_t decision_size;

	struct enrolment *enrolments;
	size_t enrolment_count;
	struct loop_timer enrol_timer;
	struct loop_timer audit_timer;
	bool announced; /* "agent ready" was logged */
	bool notified;  /* systemd was told that the hooks are on */

	struct worker **workers;
	unsigned int worker_count;
	struct control_socket *socket;
	struct loop_source signal_event;
	uint64_t started_ns;
};

/* agent.c. Runs until SIGTERM or SIGINT. 0 or negative errno (logged). The config is the agent's from now on. */
int agent_run(struct config *config);
/* Is the promise kept now? If not, why not, in words. */
bool agent_ready(const struct agent *agent, char *reason, size_t reason_size);

/* sync.c */
int sync_start(struct agent *agent);
void sync_stop(struct agent *agent);
/* Read what changed (force: everything), compile, apply. True if the source is in order as of now. */
bool sync_refresh(struct agent *agent, bool force);
/* The audit, and what a newly covered key needs: destroy plain sockets of every enforced gateway. */
void sync_sweep(struct agent *agent, bool audit);

/* decide.c */
void decide_request(void *context, unsigned int worker_index, const struct postern_destination_key *key);
void decide_pending(struct agent *agent);
/* Keys that the new snapshot knows are no longer ours to remember. */
void decide_forget_known(struct agent *agent, const struct snapshot *snapshot);
bool decide_is_plain(const struct agent *agent, const struct postern_destination_key *key);

/* enrol.c */
int enrol_start(struct agent *agent);
void enrol_stop(struct agent *agent);

/* report.c */
int report_start(struct agent *agent);
void report_stop(struct agent *agent);

#endif
