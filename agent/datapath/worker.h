/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * worker.h: N threads that do all per-connection work: they read their ring of CONNECT and SYN records, dial B, do the
 * handshake, release or refuse the held SYN, accept A and relay (design sections 4, 6, 7, 11).
 *
 * A connection never changes worker. Workers share the snapshot pointer only; everything else that another thread wants
 * of a worker goes through its inbox (a short lock and an eventfd) and runs in the worker's thread. The functions below
 * are called by the control thread.
 */
#ifndef POSTERN_DATAPATH_WORKER_H
#define POSTERN_DATAPATH_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory_budget.h"
#include "base/reason.h"
#include "datapath/relay.h"

struct context_table;
struct evidence;
struct failures;
struct gateway;
struct hooks;
struct proof;
struct snapshot;
struct snapshot_holder;
struct trace;
struct traffic;
struct worker;

/* The answer to a worker's question. */
struct hold_answer {
	uint64_t question;
	enum postern_reason refusal; /* REASON_NONE: decide by the current snapshot */
};

struct worker_options {
	unsigned int index;
	unsigned int worker_count;
	unsigned int ring;    /* number of its ring, by which the kernel knows the worker */
	uint64_t other_rings; /* bit n: ring n is another agent's that lives */
	struct hooks *hooks;
	const struct proof *proof;
	struct snapshot_holder *snapshots;
	struct failures *failures;
	struct trace *trace;       /* NULL: none */
	struct evidence *evidence; /* the same */
	struct traffic *traffic;   /* NULL: nothing is counted by gateway */
	struct context_table *contexts;
	/*
	 * Nothing covers this key by the current snapshot: is that so as of now? Called in the worker's thread; numbers
	 * rise. 0, or -ENOMEM: no answer will come. The answer is worker_hold_answered(), after the kernel's map says
	 * PLAIN for the key, or has lost it, if the current snapshot does not cover it.
	 */
	int (*request_decision)(void *context, unsigned int worker_index, uint64_t question,
	                        const struct postern_destination_key *key);
	void *context;
	uint64_t dial_limit_ns;      /* a leak guard: the gateway's own timer decides (default 30 s) */
	uint64_t handshake_limit_ns; /* default 10 s */
	uint64_t hold_limit_ns;      /* 3 s */
	unsigned int max_attempts;
	unsigned int max_connections;
	unsigned int max_gateway_connections; /* 0: three quarters of them, if there are several gateways */
	unsigned int max_descriptors;         /* for A and B; 0: no bound */
	const struct memory_budget *budget;   /* NULL: none */
	bool kernel_tls;                      /* switches of the configuration; the proof must allow it, too */
	bool lane;
	bool splice;
	bool access_log; /* a line for each connection that ends */
	struct relay_timeouts timeouts;
};

int worker_start(const struct worker_options *options, struct worker **worker);
/* Ends every connection with a reset, joins the thread. NULL-safe. */
void worker_stop(struct worker *worker);

/* The gateway's listeners of this worker join its loop; they leave it and its connections end. Both wait until done. */
int worker_add_gateway(struct worker *worker, const struct gateway *gateway);
int worker_remove_gateway(struct worker *worker, const struct gateway *gateway);

/*
 * The current snapshot shows the source as of as_of_ns (CLOCK_MONOTONIC), after the questions were asked. The answers
 * come in the order of their questions; they are copied.
 */
void worker_hold_answered(struct worker *worker, uint64_t as_of_ns, const struct hold_answer *answers, size_t count);

/*
 * Keys became covered, were refused or got other settings, or a Gateway shows another client certificate. Attempts are
 * decided anew. Connections whose destination became DENY, and plain ones whose destination became covered, end with a
 * reset. TLS connections are verified once more by the settings of now, and end with a reset if they would not be
 * accepted; those that show another client certificate than they should end within ten minutes.
 */
void worker_policy_changed(struct worker *worker);

/* For the watchdog. */
struct loop *worker_loop(struct worker *worker);
/* For its CPU time. */
pthread_t worker_thread(const struct worker *worker);

struct worker_statistics { /* each read atomically, not together */
	uint64_t attempts;
	uint64_t attempts_live;
	uint64_t connections;
	uint64_t connections_live;
	uint64_t handshakes_full;
	uint64_t handshakes_resumed;
	uint64_t bytes_to_backend; /* of ended connections */
	uint64_t bytes_to_gateway;
	uint64_t tickets_dropped;
	uint64_t lane_connections;
	uint64_t socket_memory;  /* bytes, if the budget asks for it to be counted */
	uint64_t verified_again; /* live connections that were judged by other settings, or when their peer expired */
	uint64_t draining;       /* live connections that show a client certificate which is another one now */
	uint64_t handed_over;    /* connections that went to the successor */
	uint64_t taken_over;     /* connections that came from the former agent */
};
void worker_statistics(struct worker *worker, struct worker_statistics *statistics);
/* Of all of them together. */
void worker_totals(struct worker *const *workers, size_t count, struct worker_statistics *sum);

/* One live connection, as status and posternctl show it. */
struct connection_view {
	char gateway[128];
	uint16_t gateway_port; /* G's own port */
	struct postern_destination_key destination;
	char policy[256]; /* "" for PLAIN */
	char sni[256];
	char peer_identity[TLS_DETAIL_MAX];
	char tls_version[16]; /* "" for PLAIN */
	char cipher[64];
	char alpn[16];
	bool resumed;
	bool shows_certificate;   /* a client certificate */
	bool draining;            /* that is another one now */
	int64_t peer_valid_until; /* Unix time; 0: not known */
	uint64_t netns_cookie;    /* with B's local port: finds B in inet_diag */
	uint16_t b_port;
	uint64_t age_ns;
	struct relay_stats stats;
	/* The kernel's own word about B: getsockopt is not enough, so this is inet_diag's ULP info. "" if none. */
	char ulp[128];
};
/*
 * Those of all these workers, each listed in its own thread; waits 1 s at most, in all. 0 and *views (free() it; NULL:
 * none); -ETIMEDOUT or -ENOMEM: *silent is the index of the first worker that could not say, and no list is given, as
 * one that is not whole would be taken for one that is. Control thread.
 */
int worker_list_connections(struct worker *const *workers, size_t worker_count, struct connection_view **views,
                            size_t *count, size_t *silent);

#endif
