/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * agent.h: posternd's one struct and its control thread: sources, compile, the kernel's maps, gateways, status. There
 * is no other global state than the process's own: log levels (base/log.h), OpenSSL's set-up (tls/), how many sessions
 * the heap has held (tls/session.h).
 *
 *   agent.c       start, stop, signals
 *   sync.c        source, system CA -> compile -> contexts -> publish -> kernel's maps -> sweep
 *   kernel_maps.c the kernel's maps as a cache of the snapshot
 *   decide.c      HOLD: answers to the workers
 *   enrol.c       gateways from CONFIGURED to READY and LOST
 *   enrol_pods.c  gateways that are Pods of this node: they come and go
 *   enrol_former.c  what former agents left of them
 *   shadow_watch.c  handshakes beside gateways that are only observed
 *   enrol_findings.c  what is to be said of them
 *   enrol_answer.c  which of them are enrolled, for who asks over HTTP
 *   report.c      the documents of the status socket
 *   trace_watch.c what the BPF programs tell while somebody looks
 *   service.c     what the service manager is told
 *   monitor.c     metrics and health
 *   ulp_watch.c   does the kernel say of B what the agent believes?
 *   predecessor.c, successor.c  the agent before this one, and the one after it
 */
#ifndef POSTERN_CONTROL_AGENT_H
#define POSTERN_CONTROL_AGENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/memory_budget.h"
#include "config/config.h"
#include "control/heap_trim.h"
#include "control/evidence_store.h"
#include "control/kernel_maps.h"
#include "control/memory_watch.h"
#include "control/monitor.h"
#include "control/resources.h"
#include "control/system_ca.h"
#include "control/trace_watch.h"
#include "control/ulp_watch.h"
#include "control/worker_claim.h"
#include "datapath/gateway.h"
#include "datapath/proof.h"
#include "datapath/worker.h"
#include "source/source.h"

struct compiler;
struct evidence;
struct kubernetes_client;
struct kubernetes_credentials;
struct control_socket;
struct watchdog;
struct object_store;
struct predecessor;
struct successor;
struct settings_registry;
struct snapshot_holder;
struct trace;
struct shadow;
struct status_finding;
struct traffic;

struct pod_gateway;
struct pod_gateways;

struct agent;

/*
 * One gateway: of the configuration, or a Pod of this node. It may not exist yet: a cgroup that systemd or the kubelet
 * makes later. Its place stays the same while it is there.
 */
struct enrolment {
	struct agent *agent;
	char *name;                          /* NULL: this place is free */
	const struct config_gateway *config; /* NULL: a Pod's */
	struct pod_gateway *pod;             /* NULL: the configuration's */
	struct gateway_options options;
	struct gateway *gateway; /* NULL until its cgroup exists and the rules allow it */
	bool served;             /* the workers have its listeners */
	bool raced;              /* a process of the Pod ran before its hooks were on, and no gate held it */
	bool out_of_reach;       /* no hook sees what the Pod does */
	bool outlives_object;    /* the Pod was deleted, and its processes still run */
	uint64_t looked_ns;      /* when the Pod was last news */
	char reason[256];        /* why there is no gateway */
};

/* A worker's question: what is this key, as of now? */
struct decision {
	unsigned int worker;
	uint64_t question;
	struct postern_destination_key key;
	uint64_t asked_ns; /* CLOCK_MONOTONIC */
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
	struct trace *trace;
	struct trace_watch trace_watch;
	struct evidence *evidence;
	struct evidence_store evidence_store;
	struct traffic *traffic;
	struct context_table *contexts;
	struct snapshot_holder *snapshots;
	struct settings_registry *registry;
	struct compiler *compiler; /* it remembers what it saw: a change costs what changed */
	struct system_ca system_ca;
	struct source *source;                      /* NULL: there is none */
	struct kubernetes_credentials *credentials; /* NULL: the source is no cluster; so the client */
	struct kubernetes_client *kubernetes;
	struct object_store *empty_store; /* then */

	struct kernel_maps maps;
	struct loop_timer settle_timer;  /* what leaves the maps */
	struct loop_timer compile_timer; /* a tombstone ends, or a compile failed */
	struct loop_timer system_ca_timer;
	bool compile_due; /* the store has what no snapshot shows */

	pthread_mutex_t decisions_lock;
	struct decisions asked;    /* by the workers, under the lock */
	struct decisions waiting;  /* until the source shows what was true when they were asked */
	struct decisions deferred; /* until their keys have left the maps */

	struct enrolment *enrolments; /* POSTERN_MAX_GATEWAYS places */
	size_t enrolment_count;       /* places in use, and free ones between them */
	struct pod_gateways *pods;    /* what the source said last; its findings */
	uint32_t last_gateway_id;     /* ids are not given again as long as that can be helped */
	bool enrolment_paused;        /* another agent writes the entries */
	bool others_forgotten;        /* the hooks of former gateways were looked through */
	struct shadow *shadow;        /* NULL: no gateway was observed yet */
	struct loop_timer shadow_timer;
	struct loop_timer enrol_timer;
	struct loop_timer audit_timer;
	bool announced;                  /* "agent ready" was logged */
	bool notified;                   /* systemd was told that the hooks are on */
	struct loop_timer service_timer; /* its watchdog's */

	struct worker_claim claim;
	bool others_lived;               /* when a snapshot was applied last: other agents had worker numbers */
	struct predecessor *predecessor; /* the agent that runs, or drains, since before this one; NULL: none */
	struct successor *successor;     /* who replaces this one, one day */

	struct worker **workers;
	unsigned int worker_count;
	struct watchdog *watchdog; /* NULL: none */
	struct memory_budget memory_budget;
	struct memory_watch memory_watch;
	struct heap_trim heap_trim;
	struct descriptor_limit descriptors;
	int pins_lock; /* -1: not held */
	struct control_socket *socket;
	struct monitor monitor;
	struct ulp_watch ulp_watch;
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
/* Another agent writes the maps from now on; the policy is followed for the connections that are left. */
void sync_retire(struct agent *agent);
/* It failed: the maps are this agent's again, whatever it wrote. 0 or negative errno. */
int sync_resume(struct agent *agent);
/* The source was read as a whole once. Before that an empty store means nothing: what maps and hooks hold stays. */
bool sync_is_seen(const struct agent *agent);
/* Read what changed (force: everything), compile, apply. True if the source is in order as of now. */
bool sync_refresh(struct agent *agent, bool force);
/* Destroy the gateway's plain sockets to covered keys: when keys become covered, when it is enrolled, and by audit. */
void sync_sweep(struct agent *agent, struct gateway *gateway, bool audit);

/* decide.c. decide_request() is called by the workers. */
int decide_request(void *context, unsigned int worker_index, uint64_t question,
                   const struct postern_destination_key *key);
/* Ask the source for the state as of now, for what the workers asked. */
void decide_pending(struct agent *agent);
/* The store shows what was true at as_of_ns, and is in order or not: answer whom that is an answer to. */
void decide_answer(struct agent *agent, uint64_t as_of_ns, enum source_scope scope, bool in_order);
/* Keys have left the maps: answer who waits for that. */
void decide_deferred(struct agent *agent);
void decide_free(struct agent *agent);

/* enrol.c */
int enrol_start(struct agent *agent);
/* Beside another agent: each gateway that it serves must be served by this one now. 0 or negative errno (logged). */
int enrol_at_once(struct agent *agent);
/* Another agent may write the entries from now on; it failed, and they are this one's again. */
void enrol_pause(struct agent *agent);
int enrol_resume(struct agent *agent);
void enrol_stop(struct agent *agent);
/*
 * For enrol_pods.c. A free place that is named (agent, name, options but for what is the caller's), or NULL: all are
 * taken, or no memory; and the end of one: the workers let go of it, its hooks go, its place is free.
 */
struct enrolment *enrol_add(struct agent *agent, const char *name);
void enrol_remove(struct enrolment *enrolment);
struct enrolment *enrol_find(const struct agent *agent, const char *name);
/* Look at all of them now, and not when it would be time. */
void enrol_hurry(struct agent *agent);
/*
 * All workers serve the gateway's listeners, or none: connects to the ports of one that does not would wait for their
 * own limits. 0 or negative errno. And all let go of it.
 */
int agent_serve_gateway(struct agent *agent, const struct gateway *gateway);
void agent_unserve_gateway(struct agent *agent, const struct gateway *gateway);

/* shadow_watch.c. After sync_start(); stopped before the contexts and hooks go. */
int shadow_watch_start(struct agent *agent);
void shadow_watch_stop(struct agent *agent);
/* The thread that tries, started if it does not run. NULL: it could not be (logged). */
struct shadow *shadow_watch_need(struct agent *agent);

/* enrol_former.c */
/* The id that a gateway of this name has, or had in an earlier life; else one that nobody has. Never 0. */
uint32_t enrol_id_for(struct agent *agent, const char *name);
/* The pinned hooks of gateways that are not configured. Not while another agent serves them. */
void enrol_forget_others(struct agent *agent);
/* Before a gateway Pod is removed whose processes still run, or another Pod is enrolled by its name. */
void enrol_set_aside(struct enrolment *enrolment);
/* The same for one that an earlier agent left. */
void enrol_set_former_aside(struct agent *agent, const char *name);
/* What agents of other ABI numbers left, as far as nobody needs it (hooks_clear_other_versions()). */
void enrol_clear_other_versions(struct agent *agent);

/* enrol_pods.c */

/* The source has other objects: Pods become gateways, are none any more, or are so in another way. */
void enrol_pods(struct agent *agent);
/* Pods that were deleted before their processes ended: which of them have ended by now? Each round of the enrolment. */
void enrol_pods_ended(struct agent *agent);
void enrol_pods_stop(struct agent *agent);
/* Its cgroup; free(). NULL with the reason in the enrolment. */
char *enrol_pod_cgroup(struct enrolment *enrolment);
int enrol_pod_namespace(void *context, char *problem, size_t problem_size);
/* What the operator should know of gateways now. Without memory some are missing, which is logged. */
struct enrol_findings {
	struct status_finding *at;
	size_t count, capacity;
};
void enrol_findings_make(const struct agent *agent, struct enrol_findings *findings);
void enrol_findings_free(struct enrol_findings *findings);
/*
 * enrol_answer.c: which Pods are enrolled, for postern-controller (readiness gate): a JSON text, free(); NULL: no
 * memory.
 *
 *   {"serving": true, "pods": [{"namespace": "n", "name": "p", "uid": "...", "enrolled": true, "reason": ""}...]}
 *
 * serving is false in an agent that another one has replaced. enrolled: the Pod's hooks are on its cgroup by the
 * kernel's word, the hooks passed their proof, and connects that a policy covers are served.
 */
char *enrol_answer(const struct agent *agent, size_t *length);
/* Is it the hostPort of a Pod of this node? */
bool enrol_port_is_taken(void *context, uint16_t port);
/* Its hooks are about to go on: did it run before, unheld? */
void enrol_pod_attaching(struct enrolment *enrolment, const char *cgroup);

/* service.c: when the hooks are on, until the service manager has taken the word. */
void service_started(struct agent *agent);

/* report.c */
int report_start(struct agent *agent);
void report_stop(struct agent *agent);

#endif
