/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * agent.h: posternd's one struct and its control thread: sources, compile, the kernel's maps, gateways, status. There
 * is no other global state.
 *
 *   agent.c       start, stop, signals
 *   sync.c        source -> compile -> contexts -> publish -> kernel's maps -> sweep
 *   kernel_maps.c the kernel's maps as a cache of the snapshot
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
#include "control/kernel_maps.h"
#include "datapath/gateway.h"
#include "datapath/proof.h"
#include "datapath/worker.h"

struct control_socket;
struct files_source;
struct object_store;
struct settings_registry;
struct snapshot_holder;

struct agent;

/* One gateway of the configuration. It may not exist yet: a cgroup that systemd makes later. */
struct enrolment {
	struct agent *agent;
	const struct config_gateway *config;
	struct gateway_options options;
	struct gateway *gateway; /* NULL until its cgroup exists and the rules allow it */
	bool served;             /* the workers have its listeners */
	char reason[256];        /* why there is no gateway */
};

/* A worker's question: what is this key, as of now? */
struct decision {
	unsigned int worker;
	uint64_t question;
	struct postern_destination_key key;
};

struct decisions {
	struct decision *at;
	size_t count;
	size_t capacity;
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
	struct files_source *files;       /* NULL: no manifests */
	struct object_store *empty_store; /* then */
	struct loop_source files_event;
	uint64_t files_read_ns; /* the store shows the directory as of then */

	struct kernel_maps maps;
	struct loop_timer settle_timer;  /* what leaves the maps */
	struct loop_timer compile_timer; /* a tombstone ends, or a compile failed */
	bool compile_due;                /* the store has what no snapshot shows */

	pthread_mutex_t decisions_lock;
	struct decisions asked;    /* by the workers, under the lock */
	struct decisions deferred; /* until their keys have left the maps */

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
/* Did hold, guard and witness pass? Without them no gateway is served: its hooks are on, and refuse. */
bool agent_proved(const struct agent *agent, char *reason, size_t reason_size);
/* Is the promise kept now? If not, why not, in words. */
bool agent_ready(const struct agent *agent, char *reason, size_t reason_size);

/* sync.c */
int sync_start(struct agent *agent);
void sync_stop(struct agent *agent);
/* Read what changed (force: everything), compile, apply. True if the source is in order as of now. */
bool sync_refresh(struct agent *agent, bool force);
/* Destroy the gateway's plain sockets to covered keys: when keys become covered, when it is enrolled, and by audit. */
void sync_sweep(struct agent *agent, struct gateway *gateway, bool audit);

/* decide.c. decide_request() is called by the workers. */
int decide_request(void *context, unsigned int worker_index, uint64_t question,
                   const struct postern_destination_key *key);
/* Answer what was asked, and what was deferred. */
void decide_pending(struct agent *agent);
void decide_free(struct agent *agent);

/* enrol.c */
int enrol_start(struct agent *agent);
void enrol_stop(struct agent *agent);

/* report.c */
int report_start(struct agent *agent);
void report_stop(struct agent *agent);

#endif
