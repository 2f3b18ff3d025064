/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * worker_internal.h: what the files of one worker share; all of it runs in the worker's own thread.
 *
 *   worker.c         thread, ring, life
 *   worker_inbox.c   what the control thread asks of it
 *   gateway_index.c  its gateways and their listeners
 *   attempt.c        from CONNECT record to release or refusal
 *   attempt_verdict.c  what it is by the policy
 *   attempt_table.c  the attempts there are, and how many there may be
 *   dial.c           B
 *   handshake_line.c  who waits behind whom at a backend
 *   release.c        raw packets, accept
 *   gate.c           the gate's connect, which nobody is dialed for
 *   connection.c     the relay's owner
 *   connection_review.c  live connections are looked at again
 *   connection_limits.c  how many a gateway has, and what each may hold
 *   lane_slots.c     who has which slot
 *   worker_handover.c  connections that go to another agent, or come from one
 *
 * An attempt's states are drawn in attempt.c. ACCEPTED is the connection's beginning, and kept for a second: what G
 * sent again while it was held may still be in the ring, and must not be taken for another connect.
 *
 * The policy changes: DIALING, HANDSHAKE and READY begin anew with (decide) if their verdict or settings are others
 * now; RELEASED is a connection if it lies in the accept queue, else refused, and its accept a reset.
 */
#ifndef POSTERN_DATAPATH_WORKER_INTERNAL_H
#define POSTERN_DATAPATH_WORKER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/key_table.h"
#include "base/loop.h"
#include "base/names.h"
#include "base/reason.h"
#include "datapath/gateway.h"
#include "datapath/handshake_line.h"
#include "datapath/relay.h"
#include "datapath/worker.h"
#include "datapath/worker_trace.h"
#include "postern/abi.h"
#include "tls/session.h"

#define ATTEMPT_BUCKETS 16384 /* a power of two */

struct ring_buffer;
struct tls_context;
struct tls_settings;
struct traffic_connections;
struct traffic_handshakes;

struct attempt_list {
	struct attempt *head;
	struct attempt *tail;
};

enum attempt_state {
	ATTEMPT_ORPHAN,  /* a SYN that no CONNECT record announced yet */
	ATTEMPT_WAITING, /* HOLD: for the control thread's answer */
	ATTEMPT_DIALING,
	ATTEMPT_HANDSHAKE,
	ATTEMPT_READY,    /* B verified, or connected for PLAIN; the SYN is not known yet */
	ATTEMPT_RELEASED, /* the SYN was sent again; accept() comes */
	ATTEMPT_REFUSED,
	ATTEMPT_ACCEPTED, /* nothing but its tuple and ISN is left */
};

struct attempt {
	struct worker *worker;
	struct worker_gateway *gateway;
	struct attempt *bucket_next;
	struct attempt_list *list; /* worker->steps or worker->waiting; NULL: neither */
	struct attempt *list_next;
	struct attempt *list_previous;
	enum attempt_state state;
	bool in_flight;                        /* it counts towards the limits: from CONNECT to release or refusal */
	bool orphaned;                         /* it counts as an orphan: a SYN that was never announced */
	struct postern_connect_record connect; /* zero in ORPHAN, but for tuple and isn */
	struct postern_syn_record syn;
	bool syn_known;
	unsigned int syn_count;
	uint64_t begun_ns;
	uint64_t handshake_begun_ns;  /* B is connected */
	uint64_t handshake_number;    /* HANDSHAKE: its place in worker->line */
	uint64_t limit_from_ns;       /* HANDSHAKE: its limit runs from here, without queue_ns of since then */
	uint64_t queued_ns, queue_ns; /* HANDSHAKE: in worker->steps since then; what it has spent there in all */
	uint64_t last_turn_ns;   /* HANDSHAKE: queued_ns of the turn that it is given after its limit; 0: none yet */
	struct loop_timer timer; /* the limit of the current state; armed in all but ACCEPTED */
	uint64_t accepted_ns;    /* ACCEPTED: since then */
	uint64_t question;       /* WAITING: the number of the question that was asked */

	enum postern_verdict verdict;                  /* TLS or PLAIN, once decided */
	struct snapshot *snapshot;                     /* a reference, from the decision on */
	const struct tls_settings *settings;           /* inside the snapshot; NULL for PLAIN */
	struct tls_context *context;                   /* a reference, for TLS */
	struct client_certificate *client_certificate; /* a reference; NULL: none is shown */
	uint32_t policy; /* index into the snapshot of the policy that decided, or SNAPSHOT_NO_POLICY */
	struct loop_source b_source;
	int b_fd;
	struct tls_session *session;
	bool transmit_armed;
	enum postern_reason user_mode_reason;
	uint32_t lane_slot; /* POSTERN_NO_LANE_SLOT: none */

	enum postern_reason reason; /* REFUSED: why */
	bool unreachable;           /* REFUSED: ICMP instead of RST */
	bool answered;              /* REFUSED: RST or ICMP was sent */
};

/* By what a TLS connection was verified, so that it can be judged again: connection_review.c. */
struct connection_trust {
	uint32_t settings_id;
	struct tls_peer *peer; /* a reference */
	int64_t valid_until;   /* Unix time; 0: for ever */
	bool shows_certificate;
	uint8_t certificate_digest[32]; /* of the client certificate that it shows */
	uint64_t drain_until_ns; /* it shows another one than it should, and ends by then; 0: it does not drain */
};

struct connection {
	struct worker *worker;
	struct worker_gateway *gateway;
	struct connection *next;
	struct connection *previous;
	struct relay *relay;
	struct traffic_connections *traffic;
	struct postern_destination_key destination;
	enum postern_verdict verdict;
	uint16_t gateway_port;
	uint32_t lane_slot;
	bool lane_closed;     /* G's socket is gone: the slot is free when the connection is */
	bool handed_over;     /* another agent began it */
	uint32_t buffer_size; /* of its socket buffers; 0: as the kernel sizes them */
	uint32_t ring;        /* that G's records go to */
	uint64_t gateway_cookie;
	uint64_t begun_ns;
	const char *policy; /* "namespace/name" or ""; of worker->names, like the next ones */
	const char *sni;
	struct tls_session_info info; /* its strings are static, or inside, or the next one */
	const char *cipher_name;      /* handed over: info's; else NULL */
	char alpn[16];
	struct connection_trust trust; /* TLS */
};

/* A gateway as this worker serves it. */
struct worker_listener {
	struct worker *worker;
	struct worker_gateway *gateway;
	const struct gateway_listener *listener;
	struct loop_source source_v4;
	struct loop_source source_v6;
	struct loop_timer rest; /* what is in the queue can be neither accepted nor reset: not looked at until then */
	struct worker_listener *next_v4; /* in the index, by cookie_v4; by cookie_v6 */
	struct worker_listener *next_v6;
};

struct worker_gateway {
	const struct gateway *gateway;
	struct worker_gateway *next;
	struct worker_gateway *next_by_id; /* in the index */
	size_t in_flight;                  /* its attempts */
	size_t connections;                /* its live ones */
	struct traffic_handshakes *traffic;
	size_t listener_count;
	struct worker_listener listeners[];
};

struct inbox_message {
	struct inbox_message *next;
	void (*run)(struct worker *worker, struct inbox_message *message);
	/* Frees what nobody takes: the waiter gave up, or the worker ended before it was run. NULL: free(). */
	void (*drop)(struct inbox_message *message);
	/* Who waits for the answer, if anyone does. */
	bool done;
	bool abandoned; /* the waiter gave up: the worker drops the message */
};

/* A lane slot in use: its connection, or, when that ended first, that G's CLOSED record must still come. */
struct lane_slot_state {
	struct connection *connection;
	bool awaits_close;
	uint64_t gateway_cookie;
};

/* Live connections are looked at again, a slice in each round. */
struct connection_review {
	struct loop_timer timer;   /* peers that expire, connections that drain */
	struct connection *next;   /* of the pass that is under way; NULL: none is */
	struct snapshot *snapshot; /* its own reference, during a pass */
	bool whole;                /* of a change of policy: every connection, not only what is due */
	size_t draining;
	int64_t earliest_expiry; /* no peer expires before; 0: none does */
	int64_t next_expiry;     /* the same, of what the pass has seen so far */
};

/* Connections go to the successor, a slice in each round; see worker_handover.h. */
struct worker_handover {
	int (*send)(void *context, const uint8_t *bytes, size_t size, int a_fd, int b_fd); /* NULL: none go */
	void *context;
	struct connection *next;        /* of the pass that is under way */
	struct loop_timer timer;        /* the next pass: what could not go yet */
	struct loop_timer review_timer; /* what came is verified by this agent's policy, all of a moment at once */
};

/* The worker's gateways by id, and their listeners by cookie: asked once for each record of the ring. */
#define INDEX_GATEWAYS  256 /* powers of two */
#define INDEX_LISTENERS 1024
struct gateway_index {
	struct worker_gateway *by_id[INDEX_GATEWAYS];
	struct worker_listener *by_cookie_v4[INDEX_LISTENERS];
	struct worker_listener *by_cookie_v6[INDEX_LISTENERS];
};

/* What each connection may hold. */
struct connection_limits {
	struct loop_timer timer; /* sizes are carried to the connections, or their memory is counted */
	uint32_t buffer_size;    /* 0: as the kernel sizes them */
	uint64_t sized_for;      /* connections: a power of two */
};

struct worker {
	struct worker_options options;
	pthread_t thread;
	bool thread_runs;
	struct loop *loop;
	struct relay_worker relay;
	struct ring_buffer *ring;
	struct loop_source ring_source;
	struct worker_gateway *gateways;
	struct gateway_index gateway_index;

	uint64_t ring_deadline_ns; /* of this round's reading */
	unsigned int ring_read;    /* records of this round */
	uint64_t ring_behind_ns;   /* when it was last seen that reading is late: the ring may have run over before */

	struct attempt *attempts[ATTEMPT_BUCKETS];
	struct attempt_list steps;   /* handshakes that have something to do */
	struct handshake_line line;  /* those that were begun */
	struct attempt_list waiting; /* for answers, in the order of their questions */
	uint64_t last_question;
	struct attempt_list accepted; /* oldest first */
	size_t accepted_count;
	struct loop_timer accepted_timer; /* one for all of them */
	size_t attempt_count;             /* all but accepted ones: refused ones and orphans included */
	size_t orphan_count;
	size_t in_flight;
	struct key_table in_flight_to; /* destination -> attempts in flight */
	int spare_fd;                  /* given up to accept and reset what there is no descriptor for; -1: none */
	struct connection *connections;
	struct slab connection_slab; /* where they live */
	struct names names;
	struct connection_review review;
	struct worker_handover handover;
	struct connection_limits limits;

	uint32_t *free_slots; /* lane slots that nobody had when they were listed */
	size_t free_slot_count;
	uint32_t slot_share;
	struct lane_slot_state *slot_states; /* by slot */
	uint64_t slots_reclaimed_ns;         /* when lost CLOSED records were last looked for */

	pthread_mutex_t inbox_lock;
	pthread_cond_t inbox_done;
	struct inbox_message *inbox_head;
	struct inbox_message *inbox_tail;
	bool policy_changed; /* a message that needs no memory, so that it cannot be lost */

	struct { /* written by the worker alone, read by anyone */
		_Atomic uint64_t attempts;
		_Atomic uint64_t attempts_live;
		_Atomic uint64_t connections;
		_Atomic uint64_t connections_live;
		_Atomic uint64_t handshakes_full;
		_Atomic uint64_t handshakes_resumed;
		_Atomic uint64_t bytes_to_backend;
		_Atomic uint64_t bytes_to_gateway;
		_Atomic uint64_t tickets_dropped;
		_Atomic uint64_t lane_connections;
		_Atomic uint64_t socket_memory;
		_Atomic uint64_t verified_again;
		_Atomic uint64_t draining;
		_Atomic uint64_t handed_over;
		_Atomic uint64_t taken_over;
	} statistics;
};

/* Only one thread writes each of these, so a plain load and store is enough. */
static inline void statistic_add(_Atomic uint64_t *statistic, uint64_t value)
{
	atomic_store_explicit(statistic, atomic_load_explicit(statistic, memory_order_relaxed) + value,
	                      memory_order_relaxed);
}

static inline void statistic_subtract(_Atomic uint64_t *statistic, uint64_t value)
{
	atomic_store_explicit(statistic, atomic_load_explicit(statistic, memory_order_relaxed) - value,
	                      memory_order_relaxed);
}

/* attempt_table.c */

/*
 * NULL: no memory, or more are kept than a flood of connects may cost. It is an orphan until attempt_admit(), and its
 * timer is armed, so that re-arming it cannot fail.
 */
struct attempt *attempt_new(struct worker *worker, struct worker_gateway *gateway,
                            const struct postern_record_header *header);
/* Close what the attempt still owns, take it out of the table, free it at the end of the round. */
void attempt_free(struct attempt *attempt);
/* Its connection exists, or failed to: close what it still owns, remember that it was. */
void attempt_accepted(struct attempt *attempt);
struct attempt *attempt_find(struct worker *worker, const struct worker_gateway *gateway,
                             const struct postern_tuple *tuple);
/* Every attempt, or those of one gateway. The callback may free the attempt it is given. */
void attempt_for_each(struct worker *worker, const struct worker_gateway *gateway,
                      void (*each)(struct attempt *attempt, void *context), void *context);
/*
 * Its CONNECT record is known: may it go on? REASON_NONE: it is in flight; else the reason and its detail. No gateway
 * and no destination may use up what is there for all.
 */
enum postern_reason attempt_admit(struct attempt *attempt, const char **detail);
/* It was refused: it does not count any more. Idempotent. */
void attempt_leave_flight(struct attempt *attempt);
void attempt_list_append(struct attempt_list *list, struct attempt *attempt); /* in no list, or this one already */
void attempt_list_remove(struct attempt *attempt);                            /* idempotent */

/* attempt.c: records from the ring, and the state machine above. */
void attempt_enter(struct attempt *attempt, enum attempt_state state, uint64_t limit_ns);
void attempt_on_connect(struct worker *worker, const struct postern_connect_record *record);
void attempt_on_syn(struct worker *worker, const struct postern_syn_record *record);
void attempt_on_gone(struct worker *worker, const struct postern_connect_record *record);
void attempt_on_limit(struct loop_timer *timer);
void attempt_on_b_event(struct loop_source *source, uint32_t events);
/* End in REFUSED: B is closed, G gets its answer as soon as its SYN is known, the failure is recorded once. */
void attempt_refuse(struct attempt *attempt, enum postern_reason reason, const char *detail);
/* B is good: release G's SYN, now or when it comes. */
void attempt_ready(struct attempt *attempt);
/* "namespace/name" of the policy that decided, "" if none did. Returns the buffer. */
const char *attempt_policy_name(const struct attempt *attempt, char *name, size_t size);

/* attempt_verdict.c */

/* Decide by the current snapshot; that nothing covers the key must be known as of the connect. */
void attempt_decide(struct attempt *attempt, uint64_t as_of_ns);
void attempt_forget_decision(struct attempt *attempt); /* idempotent */
/* The control thread's answers, in the order of their questions. */
void attempt_hold_answered(struct worker *worker, uint64_t as_of_ns, const struct hold_answer *answers, size_t count);
/* Look at all attempts again: what is not as the current snapshot says begins anew, or is refused. */
void attempt_policy_changed(struct worker *worker);

/* dial.c: B made in the gateway's namespace, connected, handshake run. Each ends in attempt_ready() or
 * attempt_refuse(). */
void dial_start(struct attempt *attempt);
/* One round of handshakes, at most budget_ns of work. True if some are left. */
bool dial_run_handshakes(struct worker *worker, uint64_t budget_ns);
bool dial_handshake_expired(struct attempt *attempt); /* else its timer is armed again */
void dial_cancel(struct attempt *attempt);
void dial_on_event(struct attempt *attempt, uint32_t events);

/* release.c */
void release_syn(struct attempt *attempt);
void release_refusal(struct attempt *attempt); /* RST or ICMP */
/* A RST for a SYN that no attempt is kept for. */
void release_reset(struct worker *worker, const struct worker_gateway *gateway, const struct postern_syn_record *syn);
void release_accept(struct worker_listener *listener, int listener_fd);
/* Of a RELEASED one that must not go on as it is; false: it lay in the accept queue, and is a connection now. */
bool release_is_over(struct attempt *attempt);

/* gate.c */

/* Did G dial the gate's address? */
bool gate_is_dialed(const struct attempt *attempt);
/* Released if there is a snapshot, refused if there is none yet. */
void gate_decide(struct attempt *attempt);
/* The one line, and the end. A is closed. */
void gate_answer(struct attempt *attempt, int a_fd);

/* connection.c: takes B, the session and the lane slot out of the attempt. A is owned from the call on. */
void connection_start(struct attempt *attempt, int a_fd);
void connection_abort_all(struct worker *worker, const struct worker_gateway *gateway, enum postern_reason reason);
/* Zero but for its worker and its names; it is in no list. NULL: no memory. cipher_name may be NULL. */
struct connection *connection_make(struct worker *worker, const char *policy, const char *sni, const char *cipher_name);
/* Into the worker's list; out of it, and freed at the end of the round. What the relay says when it ends. */
void connection_enter(struct connection *connection);
void connection_forget(struct connection *connection);
void connection_on_end(void *context, enum postern_reason reason, const char *detail);
/* The port that B has in the gateway's namespace; 0: it cannot be told. */
uint16_t connection_b_port(const struct connection *connection);
void connection_leave_lane(void *context);
/* A worker_list_function: struct connection_view. */
int connection_list(struct worker *worker, bool with_ports, void **items, size_t *count);

/* connection_review.c */

/* Arms the timer. 0 or -ENOMEM. */
int connection_review_start(struct worker *worker);
void connection_review_stop(struct worker *worker);
/* The connection begins, or is about to end. */
void connection_review_join(struct connection *connection, const struct attempt *attempt);
void connection_review_leave(struct connection *connection);
/* The policy changed: every connection is looked at, within a second. */
void connection_policy_changed(struct worker *worker);
/* A slice of the pass that is under way. True if there is more. */
bool connection_review_run(struct worker *worker, uint64_t budget_ns);

/* connection_limits.c */
void connection_limits_start(struct worker *worker);
/* It is in the worker's list, and counted; it is out of it. */
void connection_limits_enter(struct connection *connection);
void connection_limits_leave(struct connection *connection);
/* Its relay runs: the buffers get the size that they may have now. */
void connection_limits_apply(struct connection *connection);

/* lane_slots.c: a slot is used again only when its G can count into it no more. */
int lane_slots_start(struct worker *worker, unsigned int worker_count);
/* Offer a slot to the attempt's G, if there is one. */
void lane_slot_offer(struct attempt *attempt);
/* The attempt ends, or begins anew, without a connection. */
void lane_slot_withdraw(struct attempt *attempt);
/* The slot passes from the attempt to its connection. False: it has none. */
bool lane_slot_pass_on(struct attempt *attempt, struct connection *connection);
/* The connection has ended. */
void lane_slot_leave(struct connection *connection);
/* The connection came from another agent with its slot; it goes to another one with it. */
void lane_slot_take_over(struct connection *connection);
void lane_slot_hand_over(struct connection *connection);
/* G's socket reached CLOSE: the slot in the record is free once the connection is, too. */
void lane_slot_closed(struct worker *worker, const struct postern_connect_record *record);

/* worker_handover.c */

/* A slice of a pass. True if there is more. */
bool worker_handover_run(struct worker *worker, uint64_t budget_ns);
void worker_handover_stop(struct worker *worker);
/* The connection is about to end, or to go. */
static inline void worker_handover_leave(const struct connection *connection)
{
	struct worker_handover *handover = &connection->worker->handover;

	if (handover->next == connection)
		handover->next = connection->next;
}

/* worker_inbox.c */
void worker_run_inbox(struct worker *worker);
void worker_post(struct worker *worker, struct inbox_message *message);
/*
 * In the control thread, for one that was posted; until_ns of CLOCK_MONOTONIC, 0: as long as it takes. 0, or
 * -ETIMEDOUT: the message is no longer the caller's.
 */
int worker_await(struct worker *worker, struct inbox_message *message, uint64_t until_ns);
/* Post, and wait as long as it takes. */
void worker_post_and_wait(struct worker *worker, struct inbox_message *message);
/* In the worker: the answer is there; or nobody waits for it any more, and the message is dropped. */
void worker_finish(struct worker *worker, struct inbox_message *message);
/* When the worker's thread has ended: what came after its last round. */
void worker_drop_inbox(struct worker *worker);
/* Refuse its attempts and reset its connections; NULL: those of all gateways. */
void worker_drop_gateway(struct worker *worker, const struct worker_gateway *gateway);

/* worker.c */

/* Records that were not read yet; true, too, if that cannot be told. A system call. */
bool worker_ring_has_more(const struct worker *worker);
/* A failure of this attempt or connection, for the operator. */
void worker_report(struct worker *worker, struct trace_subject subject, const char *policy, enum postern_reason reason,
                   const char *detail);

/* By the kernel's word until it is decided. */
static inline struct trace_subject attempt_subject(const struct attempt *attempt)
{
	const struct postern_connect_record *connect = &attempt->connect;

	return (struct trace_subject){
	        .gateway = attempt->gateway,
	        .gateway_port = connect->header.tuple.local_port,
	        .destination = &connect->socket.destination,
	        .verdict = attempt->verdict ? attempt->verdict : connect->socket.verdict,
	        .cookie = connect->socket.cookie,
	};
}

static inline struct trace_subject connection_subject(const struct connection *connection)
{
	return (struct trace_subject){
	        .gateway = connection->gateway,
	        .gateway_port = connection->gateway_port,
	        .destination = &connection->destination,
	        .verdict = connection->verdict,
	        .cookie = connection->gateway_cookie,
	};
}

/* gateway_index.c */
void gateway_index_add(struct worker *worker, struct worker_gateway *gateway);
void gateway_index_remove(struct worker *worker, struct worker_gateway *gateway);
struct worker_gateway *worker_find_gateway(struct worker *worker, uint32_t gateway_id);
struct worker_listener *worker_find_listener(struct worker *worker, uint64_t listener_cookie);

#endif
